"""What events say in words: one place, so that the plain and the rich view, prompts and lists tell the same story."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from agentctl.cli.untrusted import clean, one_line

if TYPE_CHECKING:
    from agentctl.ops.result import Result

Json = dict[str, Any]
Note = tuple[str, str]
"""A line and its style."""


_AFTER_LOSS = {"new": "it starts anew", "replay": "it is told the transcript"}
_CUT = "… the rest of this diff is not kept: it is too big"
_REJECTED_BY = {"policy": "Denied by the permissions in force", "timeout": "Nobody answered", "user": "Rejected"}


class Diff(NamedTuple):
    """A unified diff of one file."""

    path: str
    lines: list[str]

    @property
    def body(self) -> list[str]:
        """The hunks, without the two lines that name the file."""
        return self.lines[2:] if self.lines[:1] and self.lines[0].startswith("--- ") else self.lines


def tool_title(item: Json) -> str:
    """What a tool call does, on one line; the backticks around a command are left out."""
    tool = item.get("tool") or {}
    title = one_line(tool.get("title") or tool.get("name") or tool.get("kind") or "tool")
    return title[1:-1] if re.fullmatch("`[^`]+`", title) else title


def command_of(raw_input: Any) -> str | None:
    """The command line in a tool's input, where there is one."""
    command = raw_input.get("command") or raw_input.get("cmd") if isinstance(raw_input, dict) else None
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return command if isinstance(command, str) else None


def output_of(item: Json) -> str:
    """The text that a tool gave back."""
    return clean("\n".join(filter(None, (_part_text(part) for part in item["content"])))).strip("\n")


def _part_text(part: Json) -> str:
    match part.get("type"):
        case "text":
            return str(part["text"])
        case "tool_result":
            output = part.get("output")
            return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        case "json":
            return json.dumps(part.get("json"), ensure_ascii=False)
        case _:
            return ""


def diffs_of(item: Json) -> list[Diff]:
    """The diffs that an item carries."""
    return [_diff(part) for part in item["content"] if part.get("type") == "file_ref" and part.get("diff")]


def plan_entries(item: Json) -> list[tuple[str, str]]:
    """``(status, text)`` of each step of a plan."""
    entries: list[Any] = []
    for part in item["content"]:
        value = part.get("json") if part.get("type") == "json" else None
        entries += value.get("entries", []) if isinstance(value, dict) else value or []
    return [(e.get("status", "pending"), one_line(e.get("content", ""))) for e in entries if isinstance(e, dict)]


def status_note(item: Json) -> Note:
    """The line of a status item."""
    for part in item["content"]:
        if part.get("type") == "status":
            return one_line(" ".join(filter(None, (part.get("label"), part.get("detail"))))), "dim"
    return output_of(item), "dim"


def note_of(kind: str, data: Json) -> Note | None:
    """The line that an event of this type is worth, if any."""
    match kind:
        case "session.context_lost":
            then = _AFTER_LOSS.get(data.get("action", ""), "stopped")
            why = one_line(data.get("reason") or "no reason given")
            return f"The agent has lost the conversation ({why}): {then}.", "warning"
        case "turn.started":
            context = (data.get("metadata") or {}).get("context")
            return (f"Conversation {context}.", "dim") if context in ("restored", "replayed") else None
        case "turn.stalled":
            return f"The agent has been silent for {data.get('silent_s', 0):.0f} s.", "warning"
        case "permission.resolved":
            return _permission_note(data)
        case "error":
            return one_line(data.get("message", "error"), 1000), "error"
        case "session.config_changed":
            return _config_note(data)
        case _:
            return None


def _permission_note(data: Json) -> Note | None:
    by = (data.get("metadata") or {}).get("by")
    if data.get("status") != "reject" or by == "cancel":
        return None
    return f"{_REJECTED_BY.get(str(by), 'Denied')}: {one_line(data.get('action') or 'a request')}", "warning"


