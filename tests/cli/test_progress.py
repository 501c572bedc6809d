"""Progress on stderr: a line that turns on a terminal, plain lines elsewhere, and nothing left behind."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest

from tests.cli.running import agentctl, until
from tests.cli.terminal import Terminal

SLOW = """
    import asyncio, os, sys
    from agentctl.cli.output import Output, write_text
    from agentctl.cli.progress import Progress
    from agentctl.cli.switches import NO_PROGRESS

    async def told():
        await asyncio.to_thread(open(os.environ["GATE"]).read)

    async def body():
        out = Output()
        with Progress(out) as progress:
            out.on_step = progress if progress.draws else None
            {body}

    asyncio.run(body())
    print("done")
"""


@pytest.fixture
def gate(tmp_path):
    """What ``told`` waits for: that something is written here."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


@pytest.fixture
def play(gate):
    """Run the body of a command that waits, on a terminal."""
    started = []

    def start(body, env=None, **how):
        program = textwrap.dedent(SLOW).replace("{body}", body)
        started.append(Terminal([sys.executable, "-c", program], env={"GATE": str(gate), **(env or {})}, **how))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_line_appears_after_half_a_second_turns_and_leaves_nothing(play, gate):
    terminal = play("progress('Pulling an image', 30, 100); await told()")
    terminal.wait_for("Pulling an image [#########.....................]")
    until(lambda: terminal.read() or terminal.raw.count(b"Pulling") > 2)  # it turns
    gate.write_text("")
    assert terminal.finish() == 0
    assert terminal.text == "done"
    assert b"\n" not in terminal.raw[: terminal.raw.index(b"done")]


def test_what_is_quick_is_never_shown(play):
    terminal = play("progress('Pulling', 1, 2); progress(''); out.step('Starting'); await asyncio.sleep(0)")
    assert terminal.finish() == 0
    assert terminal.raw == b"done\r\n"


def test_what_is_printed_meanwhile_stands_above_and_results_end_it(play, gate):
    terminal = play(
        "out.step('Starting'); await told(); out.story('A warning', 'warning'); await told();"
        "write_text('a result\\n'); await asyncio.sleep(1)"
    )
    terminal.wait_for("Starting")
    gate.write_text("")
    terminal.wait_for("A warning")
    terminal.wait_for("Starting")
    gate.write_text("")
    assert terminal.finish() == 0
    assert terminal.lines[:3] == ["A warning", "a result", "done"]
    assert b"Starting" not in terminal.raw[terminal.raw.index(b"a result") :]


@pytest.mark.parametrize(
    ("body", "env"),
    [("pass", {"AGENTCTL_NO_PROGRESS": "1"}), ("NO_PROGRESS.forbid(True); progress = Progress(out)", {})],
)
def test_no_progress_shows_none(play, body, env):
    terminal = play(f"{body}; progress('Pulling', 1, 2); await asyncio.sleep(0.8)", env=env)
    assert terminal.finish() == 0
    assert terminal.raw == b"done\r\n"


def test_a_dumb_terminal_gets_a_line_a_step(play):
    terminal = play("[progress('Pulling', n, 2) for n in (0, 1, 2)]; progress('Building')", env={"TERM": "dumb"})
    assert terminal.finish() == 0
    assert [line for line in terminal.lines if line] == ["Pulling", "Building", "done"]
    assert b"\x1b[K" not in terminal.raw


def test_a_long_line_is_cut_to_the_terminal(play):
    terminal = play("progress('字' * 100); await asyncio.sleep(0.8)", columns=44)
    assert terminal.finish() == 0
    assert terminal.text == "done"


def test_a_command_that_starts_an_agent_leaves_only_its_result(terminal):
    shown = terminal("sessions", "create", "work", "--agent", "mock")
    assert shown.finish() == 0
    assert shown.text == "work"


def test_elsewhere_each_step_is_a_line_on_stderr():
    done = agentctl("sessions", "create", "work", "--agent", "mock", "--no-progress")
    assert done.out == "work\n"
    assert "Starting mock" in done.err
