"""Modes, policies and the choice of an option."""

from __future__ import annotations

import pytest

from agentctl.acp.permissions import choose_option, decide, outcome
from agentctl.acp.policy import parse_policy
from agentctl.errors import UsageError
from tests.acp.support import schema

OPTIONS = [
    {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
    {"optionId": "no", "name": "No", "kind": "reject_once"},
]


def execute(command, **more):
    return {"toolCallId": "t", "kind": "execute", "title": command, "rawInput": {"command": command}, **more}


def edit(path, **more):
    return {"toolCallId": "t", "kind": "edit", "title": "Edit", "locations": [{"path": path}], **more}


def effect(call, mode="ask", options=OPTIONS, cwd="/w", **policy):
    return decide(mode, policy, call, options, cwd=cwd).effect


# Modes


@pytest.mark.parametrize(
    "kind", ["read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", None]
)
@pytest.mark.parametrize("mode", ["ask", "accept-edits", "allow", "deny"])
def test_each_mode_answers_each_kind(mode, kind):
    accepted = kind in ("edit", "move", "read", "search", "think")
    expected = {"ask": "ask", "allow": "allow", "deny": "deny", "accept-edits": "allow" if accepted else "ask"}[mode]
    decision = decide(mode, {}, {"toolCallId": "t", "kind": kind, "title": "x"}, OPTIONS)
    assert (decision.effect, decision.rule) == (expected, f"mode:{mode}")


def test_accept_edits_asks_for_a_command_that_calls_itself_a_read():
    assert effect(execute("cat /etc/shadow", kind="read"), mode="accept-edits") == "ask"


def test_an_editor_tool_with_a_command_word_is_still_an_edit():
    call = edit("/w/a", rawInput={"command": "str_replace", "path": "/w/a"})
    assert effect(call, mode="accept-edits") == "allow"


def test_nothing_to_allow_with_means_ask():
    assert effect(execute("ls"), mode="allow", options=OPTIONS[1:]) == "ask"


# The order of rules


def test_deny_beats_allow_beats_escalate_beats_mode():
    rule = {"kind": "execute", "pattern": "git *"}
    call = execute("git push")
    assert decide("ask", {"deny": [rule], "allow": [rule], "escalate": [rule]}, call, OPTIONS).rule == "deny[0]"
    decision = decide("deny", {"allow": [{"kind": "read"}, rule], "escalate": [rule]}, call, OPTIONS)
    assert (decision.effect, decision.rule) == ("allow", "allow[1]")
    decision = decide("allow", {"escalate": [rule]}, call, OPTIONS)
    assert (decision.effect, decision.rule) == ("ask", "escalate[0]")


def test_all_keys_of_a_rule_must_match():
    call = execute("git push", name="Bash")
    assert effect(call, allow=[{"kind": "execute", "tool": "Bash", "pattern": "git *"}]) == "allow"
    for wrong in ({"kind": "read"}, {"tool": "Zsh"}, {"pattern": "hg *"}):
        assert effect(call, allow=[{"kind": "execute", "tool": "B*", "pattern": "git *", **wrong}]) == "ask"


def test_a_tool_is_known_by_its_name_or_else_its_title():
    assert effect({"toolCallId": "t", "name": "mcp__gh__push"}, deny=[{"tool": "mcp__*"}]) == "deny"
    assert effect({"toolCallId": "t", "title": "mcp__gh__push"}, deny=[{"tool": "mcp__*"}]) == "deny"


# Commands


GIT = [{"kind": "execute", "pattern": "git *"}]


@pytest.mark.parametrize(
    "command", ["git status", "git status; git diff | git x", "git log 2>&1 && git show >/dev/null"]
)
def test_an_allowed_command_may_be_compound_if_every_part_is_allowed(command):
    assert effect(execute(command), allow=GIT) == "allow"


@pytest.mark.parametrize(
    "command",
    [
        "git status; rm -rf /",
        "git status && rm -rf /",
        "git status || rm x",
        "git log | sh",
        "git status\nrm -rf /",
        "git status & rm x",
        "git log $(rm x)",
        "git log `rm x`",
        "git log > ~/.ssh/authorized_keys",
        "rm x; git status",
        "PATH=/evil git status",
        "git status # it's\nrm -rf / #'",
        "",
    ],
)
def test_an_allow_rule_is_not_fooled_by_what_hangs_on_a_command(command):
    assert effect(execute(command), allow=GIT) == "ask"


def test_an_argv_list_is_read_like_the_script_in_it():
    call = execute("", rawInput={"command": ["/bin/bash", "-lc", "git status; rm x"]})
    assert effect(call, allow=GIT) == "ask"
    assert effect(execute("", rawInput={"cmd": ["git", "status"]}), allow=GIT) == "allow"


def test_the_command_counts_and_not_the_title():
    assert effect(execute("rm -rf /", title="git status"), allow=GIT) == "ask"


def test_without_a_command_the_title_is_read_unless_it_looks_shortened():
    gemini = {"toolCallId": "t", "kind": "execute", "title": "git status"}
    assert effect(gemini, allow=GIT) == "allow"
    assert effect({**gemini, "title": "git status && git commit -m 'very lo…"}, allow=GIT) == "ask"
    assert effect({**gemini, "title": "git log..."}, allow=GIT) == "ask"


@pytest.mark.parametrize(
    "command", ["rm -rf /", "ls; rm -rf /", "echo $(rm -rf /)", "/bin/rm -rf /", "sh -c 'x; rm -rf /'", "(rm -rf /)"]
)
def test_a_deny_rule_matches_if_any_part_does(command):
    assert effect(execute(command), mode="allow", deny=[{"pattern": "rm -rf*"}]) == "deny"


# Paths


@pytest.mark.parametrize("pattern", ["/w/src/*", "src/*", "*/src/*"])
def test_a_path_pattern_may_be_absolute_or_relative_to_the_working_directory(pattern):
    assert effect(edit("/w/src/a.py"), allow=[{"kind": "edit", "pattern": pattern}]) == "allow"
    assert effect(edit("src/a.py"), allow=[{"kind": "edit", "pattern": pattern}]) == "allow"


@pytest.mark.parametrize(
    "call",
    [
        edit("/w/src/../../etc/passwd"),
        edit("/w/src/a", content=[{"type": "diff", "path": "/etc/passwd", "newText": "x"}]),
        edit("/w/src/a", rawInput={"file_path": "/etc/passwd"}),
        {"toolCallId": "t", "kind": "edit", "title": "/w/src/a"},
        {"toolCallId": "t", "kind": "edit"},
    ],
)
def test_an_allow_rule_needs_every_path_to_match_and_no_title_will_do(call):
    assert effect(call, allow=[{"pattern": "/w/src/*"}]) == "ask"


def test_a_relative_deny_pattern_matches_at_the_end_of_any_path():
    assert effect(edit("/elsewhere/app/.env"), mode="allow", deny=[{"pattern": ".env"}]) == "deny"
    assert effect(edit("/elsewhere/app/.env.example"), mode="allow", deny=[{"pattern": ".env"}]) == "allow"


def test_an_url_can_be_matched():
    call = {"toolCallId": "t", "kind": "fetch", "title": "Fetch", "rawInput": {"url": "https://docs.python.org/3/"}}
    assert effect(call, allow=[{"kind": "fetch", "pattern": "https://docs.python.org/*"}]) == "allow"
    assert effect(call, allow=[{"kind": "fetch", "pattern": "https://docs.example.org/*"}]) == "ask"


def test_calls_of_any_shape_are_decided():
    for call in ({}, {"kind": 7, "title": [], "locations": "x", "content": [None], "rawInput": ["x"]}):
        assert effect(call, deny=[{"pattern": "x"}], allow=[{"pattern": "y"}]) == "ask"


# Options


def offered(*kinds):
    return [{"optionId": f"{kind}-{n}", "name": "?", "kind": kind} for n, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kinds", "want", "chosen"),
    [
        (("allow_always", "allow_once", "reject_once"), "once", "allow_once-1"),
        (("allow_always", "reject_once"), "once", None),
        (("allow_once", "reject_once"), "always", "allow_once-0"),
        (("allow_once", "allow_always"), "always", "allow_always-1"),
        (("allow_always", "allow_always", "allow_once"), "always", "allow_once-2"),
        (("allow_always", "allow_always"), "always", "allow_always-0"),
        (("allow_once", "reject_always"), "reject", "reject_always-1"),
        (("allow_once",), "reject", None),
        ((), "once", None),
    ],
)
def test_an_option_is_chosen_by_kind_and_never_a_wider_one(kinds, want, chosen):
    assert choose_option(offered(*kinds), want) == chosen


def test_malformed_options_are_never_chosen():
    assert choose_option([None, {"kind": "allow_once"}, {"optionId": 3, "kind": "allow_once"}], "once") is None


@pytest.mark.parametrize("option_id", ["yes", None])
def test_outcomes_are_what_the_official_schema_wants(option_id):
    assert schema.RequestPermissionResponse.model_validate(outcome(option_id)).outcome.outcome in (
        "selected",
        "cancelled",
    )


# The policy file


def test_a_policy_is_read_from_toml_and_json_alike():
    toml = (
        "[[deny]]\npattern = '*rm -rf*'\n[[allow]]\nkind = 'execute'\npattern = 'git *'\n[[escalate]]\ntool = 'mcp__*'"
    )
    json_text = (
        '{"deny": [{"pattern": "*rm -rf*"}], "allow": [{"kind": "execute", "pattern": "git *"}], '
        '"escalate": [{"tool": "mcp__*"}]}'
    )
    assert parse_policy(toml, "p.toml") == parse_policy(json_text, "p.json")
    assert parse_policy("", "empty.toml") == {"deny": [], "allow": [], "escalate": []}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[[alow]]\nkind = 'read'", "unknown key alow", "did you mean allow?"),
        ("[[allow]]\nkind = 'read'\npatern = 'x'", "unknown key allow[0].patern", "did you mean pattern?"),
        ("[[allow]]\nzzz = 'x'", "unknown key allow[0].zzz", "known are kind, tool, pattern"),
        ("[[allow]]\nkind = 'read'\n[[allow]]\nkind = 'raed'", "allow[1].kind: 'raed' is no tool kind", "read"),
        ("[[deny]]\npattern = 3", "deny[0].pattern must be a text", None),
        ("[[deny]]\npattern = ''", "deny[0].pattern must be a text", None),
        ("[[deny]]", "deny[0] must have at least one of", None),
        ("[deny]\npattern = 'x'", "deny must be a list of rules", "[[deny]]"),
        ("deny = ['x']", "deny[0] must have at least one of", None),
        ("deny = [", "p.toml is not TOML", None),
    ],
)
def test_a_wrong_policy_names_the_key(text, message, hint):
    with pytest.raises(UsageError) as caught:
        parse_policy(text, "p.toml")
    assert caught.value.message.startswith("p.toml")
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["[]", "3", "{", ""])
def test_json_that_is_no_policy_is_refused(text):
    with pytest.raises(UsageError, match=r"p\.json"):
        parse_policy(text, "p.json")
