"""``--request-hook``: a command that answers requests. It reads a request's event and prints the answer.

It is started without a shell, has a minute, and what it prints is bounded. When it prints nothing, fails, takes too
long or says what cannot be understood, the request stays open for whoever else may answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from agentctl.cli import requests_text as words
from agentctl.cli.asking import SETTLE_S, Reply, Requests
from agentctl.errors import AgentctlError, UsageError
from agentctl.events import Event

Json = dict[str, Any]
HOOK_TIMEOUT_S = 60.0
ANSWER_LIMIT = 64 * 1024
STDERR_LIMIT = 4 * 1024
REPLIES = ("once", "always", "reject")
_GRACE_S = 1.0


class HookAnswer(NamedTuple):
    """What the hook wants sent; ``said`` tells it to the person."""

    reply: str | None
    option_id: str | None
    content: Json | None
    said: str


class HookFailed(Exception):
    """The hook gave no answer that could be sent; the text says why."""


def command_of(text: str) -> tuple[str, ...]:
    """The words of ``--request-hook``. Raise ``UsageError``."""
    try:
        argv = tuple(shlex.split(text))
    except ValueError as e:
        raise UsageError("--request-hook: its quotes do not match.") from e
    if not argv:
        raise UsageError("--request-hook is empty.", hint="Write --request-hook 'program args'.")
    return argv


class HookedRequests(Requests):
    """Asks the hook first, all requests at once; what it leaves open is ``otherwise``'s."""

    def __init__(
        self, argv: tuple[str, ...], reply: Reply, note: Callable[[str, str], None], otherwise: Requests
    ) -> None:
        super().__init__()
        self._argv = argv
        self._reply = reply
        self._note = note
        self._otherwise = otherwise
        self._bodies: dict[str, Json] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def report_failures_to(self, failed: Callable[[BaseException], None]) -> None:
        super().report_failures_to(failed)
        self._otherwise.report_failures_to(failed)

    def feed(self, batch: Sequence[Event]) -> None:
        for event in batch:
            if event.type in ("permission.requested", "question.requested"):
                self._bodies[words.request_id(event.data)] = event.body
        super().feed(batch)

    def requested(self, data: Json) -> None:
        request_id = words.request_id(data)
        self._tasks[request_id] = self._start(self._ask(request_id, data))

    def resolved(self, data: Json) -> None:
        request_id = words.request_id(data)
        self._bodies.pop(request_id, None)
        if (task := self._tasks.pop(request_id, None)) is not None:
            task.cancel()
        self._otherwise.waiting.pop(request_id, None)
        self._otherwise.resolved(data)

    async def _ask(self, request_id: str, data: Json) -> None:
        await asyncio.sleep(SETTLE_S)
        try:
            answer = await ask_hook(self._argv, self._bodies.pop(request_id), data)
            if answer is not None:
                self._tasks.pop(request_id, None)  # what is resolved by us does not end us
                await self._reply(request_id, reply=answer.reply, option_id=answer.option_id, content=answer.content)
                self._note(f"The request hook answered '{words.title_of(data)}': {answer.said}", "dim")
                return
        except (HookFailed, AgentctlError) as e:
            self._note(str(e), "warning")
        if request_id in self.waiting:
            self._otherwise.waiting[request_id] = data
            self._otherwise.requested(data)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._otherwise.close()


async def ask_hook(argv: tuple[str, ...], event: Json, data: Json) -> HookAnswer | None:
    """What the command says to this request; None when it leaves it open. Raise ``HookFailed``."""
    said = await _output_of(argv, json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    try:
        text = said.decode().strip()
    except UnicodeDecodeError as e:
        raise HookFailed("The request hook printed what is not UTF-8 text.") from e
    return _read(text, data) if text else None


def _read(text: str, data: Json) -> HookAnswer:
    if text == "reject":
        return HookAnswer("reject", None, None, text)
    if "question_id" in data:
        with suppress(ValueError):
            content = json.loads(text)
            if isinstance(content, dict):
                return HookAnswer(None, None, content, "answered")
        raise HookFailed("The request hook printed no JSON object for a question: it stays open.")
    if text in REPLIES:
        return HookAnswer(text, None, None, text)
    offered = [str(o.get("optionId")) for o in (data.get("metadata") or {}).get("options") or []]
    if text in offered:
        return HookAnswer(None, text, None, text)
    raise HookFailed(
        f"The request hook printed {text[:60]!r}, which is none of {', '.join((*REPLIES, *offered))}: it stays open."
    )


async def _output_of(argv: tuple[str, ...], given: bytes) -> bytes:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except OSError as e:
        raise HookFailed(f"The request hook {argv[0]} cannot be started: {e.strerror}.") from e
    try:
        async with asyncio.timeout(HOOK_TIMEOUT_S):
            out, err, _ = await asyncio.gather(
                _bounded(process.stdout, ANSWER_LIMIT), _bounded(process.stderr, STDERR_LIMIT), _give(process, given)
            )
            code = await process.wait()
    except TimeoutError:
        await _end(process)
        raise HookFailed(f"The request hook had no answer within {HOOK_TIMEOUT_S:g} s: it stays open.") from None
    except BaseException:
        await _end(process)
        raise
    if len(out) > ANSWER_LIMIT:
        raise HookFailed(f"The request hook printed more than {ANSWER_LIMIT} bytes: it stays open.")
    if code != 0:
        words_ = err[:STDERR_LIMIT].decode("utf-8", "replace").strip().splitlines()
        raise HookFailed(f"The request hook ended with exit code {code}" + (f": {words_[-1]}" if words_ else "."))
    return out


async def _bounded(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    """All that comes, of which only the first ``limit`` bytes and one more are kept."""
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: limit + 1 - len(kept)]
    return bytes(kept)


async def _give(process: asyncio.subprocess.Process, given: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it need not read what it does not want to know
        process.stdin.write(given)
        await process.stdin.drain()
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the hook and what it started in its group: whatever holds its output open."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if process.returncode is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await process.wait()
