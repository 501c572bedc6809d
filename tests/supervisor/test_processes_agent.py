"""An agent's process: started or refused clearly, heard to the last word, ended with all it brought up."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from contextlib import suppress

import pytest

from agentctl import errors
from agentctl.supervisor import agent_process
from agentctl.supervisor.agent_process import AgentProcess, Ending
from agentctl.supervisor.processes import ProcessIdentity
from agentctl.supervisor.redaction import make_redactor

from .test_processes import DAEMON

ENV = {"PATH": os.environ["PATH"]}
CAT = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
IGNORES_ALL = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
HOLDER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-IS", "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
sys.stdin.read({wait})
"""


def python(program):
    return [sys.executable, "-IS", "-c", program]


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    """What ignores TERM would take two seconds a test."""
    monkeypatch.setattr(agent_process, "_TERM_GRACE_S", 0.05)


@pytest.fixture
async def spawn(tmp_path):
    """Spawn agents that are stopped at the end, with whatever pid they print."""
    started, strays = [], []

    async def spawn_one(argv, *, read_pid=False, **options):
        agent = await AgentProcess.spawn(
            argv, env=ENV, cwd=tmp_path, stderr_path=tmp_path / f"stderr-{len(started)}", **options
        )
        started.append(agent)
        if not read_pid:
            return agent
        strays.append(int(await agent.stdout.readline()))
        return agent, ProcessIdentity.of(strays[-1])

    yield spawn_one
    for agent in started:
        await agent.stop(0)
    for pid in strays:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_it_talks_through_pipes_in_a_session_of_its_own_and_ends_at_eof(spawn):
    agent = await spawn(python(CAT))
    agent.stdin.write(b"hello\n")
    assert await agent.stdout.readline() == b"hello\n"
    assert os.getsid(agent.pid) == agent.pid
    assert agent.identity.is_alive()
    assert await agent.stop(10) == Ending("exited", 0, [])
    assert agent.exit_code.result() == 0
    assert await agent.stdout.read() == b""


async def test_it_gets_exactly_the_given_environment_and_its_own_mark(spawn):
    agent = await spawn(python("import os; print(sorted(os.environ))"))
    assert await agent.stdout.readline() == b"['AGENTCTL_PROCESS_ID', 'LC_CTYPE', 'PATH']\n"


async def test_a_line_of_many_megabytes_arrives_whole(spawn):
    agent = await spawn(python("print('x' * 20_000_000)"))
    assert len(await agent.stdout.readline()) == 20_000_001


async def test_the_last_words_before_death_are_still_read(spawn):
    agent = await spawn(python("import os; os.write(1, b'last\\n' * 1000); os._exit(3)"))
    assert await agent.exit_code == 3
    assert await agent.stop(0) == Ending("exited", 3, [])
    assert (await agent.stdout.read()).count(b"last\n") == 1000


@pytest.mark.parametrize(
    ("name", "content", "mode", "message"),
    [
        ("missing", None, 0, "not found"),
        ("no-x", "#!/bin/sh\n", 0o600, "Permission denied"),
        ("no-interpreter", "#!/nowhere/python\n", 0o700, "interpreter that its first line names"),
        ("no-format", "\x7fELF nonsense", 0o700, "Exec format error"),
    ],
)
async def test_a_program_that_cannot_start_is_named_with_the_reason(tmp_path, name, content, mode, message):
    program = tmp_path / name
    if content is not None:
        program.write_text(content)
        program.chmod(mode)
    with pytest.raises(errors.AgentStartFailed, match=message) as raised:
        await AgentProcess.spawn([str(program), "sk-secret"], env=ENV, cwd=tmp_path, stderr_path=tmp_path / "stderr")
    assert str(program) in raised.value.message
    assert "sk-secret" not in raised.value.message
    assert raised.value.hint


async def test_a_missing_working_directory_is_said(tmp_path):
    with pytest.raises(errors.AgentStartFailed, match=r"working directory .*/gone does not exist"):
        await AgentProcess.spawn(["true"], env=ENV, cwd=tmp_path / "gone", stderr_path=tmp_path / "stderr")


@pytest.mark.parametrize("argv", [[], ["a\0b"]])
async def test_an_impossible_argument_list_is_refused(tmp_path, argv):
    with pytest.raises(errors.AgentStartFailed):
        await AgentProcess.spawn(argv, env=ENV, cwd=tmp_path, stderr_path=tmp_path / "stderr")


async def test_the_exit_is_known_at_once_though_a_grandchild_holds_the_pipes(spawn):
    agent, grandchild = await spawn(python(HOLDER.format(wait=0)), read_pid=True)
    async with asyncio.timeout(30):
        assert await agent.exit_code == 0
    assert grandchild.is_alive()
    assert not agent.stdout.at_eof()
    assert await agent.stop(5) == Ending("exited", 0, [])
    assert not grandchild.is_alive()
    assert await agent.stdout.read() == b""


async def test_a_grandchild_in_its_own_session_does_not_survive_a_stop(spawn):
    agent, grandchild = await spawn(python(HOLDER.format(wait=-1)), read_pid=True)
    assert {process.pid for process in agent.tree()} == {agent.pid, grandchild.pid}
    assert (await agent.stop(0.2)).survivors == []
    assert not grandchild.is_alive()
    assert not agent.identity.is_alive()


