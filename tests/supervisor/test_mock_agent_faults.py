"""Every fault that the mock agent is told to have, it has."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from agentctl.supervisor.processes import ProcessIdentity

from .mock_client import MockClient, Refused


@pytest.fixture
def start(tmp_path):
    started = []

    def start_one(*flags, opened=True, **options):
        client = MockClient(tmp_path, *flags, checked=False, **options)
        started.append(client)
        if opened:
            client.open(tmp_path)
        return client

    yield start_one
    for client in started:
        client.__exit__()


@pytest.fixture
def client(start):
    return start()


def cancel(client):
    client.notify("session/cancel", sessionId=client.session_id)


# Cancelling


@pytest.mark.parametrize("word", ["@hang", "@sleep=600", "@permission", '@sh!="sleep 600"', "@chunks=9 @delay=100"])
def test_a_cancel_ends_whatever_it_does(client, word):
    turn = client.begin_prompt(f"@say=begun {word}")
    client.until(lambda frame: frame.get("method") == "session/update" and "begun" in json.dumps(frame))
    cancel(client)
    assert client.finish(turn, "session/prompt")["stopReason"] == "cancelled"
    assert client.say("and on") == "mock: and on"


def test_a_cancel_request_ends_the_prompt_with_its_error(client):
    turn = client.begin_prompt("@hang")
    client.notify("$/cancel_request", requestId=turn)
    with pytest.raises(Refused) as raised:
        client.finish(turn, "session/prompt")
    assert raised.value.code == -32800


def test_closing_the_session_cancels_its_turn(client):
    turn = client.begin_prompt("@hang")
    closing = client.begin("session/close", sessionId=client.session_id)
    answers = {client.until(lambda frame: "id" in frame)["id"] for _ in range(2)}
    assert answers == {turn, closing}


def test_a_cancel_can_be_ignored(client):
    turn = client.begin_prompt("@ignore-cancel @say=begun @sleep=0.1 @say=done")
    client.until(lambda frame: "begun" in json.dumps(frame))
    cancel(client)
    assert client.finish(turn, "session/prompt")["stopReason"] == "end_turn"
    assert client.text() == "begundone"


def test_a_cancel_can_end_in_an_error_or_another_stop_reason(client):
    turn = client.begin_prompt("@hang @cancel-error")
    cancel(client)
    with pytest.raises(Refused) as raised:
        client.finish(turn, "session/prompt")
    assert raised.value.code == -32603
    turn = client.begin_prompt("@hang @cancel-stop=end_turn")
    cancel(client)
    assert client.finish(turn, "session/prompt")["stopReason"] == "end_turn"


def test_a_cancel_without_a_turn_changes_nothing(client):
    cancel(client)
    assert client.say("hello") == "mock: hello"


# The answer


def test_an_error_of_any_code(client):
    for code in (-32000, 429):
        with pytest.raises(Refused) as raised:
            client.prompt(f"@chunks=1 @error={code}")
        assert raised.value.code == code


def test_updates_after_the_answer(client):
    client.prompt("@late=2 hello")
    assert client.text() == "mock: hello"
    client.until(lambda frame: "late 2" in json.dumps(frame))


def test_answers_with_the_wrong_id_a_string_id_or_both_members(client):
    turn = client.begin_prompt("@wrong-id")
    assert client.until(lambda frame: "stopReason" in json.dumps(frame))["id"] == "nobody-asked"
    turn = client.begin_prompt("@string-id")
    assert client.until(lambda frame: "stopReason" in json.dumps(frame))["id"] == str(turn)
    client.begin_prompt("@both")
    assert {"result", "error"} <= client.until(lambda frame: "stopReason" in json.dumps(frame)).keys()


def test_no_answer_to_a_prompt_while_others_are_answered(client):
    turn = client.begin_prompt("@no-answer hello")
    client.until(lambda frame: "session_info_update" in json.dumps(frame))
    listing = client.begin("session/list")
    assert client.until(lambda frame: "id" in frame)["id"] == listing != turn


# The pipe


def test_unknown_variants_and_foreign_sessions(client):
    client.prompt("@unknown @unknown=_vendor @wrong-session")
    assert [update["sessionUpdate"] for update in client.updates[:3]] == [
        "mock_unknown_variant", "_vendor", "agent_message_chunk",
    ]  # fmt: skip


def test_garbage_on_stdout(client):
    client.prompt("@garbage @garbage=utf8 @garbage=array @garbage=number hello")
    assert len(client.garbage) == 4
    assert client.garbage[2].startswith(b"[")


def test_a_banner_before_the_first_frame(start):
    client = start("--banner")
    assert client.garbage == [b"Welcome to the mock agent!\n"]


def test_one_big_line(client):
    assert len(client.say("@bigline=3000000")) == 3_000_000


def test_characters_split_between_writes(client):
    assert client.say("@split") == "héé wörld 🙂 日本"


def test_batches_and_delays(client):
    started = time.monotonic()
    client.prompt("@chunks=10 @batch=5 @delay=0.01")
    assert time.monotonic() - started > 0.09
    assert len(client.of("agent_message_chunk")) == 10
    client.prompt("@chunks=10 @batch")
    assert len(client.of("agent_message_chunk")) == 10


def test_noise_on_stderr(client):
    client.prompt("@stderr=3")
    assert [client.process.stderr.readline() for _ in range(3)][-1] == b"mock stderr line 3\n"


def test_a_closed_stdout_of_a_living_process(client):
    client.begin_prompt("@close-stdout")
    assert client.receive() or True
    while client.receive():
        pass
    assert client.process.poll() is None


# The process


def test_a_crash_after_n_chunks(client):
    client.begin_prompt("@crash=3")
    with pytest.raises(EOFError):
        client.until(lambda frame: "id" in frame)
    assert client.process.wait() == -signal.SIGKILL
    assert len(client.of("agent_message_chunk")) == 3
    assert client.process.stderr.read() == b"mock agent: crashing as told\n"


def test_an_exit_with_a_code_and_one_within_a_line(client, start):
    client.begin_prompt("@exit=42")
    assert client.process.wait(5) == 42
    other = start()
    other.begin_prompt("@half-line")
    assert other.process.wait(5) == 1
    assert not other.process.stdout.read().endswith(b"\n")


def test_an_exit_at_the_start(start):
    client = start("--exit-at-start=7", "--noise=2", opened=False)
    assert client.process.wait(5) == 7
    assert client.process.stderr.read().count(b"\n") == 2


def test_no_answer_at_all(start):
    client = start("--never-respond", "--ignore-eof", opened=False)
    client.send({"id": 1, "method": "initialize", "params": {"protocolVersion": 1}})
    client.process.stdin.close()
    client.process.terminate()
    assert client.process.stdout.read() == b""


def test_a_grandchild_in_its_own_session_that_holds_stdout(client):
    pid = int(client.say("@grandchild=60").split()[1])
    identity = ProcessIdentity.of(pid)
    assert os.getsid(pid) == pid
    client.process.stdin.close()
    assert client.process.wait(5) == 0
    assert os.readlink(f"/proc/{pid}/fd/1").startswith("pipe:")
    assert identity.signal(signal.SIGKILL)


@pytest.mark.parametrize("flags", [[], ["--ignore-eof", "--ignore-term"]])
def test_it_can_ignore_the_end_of_stdin_and_term(start, flags):
    client = start(*flags)
    client.prompt("@ignore-eof @ignore-term @say=ok" if not flags else "ok")
    client.process.stdin.close()
    client.process.terminate()
    with open(f"/proc/{client.process.pid}/status") as status:
        ignored = next(line for line in status if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) & (1 << (signal.SIGTERM - 1))
    assert client.process.poll() is None


# The handshake


def test_delays_of_the_handshake(start):
    started = time.monotonic()
    start("--init-delay=0.05", "--new-delay=0.05")
    assert time.monotonic() - started > 0.09


def test_authentication_can_be_required(start):
    client = start("--auth-required", opened=False)
    assert client.initialize()["authMethods"][0]["id"] == "mock-login"
    with pytest.raises(Refused) as raised:
        client.request("session/new", cwd="/", mcpServers=[])
    assert raised.value.code == -32000
    with pytest.raises(Refused):
        client.request("authenticate", methodId="other")
    client.request("authenticate", methodId="mock-login")
    assert client.request("session/new", cwd="/", mcpServers=[])["sessionId"]


def test_capabilities_can_be_missing(start):
    client = start("--no-load", "--no-resume", "--no-list", "--no-image", opened=False)
    offered = client.initialize()["agentCapabilities"]
    assert offered["loadSession"] is offered["promptCapabilities"]["image"] is False
    assert set(offered["sessionCapabilities"]) == {"close", "delete"}
    for method in ("session/load", "session/resume", "session/list"):
        with pytest.raises(Refused) as raised:
            client.request(method, sessionId="x", cwd="/", mcpServers=[])
        assert raised.value.code == -32601
    client.open()
    with pytest.raises(Refused) as raised:
        client.prompt({"type": "image", "mimeType": "image/png", "data": ""})
    assert raised.value.code == -32602


def test_restoring_can_fail_with_any_code(start, tmp_path):
    client = start("--load-error=-32603", "--resume-error=-32000")
    for method, code in (("session/load", -32603), ("session/resume", -32000)):
        with pytest.raises(Refused) as raised:
            client.request(method, sessionId=client.session_id, cwd="/", mcpServers=[])
        assert raised.value.code == code


def test_odd_ways_to_restore(start):
    client = start("--load-null", "--replay-late", "--resume-replays", "--session-id=fixed")
    assert client.session_id == "fixed"
    client.prompt("word")
    client.updates = []
    assert client.request("session/load", sessionId="fixed", cwd="/", mcpServers=[]) is None
    assert client.of("user_message_chunk") == []
    client.until(lambda frame: "available_commands_update" in json.dumps(frame))
    assert client.text("user_message_chunk") == "word" or client.until(lambda f: "user_message" in json.dumps(f))
    client.updates = []
    client.request("session/resume", sessionId="fixed", cwd="/")
    assert client.text("user_message_chunk") == "word"


def test_another_protocol_version_and_no_modes(start):
    client = start("--protocol=2", "--no-permission-modes", opened=False)
    assert client.initialize()["protocolVersion"] == 2
    opened = client.open()
    assert "modes" not in opened
    assert [option["id"] for option in opened["configOptions"]] == ["model", "thought_level"]
    with pytest.raises(Refused):
        client.request("session/set_mode", sessionId=client.session_id, modeId="plan")
