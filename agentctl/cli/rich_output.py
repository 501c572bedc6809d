"""The view on a terminal: the answer as Markdown while it comes, tools, diffs and plans, and one line of status.

What is finished is printed for good. Only the tail (an unfinished block, running tools, the status) is redrawn, at most
15 times a second and never for more than a tenth of the time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentctl.cli import story
from agentctl.cli.blocks import Block, Blocks
from agentctl.cli.keyboard import SilentControls
from agentctl.cli.output import Output, ReaderGone, wants_color, write_text
from agentctl.cli.requests_text import shown_diffs
from agentctl.cli.screen import Screen
from agentctl.cli.view import View
from agentctl.errors import AgentctlError

if TYPE_CHECKING:
    from agentctl.cli.rich_paint import Painter
    from agentctl.ops.result import Result

Json = dict[str, Any]

_FRAME_S = 1 / 15
_REST_PER_COST = 9
_QUIET_S = 1.0


class RichView(View):
    """``live`` needs a running event loop; without it everything is printed by ``close``, as for a transcript."""

    def __init__(self, out: Output, *, live: bool = True) -> None:
        self._out = out
        self._live = live
        self._permanent: list[str] = []
        self._last = ""
        self._blocks = Blocks()
        self._item = ""
        self._kind = ""
        self._tools: dict[str, Json] = {}
        self._results: dict[str, list[Json]] = {}
        self._ended = ("", "")
        self._asked: dict[str, Json] = {}
        self._seen: set[tuple[str, ...]] = set()
        """The diffs that a question has shown just now."""
        self._plan: Json | None = None
        self._status = "Working …"
        self._advice = " · Ctrl-C cancels"
        self._since = self._spoke = time.monotonic()
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._next_frame = 0.0
        self._lost: Exception | None = None
        self._loading: threading.Thread | None = None
        self._controls = SilentControls()

    @cached_property
    def _painter(self) -> Painter:
        import sys

        from agentctl.cli.rich_paint import Painter

        return Painter(color=wants_color(sys.stdout, self._out.color))

    @cached_property
    def _screen(self) -> Screen:
        from agentctl.cli import rich_paint

        return Screen(write_text, rich_paint.terminal_size, rich_paint.cell_width)

    def step(self, text: str) -> None:
        """Show the step as the status, and load Rich while we wait for it."""
        self._status = text
        self._prepare()
        self._schedule(1.0 if self._loading and self._loading.is_alive() else 0.0)

    def begin(self) -> None:
        """From here on the clock counts the agent's time."""
        self._status = "Working …"
        self._since = self._spoke = time.monotonic()
        self._prepare()

    def _prepare(self) -> None:
        if self._loading is None and self._live:
            self._controls.enter()
            self._loading = threading.Thread(target=import_module, args=["agentctl.cli.rich_paint"], daemon=True)
            self._loading.start()

    def text(self, item_id: str, delta: str) -> None:
        self._stream("message", item_id, delta)

    def reasoning(self, item_id: str, delta: str) -> None:
        self._stream("reasoning", item_id, delta)

    def _stream(self, kind: str, item_id: str, delta: str) -> None:
        if item_id != self._item:
            self._end_item()
            self._item, self._kind = item_id, kind
        self._blocks.feed(delta)
        self._spoke = time.monotonic()

    def item_end(self, item_id: str) -> None:
        if item_id == self._item:
            self._end_item()

    def _end_item(self) -> None:
        self._print_blocks(self._blocks.finish())
        self._item = ""
        if self._last == "reasoning":
            self._last = "thought"  # two thoughts stay apart

    def user(self, text: str) -> None:
        self._print("user", self._painter.user(text))

    def attached(self, names: list[str]) -> None:
        self._print("user", self._painter.note(f"  attached: {', '.join(names)}", "dim"), joined=True)

    def tool(self, item: Json) -> None:
        self._end_item()
        self._tools[item["item_id"]] = item

    def tool_end(self, item: Json) -> None:
        self._end_item()
        self._tools.pop(item["item_id"], None)
        self._print("tool", self._painter.tool(item, self._seen))
        self._ended = (item["item_id"], story.tool_title(item))
        for result in self._results.pop(item["item_id"], ()):
            self._print_output(result)

    def tool_result(self, item: Json) -> None:
        if item["parent_id"] in self._tools:
            self._results.setdefault(item["parent_id"], []).append(item)
        else:
            self._print_output(item)

    def _print_output(self, item: Json) -> None:
        call, title = self._ended
        self._print("tool", self._painter.output(item, title if item["parent_id"] == call else "", self._seen))

    def asked(self, permission_id: str, tool_call: Json | None) -> None:
        if tool_call is None:
            self._asked.pop(permission_id, None)
        else:
            self._asked[permission_id] = tool_call

    def plan(self, item: Json) -> None:
        self._plan = None if item["status"] == "completed" else item
        if self._plan is None:
            self._print("plan", self._painter.plan(item))

    def note(self, line: str, style: str = "") -> None:
        self._end_item()
        self._print("note", self._painter.note(line, style))
        self.flush()

    def _print_blocks(self, blocks: list[Block]) -> None:
        for block in blocks:
            self._print(self._kind, self._painted(block), joined=block.joined)

    def _painted(self, block: Block) -> str:
        paint = self._painter.markdown if self._kind == "message" else self._painter.thought
        return paint(block.text)

    def _print(self, kind: str, text: str, *, joined: bool = False) -> None:
        if text:
            self._permanent.append(self._gap(kind, joined) + text)
            self._last = kind

    def _gap(self, kind: str, joined: bool) -> str:
        together = kind == self._last and kind in ("tool", "note")
        return "" if joined or not self._last or together else "\n"

    def flush(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._schedule()

    def _schedule(self, after_s: float = 0.0) -> None:
        if not self._live or self._paused:
            return
        if self._timer is not None and after_s == 0.0:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            at = max(loop.time() + after_s, self._next_frame)
            self._timer = loop.call_at(at, self._frame)

    def _frame(self) -> None:
        """Draw, then rest: a frame a second is enough when only the clock moves."""
        self._timer = None
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            self._draw()
        except (ReaderGone, AgentctlError) as e:  # told at the next flush: here nobody would hear it
            self._lost = e
            return
        cost = loop.time() - started
        self._next_frame = loop.time() + max(_FRAME_S, cost * _REST_PER_COST)
        self._schedule(1.0)

    def _draw(self) -> None:
        self._print_blocks(self._blocks.take())
        tail = self._tail()
        from agentctl.cli.rich_paint import terminal_size

        if len(tail) >= terminal_size()[1] - 2 and self._item:
            self._print_blocks(self._blocks.cut())
            tail = self._tail()
        permanent, self._permanent = "".join(self._permanent), []
        self._screen.draw(tail, permanent)

    def _tail(self) -> list[str]:
        parts = []
        block = self._blocks.tail
        if self._item and block.text.strip():
            parts.append(self._gap(self._kind, block.joined) + self._painted(block))
        running = [self._painter.tool(item) for item in self._tools.values()]
        if running and (parts or self._last not in ("", "tool")):
            parts.append("\n")
        parts += running
        if self._plan is not None:
            parts.append("\n" + self._painter.plan(self._plan))
        if time.monotonic() - self._spoke >= _QUIET_S or not parts:
            parts.append("\n" * bool(parts or self._last) + self._status_line())
        return "".join(parts).splitlines()

    def _status_line(self) -> str:
        waited = story.duration(time.monotonic() - self._since) if self._since else ""
        return self._painter.note(f"{self._status} {waited}{self._advice}", "dim")

    def pause(self) -> None:
        self._stop_timer()
        self._print_blocks(self._blocks.take())
        self._leave()
        if self._last:
            write_text("\n")
        self._paused, self._last = True, "question"
        for tool_call in self._asked.values():
            self._seen |= {tuple(diff.body) for diff in shown_diffs(tool_call)}

    def resume(self) -> None:
        self._paused = False
        self._spoke = time.monotonic()
        self._schedule()

    def cancelling(self, line: str) -> None:
        self._status, self._advice = "Still waiting for the agent …", ""
        self.note(line, "warning")

    def cut_off(self, line: str) -> None:
        self._end_all()
        self.note(line, "warning")

    def _end_all(self) -> None:
        self._end_item()
        for item in list(self._tools.values()):
            self.tool_end(item)
        if self._plan is not None:
            self.plan({**self._plan, "status": "completed"})

    def finish(self, result: Result) -> None:
        self._end_all()
        self._leave()
        if self._last:
            write_text("\n")
        self._out.story(*story.result_note(result))

    def close(self) -> None:
        self._end_item()
        self._leave()
        self._controls.leave()

    def _leave(self) -> None:
        """Print what is finished and wipe the tail: the cursor is left at the start of an empty line."""
        self._stop_timer()
        permanent, self._permanent = "".join(self._permanent), []
        if permanent or "_screen" in self.__dict__:
            self._screen.draw([], permanent)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
