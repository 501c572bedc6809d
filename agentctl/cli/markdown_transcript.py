"""A conversation as Markdown: who said what, what tools did with which outcome, who allowed it, and how turns ended.

It stays valid whatever is in it: what agents and tools wrote is fenced, quoted or closed, and cannot drive a terminal.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentctl.cli import story
from agentctl.cli.blocks import open_fence
from agentctl.cli.output import write_text
from agentctl.cli.untrusted import clean, one_line
from agentctl.cli.view import View

if TYPE_CHECKING:
    from agentctl.cli.story import Diff
    from agentctl.ops.result import Result

Json = dict[str, Any]

OUTPUT_LINES = 40
DIFF_LINES = 400
_MARKS = {"failed": "✗", "in_progress": "…"}
_STEPS = {"completed": "[x]", "in_progress": "[ ] ▸"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


class MarkdownTranscript(View):
    """Collects paragraphs and writes them on ``close``. ``agent`` is what the agent is called."""

    def __init__(self, title: str, agent: str) -> None:
        self._agent = agent
        self._parts: list[str] = [f"# {escaped(title)}"]
        self._speaker = ""
        self._item = ""
        self._text: list[str] = []
        self._thinks = False
        self._calls: dict[str, int] = {}

    def turn_start(self, turn_id: str, at: str) -> None:
        self._end_item()
        self._speaker = ""
        self._parts.append(f"<!-- {turn_id} {at[:19]}Z -->" if _is_plain(turn_id) else "")

    def user(self, text: str) -> None:
        self._say("You")
        self._parts.append(quoted(text))

    def attached(self, names: list[str]) -> None:
        self._parts.append("Attached: " + ", ".join(code(name) for name in names))

    def text(self, item_id: str, delta: str) -> None:
        self._stream(item_id, delta, thinks=False)

    def reasoning(self, item_id: str, delta: str) -> None:
        self._stream(item_id, delta, thinks=True)

    def _stream(self, item_id: str, delta: str, *, thinks: bool) -> None:
        if item_id != self._item:
            self._end_item()
            self._item, self._thinks = item_id, thinks
        self._text.append(delta)

    def item_end(self, item_id: str) -> None:
        if item_id == self._item:
            self._end_item()

    def _end_item(self) -> None:
        text, self._text, self._item = "".join(self._text).strip("\n"), [], ""
        if text.strip():
            self._say(self._agent)
            self._parts.append(f"_Thought:_\n\n{quoted(text)}" if self._thinks else closed(text))

    def _say(self, who: str) -> None:
        if who != self._speaker:
            self._parts.append(f"## {escaped(who)}")
            self._speaker = who

    def tool(self, item: Json) -> None:
        self._end_item()
        if item["item_id"] in self._calls:  # it ended after its turn
            self._parts[self._calls[item["item_id"]]] = _tool(item)

    def tool_end(self, item: Json) -> None:
        self._end_item()
        self._say(self._agent)
        self._calls[item["item_id"]] = len(self._parts)
        self._parts.append(_tool(item))

    def tool_result(self, item: Json) -> None:
        self._parts += [_diff(diff) for diff in story.diffs_of(item)]
        if text := story.output_of(item):
            self._parts.append(fenced(_bounded(text.splitlines(), OUTPUT_LINES), "text"))
        if item.get("exit_code"):
            self._parts.append(f"Exit code {item['exit_code']}")

    def plan(self, item: Json) -> None:
        if item["status"] != "completed":
            return
        steps = [f"- {_STEPS.get(status, '[ ]')} {escaped(text)}" for status, text in story.plan_entries(item)]
        if steps:
            self._end_item()
            self._say(self._agent)
            self._parts.append("_Plan:_\n\n" + "\n".join(steps))

    def permission(self, said: str, what: str, *, rejected: bool) -> None:
        self._end_item()
        self._parts.append(f"_{said}:_ {code(what)}")

    def note(self, line: str, style: str = "") -> None:
        self._end_item()
        self._parts.append(f"_{escaped(line)}_")

    def turn_end(self, result: Result) -> None:
        self._end_item()
        self._parts.append(f"_{escaped(story.result_note(result)[0])}_")

    def close(self) -> None:
        self._end_item()
        write_text("\n\n".join(part for part in self._parts if part) + "\n")


def _tool(item: Json) -> str:
    status = item["status"]
    said = {"failed": ": failed", "in_progress": ": not ended"}.get(status, "")
    head = f"{_MARKS.get(status, '✓')} {code(story.tool_title(item))}{said}"
    return "\n\n".join([head, *(_diff(diff) for diff in story.diffs_of(item))])


def _diff(diff: Diff) -> str:
    return fenced(_bounded(diff.lines, DIFF_LINES), "diff")


def _bounded(lines: list[str], limit: int) -> list[str]:
    left = len(lines) - limit
    return lines if left <= 0 else [*lines[:limit], f"… {left:,} more line{'s' * (left != 1)}"]


def fenced(lines: list[str], language: str) -> str:
    """A code block that nothing in the lines can end."""
    longest = max((len(run) for line in lines for run in re.findall("`{3,}", line)), default=2)
    fence = "`" * (longest + 1)
    return "\n".join([fence + language, *lines, fence])


def code(text: str) -> str:
    """A code span that holds this text, on one line."""
    text = one_line(text, 300)
    longest = max(map(len, re.findall("`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " * (text.startswith("`") or text.endswith("`") or not text)
    return f"{ticks}{pad}{text}{pad}{ticks}"


def closed(text: str) -> str:
    """Markdown that ends where it ends: a fence left open is closed, and what else would swallow what follows (an HTML
    comment, say) is quoted."""
    if not any(mark in text for mark in ("```", "~~~", "<")):
        return text
    fence = open_fence(text)
    candidates = [text, f"{text}\n{fence[1]}"] if fence else [text]
    return next(filter(_ends, candidates), None) or quoted(text)


def _ends(text: str) -> bool:
    """Whether a heading that follows is one."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").parse(f"{text}\n\n# End")
    return tokens[-1].type == "heading_close" and tokens[-1].level == 0 and tokens[-2].content == "End"


def quoted(text: str) -> str:
    """A block quote: nothing in it, not even a fence that was left open, reaches further."""
    return "\n".join(f"> {line}".rstrip() for line in clean(text).strip("\n").split("\n"))


def escaped(text: str) -> str:
    """Text that stands for itself, on one line."""
    return _SPECIAL.sub(r"\\\1", one_line(text, 1000))


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"\w+", text) is not None
