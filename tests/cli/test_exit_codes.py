"""The table of ``agentctl help exit-codes``, code by code: what a real command exits with, says and tells as JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from agentctl import errors
from agentctl.cli import exit_codes
from tests.cli.running import Agentctl, agentctl

RUN = ("run", "--agent", "mock")
NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/sock"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """``said`` is on stderr; ``error``, ``retryable`` and words of the ``hint`` are those of the JSON."""

    args: tuple[str, ...]
    said: str
    error: str | None = None
    retryable: bool = False
    hint: str | None = None
    env: dict[str, str] = field(default_factory=dict)


CASES: dict[int, Case] = {
    0: Case(args=(*RUN, "Hello"), said="Done · "),
    1: Case(
        args=("sessions", "list"),
        env={"AGENTCTL_STATE_DIR": "/dev/null/state"},
        said="/dev/null/state",
        error="state_not_writable",
        hint="AGENTCTL_STATE_DIR",
    ),
    2: Case(args=("sessions", "lsit"), said="Did you mean", error="invalid_request", hint="agentctl sessions --help"),
    3: Case(
        args=(*RUN, "@hang", "--timeout", "0.2s"),
        said="Stopped at the timeout",
        error="timeout",
        retryable=True,
        hint="--timeout",
    ),
    4: Case(
        args=("sessions", "get", "los"),
        said="no session 'los'",
        error="session_not_found",
        hint="Did you mean 'lost'?",
    ),
    5: Case(
        args=(*RUN, "@permission", "-p", "deny"),
        said="Denied: mock command",
        error="permission_denied",
        hint="--accept-denials",
    ),
    6: Case(
        args=(*RUN, "@error=-32000"),
        said="refused by its model provider",
        error="credentials_rejected",
        hint="agentctl credentials status",
    ),
    7: Case(args=(*RUN, "@crash"), said="mock ended in the middle", error="agent_process_exited", hint="crashing"),
    8: Case(
        args=("run", "--provider", "docker", "--agent", "mock", "Hello"),
        env=NO_ENGINE,
        said="/nonexistent/sock",
        error="provider_unavailable",
        retryable=True,
        hint="DOCKER_HOST",
    ),
    9: Case(args=(*RUN, "@stop=refusal"), said="The agent refused", error="turn_unfinished", hint="another way"),
    10: Case(
        args=("sessions", "create", "lost", "--agent", "mock"),
        said="lost",
        error="session_already_exists",
        hint="agentctl sessions get lost",
    ),
    11: Case(
        args=("sessions", "send", "lost", "again"),
        said="cannot restore the conversation",
        error="context_lost",
        hint="--on-lost",
    ),
}
SIGNALS = {129: signal.SIGHUP, 130: signal.SIGINT, 143: signal.SIGTERM}
READER_GONE = 141


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs a command where the session ``lost`` has an agent that remembers nothing."""
    root = tmp_path_factory.mktemp("exit-codes")
    environ = {
        k: v for k, v in os.environ.items() if not re.search(r"^AGENTCTL_|_(API_KEY|AUTH_TOKEN|OAUTH_TOKEN)$", k)
    }
    own = {"AGENTCTL_STATE_DIR": f"{root}/state", "HOME": str(root), "MOCK_AGENT_FLAGS": "--no-load --no-resume"}
    run = Agentctl({**environ, **own}, root)
    assert run("run", "--session", "lost", "--agent", "mock", "--env", "MOCK_AGENT_FLAGS", "Hello").code == 0
    assert run("sessions", "release", "lost").code == 0
    yield run
    assert run("sessions", "delete", "lost", "--yes").code == 0


def test_every_code_of_the_table_has_a_case_and_every_error_a_code_of_it():
    assert {*CASES, *SIGNALS, READER_GONE} == {*exit_codes.MEANINGS}
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.AgentctlError)]
    assert {cls.exit_code for cls in classes} <= {*exit_codes.MEANINGS}
    assert {cls.code for cls in classes} <= {word for code in exit_codes.MEANINGS for word in exit_codes.words(code)}
    told = agentctl("help", "exit-codes").out
    for code, meaning in exit_codes.MEANINGS.items():
        assert re.search(rf"^ *{code}  {re.escape(meaning)}$", told, re.MULTILINE)
        assert all(word in told for word in exit_codes.words(code))


@pytest.mark.parametrize("code", CASES)
def test_what_goes_wrong_is_said_told_and_exited_with(command, code):
    case = CASES[code]
    said = command(*case.args, env=case.env)
    assert (said.code, case.said in said.err) == (code, True), said
    assert case.hint is None or case.hint in said.err, said
    assert "Traceback" not in said.err
    told = command(*case.args, "--json", env=case.env)
    assert told.code == code, told
    error = told.events[-1]["error"]
    if case.error is None:
        assert error is None
        return
    assert (error["code"], error["retryable"]) == (case.error, case.retryable)
    assert case.hint in error["hint"]
    assert error["code"] in exit_codes.words(code)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "number"), SIGNALS.items())
def test_a_signal_cancels_the_turn_or_leaves_it_and_is_exited_with(session, code, number):
    for more, word in (([], "go"), (["--json"], "item.delta")):
        child = started("sessions", "stream", session, "@say=go @hang", *more)
        seen = ""
        while word not in seen:
            chunk = os.read(child.stdout.fileno(), 4096).decode()
            assert chunk, child.communicate()
            seen += chunk
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
        assert child.returncode == code
        assert "Traceback" not in err
        goes_on = number == signal.SIGHUP
        assert agentctl("sessions", "cancel", session, "--json").data["cancelled"] is goes_on
        assert ("Cancelling the turn …" in err) is not goes_on
        if more and not goes_on:
            assert json.loads(out.splitlines()[-1])["outcome"] == "cancelled"
        elif not goes_on:
            assert "Cancelled · " in err


def test_a_reader_that_left_is_exited_with_and_nothing_is_said():
    for more in ([], ["--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as gone:
            child = started("help", "exit-codes", *more, stdout=gone)
        assert (child.communicate(timeout=60)[1], child.returncode) == ("", READER_GONE)


def started(*args: str, stdout=subprocess.PIPE):
    return subprocess.Popen(
        [sys.executable, "-m", "agentctl.cli", *args],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
