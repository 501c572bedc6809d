"""``--editor``: the message from $VISUAL or $EDITOR, on a real terminal with a scripted editor."""

from __future__ import annotations

import shlex
import stat

import pytest

from tests.cli.running import agentctl
from tests.cli.terminal import Terminal
from tests.cli.terminal import agentctl as command_line


@pytest.fixture
def editor(tmp_path):
    """Make an editor of a shell script, whose first argument is its own and whose second is the file."""

    def make(script):
        directory = tmp_path / "an editor"
        directory.mkdir(exist_ok=True)
        (directory / "edit.sh").write_text(f"set -e\nseen='{tmp_path}/seen'\n{script}")
        return f"sh '{directory}/edit.sh' --wait"

    return make


def test_a_message_is_written_in_the_editor_and_its_file_is_gone_afterwards(terminal, editor, tmp_path):
    script = 'ls -lnd "$(dirname "$2")" "$2" > "$seen"; test "$1" = --wait; test ! -s "$2"; echo hello there > "$2"'
    visual = editor(f'{script}; cp "$2" "$2~"')
    screen = terminal("run", "--agent", "mock", "--editor", env={"VISUAL": visual, "EDITOR": "false"})
    assert screen.finish() == 0, screen.text
    assert "mock: hello there" in screen.text
    directory, file = (tmp_path / "seen").read_text().splitlines()
    assert file.split()[0].startswith(stat.filemode(stat.S_IFREG | 0o600))
    assert file.endswith(".md")
    assert directory.split()[0].startswith(stat.filemode(stat.S_IFDIR | 0o700))
    assert not (tmp_path / directory.split()[-1]).exists()  # with the copy that the editor left beside it


def test_a_session_s_message_comes_from_the_editor_by_e_and_the_answer_may_be_piped(editor, session):
    words = editor('echo on the screen; echo "from e" > "$2"')
    piped = shlex.join(command_line("sessions", "send", session, "-e")) + " | rev"
    screen = Terminal(["sh", "-c", piped], env={"EDITOR": words})
    assert screen.finish() == 0, screen.text
    assert "on the screen" in screen.text  # the editor has the terminal
    assert "mock: from e"[::-1] in screen.text  # and the answer went into the pipe
    screen.close()


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("exit 3", 1, "ended with exit code 3: nothing was sent."),
        ('echo half > "$2"; kill -INT $$', 1, "ended by signal 2: nothing was sent."),
        ("true", 2, "The message is empty: nothing was sent."),
        ('printf " \\n" > "$2"', 2, "The message is empty: nothing was sent."),
        ('rm "$2"', 2, "The message is empty: nothing was sent."),
        ("printf '\\377' > \"$2\"", 2, "What the editor wrote is not UTF-8 text: nothing was sent."),
    ],
)
def test_what_an_editor_does_not_finish_is_not_sent(terminal, editor, tmp_path, script, code, said):
    screen = terminal("run", "--agent", "mock", "--editor", env={"EDITOR": editor(script)}, columns=200)
    assert screen.finish() == code, screen.text
    assert said in screen.text
    assert not (tmp_path / "state" / "agentctl.db").exists()  # nothing was even begun


def test_an_editor_needs_a_terminal_and_no_other_message(terminal):
    assert agentctl("run", "--agent", "mock", "--editor", env={"EDITOR": "true"}).code == 2
    twice = agentctl("run", "--agent", "mock", "--editor", "Hello")
    assert (twice.code, "Leave out --editor, or the message." in twice.err) == (2, True)
    missing = terminal("run", "--agent", "mock", "--editor", env={"EDITOR": "no-such-editor -x"}, columns=200)
    assert missing.finish() == 2
    assert "'no-such-editor' could not be started" in missing.text
    assert "Set VISUAL or EDITOR." in missing.text
