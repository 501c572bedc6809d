"""What a request asks, in lines of text: for prompts, ``requests`` and ``answer``. Everything is cleaned."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from agentctl.cli import story
from agentctl.cli.untrusted import clean, one_line

Json = dict[str, Any]
Line = tuple[str, str]
"""Text and style."""

DIFF_LINES = 40
COMMAND_LINES = 12

_KEYS = {"allow_once": "y", "allow_always": "a", "reject_once": "n", "reject_always": "N"}
_REPLIES = {"allow_once": "once", "allow_always": "always", "reject_once": "reject", "reject_always": "reject"}
_WORDS = {"once": "allowed once", "always": "always allowed", "reject": "rejected"}


class Choice(NamedTuple):
    """One answer to a permission request: the key to press, what it is called, and what is sent."""

    key: str
    name: str
    reply: str
    option_id: str | None

    @property
    def said(self) -> str:
        return _WORDS[self.reply]


def request_id(data: Json) -> str:
    """The id of a request from its event data."""
    return str(data.get("permission_id") or data.get("question_id"))


def title_of(data: Json) -> str:
    """What is asked, on one line."""
    tool = _tool_call(data)
    return one_line(data.get("action") or tool.get("title") or data.get("prompt") or "a request")


def _tool_call(data: Json) -> Json:
    return (data.get("metadata") or {}).get("tool_call") or {}


def choices(data: Json) -> list[Choice]:
    """The answers that the agent offers, by kind; allowing once and rejecting are always there."""
    found: list[Choice] = []
    for option in (data.get("metadata") or {}).get("options") or []:
        kind = option.get("kind", "")
        key = _KEYS.get(kind, "")
        if not key or key in [c.key for c in found]:
            key = str(len(found) + 1)
        name = one_line(option.get("name") or kind, 60)
        found.append(Choice(key, name, _REPLIES.get(kind, "once"), option.get("optionId")))
    replies = {c.reply for c in found}
    if not found:
        found.append(Choice("y", "Allow", "once", None))
    if "reject" not in replies:
        found.append(Choice("n", "Reject", "reject", None))
    return found


def permission_lines(data: Json, *, full: bool = False) -> list[Line]:
    """What the agent wants to do: the tool, its command or diff; ``full`` cuts nothing and adds the raw input."""
    tool = _tool_call(data)
    lines: list[Line] = [(f"Permission: {title_of(data)}", "bold")]
    command = story.command_of(tool.get("rawInput"))
    if command and clean(command).strip() != title_of(data).strip("`"):
        lines += _cut([(f"  {'$' if not i else ' '} {c}", "") for i, c in enumerate(clean(command).splitlines())], full)
    for content in tool.get("content") or []:
        lines += _content_lines(content, full, title_of(data))
    if len(lines) == 1:
        lines += [(f"  {one_line(str(place.get('path')))}", "") for place in tool.get("locations") or []]
    if full or (len(lines) == 1 and tool.get("rawInput") and not command):
        lines += _raw(tool, full)
    return lines


def shown_diffs(tool_call: Json) -> list[story.Diff]:
    """The diffs that ``permission_lines`` shows whole."""
    diffs = [story.acp_diff(c) for c in tool_call.get("content") or [] if c.get("type") == "diff"]
    return [diff for diff in diffs if len(diff.body) <= DIFF_LINES]


def _content_lines(content: Json, full: bool, title: str) -> list[Line]:
    if content.get("type") == "diff":
        diff = story.acp_diff(content)
        body = _cut([(f"    {line}", _diff_style(line)) for line in diff.body], full, DIFF_LINES)
        return body if diff.path in title else [(f"  {diff.path}", "bold"), *body]
    inner = content.get("content") or {}
    text = inner.get("text") if isinstance(inner, dict) else None
    return _cut([(f"  {line}", "dim") for line in clean(text).splitlines()], full) if isinstance(text, str) else []


def _raw(tool: Json, full: bool) -> list[Line]:
    shown = {k: tool[k] for k in ("kind", "rawInput", "locations") if tool.get(k)}
    text = json.dumps(shown, indent=2, ensure_ascii=False)
    return _cut([(f"  {clean(line)}", "dim") for line in text.splitlines()], full)


def _cut(lines: list[Line], full: bool, limit: int = COMMAND_LINES) -> list[Line]:
    if full or len(lines) <= limit:
        return lines
    return [*lines[:limit], (f"    … {len(lines) - limit} more lines (d shows all)", "dim")]


def _diff_style(line: str) -> str:
    return {"+": "good", "-": "bad"}.get(line[:1], "dim")


def how_to_answer(session: str, data: Json) -> str:
    """The command that answers from another terminal."""
    how = "--reply once|always|reject" if "permission_id" in data else "--content '{…}'"
    return f"agentctl sessions answer {session} {request_id(data)} {how}"
