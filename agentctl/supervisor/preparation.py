"""What happens in a new sandbox before its session's agent starts: files put under HOME, then the user's commands.

A mark in the sandbox's temporary directory says that the commands have run: a restart in the same sandbox does not run
them again, a new sandbox does. A file is written when the host has another one than the last time: so that its change
arrives, and so that what the agent made of it meanwhile (a renewed login) stays.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentctl.errors import SandboxError, UsageError
from agentctl.supervisor.fresh_files import read_record, write_whole
from agentctl.supervisor.log.files import said_as_ours
from agentctl.supervisor.processes import ProcessIdentity, descendants, end_all
from agentctl.supervisor.redaction import Redact

Json = dict[str, Any]
COMMAND_LIMIT_S = 900.0
"""For each command of ``--pre-start``."""

TAIL_BYTES = 4096
SAID_LINES = 10
_LONGEST_SECRET = 64 * 1024
_GRACE_S = 2.0
PLACED = ".local/state/agentctl/files.json"
"""Path → SHA-256 of what was put there last."""


def write_files(home: Path, files: Sequence[Json]) -> None:
    """Put each ``{"path", "data": base64, "mode"?: int}`` under HOME, whole or not at all, over what is there, unless
    the same was put there before.

    Raise ``UsageError`` for a path that leaves HOME, also by a symbolic link, and ``StateError`` where it cannot be.
    """
    record = home / PLACED
    before = read_record(record)
    placed = dict(before)
    for file in files:
        path, data = _inside(home, file["path"]), _decoded(file)
        digest = hashlib.sha256(data).hexdigest()
        if placed.get(file["path"]) != digest or not os.path.lexists(path):
            with said_as_ours(path, what="the file"):
                write_whole(path, data, file.get("mode", 0o600) & 0o777)
            placed[file["path"]] = digest
    if placed != before:
        with said_as_ours(record, what="the file"):
            write_whole(record, json.dumps(placed).encode())


def _decoded(file: Json) -> bytes:
    try:
        return base64.b64decode(file["data"], validate=True)
    except (binascii.Error, TypeError, ValueError) as e:
        raise UsageError(f"The file {file['path']} did not come as base64.") from e


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
        try:
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
        except (OSError, ValueError) as e:
            raise SandboxError(f"The command before the start cannot be run in {cwd}: {e}") from e
        code = await _exit_code(process)
        if code == 0:
            return
        how = f"did not end within {COMMAND_LIMIT_S:g} s" if code is None else f"failed with exit code {code}"
        tail = _tail(output, redact)
    raise SandboxError(
        f"The command before the start {how}: {command}", hint=_last_words(tail), details={"output": tail}
    )


async def _exit_code(process: asyncio.subprocess.Process) -> int | None:
    """None when it took too long; nothing of it runs any more then."""
    try:
        async with asyncio.timeout(COMMAND_LIMIT_S):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            root = ProcessIdentity.of(process.pid)
            tree = [root] if root else []
            await end_all(lambda: [p for p in [*tree, *descendants(process.pid)] if p.is_alive()], grace_s=_GRACE_S)


def _tail(output: Any, redact: Redact | None) -> str:
    """The end of the output without secrets, also without the rest of one that begins before it."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - TAIL_BYTES - _LONGEST_SECRET))
    data: bytes = output.read()
    return (redact(data) if redact else data)[-TAIL_BYTES:].decode(errors="replace")


def _last_words(tail: str) -> str:
    lines = tail.strip().splitlines()[-SAID_LINES:]
    return "It said at its end:\n" + "\n".join(lines) if lines else "It said nothing."
