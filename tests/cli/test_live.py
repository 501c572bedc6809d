"""A person at a terminal: the live view, permission prompts, questions, Ctrl-C, a closed terminal."""

import os
import signal

import pytest

from agentctl.cli.cells import width
from tests.cli.running import agentctl, until


def test_the_answer_streams_into_the_terminal(terminal):
    screen = terminal("run", "--agent", "mock", '@say="Hello **bold**" @tool')
    assert screen.finish() == 0
    assert "Hello bold" in screen.text
    assert "✓" in screen.text
    assert screen.lines[-1].startswith("Done · ") or "Done · " in screen.text.splitlines()[-1]


def test_the_view_follows_the_size_of_the_terminal_while_it_runs(terminal, tmp_path):
    prose = "長い文章はここで折り返します 🎉 and some more words of prose. " * 4
    gates = ("wider", "narrower")
    for gate in gates:
        os.mkfifo(tmp_path / gate)
    message = " ".join(f'@say="\n\n{prose}" @sh!="cat {gate}"' for gate in gates) + f' @say="\n\n{prose}"'
    screen = terminal("run", "--agent", "mock", "-p", "allow", "--cwd", str(tmp_path), message, rows=60)
    paragraphs = {}
    for columns, gate in ((80, "wider"), (200, "narrower")):
        screen.wait_for(f"● cat {gate}")
        screen.wait_for("Ctrl-C cancels")
        paragraphs[columns] = prose_of(screen)[-1]
        screen.resize(60, 200 if columns == 80 else 40)
        (tmp_path / gate).write_text("")
    assert screen.finish() == 0
    paragraphs[40] = prose_of(screen)[-1]
    for columns, lines in paragraphs.items():
        assert "".join("".join(lines).split()) == "".join(prose.split())
        assert columns - 25 < max(map(width, lines)) < columns
    assert [line for line in screen.lines if "cat " in line] == ["✓ cat wider", "✓ cat narrower"]
    assert "Done · " in screen.text
    assert "Ctrl-C" not in screen.text


def prose_of(screen):
    """The paragraphs of prose on the screen, as lists of lines."""
    found, before = [], ""
    for line in screen.lines:
        if "長い文章" in line and not before:
            found.append([])
        if found and line and not line.startswith(("✓", "●", "sh:", "Working", "Done")):
            found[-1].append(line)
        before = line
    return found


def test_a_dumb_terminal_gets_plain_text(terminal):
    screen = terminal("run", "--agent", "mock", "@diff Hello", env={"TERM": "dumb"})
    screen.wait_for("d details")
    assert "+new line" in screen.text
    screen.send("y")
    assert screen.finish() == 0
    assert b"\x1b" not in screen.raw
    assert "permission: allow-once" in screen.text


@pytest.mark.parametrize(
    ("key", "said", "answer", "end"),
    [
        ("y", "allowed once", "allow-once", "Done · "),
        ("a", "always allowed", "allow-always", "Done · "),
        ("n", "rejected", "reject-once", "Done, with 1 denied"),  # a person's own no is only counted
    ],
)
def test_a_permission_is_asked_and_answered_by_a_key(terminal, key, said, answer, end):
    screen = terminal("run", "--agent", "mock", "@permission")
    screen.wait_for("d details")
    assert "Permission: mock command" in screen.text
    screen.send(key)
    assert screen.finish() == 0
    assert f"→ {said}" in screen.text
    assert f"permission: {answer}" in screen.text
    assert end in screen.text


@pytest.mark.parametrize(("columns", "env"), [(80, {}), (200, {"NO_COLOR": "1"})])
def test_the_diff_of_an_edit_is_shown_before_it_is_allowed(terminal, columns, env):
    screen = terminal("run", "--agent", "mock", "@diff=価格🎉.py", columns=columns, env=env)
    screen.wait_for("d details")
    assert "価格🎉.py" in screen.text.replace("\n", "")
    assert "-old line" in screen.text
    assert "+new line" in screen.text
    assert (b"\x1b[32m" in screen.raw) is not bool(env)
    screen.send("d")
    screen.wait_for('"path"')
    screen.send("y")
    assert screen.finish() == 0
    assert screen.text.count("+new line") == 2  # before the answer, and in the details: not once more after it


