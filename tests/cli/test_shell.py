"""A shell in the sandbox on a real terminal: full-screen programs, the size, and a terminal that is always put back."""

from __future__ import annotations

import os
import signal
import sys
import termios
from contextlib import closing

import pytest

from agentctl.supervisor import process_table
from tests.cli.running import agentctl, alive, until
from tests.cli.terminal import Terminal

PLAIN = {"TERM": "linux"}
"""The emulator does not know all that vim says to an xterm."""


def ready(screen):
    """The terminal when its shell is ready, and the modes that it had before."""
    screen.wait_for("ready>")
    before = modes_of_a_new_terminal()
    assert screen.modes() != before
    return screen, before


def shell_in(session):
    return "sessions", "shell", session, "--shell", "env PS1='ready> ' sh"


@pytest.fixture
def shell(terminal, awake):
    return lambda **how: ready(terminal(*shell_in(awake), **how))


def modes_of_a_new_terminal() -> list[object]:
    """What a shell finds at its start; asking its own terminal for that would be too late."""
    ends = os.openpty()
    try:
        return termios.tcgetattr(ends[0])[:4]
    finally:
        for end in ends:
            os.close(end)


def shell_pid(screen) -> int:
    screen.send("echo pid=$$.\r")
    screen.wait_for("\npid=")
    return int(screen.text.rsplit("\npid=", 1)[1].split(".")[0])


def test_a_shell_runs_commands_and_passes_its_exit_code_on(shell):
    screen, _ = shell()
    screen.send("echo $((6 * 7)); exit 5\r")
    assert screen.finish() == 5
    assert "\n42" in screen.text


def test_the_terminal_is_as_before_after_the_end(shell):
    screen, before = shell()
    screen.send("exit\r")
    screen.wait_for("exit")
    until(lambda: screen.modes() == before or not screen.child.isalive())
    assert screen.finish() == 0


def test_the_size_is_the_terminals_and_changes_with_it(shell):
    screen, _ = shell(rows=30, columns=90)
    screen.send("stty size\r")
    screen.wait_for("30 90")
    screen.child.setwinsize(41, 97)
    ask_until(screen, "stty size\r", "41 97")


def ask_until(screen, question, answer):
    """Nothing tells when a new size has arrived."""

    def answered():
        screen.send(question)
        screen.read(0.2)
        return answer in screen.text

    until(answered)


def test_ctrl_c_goes_to_the_program_and_not_to_us(shell):
    screen, _ = shell()
    screen.send("sh -c 'echo up; exec sleep 60'\r")
    screen.wait_for("\nup")
    screen.send("\x03")
    screen.send("echo still $((1+1))\r")
    screen.wait_for("still 2")


def test_vim_draws_edits_and_saves(terminal, awake, tmp_path):
    path = tmp_path / "note.txt"
    screen = terminal("sessions", "exec", "-it", awake, "--", "vim", "-u", "NONE", "-N", "-n", str(path), env=PLAIN)
    screen.wait_for("[New]")
    until(lambda: screen.read() or screen.lines[-22].startswith("~"))
    screen.send("ihello from here\x1b")
    screen.wait_for("hello from here")
    screen.send(":wq\r")
    assert screen.finish() == 0
    assert path.read_text() == "hello from here\n"


def test_vim_follows_the_size_of_the_terminal(terminal, awake):
    screen = terminal(
        "sessions", "exec", "-it", awake, "--", "vim", "-u", "NONE", "-N", "-n", rows=20, columns=60, env=PLAIN
    )
    screen.wait_for("VIM - Vi IMproved")
    screen.child.setwinsize(15, 50)
    ask_until(screen, ":echo &lines &columns\r", "15 50")
    screen.send(":q!\r")
    assert screen.finish() == 0


def test_less_pages_and_leaves(terminal, awake, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("".join(f"line {n}\n" for n in range(1, 201)))
    screen = terminal("sessions", "exec", "-it", awake, "--", "less", str(path))
    screen.wait_for("line 23")
    assert "line 24" not in screen.text
    screen.send(" ")
    screen.wait_for("line 46")
    screen.send("G")
    screen.wait_for("line 200")
    screen.send("q")
    assert screen.finish() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_restores_the_terminal_and_ends_the_shell(shell, number, code):
    screen, before = shell()
    pid = shell_pid(screen)
    os.kill(screen.child.pid, number)
    until(lambda: screen.modes() == before)
    assert screen.finish() == code
    until(lambda: not alive(pid))


def test_a_closed_terminal_ends_the_shell(shell):
    screen, _ = shell()
    pid = shell_pid(screen)
    screen.close()
    until(lambda: not alive(pid))


def test_a_shell_that_is_killed_leaves_a_tidy_terminal(terminal, awake):
    screen = terminal("sessions", "exec", "-it", awake, "--", "vim", "-u", "NONE", "-N", "-n", env=PLAIN)
    before = modes_of_a_new_terminal()
    screen.wait_for("VIM - Vi IMproved")
    [info] = [p for p in agentctl("sessions", "processes", "list", awake, "--json").data if p["status"] == "running"]
    os.kill(info["pid"], signal.SIGKILL)
    until(lambda: screen.modes()[3] == before[3] or not screen.child.isalive())
    assert screen.finish() == 137
    assert b"\x1b[?1049l" in screen.raw[-200:]


@pytest.mark.slow
def test_a_lost_sandbox_restores_the_terminal_and_says_what_happened(session):
    impatient = "from agentctl.cli import entry, terminal_view as view; view.RECONNECT_S = 1; entry.main()"
    with closing(Terminal([sys.executable, "-c", impatient, *shell_in(session)])) as started:
        screen, before = ready(started)
        pid = shell_pid(screen)
        os.kill(process_table.row(pid).parent, signal.SIGKILL)
        screen.wait_for("The connection broke")
        screen.wait_for("error:")
        assert screen.modes() == before
        assert screen.finish() == 8


def test_without_a_terminal_it_says_what_would_do(session):
    done = agentctl("sessions", "shell", session)
    assert done.code == 2
    assert "needs a terminal" in done.err
    assert "agentctl sessions exec" in done.err


def test_the_last_session_is_meant_without_a_name_and_the_users_shell_is_taken(terminal, awake):
    screen = terminal("sessions", "shell", env={"SHELL": "/bin/sh"})
    screen.send("echo shell=$0 $((40+2))\r")
    screen.wait_for("42")
    screen.send("exit 0\r")
    assert screen.finish() == 0


def test_bad_quotes_are_a_usage_error(session):
    assert agentctl("sessions", "shell", session, "--shell", "'").code == 2
    assert agentctl("sessions", "shell", session, "--shell", " ").code == 2


def test_a_shell_that_is_not_there_exits_127(terminal, awake):
    screen = terminal("sessions", "exec", "-it", awake, "--", "nonesuch-shell")
    assert screen.finish() == 127
    assert "command not found" in screen.text
