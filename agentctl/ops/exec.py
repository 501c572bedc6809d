"""One command in a session's sandbox: started there, and then held by whoever asked for it."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import field
from typing import TYPE_CHECKING, Any

from agentctl.frozen import frozen
from agentctl.model import Session
from agentctl.ops import launch, reach
from agentctl.ops.own import Ref, find
from agentctl.ops.report import Report, silent

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.supervisor_client.processes import Processes
    from agentctl.supervisor_client.transport import Transport

Json = dict[str, Any]
UNATTENDED_S = 60.0
"""A terminal of ours is hung up when nobody has viewed it for so long: a killed command line leaves no shell behind."""

SHELL = '[ -x "$SHELL" ] || SHELL=$(command -v bash || command -v sh); export SHELL; exec "$SHELL"'
"""The user's shell where the sandbox has it, else bash, else sh."""


@frozen
class Command:
    """What to run. ``cwd`` is below the session's directory unless it is absolute; ``env`` comes on top of the
    session's. ``terminal`` is ``(rows, columns)`` when it is to have one. ``attach`` says
    that its output is followed at once. With ``exec_id`` it is started once."""

    argv: tuple[str, ...]
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    exec_id: str | None = None
    interactive: bool = False
    attach: bool = True
    terminal: tuple[int, int] | None = None


@frozen
class Started:
    """A command that runs, or has run under this id already: ``info`` is its ProcessInfo."""

    session: Session
    transport: Transport
    processes: Processes
    info: Json

    @property
    def id(self) -> str:
        return str(self.info["id"])


@asynccontextmanager
async def started(app: App, ref: Ref, command: Command, report: Report = silent) -> AsyncIterator[Started]:
    """Start the command in the session's sandbox, which is brought up when it sleeps; its agent is not.

    The command goes on when this is left. Raise ``SpawnFailed``, ``AlreadyExists`` for an ``exec_id`` of another
    command, ``UsageError`` for a missing directory, ``Conflict`` when too many run.
    """
    from agentctl.supervisor_client.processes import Processes

    session = find(app, ref)
    async with reach.sandbox_of(app, session, report) as client:
        processes = Processes(client)
        info = await processes.create(_request(app, session, command))
        yield Started(session=session, transport=client, processes=processes, info=info)


def _request(app: App, session: Session, command: Command) -> Json:
    program, *args = command.argv
    body: Json = {
        "id": command.exec_id,
        "command": program,
        "args": args,
        "cwd": posixpath.join(session.spec.cwd or "", command.cwd) if command.cwd else session.spec.cwd,
        "session": session.id,
        "env": {**launch.known_environment(app, session.spec, session), **command.env},
        "secrets": list(launch.known_values(app, session.spec, session)) or None,
        "interactive": command.interactive,
        "attach": command.attach and command.terminal is None,
        "timeoutMs": None if command.timeout_s is None else max(round(command.timeout_s * 1000), 1),
    }
    if command.terminal is not None:
        rows, cols = command.terminal
        body |= {"tty": True, "rows": rows, "cols": cols, "unattendedMs": round(UNATTENDED_S * 1000)}
    return {name: value for name, value in body.items() if value is not None}


def exit_code(info: Json) -> int | None:
    """What a shell would say of its end: its own code, 128 + the signal's number, 124 when its time was up; None when
    nobody knows how it ended."""
    if info.get("timedOut"):
        return 124
    if "exitCode" in info:
        return int(info["exitCode"])
    return 128 + int(info["signal"]) if "signal" in info else None
