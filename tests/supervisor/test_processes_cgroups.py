"""Control groups where the machine allows them, and an honest None where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentctl.ids import new_id
from agentctl.supervisor import cgroups
from agentctl.supervisor.processes import ProcessIdentity

MEMBER = """
import subprocess, sys, time
from agentctl.supervisor.cgroups import join_cgroup
print(join_cgroup({path!r}), flush=True)
child = subprocess.Popen([sys.executable, "-IS", "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def group():
    path = cgroups.create_cgroup("agentctl-test-" + new_id("cg"))
    if path is None:
        pytest.skip("this machine lets us make no v2 cgroup")
    yield path
    cgroups.kill_cgroup(path)
    assert cgroups.remove_cgroup(path)


@pytest.fixture
def member(group):
    """A process in the group with a child in its own session."""
    program = MEMBER.format(path=group)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"True\n"
        yield process, ProcessIdentity.of(int(process.stdout.readline()))
        process.kill()


def test_children_are_born_in_the_group_that_their_parent_joined(group, member):
    process, child = member
    assert set(cgroups.cgroup_pids(group)) == {process.pid, child.pid}


def test_killing_the_group_kills_all_at_once(group, member):
    process, child = member
    cgroups.kill_cgroup(group)
    assert cgroups.cgroup_pids(group) == []
    assert not child.is_alive()
    assert process.wait(5) == -9


def test_one_can_be_spared(group, member):
    process, child = member
    cgroups.kill_cgroup(group, spare=process.pid)
    assert cgroups.cgroup_pids(group) == [process.pid]
    assert not child.is_alive()
    assert process.poll() is None


def test_a_group_in_use_is_not_removed(group, member):
    assert not cgroups.remove_cgroup(group)
    assert os.path.isdir(group)


def test_groups_below_are_killed_and_removed_too(group):
    below = Path(group, "below")
    below.mkdir()
    with subprocess.Popen(["sleep", "600"]) as process:
        (below / "cgroup.procs").write_text(str(process.pid))
        assert cgroups.cgroup_pids(group) == [process.pid]
        cgroups.kill_cgroup(group, spare=1)
        assert process.wait(5) == -9
    assert cgroups.remove_cgroup(group)


def test_what_is_missing_is_no_error(tmp_path):
    gone = str(tmp_path / "gone")
    cgroups.kill_cgroup(gone)
    assert cgroups.cgroup_pids(gone) == []
    assert cgroups.remove_cgroup(gone)
    assert not cgroups.join_cgroup(gone)


def test_where_no_group_can_be_made_the_answer_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroups, "_own_group", lambda: None)
    assert cgroups.create_cgroup("x") is None
    monkeypatch.setattr(cgroups, "_own_group", lambda: tmp_path / "no such mount")
    assert cgroups.create_cgroup("x") is None
