"""The processes that users start, in a real supervisor over its real socket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.supervisor.agent_process import PROCESS_ENV
from agentctl.supervisor.processes import ProcessIdentity, marked
from agentctl.supervisor_client.processes import Ended, Missing, Output, Processes
from tests.supervisor.raw_client import RawClient
from tests.supervisor.support import supervisor


@contextlib.asynccontextmanager
async def processes(root, **boot):
    async with supervisor(root, **boot) as running, running.client() as client:
        found = Processes(client)
        found.running = running
        yield found


@pytest.fixture
async def ours(tmp_path):
    async with processes(tmp_path) as found:
        yield found


def shell(script, **more):
    return {"command": "sh", "args": ["-c", script], **more}


async def told(ours, process_id, **query):
    """Everything that an attached reader is told: output by stream, and the end."""
    out: dict[str, bytes] = {}
    ended = None
    async with asyncio.timeout(60):
        async for batch in ours.follow(process_id, attach=True, **query):
            for one in batch:
                if isinstance(one, Ended):
                    ended = one.info
                else:
                    assert isinstance(one, Output), one
                    out[one.stream] = out.get(one.stream, b"") + one.data
    return out, ended


async def said(ours, process_id, wanted: bytes):
    """Wait until that process has printed it."""
    seen = b""
    async with asyncio.timeout(30):
        async for batch in ours.follow(process_id):
            seen += b"".join(one.data for one in batch)
            if wanted in seen:
                return seen
    raise AssertionError(seen)


def alive(pid: int) -> bool:
    process = ProcessIdentity.of(pid)
    return process is not None and process.is_alive()


async def dead(pid: int) -> None:
    async with asyncio.timeout(30):
        while alive(pid):
            await asyncio.sleep(0.01)


# run


async def test_a_run_answers_with_all_that_was_said_and_the_exit_code(ours):
    answer = await ours.run(shell("echo out; echo err >&2; exit 3"))
    took = answer.pop("durationMs")
    assert 0 <= took < 50_000
    assert answer == {
        "exitCode": 3,
        "timedOut": False,
        "stdout": "out\n",
        "stderr": "err\n",
        "stdoutTruncated": False,
        "stderrTruncated": False,
    }


async def test_a_run_that_was_killed_has_no_exit_code(ours):
    answer = await ours.run(shell("kill -9 $$"))
    assert answer["exitCode"] is None
    assert answer["signal"] == 9


async def test_output_over_the_cap_is_cut_and_said_to_be(ours):
    answer = await ours.run(shell("head -c 100000 /dev/zero; echo short >&2", maxOutputBytes=1000))
    assert len(answer["stdout"]) == 1000
    assert answer["stdoutTruncated"] is True
    assert answer["stderr"] == "short\n"
    assert answer["stderrTruncated"] is False


async def test_a_timeout_takes_grandchildren_along_and_is_on_time_although_one_holds_the_pipe(ours):
    started = time.monotonic()
    answer = await ours.run(shell("setsid sh -c 'echo $$; trap : TERM; sleep 60; sleep 60' & sleep 60", timeoutMs=300))
    assert time.monotonic() - started < 30
    assert answer["timedOut"] is True
    assert answer["exitCode"] is None
    await dead(int(answer["stdout"]))


async def test_a_daemon_that_holds_the_pipe_does_not_hold_up_the_answer_and_lives_on(ours):
    started = time.monotonic()
    answer = await ours.run(shell("sleep 60 & echo $!"))
    assert time.monotonic() - started < 30
    pid = int(answer["stdout"])
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


async def test_a_daemon_may_write_on_after_the_answer(ours, tmp_path):
    flag = tmp_path / "flag"
    script = f"(sleep 0.4; i=0; while [ $i -lt 2000 ]; do echo {'x' * 1000}; i=$((i+1)); done; echo > {flag}) & exit 0"
    await ours.run(shell(script))
    async with asyncio.timeout(30):
        while not flag.exists():
            await asyncio.sleep(0.02)


async def test_a_run_counts_no_more_than_the_configured_time(ours):
    await ours.limits({"defaultRunTimeoutMs": 200, "maxRunTimeoutMs": 300})
    assert (await ours.run(shell("sleep 9")))["timedOut"] is True
    assert (await ours.run(shell("sleep 9", timeoutMs=9000)))["timedOut"] is True


async def test_a_run_gets_the_sandboxes_environment_and_its_own_on_top(ours):
    answer = await ours.run(shell("echo $HOME $MINE $AGENTCTL_SANDBOX_ID; pwd", env={"MINE": "é\n"}))
    home = str(ours.running.root / "home")
    assert answer["stdout"].split() == [home, "é", ours.running.sandbox_id, home]


# what cannot be started


REFUSED = (
    ({"command": "nonesuch-program"}, errors.SpawnFailed, "command not found"),
    ({"command": "/etc/passwd"}, errors.SpawnFailed, "Permission denied"),
    ({"command": "true", "cwd": "/nonesuch"}, errors.UsageError, "/nonesuch does not exist"),
    ({"command": "true", "args": ["a\0b"]}, errors.UsageError, "NUL"),
    ({"command": "true", "env": {"A": "x" * 3_000_000}}, errors.UsageError, "larger than the system takes"),
    ({"command": "true", "env": {"A=B": "x"}}, errors.UsageError, "cannot name a variable"),
    ({"command": "true", "env": {"A": 1}}, errors.UsageError, "env"),
    ({"command": "true", "args": "x"}, errors.UsageError, "args"),
    ({"command": "true", "timeoutMs": 0}, errors.UsageError, "timeoutMs"),
    ({"command": ""}, errors.UsageError, "empty"),
    ({}, errors.UsageError, "empty"),
)


async def test_a_command_that_cannot_be_started_is_refused_and_nothing_is_left(ours):
    for asked, error, says in REFUSED:
        for call in (ours.run, ours.create):
            with pytest.raises(error, match=says):
                await call(asked)
    assert await ours.listing() == []
    assert list((ours.running.root / "log" / "processes").glob("*")) == []


async def test_a_missing_command_says_the_code_that_a_shell_exits_with(ours):
    for command, code in (("nonesuch-program", 127), ("/etc/passwd", 126)):
        with pytest.raises(errors.SpawnFailed) as raised:
            await ours.create({"command": command})
        assert raised.value.details == {"exitCode": code}


async def test_a_missing_interpreter_is_not_called_a_missing_command(ours, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/nonesuch/python\n")
    script.chmod(0o755)
    with pytest.raises(errors.SpawnFailed, match="interpreter"):
        await ours.run({"command": str(script)})


# create, get, list, delete


async def test_a_process_is_listed_looked_at_and_forgotten(ours):
    info = await ours.create(shell("echo hello; exit 4"))
    assert info["id"] == "proc_1"
    assert info["status"] == "running"
    out, ended = await told(ours, "proc_1")
    assert out == {"stdout": b"hello\n"}
    assert ended["status"] == "exited"
    assert ended["exitCode"] == 4
    assert "pid" not in ended
    assert Path(ended["logs"]["stdout"]).read_bytes() == b"hello\n"
    assert await ours.get("proc_1") == ended
    assert await ours.listing() == [ended]
    await ours.delete("proc_1")
    assert await ours.listing() == []
    assert not Path(ended["logs"]["stdout"]).exists()


async def test_an_unknown_process_is_not_found_by_any_route(ours):
    raw = RawClient(ours.running)
    base = "/v1/processes/nix"
    for method, path in (
        ("GET", base),
        ("DELETE", base),
        ("POST", f"{base}/stop"),
        ("POST", f"{base}/kill"),
        ("POST", f"{base}/input"),
        ("GET", f"{base}/logs"),
        ("POST", f"{base}/terminal/resize"),
    ):
        response = await raw.call(method, path, body={} if method == "POST" else None)
        assert response.status == 404, path
        assert b"urn:sandbox-agent:error:process_not_found" in response.content
    await raw.close()


async def test_a_running_process_cannot_be_deleted(ours):
    info = await ours.create(shell("sleep 60"))
    with pytest.raises(errors.Conflict, match="is running"):
        await ours.delete(info["id"])
    await ours.kill(info["id"])
    await ours.delete(info["id"])


async def test_an_id_of_the_caller_starts_a_command_once(ours, tmp_path):
    body = shell(f"echo x >> {tmp_path}/count", id="build-1", env={"A": "1"})
    first = await ours.create(body)
    await told(ours, "build-1")
    again = await ours.create(body)
    assert again["createdAtMs"] == first["createdAtMs"]
    assert (tmp_path / "count").read_text() == "x\n"
    for other in ({**body, "env": {"A": "2"}}, {**body, "cwd": "/"}, {**body, "args": []}, {**body, "tty": True}):
        with pytest.raises(errors.AlreadyExists) as raised:
            await ours.create(other)
        assert raised.value.exit_code == 10


async def test_two_at_once_with_one_id_are_one(ours):
    body = shell("sleep 60", id="only")
    one, two = await asyncio.gather(ours.create(body), ours.create(body))
    assert one["pid"] == two["pid"]


async def test_an_id_that_cannot_be_a_name_is_refused(ours):
    for name in ("../x", "", "a/b", ".hidden", "x" * 200, 7):
        with pytest.raises(errors.UsageError, match="cannot name a process"):
            await ours.create({"command": "true", "id": name})


async def test_one_process_too_many_is_a_conflict(ours):
    await ours.limits({"maxConcurrentProcesses": 2})
    first, _ = [await ours.create(shell("sleep 60")) for _ in range(2)]
    for call in (ours.create, ours.run):
        with pytest.raises(errors.Conflict, match="limit"):
            await call(shell("true"))
    await ours.kill(first["id"])
    await ours.run(shell("true"))


async def test_the_limits_are_read_and_set_and_bad_ones_change_nothing(ours):
    before = await ours.limits()
    assert before == {
        "maxConcurrentProcesses": 64,
        "defaultRunTimeoutMs": 30000,
        "maxRunTimeoutMs": 300000,
        "maxOutputBytes": 1048576,
        "maxLogBytesPerProcess": 10485760,
        "maxInputBytesPerRequest": 65536,
    }
    for bad in ({"maxOutputBytes": 0}, {"maxOutputBytes": "1"}, {"nonsense": 1}, {"maxRunTimeoutMs": 1}):
        with pytest.raises(errors.UsageError):
            await ours.limits(bad)
    assert await ours.limits() == before


async def test_an_owner_is_a_filter(ours):
    await ours.create(shell("true"))
    raw = RawClient(ours.running)
    assert b"proc_1" in (await raw.call("GET", "/v1/processes?owner=user")).content
    assert (await raw.call("GET", "/v1/processes?owner=desktop")).content == b'{"processes":[]}'
    assert (await raw.call("GET", "/v1/processes?owner=me")).status == 400
    assert (await raw.call("PUT", "/v1/processes")).status == 405
    await raw.close()


# ends


async def test_stop_signals_the_grandchildren_too_even_one_in_a_session_of_its_own(ours):
    info = await ours.create(shell("setsid sleep 60 & echo $!; sleep 60 & echo $!; wait"))
    pids = [info["pid"], *map(int, (await _lines(ours, info["id"], 2)))]
    ended = await ours.stop(info["id"], grace_s=5)
    assert ended["status"] == "exited"
    assert ended["signal"] == signal.SIGTERM
    assert "exitCode" not in ended
    for pid in pids:
        await dead(pid)


async def _lines(ours, process_id, count):
    seen = b""
    async with asyncio.timeout(30):
        async for batch in ours.follow(process_id):
            seen += b"".join(one.data for one in batch)
            if seen.count(b"\n") >= count:
                return seen.split()
    raise AssertionError(seen)


async def test_who_ignores_the_signal_is_killed_after_the_grace_time(ours):
    info = await ours.create(shell("trap '' TERM INT; echo ready; while :; do sleep 0.1; done"))
    await said(ours, info["id"], b"ready")
    ended = await ours.stop(info["id"], signal="INT", grace_s=0.2)
    assert ended["signal"] == signal.SIGKILL


async def test_a_process_chooses_its_own_end(ours):
    info = await ours.create(shell("trap 'echo bye; exit 5' INT; echo ready; while :; do sleep 0.02; done"))
    await said(ours, info["id"], b"ready")
    ended = await ours.stop(info["id"], signal="INT", grace_s=5)
    assert ended["exitCode"] == 5


async def test_stopping_an_ended_process_changes_nothing(ours):
    info = await ours.create(shell("exit 1"))
    _, ended = await told(ours, info["id"])
    assert await ours.stop(info["id"]) == ended
    assert await ours.kill(info["id"]) == ended


async def test_an_unknown_signal_is_refused(ours):
    info = await ours.create(shell("sleep 60"))
    with pytest.raises(errors.UsageError, match="no signal"):
        await ours.stop(info["id"], signal="NONSENSE")


async def test_a_process_with_a_timeout_is_ended_with_all_its_own(ours):
    info = await ours.create(shell("setsid sleep 60 & echo $!; wait", timeoutMs=300))
    out, ended = await told(ours, info["id"])
    assert ended["timedOut"] is True
    await dead(int(out["stdout"]))


async def test_the_end_of_the_sandbox_ends_every_process(tmp_path):
    async with processes(tmp_path) as ours:
        info = await ours.create(shell("setsid sleep 60 & echo $!; wait"))
        [pid] = await _lines(ours, info["id"], 1)
        sandbox_id = ours.running.sandbox_id
    assert not alive(info["pid"])
    assert not alive(int(pid))
    assert marked(sandbox_id) == []
    async with processes(tmp_path) as ours:
        [found] = await ours.listing()
        assert found["status"] == "exited"
        assert found["signal"] == signal.SIGTERM
        assert found["lost"] is False


@pytest.mark.slow
async def test_zombies_are_not_left(ours):
    for _ in range(2):
        await ours.run(shell("(sleep 0.01 &) ; true"))
        await told(ours, (await ours.create(shell("true")))["id"])
    rows = [Path(f"/proc/{p}/stat") for p in os.listdir("/proc") if p.isdecimal()]
    own = ours.running.process.pid
    async with asyncio.timeout(30):
        while any(_is_zombie_of(row, own) for row in rows):
            await asyncio.sleep(0.02)


def _is_zombie_of(path, parent) -> bool:
    try:
        fields = path.read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] == "Z" and int(fields[1]) == parent


# activity


@pytest.mark.slow
async def test_a_running_process_keeps_the_sandbox_awake_and_an_ended_one_does_not(tmp_path):
    async with processes(tmp_path, idle_timeout_s=1) as ours:
        info = await ours.create(shell(f"until [ -e {tmp_path}/end ]; do sleep 0.1; done"))
        await asyncio.sleep(1.5)
        assert (await ours.get(info["id"]))["status"] == "running"
        (tmp_path / "end").touch()
        async with asyncio.timeout(30):
            assert await ours.running.process.wait() == 0


# input


async def test_input_is_given_in_any_encoding_and_its_end_is_seen(ours):
    info = await ours.create({"command": "cat", "interactive": True})
    raw = RawClient(ours.running)
    path = f"/v1/processes/{info['id']}/input"
    for body in ({"data": "YQ=="}, {"data": "é", "encoding": "utf8"}, {"data": "c", "encoding": "text", "eof": True}):
        response = await raw.call("POST", path, body=body)
        assert response.status == 200, response.content
    out, ended = await told(ours, info["id"])
    assert out == {"stdout": "aéc".encode()}
    assert ended["exitCode"] == 0
    await raw.close()


async def test_much_input_arrives_whole_however_slowly_it_is_read(ours):
    info = await ours.create({"command": "sh", "args": ["-c", "sleep 0.3; exec sha256sum"], "interactive": True})
    data = os.urandom(3_000_000)
    await ours.write(info["id"], data, end=True)
    out, _ = await told(ours, info["id"])
    assert out["stdout"].split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_bad_input_is_refused(ours):
    info = await ours.create({"command": "cat", "interactive": True})
    raw = RawClient(ours.running)
    for body, status in (
        ({"data": "%%%"}, 400),
        ({"data": "a", "encoding": "hex"}, 400),
        ({"data": 5}, 400),
        ({"data": "x" * 70_000, "encoding": "text"}, 413),
    ):
        assert (await raw.call("POST", f"/v1/processes/{info['id']}/input", body=body)).status == status
    await raw.close()


async def test_input_to_a_dead_a_deaf_and_a_closed_process_is_a_conflict(ours):
    gone = await ours.create({"command": "true", "interactive": True})
    await told(ours, gone["id"])
    with pytest.raises(errors.Conflict, match="has ended"):
        await ours.write(gone["id"], b"x")
    without = await ours.create(shell("sleep 60"))
    with pytest.raises(errors.Conflict, match="without input"):
        await ours.write(without["id"], b"x")
    deaf = await ours.create(shell("exec <&-; echo closed; sleep 60", interactive=True))
    await said(ours, deaf["id"], b"closed")
    with pytest.raises(errors.Conflict, match="does not read"):
        await ours.write(deaf["id"], b"x")


# another supervisor


async def _killed(running):
    running.process.kill()
    await running.process.wait()


async def test_a_process_survives_its_supervisor_and_is_followed_and_stopped_by_the_next(tmp_path):
    go = tmp_path / "go"
    script = f"echo before; while [ ! -e {go} ]; do sleep 0.02; done; echo after; sleep 60"
    async with processes(tmp_path) as ours:
        info = await ours.create(shell(script, id="long"))
        await said(ours, "long", b"before")
        await _killed(ours.running)
    assert alive(info["pid"])
    go.touch()
    async with processes(tmp_path) as ours:
        [found] = await ours.listing()
        assert found["status"] == "running"
        assert found["pid"] == info["pid"]
        assert await said(ours, "long", b"after") == b"before\nafter\n"
        assert (await ours.create(shell(script, id="long")))["pid"] == info["pid"]
        ended = await ours.stop("long", grace_s=5)
        assert ended["status"] == "exited"
        assert ended["lost"] is True  # how it ended is known to nobody
        assert not alive(info["pid"])


async def test_what_was_written_between_two_supervisors_is_in_the_log(tmp_path):
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; exec sleep 60"
    async with processes(tmp_path) as ours:
        info = await ours.create(shell(f"sleep 0.3; {script}"))
        await _killed(ours.running)
    async with processes(tmp_path) as ours:
        seen = await said(ours, info["id"], b"line 3000\n")
        assert seen == b"".join(b"line %d\n" % n for n in range(1, 3001))
        await ours.kill(info["id"])


async def test_a_process_that_ended_meanwhile_is_said_to_be_lost_with_its_log(tmp_path):
    async with processes(tmp_path) as ours:
        info = await ours.create(shell("echo said; sleep 60"))
        await said(ours, info["id"], b"said")
        await _killed(ours.running)
    os.kill(info["pid"], signal.SIGKILL)
    await dead(info["pid"])
    async with processes(tmp_path) as ours:
        found = await ours.get(info["id"])
        assert found["status"] == "exited"
        assert found["lost"] is True
        assert "exitCode" not in found
        out, _ = await told(ours, info["id"])
        assert out == {"stdout": b"said\n"}
        assert (await ours.create(shell("true")))["id"] == "proc_2"


async def test_a_pid_that_belongs_to_another_process_now_is_left_alone(tmp_path):
    async with processes(tmp_path) as ours:
        info = await ours.create(shell("sleep 60"))
        await _killed(ours.running)
    os.kill(info["pid"], signal.SIGKILL)
    await dead(info["pid"])
    stranger = await asyncio.create_subprocess_exec("sleep", "60", env={PROCESS_ENV: "prc_other", **os.environ})
    record = tmp_path / "log/processes/proc_1/process.json"
    noted = json.loads(record.read_text())
    mine = ProcessIdentity.of(stranger.pid)
    noted["identity"] = {"pid": mine.pid, "start_ticks": mine.start_ticks, "boot_id": mine.boot_id}
    record.write_text(json.dumps(noted))
    async with processes(tmp_path) as ours:
        assert (await ours.get("proc_1"))["lost"] is True
    assert alive(stranger.pid)
    stranger.kill()
    await stranger.wait()


async def test_a_record_that_was_overwritten_is_passed_over(tmp_path):
    async with processes(tmp_path) as ours:
        for name in ("good", "torn", "odd", "worse"):
            await ours.create(shell("echo hi", id=name))
            await told(ours, name)
    root = tmp_path / "log/processes"
    (root / "torn/process.json").write_text('{"id": "to')
    for name, field, value in (("odd", "identity", {"pid": 1}), ("worse", "created_at_ms", "x")):
        record = json.loads((root / name / "process.json").read_text())
        (root / name / "process.json").write_text(json.dumps({**record, field: value}))
    async with processes(tmp_path) as ours:
        assert [info["id"] for info in await ours.listing()] == ["good"]


async def test_where_no_log_can_be_written_nothing_is_started(tmp_path):
    async with processes(tmp_path) as ours:
        (tmp_path / "log/processes").write_text("no directory")
        with pytest.raises(errors.StateNotWritable):
            await ours.create(shell(f"touch {tmp_path}/started"))
        (tmp_path / "log/processes").unlink()
        assert not (tmp_path / "started").exists()
        assert (await ours.run(shell("echo a run keeps no log")))["exitCode"] == 0


# secrets


async def test_a_secret_is_in_no_output_log_or_record(tmp_path):
    secret = "canary-0123456789"
    script = f"printf canary-; sleep 0.05; printf 0123456789; echo {secret} >&2; echo $S"
    async with processes(tmp_path, secrets=(secret,)) as ours:
        answer = await ours.run(shell(script, env={"S": secret}))
        info = await ours.create(shell(script, env={"S": secret}))
        out, ended = await told(ours, info["id"])
        await ours.listing()
    for text in (str(answer), str(out), str(ended)):
        assert secret not in text
        assert "[redacted]" in text
    for path in (tmp_path / "log").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


async def test_missing_is_never_said_of_a_log_that_is_whole(ours):
    info = await ours.create(shell("seq 1000"))
    await told(ours, info["id"])
    assert not [one async for one in ours.logs(info["id"]) if isinstance(one, Missing)]
