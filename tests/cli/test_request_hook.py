"""``--request-hook``: a command answers the agent's requests, or leaves them to others."""

import asyncio
import json
import os
import sys
from contextlib import suppress

import pytest

from agentctl.cli import request_hook
from agentctl.cli.request_hook import HookFailed, ask_hook, command_of
from agentctl.errors import UsageError
from tests.cli.happenings import permission
from tests.cli.running import agentctl
from tests.cli.watching import Watched


@pytest.fixture
def hook(tmp_path):
    """Write a hook in Python; ``event`` is what it was asked. Returns the command line."""

    def write(*lines):
        path = tmp_path / "hook.py"
        path.write_text("\n".join(["import json, os, sys, time", "event = json.loads(sys.stdin.readline())", *lines]))
        return f"{sys.executable} -IS {path}"

    return write


@pytest.mark.parametrize(
    ("said", "chosen"),
    [("once", "allow-once"), ("always", "allow-always"), ("reject", "reject-once"), ("allow-always", "allow-always")],
)
def test_what_the_hook_prints_is_the_answer(hook, said, chosen):
    done = agentctl("run", "--agent", "mock", "@permission", "--request-hook", hook(f"print({said!r})"))
    assert f"permission: {chosen}" in done.out, done
    assert f"The request hook answered 'mock command': {said}" in done.err


def test_it_is_given_the_event_as_json(hook, tmp_path):
    given = tmp_path / "given"
    command = hook(f"open({str(given)!r}, 'w').write(json.dumps(event))", "print('once')")
    assert agentctl("run", "--agent", "mock", "@permission", "--request-hook", command).code == 0
    event = json.loads(given.read_text())
    assert event["type"] == "permission.requested"
    assert event["data"]["action"] == "mock command"
    assert event["data"]["metadata"]["options"]


@pytest.mark.slow
def test_a_question_is_answered_with_a_json_object(hook):
    command = hook("print(json.dumps({'name': 'Ada', 'sure': False}))")
    done = agentctl("run", "--agent", "mock", "@elicit", "--request-hook", command)
    assert done.code == 0, done
    assert '"name": "Ada"' in done.out
    declined = agentctl("run", "--agent", "mock", "@elicit", "--request-hook", hook("print('reject')"))
    assert "decline" in declined.out


@pytest.mark.slow
def test_each_request_is_asked_and_the_stream_goes_on_meanwhile(hook, tmp_path):
    go = tmp_path / "go"
    os.mkfifo(go)
    command = hook(f"open({str(go)!r}).read()", "print('once')")
    with Watched("run", "--agent", "mock", "@permission @say=more", "--request-hook", command) as watched:
        watched.until("permission.requested")
        with open(go, "w"):
            pass
        watched.until("permission.resolved")
        assert watched.finish()["outcome"] == "completed"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["pass"], ""),
        (["print('no idea')"], "which is none of once, always, reject, allow-once"),
        (["sys.exit('cannot decide')"], "exit code 1: cannot decide"),
        (["print('x' * 100_000)"], "more than 65536 bytes"),
        (["os.write(1, b'\\xff')"], "not UTF-8"),
    ],
)
def test_what_it_leaves_open_is_for_others(hook, session, lines, told):
    command = hook(*lines)
    with Watched("sessions", "stream", session, "@permission", "--request-hook", command) as watched:
        story = watched.story_until("Waiting for an answer: mock command")
        assert agentctl("sessions", "answer", session, "--reply", "once").code == 0
        assert watched.finish()["outcome"] == "completed"
    assert told in story