def _config_note(data: Json) -> Note | None:
    changed = [n for n in data.get("changed", ()) if n in ("mode", "model", "thought_level") and data.get(n)]
    if not changed:
        return None
    return ", ".join(f"{n.replace('_', ' ')} is now {one_line(str(data[n]))}" for n in changed) + ".", "dim"


def result_note(result: Result) -> Note:
    """The final line: how the turn ended, how long it took, what it cost."""
    facts = [_outcome(result), *_numbers(result)]
    if result.context in ("restored", "replayed", "lost"):
        facts.append(f"context {result.context}")
    return " · ".join(facts), "dim" if result.outcome == "completed" else "warning"


def _outcome(result: Result) -> str:
    message = one_line((result.error or {}).get("message") or "", 1000)
    match result.outcome:
        case "completed":
            return "Done" + (f", with {len(result.denied)} denied" if result.denied else "")
        case "denied":
            waiting = len(result.pending)
            return f"Denied: {waiting} unanswered" if waiting and not result.denied else "Denied: " + _denied(result)
        case "refused":
            return "The agent refused"
        case "limit":
            return f"Stopped unfinished ({result.stop_reason})"
        case "timeout":
            stalled = (result.error or {}).get("code") == "stalled"
            return "Stopped: the agent had fallen silent" if stalled else "Stopped at the timeout"
        case "failed":
            return f"Failed: {message}" if message else "Failed"
        case outcome:
            return outcome.capitalize() + (f": {message}" if message else "")


def _denied(result: Result) -> str:
    return ", ".join(one_line(d.get("action") or "a request", 60) for d in result.denied[:3]) or "a request"


def _numbers(result: Result) -> list[str]:
    facts = []
    if result.duration_ms is not None:
        facts.append(duration(result.duration_ms / 1000))
    facts += usage_facts(result.usage, result.cost)
    return facts


def usage_facts(usage: Json | None, cost: Json | None) -> list[str]:
    """Tokens, how full the agent's window is, and cost, in words; what was not reported is not said."""
    counts = []
    for name, word in (("input_tokens", "in"), ("output_tokens", "out"), ("cached_read_tokens", "cached")):
        count = (usage or {}).get(name)
        if isinstance(count, int) and (count or word != "cached"):
            counts.append(f"{count:,} {word}")
    facts = [f"{' / '.join(counts)} tokens"] if counts else []
    return facts + list(filter(None, (_window(usage or {}), money(cost))))


def _window(usage: Json) -> str:
    used, size = usage.get("context_used"), usage.get("context_size")
    if not isinstance(used, int) or not isinstance(size, int) or size <= 0 or used * 100 < size:
        return ""
    return f"{used * 100 // size} % of its window"


def money(cost: Json | None, *, exact: bool = True) -> str:
    """An amount with its currency, in hundredths, or with the two first digits of a smaller one when ``exact``; nothing
    where none was told."""
    amount = (cost or {}).get("amount")
    if not isinstance(amount, int | float) or isinstance(amount, bool):
        return ""
    shown = f"{amount:,.2f}"
    if 0 < amount < 0.1 and exact:
        shown = f"{amount:.2g}" if amount >= 0.0001 else "<0.0001"
    elif 0 < amount < 0.005:
        shown = "<0.01"
    return f"{shown} {one_line(str((cost or {}).get('currency') or ''))}".strip()


def size(count: int) -> str:
    """``640 B``, ``12 kB``, ``3.4 MB``."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """``80 ms``, ``1.2 s``, ``12 s``, ``3 min 4 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def acp_diff(content: Json) -> Diff:
    """The unified diff of an ACP ``diff`` content, as bounded as those of events are."""
    from agentctl.acp.diffs import file_ref

    return _diff(file_ref(str(content.get("path") or ""), content.get("oldText"), content.get("newText") or ""))


def _diff(part: Json) -> Diff:
    lines = clean(part["diff"]).splitlines()
    return Diff(one_line(part["path"]), [*lines, *([_CUT] if part.get("truncated") else [])])
