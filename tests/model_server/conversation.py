"""What every API's request boils down to: who said what, which tools are offered, which side answer is demanded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

WRAPPERS = (
    "system-reminder",
    "environment_context",
    "user_instructions",
    "session_context",
    "skills_instructions",
    "plugins_instructions",
    "permissions instructions",
    "turn_aborted",
    "local-command-caveat",
    "local-command-stdout",
    "command-name",
    "command-message",
    "command-args",
)
_WRAPPED = re.compile("|".join(rf"<{tag}\b[^>]*>.*?</{tag}>" for tag in WRAPPERS), re.DOTALL)
_NOTICES = re.compile(r"\[Request interrupted by user[^\]]*\]")
_AGENTS_FILE = re.compile(r"\A\s*# (AGENTS|CLAUDE|GEMINI)\.md\b")


def spoken(text: str) -> str:
    """The words a person wrote, without what the agent wrapped around them."""
    if _AGENTS_FILE.match(text):
        return ""
    return _NOTICES.sub("", _WRAPPED.sub("", text)).strip()


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of the request. ``freeform`` tools take a text, not JSON; a ``namespace`` is Codex's way to group."""

    name: str
    schema: Json = field(default_factory=dict)
    namespace: str = ""
    freeform: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One text of the history. Blocks of the same message share its number."""

    role: Literal["user", "assistant", "result"]
    text: str
    message: int


@dataclass(slots=True)
class Conversation:
    """A request in one shape for all APIs. ``schema`` is the JSON schema that its answer must have, if any."""

    model: str
    system: str = ""
    tools: list[Tool] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    schema: Json | None = None
    effort: str | None = None
    streaming: bool = True

    def add(self, role: Literal["user", "assistant", "result"], text: str, message: int) -> None:
        """Append a text of the history; a user's text is stripped of wrappers, and dropped when nothing is left."""
        words = spoken(text) if role == "user" else text
        if words or role != "user":
            self.entries.append(Entry(role, words, message))

    @property
    def users(self) -> list[str]:
        return [entry.text for entry in self.entries if entry.role == "user"]

    def prompt(self, has_script: re.Pattern[str]) -> str:
        """The text to play: of the last user message the last block with a script, else its last block.

        Claude Code merges prompts that follow an API error into one message, and adds blocks of its own.
        """
        blocks = self._last_message()
        scripted = [entry.text for entry in blocks if has_script.search(entry.text)]
        return (scripted or [entry.text for entry in blocks] or [""])[-1]

    def results(self) -> list[str]:
        """The tool results after the last user message."""
        last = self._last_message()
        after = self.entries.index(last[-1]) + 1 if last else 0
        return [entry.text for entry in self.entries[after:] if entry.role == "result"]

    def _last_message(self) -> list[Entry]:
        spoken_by_user = [entry for entry in self.entries if entry.role == "user"]
        return [entry for entry in spoken_by_user if entry.message == spoken_by_user[-1].message]


def flat_text(content: Any, keys: tuple[str, ...] = ("text", "content", "output")) -> str:
    """The text in a content value of any API: a string, a block, or a list of blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(flat_text(part, keys) for part in content)
    if isinstance(content, dict):
        return next((flat_text(content[key], keys) for key in keys if key in content), "")
    return ""
