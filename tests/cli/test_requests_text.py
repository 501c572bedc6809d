"""What a permission request shows, and which answers it offers."""

from agentctl.cli import requests_text as words
from tests.cli.happenings import permission


def _texts(lines):
    return [text for text, _ in lines]


def test_the_command_is_shown():
    data = permission(rawInput={"command": ["rm", "-rf", "my dir"]})
    assert _texts(words.permission_lines(data)) == ["Permission: Remove the build directory", "  $ rm -rf 'my dir'"]


def test_a_diff_is_shown_and_a_long_one_is_cut_until_asked_for():
    new = "\n".join(f"line {i}" for i in range(100))
    data = permission(content=[{"type": "diff", "path": "a.txt", "oldText": "", "newText": new}])
    lines = _texts(words.permission_lines(data))
    assert "  a.txt" in lines
    assert "    +line 1" in lines
    assert "more lines" in lines[-1]
    assert "    +line 99" in _texts(words.permission_lines(data, full=True))


def test_text_places_and_raw_input_are_shown_where_there_is_nothing_better():
    text = permission(content=[{"type": "content", "content": {"type": "text", "text": "why"}}])
    assert "  why" in _texts(words.permission_lines(text))
    place = permission(locations=[{"path": "/etc/passwd"}])
    assert "  /etc/passwd" in _texts(words.permission_lines(place))
    raw = permission(rawInput={"url": "https://x"})
    assert any("https://x" in line for line in _texts(words.permission_lines(raw)))


def test_nothing_in_a_request_can_drive_the_terminal():
    data = permission(
        title="\x1b[2Jinnocent",
        rawInput={"command": "rm x\r\x1b[1A\x1b[Kls"},
        content=[{"type": "diff", "path": "\x1b]0;p\x07a", "oldText": None, "newText": "\x9b2J"}],
    )
    assert not any(c in line for line in _texts(words.permission_lines(data, full=True)) for c in "\x1b\r\x9b")


def test_answers_are_offered_by_kind_with_the_agents_names():
    assert [(c.key, c.name, c.reply, c.option_id) for c in words.choices(permission())] == [
        ("y", "Allow", "once", "o1"),
        ("a", "Always allow", "always", "o2"),
        ("n", "Reject", "reject", "o3"),
    ]


def test_a_second_option_of_a_kind_has_a_number_and_rejecting_is_always_possible():
    data = permission()
    data["metadata"]["options"] = [
        {"optionId": "p", "name": "Allow for this file", "kind": "allow_always"},
        {"optionId": "q", "name": "Allow for all", "kind": "allow_always"},
    ]
    assert [(c.key, c.option_id) for c in words.choices(data)] == [("a", "p"), ("2", "q"), ("n", None)]


def test_without_options_there_is_yes_and_no():
    data = permission()
    data["metadata"]["options"] = []
    assert [(c.key, c.reply) for c in words.choices(data)] == [("y", "once"), ("n", "reject")]


def test_a_huge_edit_is_asked_about_at_once_and_said_to_be_cut():
    content = {"type": "diff", "path": "big.txt", "oldText": "a\n" * 3_000_000, "newText": "b\n" * 3_000_000}
    lines = [text for text, _ in words.permission_lines(permission(content=[content]))]
    assert "  big.txt" in lines
    assert "too big" in lines[-1]
