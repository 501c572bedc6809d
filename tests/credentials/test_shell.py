"""What a shell is told sets exactly the value, and runs nothing: real shells, any bytes but NUL."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agentctl.credentials import shell

SHELLS = {
    "bash": ["bash", "--noprofile", "--norc", "-c"],
    "dash": ["dash", "-c"],
    "zsh": ["zsh", "-f", "-c"],
    "fish": ["fish", "--no-config", "-c"],
}
EVALUATE = {
    "fish": 'cat "$LINES_FILE" | source; cd "$PLAYGROUND"; env -0',
    "other": 'eval "$(cat "$LINES_FILE")"; cd "$PLAYGROUND"; env -0',
}
SNARES = [
    "$(touch ran)",
    "`touch ran`",
    "'; touch ran; '",
    "\\'; touch ran; #",
    '"; touch ran; "',
    "$HOME ${HOME} ~ * ? [a] {a,b} !! !x",
    "\n touch ran \n",
    "line\nbreak\r\n\ttab",
    "\\",
    "'",
    "''",
    "\\\\'",
    "(touch ran)",
    " leading and trailing ",
    "\n",
    "-n",
    "--",
    "\x1b[31m\x7f\x01",
    "größe 日本 \U0001f511",
    "\ufdd0\ue000\uf600\uf6ff\ufffe",
    "\udcff\udc80",  # bytes that are no UTF-8
    "=",
    "#",
    "\\x41\\n\\X41",
]


def values_in(name: str, lines: bytes, playground: Path) -> dict[bytes, bytes]:
    """The environment of a program that the shell starts after it has evaluated the lines."""
    file = playground.parent / f"lines-{name}"
    file.write_bytes(lines)
    home = playground.parent / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [*SHELLS[name], EVALUATE.get(name, EVALUATE["other"])],
        cwd=playground,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "LINES_FILE": str(file),
            "PLAYGROUND": str(playground),
        },
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return dict(entry.split(b"=", 1) for entry in done.stdout.split(b"\0") if b"=" in entry)


def check(name: str, values: list[str], playground: Path) -> None:
    playground.mkdir(exist_ok=True)
    dialect = "fish" if name == "fish" else "bash"
    lines = b"".join(shell.assignment(f"V{i}", value, dialect, export=True) for i, value in enumerate(values))
    there = values_in(name, lines, playground)
    assert [there[b"V%d" % i] for i in range(len(values))] == [os.fsencode(value) for value in values]
    assert list(playground.iterdir()) == []


@pytest.mark.parametrize("name", SHELLS)
def test_a_value_that_would_run_something_is_only_a_value(name, tmp_path):
    check(name, SNARES, tmp_path / "playground")


TEXTS = st.binary(max_size=60).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
TRICKY = st.text(alphabet="'\"\\$`!\n\t ;&|(){}[]*?~#=-ä\ufdd0\uf6ff", max_size=30)


@pytest.mark.parametrize("name", SHELLS)
def test_any_value_arrives_as_it_is(name, tmp_path):
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(st.lists(st.one_of(TEXTS, TRICKY), min_size=40, max_size=60))
    @example([""])
    def holds(values):
        check(name, values, tmp_path / "playground")

    holds()


def test_every_shell_is_really_there():
    """CI installs them: a test that skips proves nothing."""
    assert [name for name in SHELLS if shutil.which(name) is None] == []


@pytest.mark.parametrize("name", SHELLS)
def test_without_export_a_program_does_not_see_the_variable(name, tmp_path):
    (tmp_path / "playground").mkdir()
    lines = shell.assignment("SOME_API_KEY", "value", "fish" if name == "fish" else "bash")
    assert b"SOME_API_KEY" not in values_in(name, lines, tmp_path / "playground")


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_what_no_variable_can_hold_is_refused(value):
    with pytest.raises(ValueError, match="it "):
        shell.assignment("SOME_API_KEY", value)
