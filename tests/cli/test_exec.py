"""Commands in a session's sandbox, run as a script or a person runs them."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys

import pytest

from agentctl.supervisor import process_table
from tests.cli.running import agentctl, alive, until
from tests.cli.terminal import agentctl as command_line


def execute(*args, **how):
    return agentctl("sessions", "exec", *args, **how)


def raw(*args, data=b"", stdin=subprocess.PIPE):
    """The same with bytes."""
    return subprocess.run(
        command_line("sessions", "exec", *args), input=data, capture_output=True, timeout=60, check=False
    )


def test_a_command_runs_without_the_agent_and_its_streams_and_code_are_its_own(session):
    done = execute(session, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert done.code == 7
    assert done.out == "out\n"
    assert done.err.splitlines()[-1] == "err"
    assert agentctl("sessions", "get", session, "--json").data["status"] == "new"


def test_what_is_piped_in_reaches_the_command_and_bytes_stay_bytes(awake):
    data = os.urandom(300_000) + b"\0\xff\n"
    done = raw(awake, "--", "cat", data=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_a_command_that_reads_no_input_is_not_bothered_by_it(awake):
    assert raw(awake, "--", "true", data=b"x" * 1_000_000).returncode == 0


def test_without_stdin_there_is_none(awake):
    assert execute(awake, "--", "cat").code == 0


def test_a_signal_is_128_and_its_number(awake):
    assert execute(awake, "--", "sh", "-c", "kill -9 $$").code == 137


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["work", "--", "nonesuch-program"], 127, "command not found"),
        (["work", "--", "/etc/passwd"], 126, "Permission denied"),
        (["work", "--cwd", "/nonesuch", "--", "true"], 125, "/nonesuch does not exist"),
        (["nix", "--", "true"], 125, "no session 'nix'"),
        (["work"], 125, "Missing argument"),
        (["work", "--nonsense", "--", "true"], 125, "--nonsense"),
        (["work", "--env", "1=2", "--", "true"], 125, "variable's name"),
        (["work", "-t", "--", "true"], 125, "needs a terminal"),
        (["work", "-d", "-t", "--", "true"], 125, "--detach"),
    ],
)
def test_our_own_failures_have_codes_that_no_command_has(awake, args, code, says):
    done = execute(*args)
    assert done.code == code
    assert says in done.err
    assert done.out == ""


def test_environment_and_directory(awake, tmp_path):
    (tmp_path / "below").mkdir()
    done = execute(
        awake, "--env", "A=1 2", "-e", "HOME_TOO", "--cwd", str(tmp_path / "below"), "--",
        "sh", "-c", 'echo "$A $HOME_TOO"; pwd', env={"HOME_TOO": "here"},
    )  # fmt: skip
    assert done.out == f"1 2 here\n{tmp_path}/below\n"


def test_the_sessions_own_environment_and_directory_are_there(tmp_path):
    created = agentctl(
        "sessions", "create", "own", "--agent", "mock", "--no-provision", "--cwd", str(tmp_path), "--env", "MINE=yes"
    )
    assert created.code == 0, created
    assert execute("own", "--", "sh", "-c", "echo $MINE; pwd").out == f"yes\n{tmp_path}\n"


def test_a_timeout_ends_it_with_all_its_own_and_exits_124(awake):
    done = execute(awake, "--timeout", "1", "--", "sh", "-c", "sleep 60 & echo $!; wait")
    assert done.code == 124
    assert "its time was up" in done.err
    until(lambda: not alive(int(done.out)))


def test_json_is_one_result_with_the_paths_of_the_logs(awake):
    done = execute(awake, "--json", "--", "sh", "-c", "echo é; printf '\\377' >&2; exit 3")
    assert done.code == 3
    data = done.data
    assert data["exit_code"] == 3
    assert (data["stdout"], data["stdout_encoding"]) == ("é\n", "utf-8")
    assert (base64.b64decode(data["stderr"]), data["stderr_encoding"]) == (b"\xff", "base64")
    assert data["duration_ms"] >= 0
    with open(data["logs"]["stdout"], encoding="utf-8") as file:
        assert file.read() == "é\n"


def test_json_says_when_output_is_cut(awake):
    data = execute(awake, "--json", "--", "head", "-c", "3000000", "/dev/zero").data
    assert data["stdout_truncated"] is True
    assert len(data["stdout"]) == 1024 * 1024


def test_an_error_is_json_too(awake):
    done = execute(awake, "--json", "--", "nonesuch-program")
    assert done.code == 127
    assert done.envelope["error"]["code"] == "spawn_failed"


@pytest.mark.slow
def test_more_output_than_any_log_holds_comes_whole(awake):
    done = raw(awake, "--", "head", "-c", "25000000", "/dev/zero")
    assert done.returncode == 0
    assert len(done.stdout) == 25_000_000
    assert done.stdout.count(0) == 25_000_000


def test_a_reader_that_leaves_ends_the_command(awake):
    running = subprocess.Popen(
        command_line("sessions", "exec", awake, "--", "sh", "-c", "echo $$; exec yes"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    pid = int(running.stdout.readline())
    running.stdout.close()
    running.stderr.read()
    running.stderr.close()
    assert running.wait(timeout=60) == 141
    until(lambda: not alive(pid))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_us_ends_the_command_with_all_its_own(awake, number, code):
    running = subprocess.Popen(
        command_line("sessions", "exec", awake, "--", "sh", "-c", "setsid sleep 60 & echo $$ $!; wait"),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    pids = [int(word) for word in running.stdout.readline().split()]
    running.send_signal(number)
    assert running.wait(timeout=60) == code
    running.stdout.close()
    for pid in pids:
        until(lambda pid=pid: not alive(pid))


def test_a_killed_command_line_leaves_the_command_and_its_log(awake, gate):
    running = subprocess.Popen(
        command_line("sessions", "exec", awake, "--exec-id", "kept", "--", "sh", "-c", f"echo a; cat {gate}; echo b"),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    running.stdout.readline()
    running.kill()
    running.wait()
    running.stdout.close()
    gate.write_text("")
    assert agentctl("sessions", "processes", "logs", awake, "kept", "-f").out == "a\nb\n"


@pytest.fixture
def gate(tmp_path):
    """What a command reads waits here until the test writes it."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def test_detached_it_is_listed_read_ended_and_started_once(awake, tmp_path):
    script = f"echo x >> {tmp_path}/count; echo started; sleep 60"
    begin = (awake, "--detach", "--exec-id", "build-1", "--", "sh", "-c", script)
    assert execute(*begin).out == "build-1\n"
    assert execute(*begin).out == "build-1\n"
    other = execute(awake, "--exec-id", "build-1", "--", "true")
    assert other.code == 10
    assert "build-1 exists already" in other.err
    [info] = [p for p in _list(awake) if p["id"] == "build-1"]
    assert info["status"] == "running"
    until(lambda: agentctl("sessions", "processes", "logs", awake, "build-1").out == "started\n")
    assert (tmp_path / "count").read_text() == "x\n"
    ended = agentctl("sessions", "processes", "cancel", awake, "build-1", "--json")
    assert ended.data["signal"] == 15
    assert not alive(info["pid"])
    assert "signal 15" in agentctl("sessions", "processes", "get", awake, "build-1").out


