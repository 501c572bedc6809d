"""What an agent writes never drives the terminal."""

import json

import pytest

from agentctl.cli.untrusted import clean, clean_json_line, one_line


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq sixel \x1b\\text", "text"),
        ("\x1bc reset", " reset"),
        ("\x9b31mred", "31mred"),
        ("over\rwritten", "overwritten"),
        ("back\b\b\b\bspace", "backspace"),
        ("bell\x07", "bell"),
        ("abc\u202etxt.exe", "abctxt.exe"),
        ("keeps\ttabs\nand ünïcode 🎉", "keeps\ttabs\nand ünïcode 🎉"),
    ],
)
def test_control_characters_and_escape_sequences_are_taken_out(text, left):
    assert clean(text) == left


@pytest.mark.parametrize("cut", range(1, 8))
def test_an_escape_sequence_cut_in_two_is_harmless(cut):
    text = "\x1b]0;pwn\x07x"
    assert "\x1b" not in clean(text[:cut]) + clean(text[cut:])


def test_one_line_is_one_line_and_cut():
    assert one_line("a\n b\r\n\x1b[2Jc") == "a b c"
    assert one_line("x" * 300, 10) == "x" * 9 + "…"


def test_a_json_line_stays_the_same_value_without_raw_controls():
    line = json.dumps({"t": "a\x9bb\u00a0ü"}, ensure_ascii=False).encode()
    cleaned = clean_json_line(line)
    assert b"\xc2\x9b" not in cleaned
    assert json.loads(cleaned) == json.loads(line)
