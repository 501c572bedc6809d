"""Where a tool's output hides: each agent has its own place (display terminals in ``_meta``, ``rawOutput``, content).

Sources: ACP tool call content; the ``_meta.terminal_*`` convention of codex and pi; rawOutput as claude (text),
opencode (``{output, metadata: {exit}}``), codexzed (``{aggregated_output, …, exit_code}``) and MCP results have it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agentctl.acp.objects import object_of

Json = dict[str, Any]

_TEXT_KEYS = ("aggregated_output", "formatted_output", "output")
_NESTED_KEYS = ("content", "result", "error", "message")
_EXIT_KEYS = ("exit_code", "exitCode", "exit")


class Output(NamedTuple):
    """``text`` is ``None`` where nothing was said; ``others`` are content parts that are not text."""

    text: str | None
    others: list[Json]


class Terminal:
    """The display terminal of one tool call: text is appended by deltas, or told whole again and again."""

    def __init__(self) -> None:
        self.known = False
        """Whether the agent speaks of a terminal at all; then no output means empty output."""
        self.exited = False
        self.exit_code: int | None = None
        self.text = ""

    def take(self, meta: Json) -> str:
        """Read ``_meta`` of a tool call frame; returns the new text."""
        before = len(self.text)
        for key in ("terminal_output_delta", "terminal_output"):
            data = object_of(meta.get(key)).get("data")
            if isinstance(data, str):
                self.known = True
                self.text = self._joined(data, told_whole=key == "terminal_output")
        if "terminal_exit" in meta:
            self.known = self.exited = True
            self.exit_code = _integer(object_of(meta["terminal_exit"]).get("exit_code"))
        return self.text[before:]

    def _joined(self, data: str, *, told_whole: bool) -> str:
        """``terminal_output`` is the whole text in some agents, a piece in others: a whole begins with what we have."""
        return data if told_whole and data.startswith(self.text) else self.text + data


def output_of_raw(raw: Any) -> Output:
    """The text of a ``rawOutput``; a shape nobody knows becomes a JSON part."""
    text = _raw_text(raw)
    if text is None and raw is not None and raw != {}:
        return Output(None, [{"type": "json", "json": raw}])
    return Output(text, [])


def output_of_content(content: list[Any]) -> Output:
    """The text blocks of a tool call's ``content``, other blocks untouched; diffs and terminals are not output."""
    blocks = [entry.get("content") for entry in content if isinstance(entry, dict) and entry.get("type") == "content"]
    return _of_blocks(blocks)


def diffs_of(content: list[Any]) -> list[Json]:
    """The well-formed diffs of a tool call's ``content``."""
    return [
        entry
        for entry in content
        if isinstance(entry, dict)
        and entry.get("type") == "diff"
        and isinstance(entry.get("path"), str)
        and isinstance(entry.get("newText"), str)
    ]


def exit_code_of_raw(raw: Any) -> int | None:
    """The exit code in a ``rawOutput``, at its top or under ``metadata``."""
    places = (object_of(raw), object_of(object_of(raw).get("metadata")))
    return next(
        (code for place in places for key in _EXIT_KEYS if (code := _integer(place.get(key))) is not None), None
    )


def _raw_text(raw: Any) -> str | None:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, list):
        found = _of_blocks(raw)
        return found.text if not found.others else None
    if not isinstance(raw, dict):
        return None
    for key in _TEXT_KEYS:
        if isinstance(raw.get(key), str):
            return str(raw[key])
    streams = [raw[key] for key in ("stdout", "stderr") if isinstance(raw.get(key), str)]
    if streams:
        return "".join(streams)
    return next((text for key in _NESTED_KEYS if (text := _raw_text(raw.get(key))) is not None), None)


def _of_blocks(blocks: list[Any]) -> Output:
    texts: list[str] = []
    others: list[Json] = []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif block is not None:
            others.append({"type": "acp", "content": block})
    return Output("\n".join(texts) if texts else None, others)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
