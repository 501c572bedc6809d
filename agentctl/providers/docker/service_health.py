"""Whether a service is ready: by its health check where it has one, else because it runs on.

The engine runs health checks too, the first after a whole interval (30 s by default), and only newer engines know
``start_interval``. So while a service starts we run its check ourselves: at once, then ever more rarely, never more
rarely than each ``start_interval``. One that passes makes it ready. That it failed is for the engine to say, which
counts ``retries`` and minds ``start_period``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from agentctl.compute import Healthcheck
from agentctl.errors import Conflict, NotFound, SandboxError
from agentctl.providers.docker import command
from agentctl.providers.docker.engine import Engine

Json = dict[str, Any]
SETTLED_S = 0.25
"""What cannot live ends at once, as a rule: a service without a health check has to run for so long."""

LOOK_S = 0.1
FIRST_GAP_S = 0.1
START_INTERVAL_S = 5.0
_RETRIES = 3  # the engine's own default
_SHELL = ["/bin/sh", "-c"]
_FORMS = ("NONE", "CMD", "CMD-SHELL")
_NANOSECONDS = 1_000_000_000
_NEVER = float("inf")


def as_docker_has_it(check: Healthcheck) -> Json:
    """For ``create_container``; times are nanoseconds."""
    return {
        "test": _test(check.test),
        "interval": round(check.interval_s * _NANOSECONDS),
        "timeout": round(check.timeout_s * _NANOSECONDS),
        "retries": check.retries,
        "start_period": round(check.start_period_s * _NANOSECONDS),
    }


def _test(test: tuple[str, ...] | str) -> list[str]:
    if isinstance(test, str):
        return ["CMD-SHELL", test]
    return list(test) if test[0] in _FORMS else ["CMD", *test]


async def until_ready(engine: Engine, container: str, start_interval_s: float = START_INTERVAL_S) -> None:
    """Return when a container that was started is ready. Raise ``SandboxError`` with the reason when it will not be;
    the caller gives up on one that takes for ever."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    gap, due = FIRST_GAP_S, began
    while True:
        about = await engine.call("look at a service", lambda api: api.inspect_container(container))
        if (why := failure(about)) is not None:
            raise SandboxError(why)
        health = about["State"].get("Health")
        if health is None and loop.time() - began >= SETTLED_S:
            return
        if health is not None:
            if health["Status"] == "healthy":
                return
            if loop.time() >= due:
                passes = await _probe(engine, container, about["Config"])
                if passes:
                    return
                due = _NEVER if passes is None else loop.time() + gap
                gap = min(gap * 2, max(start_interval_s, FIRST_GAP_S))
        await asyncio.sleep(LOOK_S)


def failure(about: Json) -> str | None:
    """Why a service is none, as the engine tells; None while it runs and may become ready, or is."""
    state = about["State"]
    if state["Running"]:
        return f"its health check fails{_last_words(state['Health'])}" if _is_unhealthy(about) else None
    if state["OOMKilled"]:
        return "it ran out of memory and was killed"
    if state["Error"]:
        return f"it could not be started: {state['Error']}"
    if state["Status"] == "created":
        return "it was never started"
    return f"it ended with exit code {state['ExitCode']}"


def _is_unhealthy(about: Json) -> bool:
    """Engines also say so of a container that was paused, until its next check: then it has not failed so often."""
    health = about["State"].get("Health") or {}
    if health.get("Status") != "unhealthy":
        return False
    return int(health["FailingStreak"]) >= (about["Config"]["Healthcheck"].get("Retries") or _RETRIES)


def _last_words(health: Json) -> str:
    """The last line that the last check printed."""
    said = [str(probe["Output"]).strip() for probe in health.get("Log") or ()]
    return f": {said[-1].splitlines()[-1]}" if said and said[-1] else ""


async def _probe(engine: Engine, container: str, config: Json) -> bool | None:
    """Whether its own health check passes now. None for one that hangs: it is left to the engine, which can end it."""
    argv = _argv(config)
    timeout_s = (config["Healthcheck"].get("Timeout") or 30 * _NANOSECONDS) / _NANOSECONDS
    try:
        async with asyncio.timeout(timeout_s):
            return (await command.run(engine, container, argv)).code == 0
    except TimeoutError:
        return None
    except (SandboxError, NotFound, Conflict):  # it has ended, or has no such program: the engine tells which
        return False


def _argv(config: Json) -> Sequence[str]:
    form, *words = config["Healthcheck"]["Test"]
    return [*(config.get("Shell") or _SHELL), *words] if form == "CMD-SHELL" else words
