"""The policy file of ``--permissions``: which requests are denied, allowed or escalated to a person. Strictly parsed.

As TOML (or the same as JSON)::

    [[deny]]
    kind = "execute"           # an ACP tool kind
    pattern = "*rm -rf*"       # glob on the command, the path or the URL; else on the title

    [[allow]]
    kind = "execute"
    pattern = "git *"          # must match every part of a compound command

    [[escalate]]
    tool = "mcp__*"            # glob on the tool's name

A rule matches when all of its keys do. ``*`` also matches ``/``; patterns compare text, they resolve no links.
"""

from __future__ import annotations

import difflib
import json
from typing import Any

from agentctl.errors import UsageError

Json = dict[str, Any]

LISTS = ("deny", "allow", "escalate")
RULE_KEYS = ("kind", "tool", "pattern")
KINDS = ("read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other")


def parse_policy(text: str, name: str) -> Json:
    """Parse a policy file into ``{"deny": [Rule], "allow": [Rule], "escalate": [Rule]}``.

    Rule: at least one of ``{"kind": ACP tool kind, "tool": glob, "pattern": glob}``. ``name`` is the file's name, for
    messages; ``.json`` is read as JSON, everything else as TOML. Raises ``UsageError`` that names the wrong key.
    """
    return check_policy(_load(text, name), name)


def check_policy(data: Any, name: str) -> Json:
    """The same for a policy that is JSON already."""
    if not isinstance(data, dict):
        raise UsageError(f"{name}: a policy is an object with the lists {', '.join(LISTS)}")
    for key in data:
        _check_known(key, LISTS, name, key)
    return {key: _rules(data.get(key, []), name, key) for key in LISTS}


def _load(text: str, name: str) -> Any:
    import tomllib  # 3 ms, which a supervisor that is given no policy need not spend at its start

    try:
        return json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except ValueError as e:  # JSONDecodeError and TOMLDecodeError, both tell the line
        kind = "JSON" if name.endswith(".json") else "TOML"
        raise UsageError(f"{name} is not {kind}: {e}") from e


def _rules(rules: Any, name: str, key: str) -> list[Json]:
    if not isinstance(rules, list):
        raise UsageError(f"{name}: {key} must be a list of rules", hint=f"in TOML a rule begins with [[{key}]]")
    for index, rule in enumerate(rules):
        _check_rule(rule, name, f"{key}[{index}]")
    return rules


def _check_rule(rule: Any, name: str, where: str) -> None:
    if not isinstance(rule, dict) or not rule:
        raise UsageError(f"{name}: {where} must have at least one of {', '.join(RULE_KEYS)}")
    for key, value in rule.items():
        _check_known(key, RULE_KEYS, name, f"{where}.{key}")
        if not isinstance(value, str) or not value:
            raise UsageError(f"{name}: {where}.{key} must be a text that is not empty")
    if "kind" in rule and rule["kind"] not in KINDS:
        raise UsageError(
            f"{name}: {where}.kind: {rule['kind']!r} is no tool kind", hint=f"choose one of {', '.join(KINDS)}"
        )


def _check_known(key: str, known: tuple[str, ...], name: str, where: str) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise UsageError(f"{name}: unknown key {where}", hint=hint)
