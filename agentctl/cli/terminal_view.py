"""A program in the sandbox on this terminal: keys there, its screen here, the size as it changes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from agentctl.cli.exec_exit import FAILED
from agentctl.cli.exec_streams import GRACE_S
from agentctl.cli.interrupts import Interrupts
from agentctl.cli.output import Output, ReaderGone
from agentctl.cli.raw_terminal import RawTerminal, terminal_size
from agentctl.errors import AgentctlError, SupervisorUnreachable
from agentctl.ops import exec as ops
from agentctl.ops.app import App
from agentctl.ops.own import Ref
from agentctl.supervisor_client.terminals import Said, Shown, Terminal, attached

RECONNECT_S = 10.0
STEADY_S = 2.0
"""A connection that lasted so long was one: the next one has all its time to come again."""

_RETRY_S = 0.2


async def exec_on_terminal(app: App, session: Ref, asked: ops.Command, out: Output, interrupts: Interrupts) -> int:
    """Run it on a terminal of its own that this one shows, and return what to exit with.

    This terminal is as it was before, whatever happens. When we are told to end, so is the program.
    """
    name = os.environ.get("TERM") or "xterm-256color"
    asked = replace(asked, terminal=terminal_size(), env={"TERM": name, **asked.env})
    async with ops.started(app, session, asked, out.step) as started:
        out.step("")
        view = _View(started)
        try:
            frame = await view.show()
        except (asyncio.CancelledError, ReaderGone):  # a signal, or the terminal was closed
            with suppress(AgentctlError):
                await asyncio.shield(started.processes.stop(started.id, signal="HUP", grace_s=GRACE_S))
            raise
    code = ops.exit_code(frame)
    if code is None:
        out.story("How it ended is not known: the sandbox's supervisor was restarted meanwhile.", "warning")
    return FAILED if code is None else code


class _View:
    """Shows one process until it ends, over as many connections as it takes."""

    def __init__(self, started: ops.Started) -> None:
        self._started = started
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        self._resized = asyncio.Event()
        self._after: int | None = None

    async def show(self) -> dict[str, Any]:
        """The exit frame. Raise ``SupervisorUnreachable`` when there is no connection any more."""
        with RawTerminal() as terminal, self._keys_and_size():
            try:
                frame = await self._connected()
            except BaseException:
                terminal.tidy()
                raise
            if frame.get("signal") or frame.get("lost"):
                terminal.tidy()
            return frame

    async def _connected(self) -> dict[str, Any]:
        """Over one connection after the other; a person is told only when the next one does not come at once."""
        loop = asyncio.get_running_loop()
        failures, deadline = 0, 0.0
        while True:
            began = loop.time()
            try:
                async with attached(self._started.transport, self._started.id, since=self._after) as terminal:
                    return await self._over(terminal)
            except SupervisorUnreachable:
                now = loop.time()
                failures = 1 if now - began > STEADY_S else failures + 1
                if failures == 1:
                    deadline = now + RECONNECT_S
                elif failures == 2:
                    _write(b"\r\nThe connection broke. Trying again ...\r\n")
                if now >= deadline:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _over(self, terminal: Terminal) -> dict[str, Any]:
        """Both directions of one connection; the first that fails ends the other."""
        self._resized.set()
        typing = asyncio.create_task(self._type(terminal))
        resizing = asyncio.create_task(self._resize(terminal))
        try:
            async for message in terminal.messages():
                if isinstance(message, Shown):
                    self._after = message.sequence
                    _write(message.data)
                elif isinstance(message, Said) and message.frame["type"] == "exit":
                    return message.frame
        finally:
            typing.cancel()
            resizing.cancel()
            await asyncio.gather(typing, resizing, return_exceptions=True)
        raise SupervisorUnreachable("The terminal was closed before the program ended.")

    async def _type(self, terminal: Terminal) -> None:
        while True:
            await terminal.type(await self._typed.get())

    async def _resize(self, terminal: Terminal) -> None:
        while True:
            await self._resized.wait()
            self._resized.clear()
            await terminal.resize(*terminal_size())

    @contextmanager
    def _keys_and_size(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        fd = sys.stdin.fileno()

        def pressed() -> None:
            data = b""
            with suppress(OSError):
                data = os.read(fd, 64 * 1024)
            if data:
                self._typed.put_nowait(data)
            else:
                loop.remove_reader(fd)

        loop.add_reader(fd, pressed)
        loop.add_signal_handler(signal.SIGWINCH, self._resized.set)
        try:
            yield
        finally:
            loop.remove_reader(fd)
            loop.remove_signal_handler(signal.SIGWINCH)


def _write(data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]
    except OSError as e:
        raise ReaderGone from e
