"""The two lines that a host and a new supervisor exchange: Boot on its stdin, Ready on its stdout."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from agentctl.errors import SandboxError
from agentctl.providers.prespawn import LOG_NAME, Prespawned
from agentctl.wire import Boot, Ready

_TAIL_BYTES = 4000


async def boot_up(spawned: Prespawned, boot: Boot, timeout_s: float) -> Ready:
    """Tell the supervisor what it is for and return when it listens; both pipes are closed then.

    Raise ``SandboxError`` with the end of its log when it dies first or is not ready in time. The process is the
    caller's to end.
    """
    try:
        async with asyncio.timeout(timeout_s):
            with suppress(BrokenPipeError):  # it died: the missing Ready line tells
                await _write(spawned.boot_fd, boot.to_line())
            line = await _read_line(spawned.ready_fd)
    except TimeoutError:
        raise _failed(spawned, boot, f"was not ready within {timeout_s:g} s") from None
    finally:
        spawned.close()
    if not line.endswith(b"\n"):
        raise _failed(spawned, boot, "ended before it was ready")
    try:
        return Ready.from_line(line)
    except (ValueError, TypeError):
        raise _failed(spawned, boot, "said something else than Ready") from None


async def _write(fd: int, data: bytes) -> None:
    """All of ``data``, however small the pipe is; the supervisor reads only when its imports are done."""
    os.set_blocking(fd, False)
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            await _event_on(fd, writing=True)


async def _read_line(fd: int) -> bytes:
    """Up to and with the first newline, or what came before the end of file."""
    os.set_blocking(fd, False)
    data = b""
    while not data.endswith(b"\n"):
        try:
            chunk = os.read(fd, 65536)
        except BlockingIOError:
            await _event_on(fd, writing=False)
            continue
        if not chunk:
            break
        data += chunk
    return data


async def _event_on(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    happened: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(fd, _settle, happened)
    try:
        await happened
    finally:
        remove(fd)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _failed(spawned: Prespawned, boot: Boot, what: str) -> SandboxError:
    tail = _log_tail(spawned, boot)
    last = next((line for line in reversed(tail.splitlines()) if line.strip()), "")
    return SandboxError(
        f"The supervisor {what}{': ' + last.strip() if last else '.'}",
        hint="`--json` shows the end of the supervisor's log.",
        details={"log": tail},
    )


def _log_tail(spawned: Prespawned, boot: Boot) -> str:
    try:
        data = (spawned.run_dir / LOG_NAME).read_bytes()[-_TAIL_BYTES:]
    except OSError:
        return ""
    text = data.decode(errors="replace")
    for secret in filter(None, (boot.token, *boot.secrets)):
        text = text.replace(secret, "[redacted]")
    return text