@pytest.fixture
def gate(tmp_path):
    """What an agent's command reads waits here until the test writes it."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


@pytest.mark.slow
def test_what_was_typed_ahead_answers_nothing(terminal, gate):
    screen = terminal("run", "--agent", "mock", f'@sh!="cat {gate.name}" @permission', "--cwd", str(gate.parent))
    screen.wait_for("● cat gate")
    screen.send("yyy")
    gate.write_text("")
    screen.wait_for("d details")
    screen.read(0.5)
    assert "allowed" not in screen.text
    screen.send("n")
    assert screen.finish() == 0


def test_a_meaningless_key_asks_nothing_and_a_wrong_one_neither(terminal):
    screen = terminal("run", "--agent", "mock", "@permission")
    screen.wait_for("d details")
    screen.send("x\x1b[A")
    screen.read(0.3)
    assert "→" not in screen.text
    screen.send("y")
    assert screen.finish() == 0


def test_an_answer_from_elsewhere_takes_the_question_away(terminal, session):
    screen = terminal("sessions", "stream", session, "@permission")
    screen.wait_for("d details")
    assert agentctl("sessions", "answer", session, "--reply", "once").code == 0
    assert screen.finish() == 0
    assert "→ answered elsewhere: allowed" in screen.text
    assert "permission: allow-once" in screen.text


def test_a_waiting_request_is_shown_and_answered_in_another_terminal(terminal, session):
    turn = agentctl("sessions", "send", session, "@permission", "--no-wait").out.strip()
    other = terminal("sessions", "answer", session)
    other.wait_for("d details")
    other.send("y")
    assert other.finish() == 0
    done = agentctl("sessions", "send", session, "@permission", "--turn-id", turn, "--json")
    assert done.data["outcome"] == "completed"


def test_two_requests_are_asked_one_after_the_other(terminal):
    screen = terminal("run", "--agent", "mock", "@permission @diff")
    screen.wait_for("d details")
    screen.send("y")
    screen.wait_for("Permission: Edit")
    until(lambda: screen.read() or screen.raw.count(b"d details") == 2)
    screen.send("y")
    assert screen.finish() == 0


@pytest.mark.slow
def test_a_question_is_asked_field_by_field(terminal):
    screen = terminal("run", "--agent", "mock", "@elicit")
    screen.wait_for("Name >")
    screen.send("\n")
    screen.wait_for("A value is required")
    screen.send("Ada\n")
    while "Done" not in screen.text and screen.child.isalive():
        screen.read(0.3)
        if screen.text.rstrip().endswith(">") and "Ada" in screen.text:
            screen.send("\n")
    assert screen.finish() == 0
    assert "→ answered" in screen.text


def test_a_question_may_be_declined(terminal):
    screen = terminal("run", "--agent", "mock", "@elicit")
    screen.wait_for("Name >")
    screen.send("/decline\n")
    assert screen.finish() == 0
    assert "→ declined" in screen.text


def test_the_first_ctrl_c_cancels_the_turn_and_says_so(terminal):
    screen = terminal("run", "--agent", "mock", "@hang")
    screen.wait_for("Working …")
    screen.send("\x03")
    assert screen.finish() == 130
    assert "Cancelling the turn …" in screen.text
    assert "Cancelled · " in screen.text
    assert "Traceback" not in screen.text


def test_the_second_ctrl_c_kills_the_agent(terminal):
    screen = terminal("run", "--agent", "mock", "@ignore-cancel @sleep=100")
    screen.wait_for("Working …")
    screen.send("\x03")
    screen.wait_for("Once more kills the agent")
    screen.wait_for("Still waiting for the agent")
    assert "Ctrl-C cancels" not in screen.text
    screen.send("\x03")
    assert screen.finish() == 130
    assert "Killing the agent" in screen.text


def test_ctrl_c_at_a_permission_cancels_the_turn(terminal):
    screen = terminal("run", "--agent", "mock", "@permission")
    screen.wait_for("d details")
    screen.send("\x03")
    assert screen.finish() == 130
    assert "Cancelling the turn" in screen.text
    assert "→ cancelled" in screen.text


@pytest.mark.slow
def test_ctrl_c_before_the_turn_leaves_nothing(terminal):
    screen = terminal("run", "--agent-command", "sh -c 'cat > /dev/null'", "Hello")  # never answers
    screen.wait_for("Starting")
    screen.read(0.5)
    screen.send("\x03")
    assert screen.finish() == 130
    assert agentctl("sessions", "list", "--json").data == []


def test_the_terminal_is_left_as_it_was(terminal):
    screen = terminal("run", "--agent", "mock", "@permission")
    before = screen.modes()
    screen.wait_for("d details")
    assert screen.modes() != before
    screen.send("\x03")
    assert screen.finish() == 130
    assert screen.modes() == before


@pytest.mark.slow
def test_a_closed_terminal_leaves_the_turn_running(terminal, session, gate):
    screen = terminal("sessions", "stream", session, f'@sh!="cat {gate}" Hello', "--turn-id", "mine")
    screen.wait_for("Working …")
    os.kill(screen.child.pid, signal.SIGHUP)
    assert screen.finish() == 129
    gate.write_text("")
    done = agentctl("sessions", "send", session, "Hello", "--turn-id", "mine", "--json")
    assert done.data["outcome"] == "completed"


def test_ctrl_c_on_events_only_detaches(terminal, session):
    agentctl("sessions", "send", session, "@hang", "--no-wait")
    screen = terminal("sessions", "events", session, "--follow")
    screen.wait_for("turn.started")
    screen.send("\x03")
    assert screen.finish() == 130
    assert "Detached. The turn goes on." in screen.text
    assert agentctl("sessions", "cancel", session, "--json").data["cancelled"] is True


def test_delete_asks_on_a_terminal(terminal, session):
    no = terminal("sessions", "delete", session)
    no.wait_for("[y/N]")
    no.send("n\n")
    assert no.finish() == 1
    assert "Nothing was deleted" in no.text
    yes = terminal("sessions", "delete", session)
    yes.wait_for("[y/N]")
    yes.send("y\n")
    assert yes.finish() == 0
    assert agentctl("sessions", "list", "--json").data == []


def test_a_list_fits_the_terminal(terminal, session):
    screen = terminal("sessions", "list", columns=50)
    assert screen.finish() == 0
    assert all(len(line) <= 50 for line in screen.lines)
    assert "NAME" in screen.text


@pytest.mark.parametrize("args", [("run", "--agent", "mock", "-"), ("sessions", "delete", "work")])
def test_ctrl_c_ends_a_command_that_reads_the_keyboard(terminal, session, args):
    screen = terminal(*args)
    screen.wait_for("[y/N]" if "delete" in args else "Reading stdin")
    screen.send("\x03")
    assert screen.finish() == 130
    assert "Traceback" not in screen.text
    assert agentctl("sessions", "list", "-q").out != ""