async def test_a_daemon_that_left_the_tree_long_ago_is_found_by_its_mark(spawn):
    agent, daemon = await spawn(python(DAEMON), read_pid=True)
    assert await agent.exit_code == 0
    assert daemon.is_alive()
    assert (await agent.stop(0)).survivors == []
    assert not daemon.is_alive()


async def test_an_agent_that_ignores_eof_is_terminated(spawn):
    agent = await spawn(python("import time; print('up', flush=True); time.sleep(600)"))
    await agent.stdout.readline()
    assert await agent.stop(0.05) == Ending("terminated", -signal.SIGTERM, [])


async def test_an_agent_that_ignores_everything_is_killed(spawn):
    agent = await spawn(python(IGNORES_ALL))
    await agent.stdout.readline()
    assert await agent.stop(0.05) == Ending("killed", -signal.SIGKILL, [])


async def test_one_agent_is_stopped_without_touching_another(spawn):
    first, second = await spawn(python(CAT)), await spawn(python(CAT))
    await first.stop(0)
    second.stdin.write(b"alive\n")
    assert await second.stdout.readline() == b"alive\n"


async def test_every_caller_of_stop_gets_the_one_ending(spawn):
    agent = await spawn(python(IGNORES_ALL))
    await agent.stdout.readline()
    impatient = asyncio.create_task(agent.stop(0.05))
    await asyncio.sleep(0)
    impatient.cancel()
    endings = await asyncio.gather(agent.stop(9), agent.stop(9))
    assert endings == [Ending("killed", -signal.SIGKILL, [])] * 2


async def test_an_agent_that_nobody_reads_can_be_stopped(spawn):
    agent = await spawn(python("while True: print('x' * 100_000)"))
    agent.stdin.write(b"y" * 3_000_000)
    async with asyncio.timeout(30):
        assert (await agent.stop(0.05)).survivors == []


async def test_without_pidfds_the_death_is_seen_too(spawn, monkeypatch):
    def none(pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(agent_process.os, "pidfd_open", none)
    agent, _ = await spawn(python(HOLDER.format(wait=0)), read_pid=True)
    async with asyncio.timeout(30):
        assert await agent.exit_code == 0


async def test_nothing_is_left_open(spawn):
    before = set(os.listdir("/proc/self/fd"))
    agent = await spawn(python(CAT))
    await agent.stop(1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert set(os.listdir("/proc/self/fd")) == before


# stderr


async def test_a_short_stderr_is_told_whole(spawn, tmp_path):
    agent = await spawn(python("import sys; sys.stderr.write('one\\ntwo\\nno newline')"))
    await agent.exit_code
    assert agent.stderr_summary() == {
        "head": "one\ntwo\nno newline",
        "tail": None,
        "truncated": False,
        "total_lines": 3,
    }
    assert (tmp_path / "stderr-0").read_text() == "one\ntwo\nno newline"
    assert stat.S_IMODE((tmp_path / "stderr-0").stat().st_mode) == 0o600


async def test_a_longer_stderr_is_told_by_its_head_and_tail(spawn):
    agent = await spawn(python("import sys; [print('line', n, file=sys.stderr) for n in range(1, 1001)]"))
    await agent.exit_code
    summary = agent.stderr_summary()
    assert summary["head"].splitlines() == [f"line {n}" for n in range(1, 21)]
    assert summary["tail"].splitlines() == [f"line {n}" for n in range(951, 1001)]
    assert (summary["truncated"], summary["total_lines"]) == (True, 1000)


async def test_a_silent_agent_has_an_empty_stderr(spawn):
    agent = await spawn(["true"])
    await agent.exit_code
    assert agent.stderr_summary() == {"head": "", "tail": None, "truncated": False, "total_lines": 0}


async def test_a_flood_of_stderr_blocks_nothing_and_grows_nothing(spawn, tmp_path):
    program = """
import os
block = b"".join(b"flood %06d\\n" % n for n in range(10_000))
for _ in range(700): os.write(2, block)
os.write(2, b"the end\\n")
print("done", flush=True)
"""
    agent = await spawn(python(program))
    started = time.monotonic()
    assert await agent.stdout.readline() == b"done\n"
    await agent.exit_code
    assert time.monotonic() - started < 10
    summary = agent.stderr_summary()
    assert summary["total_lines"] == 7_000_001
    assert summary["head"].splitlines()[0] == "flood 000000"
    assert summary["tail"].splitlines()[-1] == "the end"
    assert sum(path.stat().st_size for path in tmp_path.glob("stderr-0*")) < 1_000_000


async def test_one_endless_line_of_stderr_is_bounded_and_clipped(spawn, tmp_path):
    agent = await spawn(python("import os; [os.write(2, b'x' * 100_000) for _ in range(100)]"))
    await agent.exit_code
    summary = agent.stderr_summary()
    assert len(summary["head"]) < 2000
    assert len(summary["tail"]) < 2000
    assert summary["total_lines"] == 1
    assert sum(path.stat().st_size for path in tmp_path.glob("stderr-0*")) < 1_000_000


async def test_secrets_are_cut_out_of_stderr_even_in_two_pieces(spawn, tmp_path):
    program = "import os, time; os.write(2, b'key sk-abc'); time.sleep(0.05); os.write(2, b'defgh here\\n')"
    agent = await spawn(python(program), redact=make_redactor(["sk-abcdefgh"]))
    await agent.exit_code
    assert agent.stderr_summary()["head"] == "key [redacted] here"
    assert "sk-abc" not in (tmp_path / "stderr-0").read_text()
