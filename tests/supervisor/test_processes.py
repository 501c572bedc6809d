"""Processes are found wherever they hide, ended whatever they ignore, and never mistaken for others."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from agentctl.ids import new_id
from agentctl.supervisor import process_table
from agentctl.supervisor.processes import (
    OrphanReaper,
    ProcessIdentity,
    become_subreaper,
    descendants,
    end_all,
    marked,
)
from agentctl.wire import SANDBOX_ENV

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
FORKS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-IS", "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
DAEMON = """
import os, time
if os.fork():
    os.wait()
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.write(1, b"%d\\n" % os.getpid())
time.sleep(600)
"""


@pytest.fixture
def start():
    """Start Python programs that print one line; whatever is left at the end is killed."""
    started = []

    def start_one(program, **env):
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start_one
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def identity(start):
    process, _ = start(SLEEPER)
    return ProcessIdentity.of(process.pid)


@pytest.fixture
def strays():
    """Pids to kill at the end, whoever owns them."""
    pids = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_an_identity_is_the_same_whoever_asks_and_lives_as_long_as_its_process(start):
    process, _ = start(SLEEPER)
    identity = ProcessIdentity.of(process.pid)
    assert identity == ProcessIdentity.of(process.pid)
    assert identity.is_alive()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ProcessIdentity.of(process.pid) == identity, "a zombie has an identity"
    assert not identity.is_alive(), "and is dead"
    process.wait()
    assert ProcessIdentity.of(process.pid) is None
    assert not identity.is_alive()


def test_a_later_owner_of_the_pid_is_never_signalled(identity):
    for other in (identity._replace(start_ticks=identity.start_ticks - 1), identity._replace(boot_id="another boot")):
        assert not other.is_alive()
        assert not other.signal(signal.SIGKILL)
    assert identity.is_alive()
    assert identity.signal(0)


async def test_end_all_spares_the_later_owner_of_a_pid(identity):
    stale = identity._replace(start_ticks=identity.start_ticks - 1)
    assert await end_all(lambda: [stale], grace_s=0) == []
    assert identity.is_alive()


def test_the_name_of_a_process_cannot_confuse_the_parser():
    stat = b"12 (a) S 1 (b) Z 7 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
    assert process_table._parse_stat(12, stat) == process_table.Row(12, 7, 4711, True)


def test_a_leader_that_ended_before_its_threads_is_alive(start):
    program = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
print("up", flush=True)
ctypes.CDLL(None).syscall({number}, 0)  # exit(2): this thread only
"""
    process, _ = start(program.format(number={"x86_64": 60}.get(os.uname().machine, 93)))
    while b") Z" not in Path(f"/proc/{process.pid}/stat").read_bytes():
        pass
    assert ProcessIdentity.of(process.pid).is_alive()


def test_ps_tells_the_same_as_proc(identity, monkeypatch):
    parent = process_table.row(identity.pid).parent
    monkeypatch.setattr(process_table, "HAS_PROC", False)
    row = process_table.row(identity.pid)
    assert (row.pid, row.parent, row.dead) == (identity.pid, parent, False)
    assert row == process_table.row(identity.pid)
    assert row in process_table.rows()
    assert process_table.row(2**22 + 1) is None


def test_descendants_are_found_through_sessions_of_their_own(start, strays):
    process, grandchild = start(FORKS)
    strays.append(int(grandchild))
    assert [found.pid for found in descendants(os.getpid())].count(process.pid) == 1
    assert [found.pid for found in descendants(process.pid)] == [int(grandchild)]
    assert descendants(int(grandchild)) == []


def test_marked_processes_are_found_and_no_others(start):
    mine = new_id("sbx")
    process, _ = start(SLEEPER, **{SANDBOX_ENV: mine})
    start(SLEEPER, **{SANDBOX_ENV: mine + "2"})
    start(SLEEPER, **{"NOT_" + SANDBOX_ENV: mine})
    assert [found.pid for found in marked(mine)] == [process.pid]
    assert marked(new_id("sbx")) == []


def test_marked_leaves_ourselves_out(monkeypatch):
    mine = new_id("sbx")
    program = f"import os; from agentctl.supervisor.processes import marked; print([p.pid for p in marked('{mine}')])"
    env = {**os.environ, SANDBOX_ENV: mine}
    assert subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True).stdout == "[]\n"


