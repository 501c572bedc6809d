"""What happens in a new sandbox before its session's agent starts: files put under HOME, then the user's commands.

A mark in the sandbox's temporary directory says that the commands have run: a restart in the same sandbox does not run
them again, a new sandbox does. The files are written at every start, so that a change on the host arrives.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentctl.errors import SandboxError, UsageError
from agentctl.supervisor.log_files import said_as_ours
from agentctl.supervisor.processes import ProcessIdentity, descendants, end_all
from agentctl.supervisor.redaction import Redact

Json = dict[str, Any]
COMMAND_LIMIT_S = 900.0
"""For each command of ``--pre-start``."""

TAIL_BYTES = 4096
_GRACE_S = 2.0


def write_files(home: Path, files: Sequence[Json]) -> None:
    """Put each ``{"path", "data": base64, "mode"?: int}`` under HOME, whole or not at all, over what is there.

    Raise ``UsageError`` for a path that leaves HOME, also by a symbolic link, and ``StateError`` where it cannot be.
    """
    for file in files:
        path = _inside(home, file["path"])
        try:
            data = base64.b64decode(file["data"], validate=True)
        except (binascii.Error, TypeError) as e:
            raise UsageError(f"The file {file['path']} did not come as base64.") from e
        with said_as_ours(path, what="the file"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.agentctl-new")
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as stream:
                stream.write(data)
            new.chmod(file.get("mode", 0o600) & 0o777)
            new.replace(path)


def _inside(home: Path, relative: Any) -> Path:
    if not isinstance(relative, str) or not relative or "\0" in relative:
        raise UsageError("A file for the sandbox needs a path.")
    top = home.resolve()
    path = (top / relative).parent.resolve() / Path(relative).name
    if not path.is_relative_to(top) or path == top or ".." in Path(relative).parts:
        raise UsageError(f"{relative!r} is not a path inside the agent's HOME.")
    return path


async def run_commands(
    commands: Sequence[str], *, env: Mapping[str, str], cwd: str, tmp: Path, redact: Redact | None
) -> None:
    """Run shell commands one after the other, once per sandbox. Raise ``SandboxError`` with the end of the output of
    the one that failed, or did not end within ``COMMAND_LIMIT_S``; the next start tries them all again."""
    mark = tmp / f".pre-start-{hashlib.sha256(chr(0).join(commands).encode()).hexdigest()[:16]}"
    if not commands or mark.exists():
        return
    for command in commands:
        await _run(command, env=env, cwd=cwd, redact=redact)
    with said_as_ours(mark, what="a mark"):
        mark.touch()


async def _run(command: str, *, env: Mapping[str, str], cwd: str, redact: Redact | None) -> None:
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(COMMAND_LIMIT_S):
                code: int | None = await process.wait()
        except TimeoutError:
            code = None
        finally:
            if process.returncode is None:
                root = ProcessIdentity.of(process.pid)
                tree = [root] if root else []
                await end_all(lambda: [p for p in [*tree, *descendants(process.pid)] if p.is_alive()], grace_s=_GRACE_S)
        if code == 0:
            return
        how = f"did not end within {COMMAND_LIMIT_S:g} s" if code is None else f"failed with exit code {code}"
        raise SandboxError(f"The command before the start {how}: {command}", details={"output": _tail(output, redact)})


def _tail(output: Any, redact: Redact | None) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - TAIL_BYTES))
    data: bytes = output.read()
    return (redact(data) if redact else data).decode(errors="replace")
