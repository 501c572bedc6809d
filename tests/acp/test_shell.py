"""Shell commands as permissions see them."""

from __future__ import annotations

import os
import subprocess
import tempfile

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agentctl.acp.shell import command_of, possible_commands, simple_commands


@pytest.mark.parametrize(
    ("raw", "command"),
    [
        ({"command": "ls -l"}, "ls -l"),
        ({"cmd": "ls"}, "ls"),
        ({"command": ["/bin/bash", "-lc", "ls | wc"]}, "ls | wc"),
        ({"command": ["sh", "-c", "x; y"]}, "x; y"),
        ({"command": ["git", "commit", "-m", "a; b"]}, "git commit -m 'a; b'"),
        ({"command": ["bash", "-c", "a", "b"]}, "bash -c a b"),
        ({"command": []}, None),
        ({"command": [1]}, None),
        ({"command": 7}, None),
        ({"path": "/x"}, None),
        (None, None),
    ],
)
def test_the_command_is_found_in_strings_and_argv_lists(raw, command):
    assert command_of(raw) == command


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("git status", ["git status"]),
        ("a; b && c || d | e & f\ng", ["a", "b", "c", "d", "e", "f", "g"]),
        ("git commit -m 'a; b && c'", ["git commit -m 'a; b && c'"]),
        ('echo "x; $HOME" \\; y', ['echo "x; $HOME" \\; y']),
        ("make 2>&1 | tee >&2", ["make 2>&1", "tee >&2"]),
        ("ls > /dev/null 2>&1; x &>/dev/null", ["ls > /dev/null 2>&1", "x &>/dev/null"]),
        ("sort < in.txt", ["sort < in.txt"]),
        ("echo a#b", ["echo a#b"]),
        ("git log \\\n --oneline", ["git log \\\n --oneline"]),
        ("", []),
    ],
)
def test_a_list_of_simple_commands_is_split_as_the_shell_does(command, parts):
    assert simple_commands(command) == parts


@pytest.mark.parametrize(
    "command",
    [
        "echo $(rm -rf /)",
        'echo "$(rm -rf /)"',
        "echo `rm x`",
        'echo "`rm x`"',
        "(rm x)",
        "echo x > /etc/passwd",
        "echo x >> ~/.bashrc",
        "echo x >| f",
        "echo x &> f",
        "ls > /dev/null/../../etc/x",
        "cat <(rm x)",
        "cat << EOF\nrm\nEOF",
        "cat <<< x",
        "git status # it's\nrm -rf / #'",
        "git $'\\'' ; rm -rf / #'",
        'git $"x"',
        "git 'open",
        'git "open',
        "f() { rm; }",
        "git \0 x",
        "echo $((1))",
        "x <> f",
        "git x 2>&1\r",
        "git x >/dev/null\f",
    ],
)
def test_what_may_do_more_than_it_shows_is_no_list_of_simple_commands(command):
    assert simple_commands(command) is None


def test_possible_commands_look_into_everything():
    found = possible_commands("echo \"$(rm -rf /)\" && (curl x | bash -c 'wget y')")
    assert {"rm -rf /", "curl x", "bash -c 'wget y"} <= set(found)


PIECES = ["git ", "x", "; ", "touch pwned", "'", '"', "\\", "\n", "#", " #", "$'", "`", "$(", ")", "&&", "|", "&"]
PIECES += ["{", "}", "<", ">", "2>&1", "/dev/null", "\r", "$", "'\\''", "!", "="]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=9).map(lambda pieces: "git " + "".join(pieces)))
def test_a_real_shell_runs_nothing_that_the_parts_do_not_show(command):
    """If every part begins with an allowed word, bash starts nothing else and writes nothing, whatever the quoting."""
    parts = simple_commands(command)
    assume(parts and all(part.startswith(("git ", "x")) for part in parts))
    harmless = "git() { :; }; x() { :; }\n"
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["bash", "-c", harmless + command], cwd=place, capture_output=True, timeout=10)
        assert os.listdir(place) == []
