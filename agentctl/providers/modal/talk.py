"""With a new sandbox, by the streams of its main process: the supervisor's program and Boot go in, Ready comes out."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentctl.errors import AgentctlError, SandboxError, UsageError
from agentctl.paths import state_errors
from agentctl.providers.modal import loader
from agentctl.providers.modal.place import LAYOUT, PRIVATE, RUNTIME
from agentctl.providers.packed import packed
from agentctl.providers.trees import make_private_directory
from agentctl.wire import Boot, Ready

_CHUNK_BYTES = 2 * 1024 * 1024
"""The most that the SDK takes at once."""

_TAIL_BYTES = 4000
END_S = 3.0
_SILENCE_S = 0.5


def command() -> list[str]:
    """What a sandbox runs. Its image's Python may be too old: then it says so."""
    return [LAYOUT.python, "-IS", "-c", Path(loader.__file__).read_text()]


async def boot_up(sandbox: Any, program: bytes, boot: Boot, timeout_s: float) -> Ready:
    """Return when the supervisor listens. ``program`` is what ``program`` gives.

    Raise ``SandboxError`` with the end of what it said when it dies first or is not ready in time, ``UsageError`` for
    an image in which none can run, and what the SDK raises.
    """
    from modal import exception

    try:
        async with asyncio.timeout(timeout_s):
            line = await _talked(sandbox, program, boot)
    except TimeoutError:
        raise await _failed(sandbox, boot, f"was not ready within {timeout_s:g} s") from None
    except exception.Error:  # it may be over already, which says more
        if await _exit_code(sandbox) is None:
            raise
        line = ""
    if not line.endswith("\n"):
        raise await _failed(sandbox, boot, "ended before it was ready")
    try:
        return Ready.from_line(line.encode())
    except (ValueError, TypeError):
        raise await _failed(sandbox, boot, "said something else than Ready") from None


async def _talked(sandbox: Any, program: bytes, boot: Boot) -> str:
    """Its first line, or nothing when it has ended without one."""
    reading = asyncio.create_task(_first_line(sandbox.stdout))
    sending = asyncio.create_task(_send(sandbox, program, boot))
    try:
        await asyncio.wait((reading, sending), return_when=asyncio.FIRST_EXCEPTION)
        if sending.done() and not reading.done():
            sending.result()
        return await reading
    finally:
        reading.cancel()
        sending.cancel()
        await asyncio.gather(reading, sending, return_exceptions=True)


async def _send(sandbox: Any, program: bytes, boot: Boot) -> None:
    head = json.dumps({"bytes": len(program), "runtime": RUNTIME, "private": PRIVATE}).encode() + b"\n"
    data = memoryview(head + program + boot.to_line())
    for at in range(0, len(data), _CHUNK_BYTES):
        sandbox.stdin.write(bytes(data[at : at + _CHUNK_BYTES]))
        if at + _CHUNK_BYTES >= len(data):
            sandbox.stdin.write_eof()
        await _drain(sandbox)


async def _drain(sandbox: Any) -> None:
    with suppress(ValueError):  # it has closed its stdin: what it says tells why
        await sandbox.stdin.drain.aio()


async def _first_line(stream: Any) -> str:
    async for line in stream:
        return str(line)
    return ""


def program(runtime: Path, place: Path) -> bytes:
    """The supervisor as it is sent, kept in ``place`` for the next, as ``loader.unpack`` takes it."""
    path = place / f"{runtime.name}.packed"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    files = packed(runtime)
    index = json.dumps([[name, len(content)] for name, content in files.items()]).encode()
    data = b"".join((len(index).to_bytes(4, "big"), index, *files.values()))
    make_private_directory(place)
    with state_errors(path):
        for other in place.iterdir():  # of another version, or given up
            other.unlink(missing_ok=True)
        new = place / f".new-{secrets.token_hex(6)}"
        new.write_bytes(data)
        new.rename(path)
    return data


async def _failed(sandbox: Any, boot: Boot, what: str) -> AgentctlError:
    code = await _exit_code(sandbox)
    text = (await _last_words(sandbox)).decode(errors="replace")
    for secret in filter(None, (boot.token, *boot.secrets)):
        text = text.replace(secret, "[redacted]")
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    if code == loader.TOO_OLD:
        return UsageError(last, hint="Name another image with --image.")
    return SandboxError(
        f"The supervisor {what}{': ' + last if last else '.'}",
        hint="The image needs Python 3.11 or newer, as python3 on its PATH. `--json` shows the end of what was said.",
        details={"log": text, "exit_code": code},
    )


async def _exit_code(sandbox: Any) -> int | None:
    """None when it does not end soon."""
    from modal import exception

    with suppress(TimeoutError, exception.Error):
        async with asyncio.timeout(END_S):
            await sandbox.wait.aio(raise_on_termination=False)
    code: int | None = sandbox.returncode
    return code


async def _last_words(sandbox: Any) -> bytes:
    from modal import exception

    with suppress(exception.Error):
        return await tail_of(sandbox, _TAIL_BYTES)
    return b""


async def tail_of(sandbox: Any, max_bytes: int) -> bytes:
    """The end of what the main process has said on stderr up to now; of a living one, silence is taken for it."""
    said = b""
    stream = aiter(sandbox.stderr)
    with suppress(TimeoutError, StopAsyncIteration):
        while True:
            async with asyncio.timeout(_SILENCE_S):
                said = (said + (await anext(stream)).encode())[-max_bytes:]
    return said
