"""What a session's agent is started by: its recipe, its credentials, its environment, and the request that opens it."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentctl.errors import CredentialsError, UsageError
from agentctl.model import Session, SessionSpec
from agentctl.ops import mirror
from agentctl.wire import Recipe

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.ops.mcp import Filled

Json = dict[str, Any]


class Launch(NamedTuple):
    """What a supervisor needs beside the request itself: ``secrets`` are values to redact."""

    recipe: Recipe
    env: dict[str, str]
    secrets: tuple[str, ...]

    def to_json(self, fencing: int) -> Json:
        """The ``launch`` of a SessionRequest (``wire.py``)."""
        return {
            "recipe": self.recipe.to_json(),
            "agentEnv": self.env,
            "secrets": list(self.secrets),
            "fencing": fencing,
        }


async def prepare(app: App, session: Session, handle: Json | None = None) -> Launch:
    """Look everything up, credentials too, as they are now. In a sandbox with files of its own (that of ``handle``, or
    the one that the session's spec makes) the agent's programs are brought to where it sees them. Raise as ``check``,
    ``AgentNotInstalled``, ``InstallFailed``."""
    from dataclasses import replace

    spec = session.spec
    credentials = _credentials(app, spec, session)
    recipe = replace(await _recipe(app, spec, handle), fresh_files=credentials.files)
    return Launch(recipe, credentials.env, (*credentials.secrets, *hidden_values(app, spec, session)))


def check(app: App, spec: SessionSpec) -> None:
    """Raise ``AgentNotFound``, ``Unsupported`` or ``CredentialsMissing`` for a spec that no session can be made of, and
    ``AgentNotInstalled`` where it needs this machine's programs."""
    from agentctl.agents import recipes

    if spec.agent_command:
        return
    if app.provider(spec.provider).capabilities.layout is None:
        _local_recipe(app, spec)
    else:
        recipes.check_permissions(recipes.find(spec.agent), spec.permissions)
    _credentials(app, spec, None)


def _credentials(app: App, spec: SessionSpec, session: Session | None) -> Any:
    from agentctl import credentials
    from agentctl.agents import recipes

    if spec.agent_command:
        return credentials.NONE
    recipe = recipes.find(spec.agent)
    return credentials.require(recipe, app.environ, app.user_home, given_environment(app, spec, session))


async def _recipe(app: App, spec: SessionSpec, handle: Json | None) -> Recipe:
    from agentctl.agents import recipes

    layout = app.provider(spec.provider).capabilities.layout
    if spec.agent_command:
        return recipes.command_recipe(spec.agent_command)
    if layout is None:
        return _local_recipe(app, spec)
    from agentctl.ops import programs

    recipe = recipes.find(spec.agent)
    brought = await programs.of_spec(app, spec, recipe, handle)
    return recipes.to_wire(
        recipe,
        installed=brought.installed if brought else None,
        runtime=Path(layout.runtime),
        python=layout.python,
        permissions=spec.permissions,
        is_local=False,
        target=brought.platform if brought else None,
    )


def _local_recipe(app: App, spec: SessionSpec) -> Recipe:
    from agentctl.agents import installed, recipes
    from agentctl.providers.bootstrap import ensure_runtime

    recipe = recipes.find(spec.agent)
    there = installed.installed(app.paths, recipe.name, recipe.version) or installed.installed(app.paths, recipe.name)
    return recipes.to_wire(
        recipe,
        installed=there,
        runtime=ensure_runtime(app.paths, sys.executable),
        python=sys.executable,
        permissions=spec.permissions,
    )


def given_environment(app: App, spec: SessionSpec, session: Session | None = None) -> dict[str, str]:
    """What the user gives to the session's processes: ``--env-file`` contents and ``--secret`` values, both read now,
    under ``--env``. Raise ``UsageError`` or ``CredentialsMissing`` for one that is not there."""
    values: dict[str, str] = {}
    if spec.env_files:
        from agentctl.ops.envfile import read

        for path in spec.env_files:
            values.update(read(Path(path)))
    if spec.secrets:
        from agentctl.ops.secrets import resolve

        values.update(resolve(app, spec.secrets, session))
    return {**values, **spec.env}


def hidden_values(app: App, spec: SessionSpec, session: Session) -> list[str]:
    """What is to be redacted of ``given_environment``: all but ``--env``, and what went into MCP servers."""
    environment = given_environment(app, spec, session)
    hidden = [value for name, value in environment.items() if name not in spec.env]
    return [*hidden, *(_mcp_servers(app, spec, environment).secrets if spec.mcp_servers else ())]


def known_environment(app: App, spec: SessionSpec, session: Session) -> dict[str, str]:
    """What of ``given_environment`` is there now: for what the user does in the sandbox without the agent."""
    found: dict[str, str] = {}
    for part in _parts(spec):
        with suppress(CredentialsError, UsageError):
            found.update(given_environment(app, part, session))
    return {**found, **spec.env}


def known_values(app: App, spec: SessionSpec, session: Session) -> tuple[str, ...]:
    """What of ``hidden_values`` is there now: a value that is missing cannot leak either."""
    found: list[str] = []
    for part in _parts(spec):
        with suppress(CredentialsError, UsageError):
            found += hidden_values(app, part, session)
    return tuple(found)


def _parts(spec: SessionSpec) -> list[SessionSpec]:
    """The spec with one env file, secret or MCP server at a time."""
    if not (spec.env_files or spec.secrets or spec.mcp_servers):
        return []
    from dataclasses import replace

    none = replace(spec, env_files=(), secrets=(), mcp_servers=())
    parts = [replace(none, env_files=(file,)) for file in spec.env_files]
    parts += [replace(none, secrets=(secret,)) for secret in spec.secrets]
    return [*parts, *(replace(none, mcp_servers=(server,)) for server in spec.mcp_servers)]


def _mcp_servers(app: App, spec: SessionSpec, environment: dict[str, str]) -> Filled:
    from agentctl.ops.mcp import filled

    return filled(spec.mcp_servers, {**app.environ, **environment})


def session_request(app: App, session: Session, recipe: Recipe, on_lost: str | None) -> Json:
    """Credentials do not go this way: the recipe's variables reach the agent through Boot, exactly one kind of them.

    Raise ``UsageError`` when the session's directory is gone: agents keep a conversation by its directory.
    """
    spec = session.spec
    _check_place(app, session)
    interrupted = mirror.open_turn_of(app, session.id)
    environment = given_environment(app, spec, session)
    body = {
        "agent": spec.agent,
        "cwd": spec.cwd,
        "env": {k: v for k, v in environment.items() if k not in recipe.credentials},
        "mcpServers": _mcp_servers(app, spec, environment).servers if spec.mcp_servers else [],
        "model": spec.model,
        "agentMode": spec.mode,
        "thoughtLevel": spec.thought_level,
        "options": spec.options,
        "permissionMode": spec.permissions,
        "policy": spec.policy,
        "nativeSessionId": session.native_session_id,
        "createdAt": session.created_at,
        "onLost": on_lost or spec.on_lost,
        "minSequence": session.last_sequence,
        "interruptedTurnId": interrupted.id if interrupted else None,
        "stallTimeoutS": spec.stall_timeout_s,
        "startTimeoutS": spec.start_timeout_s,
        "queued": mirror.queued_messages(app, session.id) or None,
        "files": _files(app, spec) or None,
        "preStart": list(spec.pre_start) or None,
        "logName": session.id if spec.sandbox else None,
    }
    return {key: value for key, value in body.items() if value is not None}


def _files(app: App, spec: SessionSpec) -> list[Json]:
    if not (spec.files or spec.skills or spec.system_prompt):
        return []
    from agentctl.ops.home_files import collect

    return collect(app.paths, spec)


def _check_place(app: App, session: Session) -> None:
    cwd, provider = session.spec.cwd, app.provider(session.spec.provider)
    if cwd and provider.capabilities.layout is None and not Path(cwd).is_dir():
        raise UsageError(
            f"The directory of session {session.name}, {cwd}, is gone.",
            hint="Put it back: an agent finds a conversation only in the directory in which it was begun.",
        )
