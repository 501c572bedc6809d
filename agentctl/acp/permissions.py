"""Who may do what: the answer to an agent's permission request, from the mode and the policy.

The order is deny > allow > escalate > mode. An ``allow`` rule must match everything a request touches: every part of a
shell command, every path. A ``deny`` or ``escalate`` rule matches if anything in it does. So a rule that cannot be sure
leaves the request to a person.
"""

from __future__ import annotations

import posixpath
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from agentctl.acp.shell import command_of, possible_commands, simple_commands

Json = dict[str, Any]
Effect = Literal["allow", "deny", "ask"]
Want = Literal["once", "always", "reject"]

_ACCEPT_EDITS_KINDS = frozenset({"edit", "move", "read", "search", "think"})
_FILE_KINDS = frozenset({"edit", "delete", "move"})
_PATH_KEYS = ("path", "file_path", "filePath", "abs_path", "absPath", "notebook_path", "source", "destination")
_URL_KEYS = ("url", "uri")


class Decision(NamedTuple):
    """``rule`` says what decided: ``"mode:ask"``, ``"deny[0]"``, ``"allow[2]"``, ``"escalate[1]"``."""

    effect: Effect
    rule: str


class _Subject(NamedTuple):
    """What a request touches. ``certain`` is false where the real command or path is not told."""

    kind: str
    tool: str
    parts: list[str]
    anywhere: list[str]
    certain: bool


def decide(mode: str, policy: Json, tool_call: Json, options: list[Json], *, cwd: str | None = None) -> Decision:
    """Decide one request. ``tool_call`` should be ``Translator.tool_call(id)``: the merged call, not just the frame's.

    ``policy`` is what ``policy.parse_policy`` returned, or ``{}``. Relative path patterns and paths mean ``cwd``.
    "allow" is only said when ``options`` has something to allow it with.
    """
    decision = _decide(mode, policy, _subject(tool_call, cwd), cwd)
    if decision.effect == "allow" and choose_option(options, "once") is None:
        return Decision("ask", decision.rule)
    return decision


def choose_option(options: list[Json], want: Want) -> str | None:
    """The ``optionId`` to answer with, chosen by kind only; ``None`` means answer ``{"outcome": "cancelled"}``.

    The nearest safe one: for ``always`` also ``allow_once`` (and rather that than one of several ``allow_always``,
    whose scope only a person can tell), for ``reject`` also ``reject_always``; never ``allow_always`` for ``once``.
    """
    ids: dict[str, list[str]] = {}
    for option in options:
        if isinstance(option, dict) and isinstance(option.get("optionId"), str):
            ids.setdefault(str(option.get("kind")), []).append(option["optionId"])
    if want == "always" and len(ids.get("allow_always", [])) > 1 and "allow_once" in ids:
        return ids["allow_once"][0]
    kinds = {
        "once": ("allow_once",),
        "always": ("allow_always", "allow_once"),
        "reject": ("reject_once", "reject_always"),
    }[want]
    return next((ids[kind][0] for kind in kinds if kind in ids), None)


def outcome(option_id: str | None) -> Json:
    """The result of ``session/request_permission``: ``selected`` with the option, or ``cancelled`` for ``None``."""
    if option_id is None:
        return {"outcome": {"outcome": "cancelled"}}
    return {"outcome": {"outcome": "selected", "optionId": option_id}}


def _decide(mode: str, policy: Json, subject: _Subject, cwd: str | None) -> Decision:
    effects: tuple[tuple[str, Effect], ...] = (("deny", "deny"), ("allow", "allow"), ("escalate", "ask"))
    for name, effect in effects:
        matches = _matches_all if name == "allow" else _matches_any
        for index, rule in enumerate(policy.get(name, ())):
            if _same_tool(rule, subject) and ("pattern" not in rule or matches(rule["pattern"], subject, cwd)):
                return Decision(effect, f"{name}[{index}]")
    return Decision(_effect_of_mode(mode, subject.kind), f"mode:{mode}")


def _effect_of_mode(mode: str, kind: str) -> Effect:
    if mode == "accept-edits":
        return "allow" if kind in _ACCEPT_EDITS_KINDS else "ask"
    return {"allow": "allow", "deny": "deny"}.get(mode, "ask")  # type: ignore[return-value]


def _same_tool(rule: Json, subject: _Subject) -> bool:
    kind, tool = rule.get("kind"), rule.get("tool")
    return (kind is None or kind == subject.kind) and (tool is None or fnmatchcase(subject.tool, tool))


def _matches_all(pattern: str, subject: _Subject, cwd: str | None) -> bool:
    patterns = _patterns(pattern, cwd)
    return subject.certain and bool(subject.parts) and all(_match(part, patterns) for part in subject.parts)


def _matches_any(pattern: str, subject: _Subject, cwd: str | None) -> bool:
    """A relative pattern also means the end of a path: ``.env`` denies every ``.env``."""
    patterns = [*_patterns(pattern, cwd), f"*/{pattern}"]
    return any(_match(text, patterns) for text in subject.anywhere)


def _patterns(pattern: str, cwd: str | None) -> list[str]:
    return [pattern] if cwd is None or pattern[:1] in "/*~" else [pattern, posixpath.join(cwd, pattern)]


def _match(text: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _subject(call: Json, cwd: str | None) -> _Subject:
    kind = call["kind"] if isinstance(call.get("kind"), str) else "other"
    title = call["title"] if isinstance(call.get("title"), str) else ""
    tool = call["name"] if isinstance(call.get("name"), str) else title
    command = None if kind in _FILE_KINDS else command_of(call.get("rawInput"))
    if command is not None or kind == "execute":
        return _command_subject(tool, title, command)
    things = _things(call, cwd)
    parts = things or ([title] if title else [])
    return _Subject(kind, tool, parts, [*things, title], certain=bool(things) or kind not in _FILE_KINDS)


def _command_subject(tool: str, title: str, command: str | None) -> _Subject:
    """A shell command is ``execute`` whatever kind the agent gave it (codex calls ``cat`` a read).

    Gemini tells the command only as the title; one that looks shortened may hide its end.
    """
    text = title if command is None else command
    parts = simple_commands(text)
    shortened = command is None and text.rstrip().endswith(("…", "..."))
    anywhere = [*possible_commands(text), title]
    return _Subject("execute", tool, parts or [], anywhere, certain=parts is not None and not shortened)


def _things(call: Json, cwd: str | None) -> list[str]:
    """The paths and URLs a call names, normalised, so that ``src/../x`` is no path under ``src``."""
    raw = call["rawInput"] if isinstance(call.get("rawInput"), dict) else {}
    paths = [raw.get(key) for key in _PATH_KEYS]
    for list_key in ("locations", "content"):
        entries = call.get(list_key)
        paths += [e.get("path") for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    found = [posixpath.normpath(posixpath.join(cwd or "", path)) for path in paths if isinstance(path, str) and path]
    urls = [raw[key] for key in _URL_KEYS if isinstance(raw.get(key), str)]
    return list(dict.fromkeys(found + urls))
