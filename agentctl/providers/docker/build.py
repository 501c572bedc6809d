"""Images built by an engine from a Dockerfile, once for each recipe.

It is the engine's classic builder, which every engine has behind its API.
"""

from __future__ import annotations

import json
import re
from collections import deque
from contextlib import aclosing, suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode

from agentctl.errors import AgentctlError, ImageBuildFailed
from agentctl.providers.base import Progress
from agentctl.providers.docker import stream
from agentctl.providers.docker.context import Context
from agentctl.providers.docker.engine import Engine
from agentctl.providers.finish import finished

Json = dict[str, Any]
_SILENT_S = 3600
"""A step may say nothing for so long."""

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_LAYER = re.compile(r" ---> ([0-9a-f]{12,64})\s*")
_SHOWN_LINES = 12
_KEPT_LINES = 200
_STEP_CHARS = 60


async def build(
    engine: Engine,
    context: Context,
    tag: str,
    *,
    title: str,
    hint: str = "Mend the Dockerfile, or what it needs, and run the command again: nothing of this build was kept.",
    labels: dict[str, str],
    arguments: dict[str, str] | None = None,
    afresh: bool = False,
    progress: Progress,
) -> None:
    """Make the image ``tag``, which is ``title`` to the user. ``afresh``: nothing of what the engine has is taken.

    Raise ``ImageBuildFailed`` with the builder's own last lines; then nothing is left of this build. A cancellation
    ends it, too.
    """
    about = f"{context.directory / context.dockerfile}"
    query: Json = {"t": tag, "dockerfile": context.dockerfile, "rm": 1, "forcerm": 1, "labels": json.dumps(labels)}
    query["buildargs"] = json.dumps(arguments or {})
    if afresh:
        query |= {"nocache": 1, "pull": 1}
    headers = {"Content-Type": "application/x-tar", **await engine.call("log in to registries", _logins)}
    progress(f"Building {title}", None, None)
    talk = _Talk(f"Building {title}", progress)
    body = stream.written(context.write)
    try:
        path = f"/build?{urlencode(query)}"
        async with aclosing(stream.lines(engine, path, headers=headers, body=body, silent_s=_SILENT_S)) as said:
            async for line in said:
                talk.heard(line)
        if talk.error:
            raise stream.Refused(0, talk.error)
    except BaseException as e:
        await finished(_remove(engine, talk.made))
        if isinstance(e, stream.Refused):
            raise _failed(about, talk, e.words, hint) from e
        raise


def _logins(api: Any) -> dict[str, str]:
    """With what the docker command is logged in to: a base image may be private."""
    headers: dict[str, str] = {}
    api._set_auth_headers(headers)
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in headers.items()}


class _Talk:
    """What the builder said so far. ``made`` is the last layer of each stage, empty where this build made none."""

    def __init__(self, title: str, progress: Progress) -> None:
        self.step, self.error = "", ""
        self.made: list[str] = []
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._title, self._progress = title, progress
        self._is_old = False

    def heard(self, line: Json) -> None:
        if "error" in line:
            self.error = str(line["error"]).strip()
        elif "stream" in line:
            self._stream(str(line["stream"]))
        elif "status" in line and "progressDetail" not in line:
            self.lines.append(str(line["status"]))

    def _stream(self, text: str) -> None:
        if step := _STEP.match(text):
            self.step = f"step {step[1]} of {step[2]}: {' '.join(step[3].split())[:_STEP_CHARS]}"
            self._progress(f"{self._title}, {self.step}", int(step[1]) - 1, int(step[2]))
            self.lines.clear()
            self._is_old = step[3].upper().startswith("FROM")
            if self._is_old:
                self.made.append("")
        elif (layer := _LAYER.fullmatch(text.rstrip("\n"))) and self.made:
            self.made[-1] = "" if self._is_old else layer[1]
        elif text.startswith(" ---> "):
            self._is_old = self._is_old or "cache" in text
        elif not text.startswith("Removing intermediate container"):
            self.lines.extend(part for part in text.splitlines() if part.strip())


async def _remove(engine: Engine, layers: list[str]) -> None:
    """Each goes with the untagged ones that it stands on, and that no other image needs."""
    for layer in filter(None, layers):
        with suppress(AgentctlError):  # somebody builds on it already
            await engine.call("clear up after a build", partial(_remove_layer, layer))


def _remove_layer(layer: str, api: Any) -> None:
    api.remove_image(layer)


def _failed(about: str, talk: _Talk, error: str, hint: str) -> ImageBuildFailed:
    where = f" at {talk.step}" if talk.step else ""
    shown = [line.rstrip() for line in [*talk.lines][-_SHOWN_LINES:]]
    said = "\n".join(["", *(f"  {line}" for line in shown), f"  {error}"])
    return ImageBuildFailed(
        f"No image could be built from {about}: it failed{where}.{said}",
        hint=hint,
        details={"dockerfile": about, "step": talk.step, "error": error, "log": list(talk.lines)},
    )