def _list(session):
    return agentctl("sessions", "processes", "list", session, "--json").data


def test_logs_are_read_from_their_end_by_stream_and_since_a_number(awake, gate):
    execute(awake, "-d", "--exec-id", "p", "--", "sh", "-c", f"seq 5; cat {gate}; echo err >&2")
    logs = ("sessions", "processes", "logs", awake, "p")
    until(lambda: agentctl(*logs).out == "1\n2\n3\n4\n5\n")
    gate.write_text("")
    agentctl(*logs, "-f")
    whole = agentctl(*logs)
    assert (whole.out, whole.err) == ("1\n2\n3\n4\n5\n", "err\n")
    assert agentctl(*logs, "--tail", "2").out == "5\n"
    assert agentctl(*logs, "--tail", "2", "--stream", "stdout").out == "4\n5\n"
    assert agentctl(*logs, "--stream", "stderr").out == ""
    assert agentctl(*logs, "--since", "1").out == ""
    pieces = agentctl(*logs, "--json").events
    assert [(p["stream"], p["data"]) for p in pieces] == [("stdout", "1\n2\n3\n4\n5\n"), ("stderr", "err\n")]
    assert agentctl(*logs, "--stream", "nonsense").code == 2
    assert agentctl("sessions", "processes", "logs", awake, "nix").code == 4


def test_input_is_sent_to_a_process_that_takes_some(awake):
    execute(awake, "-d", "--exec-id", "deaf", "--", "sleep", "60")
    refused = agentctl("sessions", "processes", "input", awake, "deaf", "hello")
    assert refused.code == 10
    assert "without input" in refused.err
    execute(awake, "-d", "-i", "--exec-id", "cat", "--", "cat")
    assert agentctl("sessions", "processes", "input", awake, "cat", "hello", "--eof").code == 0
    assert agentctl("sessions", "processes", "logs", awake, "cat", "-f").out == "hello\n"
    assert agentctl("sessions", "processes", "input", awake, "cat", "more").code == 10


def test_the_log_outlives_the_sandbox(session):
    execute(session, "--exec-id", "old", "--", "echo", "kept")
    execute(session, "-d", "--exec-id", "open", "--", "sleep", "60")
    pid = next(p["pid"] for p in _list(session) if p["id"] == "open")
    assert agentctl("sessions", "release", session).code == 0
    assert not alive(pid)
    assert agentctl("sessions", "processes", "logs", session, "old").out == "kept\n"
    ended = next(p for p in _list(session) if p["id"] == "open")
    assert ended["status"] == "exited"
    assert "pid" not in ended


def test_a_killed_supervisor_says_what_was_lost(session):
    execute(session, "-d", "--exec-id", "open", "--", "sleep", "60")
    info = next(p for p in _list(session) if p["id"] == "open")
    supervisor = process_table.row(info["pid"]).parent
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not alive(supervisor))
    table = agentctl("sessions", "processes", "list", session)
    assert "lost" in table.out, table


def test_the_table_is_empty_with_a_hint(session):
    done = agentctl("sessions", "processes", "list", session)
    assert done.out == ""
    assert "agentctl sessions exec" in done.err


def test_a_message_and_a_command_share_a_sandbox(awake):
    assert agentctl("sessions", "send", awake, "Hello").code == 0
    execute(awake, "-d", "--exec-id", "beside", "--", "sleep", "60")
    assert agentctl("sessions", "send", awake, "Hello").code == 0
    assert next(p for p in _list(awake) if p["id"] == "beside")["status"] == "running"


def test_help_shows_the_double_dash():
    done = execute("--help")
    assert "agentctl sessions exec" in done.out
    assert "-- COMMAND" in done.out


def test_importing_the_command_line_does_not_load_a_websocket():
    code = "import sys, agentctl.cli.sessions_exec; sys.exit('wsproto' in sys.modules or 'h11' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