async def test_a_process_that_ignores_term_is_killed(start):
    process, _ = start(STUBBORN)
    identity = ProcessIdentity.of(process.pid)
    assert await end_all(lambda: [identity], grace_s=0.05) == []
    assert process.wait(5) == -signal.SIGKILL


async def test_a_process_that_obeys_gets_its_grace_and_no_more_is_waited(start):
    process, _ = start(SLEEPER)
    identity = ProcessIdentity.of(process.pid)
    async with asyncio.timeout(30):
        assert await end_all(lambda: [identity], grace_s=60) == []
    assert process.wait(5) == -signal.SIGTERM


async def test_a_stopped_process_is_woken_to_hear_term(start):
    process, _ = start(SLEEPER)
    identity = ProcessIdentity.of(process.pid)
    identity.signal(signal.SIGSTOP)
    async with asyncio.timeout(30):
        assert await end_all(lambda: [identity], grace_s=60) == []
    assert process.wait(5) == -signal.SIGTERM


async def test_what_appears_while_ending_is_ended_too(start):
    """Each one that is killed brings up another, as a service's restarter would."""
    first, second, third = (ProcessIdentity.of(start(STUBBORN)[0].pid) for _ in range(3))

    def find():
        chain = [first, *([second] if not first.is_alive() else []), *([third] if not second.is_alive() else [])]
        return [process for process in chain if process.is_alive()]

    assert await end_all(find, grace_s=0.01) == []
    assert not any(process.is_alive() for process in (first, second, third))


async def test_what_cannot_be_ended_is_returned():
    immortal = ProcessIdentity.of(os.getpid())

    class Immortal(ProcessIdentity):
        def signal(self, number):
            return False

    survivor = Immortal(immortal.pid, immortal.start_ticks, immortal.boot_id)
    from agentctl.supervisor import processes

    processes_rounds, processes._ROUNDS = processes._ROUNDS, 1
    try:
        assert await end_all(lambda: [survivor], grace_s=0) == [survivor]
    finally:
        processes._ROUNDS = processes_rounds


SUPERVISOR = """
import asyncio, os, subprocess, sys
from agentctl.supervisor.processes import *
from agentctl.ids import new_id
from agentctl.supervisor import process_table

async def main():
    assert become_subreaper()
    reaper = OrphanReaper(patience_s=0.1)
    reaper.start()
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-IS", "-c", {daemon!r}, stdout=subprocess.DEVNULL, env={{**os.environ, "MARK": {mark!r}}}
    )
    assert await launcher.wait() == 0
    (daemon,) = marked({mark!r}, "MARK")
    assert process_table.row(daemon.pid).parent == os.getpid()
    assert descendants(os.getpid()) == [daemon]
    children = [await asyncio.create_subprocess_exec("sh", "-c", f"exit {{n}}") for n in range(20)]
    assert await end_all(lambda: marked({mark!r}, "MARK"), grace_s=1) == []
    assert [await child.wait() for child in children] == list(range(20))
    while process_table.row(daemon.pid) is not None:
        await asyncio.sleep(0.02)
    reaper.close()
    print("clean")

asyncio.run(main())
"""


def test_a_subreaper_adopts_a_double_forked_daemon_ends_it_and_reaps_it_without_taking_others_exit_codes(tmp_path):
    program = SUPERVISOR.format(daemon=DAEMON, mark=new_id("test"))
    # Into a file: the daemon of a failing run would hold a pipe open.
    with open(tmp_path / "output", "w+") as output:
        done = subprocess.run([sys.executable, "-W", "error", "-c", program], stdout=output, stderr=output, timeout=30)
        assert (output.seek(0), output.read()) == (0, "clean\n")
    assert done.returncode == 0


async def test_the_reaper_lets_a_waiter_have_its_exit_code():
    reaper = OrphanReaper(patience_s=60)
    process = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert reaper.collect() == []
    assert process.wait() == 7


def test_the_reaper_collects_what_nobody_waits_for():
    reaper = OrphanReaper(patience_s=0)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid in reaper.collect()  # and whatever else of this process nobody waited for
    assert reaper.collect() == []


def test_becoming_a_subreaper_is_said():
    program = "from agentctl.supervisor.processes import become_subreaper as b; print(b())"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "True\n"
    assert callable(become_subreaper)
