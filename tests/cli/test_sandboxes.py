"""``agentctl sandboxes`` as a script uses it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import agentctl
from tests.cli.terminal import agentctl as command_line


def sandboxes(*args, **how):
    return agentctl("sandboxes", *args, **how)


def own_sandboxes(rows):
    if not (Path(os.environ["AGENTCTL_STATE_DIR"]) / "agentctl.db").exists():
        return []
    return [row[0] for row in rows("select id from sandboxes where name is not null")]


@pytest.fixture(autouse=True)
def no_sandbox_of_its_own_is_left(no_sandbox_is_left, rows):
    yield
    names = own_sandboxes(rows)
    if names:
        done = sandboxes("delete", "--yes", "--force", *names)
        assert done.code == 0, done


@pytest.fixture
def build(no_sandbox_of_its_own_is_left):
    """The name of a sandbox that is up."""
    done = sandboxes("create", "--id", "build", "--label", "team=web")
    assert (done.code, done.out) == (0, "build\n"), done
    return "build"


def test_a_command_in_it_has_the_streams_and_the_code_of_one_that_runs_here(build):
    done = sandboxes("exec", build, "--", "sh", "-c", "cat; echo err >&2; exit 7", stdin="in\n")
    assert (done.code, done.out, done.err) == (7, "in\n", "err\n")
    assert sandboxes("exec", build, "--", "nonesuch-program").code == 127
    assert sandboxes("exec", "nonesuch", "--", "true").code == 125


@pytest.mark.slow
def test_a_detached_command_is_read_with_logs(build):
    done = sandboxes("exec", build, "--detach", "--exec-id", "job", "--", "sh", "-c", "echo one; echo two")
    assert (done.code, done.out) == (0, "job\n")
    assert "agentctl sandboxes logs build --exec job" in done.err
    assert sandboxes("logs", build, "--exec", "job", "--follow").out == "one\ntwo\n"
    assert sandboxes("logs", build, "--exec", "nonesuch").code == 4
    assert sandboxes("logs", build).code == 0
    assert sandboxes("logs", build, "--follow").code == 2


@pytest.mark.slow
def test_it_is_created_once_and_shown_and_listed(build):
    again = sandboxes("create", "--id", build, "--json")
    assert (again.code, again.data["created"], again.data["completed"]) == (0, False, True)
    other = sandboxes("create", "--id", build, "--env", "A=1", "--json")
    assert (other.code, other.envelope["error"]["code"]) == (10, "already_exists")
    shown = sandboxes("get", build, "--json").data
    assert (shown["id"], shown["status"], shown["boundary"]) == (again.data["id"], "running", "none")
    text = sandboxes("get", build).out
    assert "boundary   none\n" in text
    assert "transport  unix socket /" in text
    assert "\nsweep " in text
    assert sandboxes("list").out.splitlines()[1].split("\t")[:3] == ["build", "unix_local", "running"]
    assert sandboxes("list", "--label", "team=other", "--json").data == []
    assert sandboxes("list", "--label", "team=web", "-q").out == shown["id"] + "\n"


@pytest.mark.slow
def test_labels_choose_which_are_stopped_and_deleted(build):
    assert sandboxes("create", "--id", "test", "--label", "team=web").code == 0
    assert sandboxes("create", "--id", "mine", "--no-wait", "--label", "team=me").code == 0
    archived = sandboxes("stop", "mine", "--archive", "--json")
    assert (archived.code, "daytona" in archived.envelope["error"]["message"]) == (2, True)
    assert sorted(sandboxes("stop", "--label", "team=web").out.split()) == ["build", "test"]
    assert sandboxes("delete", "--label", "team=web").code == 2
    gone = sandboxes("delete", "--label", "team=web", "--yes", "--json")
    assert sorted(one["name"] for one in gone.data) == ["build", "test"]
    assert [one["name"] for one in sandboxes("list", "--json").data] == ["mine"]
    assert sandboxes("delete", "--label", "team=web", "--yes").out == ""


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["get", "nonesuch"], 4, "There is no sandbox 'nonesuch'"),
        (["events", "nonesuch"], 4, "There is no sandbox 'nonesuch'"),
        (["stop"], 2, "Which sandboxes?"),
        (["delete", "a", "--label", "x=y"], 2, "named in two ways"),
        (["create", "--id", "No Name"], 2, "cannot name a sandbox"),
        (["create", "--cwd", "/nonesuch"], 2, "is not a directory"),
        (["create", "--provider", "nonesuch"], 4, "There is no provider"),
        (["create", "--secret", "NONESUCH_VARIABLE"], 2, "NONESUCH_VARIABLE"),
        (["create", "--secret-ephemeral", "--no-wait"], 2, "--no-wait"),
        (["shell", "nonesuch"], 2, "needs a terminal"),
    ],
)
def test_bad_input_is_one_clear_error_and_makes_nothing(args, code, says, rows):
    done = sandboxes(*args)
    assert (done.code, says in done.err) == (code, True), done
    assert own_sandboxes(rows) == []


@pytest.mark.slow
def test_pausing_is_refused_where_the_provider_cannot(build):
    for verb in ("pause", "resume"):
        done = sandboxes(verb, build, "--json")
        assert (done.code, done.envelope["error"]["code"]) == (2, "unsupported")


@pytest.mark.slow
def test_without_waiting_it_is_accepted_and_the_events_tell_when_it_is_completed():
    done = sandboxes("create", "--id", "build", "--no-wait", "--json")
    assert (done.data["accepted"], done.data["completed"], done.data["status"]) == (True, False, "creating")
    last = str(done.data["last_sequence"])
    told = sandboxes("events", "build", "--follow", "--offset", last, "--limit", "1", "--json").events
    assert [event["type"] for event in told] == ["sandbox.started"]
    assert sandboxes("delete", "build", "--yes", "--no-wait", "--json").data["completed"] is False
    told = sandboxes("events", done.data["id"], "--follow", "--json").events
    assert told[-1]["type"] == "sandbox.deleted"
    assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))


@pytest.mark.slow
def test_a_follower_sees_what_other_commands_do_and_ends_with_the_sandbox(build):
    follower = subprocess.Popen(
        command_line("sandboxes", "events", build, "--follow", "--json"), stdout=subprocess.PIPE, text=True
    )
    with follower:
        for command in ("stop", "restart"):
            assert sandboxes(command, build).code == 0
        assert sandboxes("delete", build, "--yes").code == 0
        out, _ = follower.communicate(timeout=60)
    types = [json.loads(line)["type"].removeprefix("sandbox.") for line in out.splitlines()]
    assert types == ["created", "started", "stopped", "restarted", "deleted"]
    assert follower.returncode == 0


@pytest.mark.slow
def test_messages_run_in_it_with_sandbox_and_leave_it_as_it_is(build):
    done = agentctl("run", "--agent", "mock", "--sandbox", build, "Hello")
    assert (done.code, done.out) == (0, "mock: Hello\n"), done
    assert sandboxes("get", build, "--json").data["live"]["sessions"] == 0
    created = agentctl("sessions", "create", "work", "--agent", "mock", "--sandbox", build, "--json")
    assert created.data["sandbox"] == sandboxes("get", build, "--json").data["id"]
    refused = sandboxes("delete", build, "--yes")
    assert (refused.code, "work" in refused.err) == (10, True), refused
    wrong = agentctl("run", "--agent", "mock", "--sandbox", build, "--volume", "other", "Hello")
    assert (wrong.code, "--volume cannot go with --sandbox" in wrong.err) == (2, True)
    assert agentctl("run", "--agent", "mock", "--sandbox", "nonesuch", "Hello").code == 4


@pytest.mark.slow
def test_a_shell_opens_in_it(build, terminal):
    shell = terminal("sandboxes", "shell", build, "--shell", "sh -c 'echo in $((20+22)); exit 5'")
    shell.wait_for("in 42")
    assert shell.finish() == 5