async def test_a_hook_that_fails_says_why():
    with pytest.raises(HookFailed, match="exit code 3: no"):
        await ask_hook(("/bin/sh", "-c", "echo no >&2; exit 3"), {}, permission())
    with pytest.raises(HookFailed, match="cannot be started: No such file"):
        await ask_hook(("/no/such/hook",), {}, permission())
    with pytest.raises(HookFailed, match="more than 65536 bytes"):
        await ask_hook(("/bin/sh", "-c", "head -c 9000000 /dev/zero"), {}, permission())
    with pytest.raises(HookFailed, match="none of once, always, reject, o1"):
        await ask_hook(("/bin/echo", "perhaps"), {}, permission())
    with pytest.raises(HookFailed, match="no JSON object"):
        await ask_hook(("/bin/echo", "[1]"), {}, {"question_id": "q"})


async def test_nothing_printed_leaves_it_open_and_a_hook_that_reads_nothing_may_answer():
    assert await ask_hook(("/bin/true",), {"big": "x" * 1_000_000}, permission()) is None
    answer = await ask_hook(("/bin/echo", "once"), {"big": "x" * 1_000_000}, permission())
    assert answer is not None
    assert (answer.reply, answer.option_id) == ("once", None)


async def test_a_hook_that_takes_too_long_is_ended_with_all_that_it_started(monkeypatch, tmp_path):
    monkeypatch.setattr(request_hook, "HOOK_TIMEOUT_S", 1.5)
    pid = tmp_path / "pid"
    with pytest.raises(HookFailed, match="no answer within"):
        await ask_hook(("/bin/sh", "-c", f"sleep 60 & echo $! > {pid}; wait"), {}, permission())
    async with asyncio.timeout(60):
        while _runs(int(pid.read_text())):
            await asyncio.sleep(0.01)


def _runs(pid):
    with suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_hook_is_no_shell_and_bad_ones_are_told_before_anything_starts():
    assert command_of("a 'b c' $HOME;d") == ("a", "b c", "$HOME;d")
    for bad in ("", "a 'b"):
        with pytest.raises(UsageError):
            command_of(bad)
    done = agentctl("run", "--agent", "mock", "x", "--request-hook", "'")
    assert done.code == 2
    assert agentctl("sessions", "list", "--json").data == []


@pytest.mark.slow
def test_a_policy_that_has_decided_is_not_asked_about(hook, tmp_path):
    asked = tmp_path / "asked"
    command = hook(f"open({str(asked)!r}, 'w')", "print('reject')")
    done = agentctl("run", "--agent", "mock", "@permission", "--permissions", "allow", "--request-hook", command)
    assert done.code == 0, done
    assert not asked.exists()


@pytest.mark.slow
def test_a_waiting_request_is_answered_by_a_hook_later(hook, session):
    agentctl("sessions", "send", session, "@permission", "--no-wait")
    assert agentctl("sessions", "wait", session, "--for", "request").code == 0
    left = agentctl("sessions", "answer", session, "--request-hook", hook("pass"))
    assert left.code == 2
    assert "leaves the request open" in left.err
    done = agentctl("sessions", "answer", session, env={"AGENTCTL_REQUEST_HOOK": hook("print('once')")})
    assert done.code == 0, done
    assert agentctl("sessions", "wait", session, "--for", "turn-ended").out == "completed\n"


@pytest.mark.slow
def test_a_person_is_asked_when_the_hook_leaves_it_open(terminal, hook):
    screen = terminal("run", "--agent", "mock", "@permission", "--request-hook", hook("pass"))
    screen.wait_for("d details")
    screen.send("y")
    assert screen.finish() == 0
    assert "permission: allow-once" in screen.text


@pytest.mark.slow
def test_ctrl_c_ends_the_turn_and_the_hook(terminal, hook, tmp_path):
    pid = tmp_path / "pid"
    pid.touch()
    command = hook(f"open({str(pid)!r}, 'w').write(str(os.getpid()))", "print(flush=True)", "time.sleep(60)")
    screen = terminal("run", "--agent", "mock", "@permission", "--request-hook", command)
    while not pid.read_text():
        screen.read(0.05)
    screen.send("\x03")
    assert screen.finish() == 130
    assert not _runs(int(pid.read_text()))
