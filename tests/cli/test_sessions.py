"""``agentctl sessions`` as a script uses it, with the mock agent."""

import json
import subprocess
import sys

import pytest

from tests.cli.running import agentctl


def sessions(*args, **how):
    return agentctl("sessions", *args, **how)


@pytest.mark.slow
def test_a_session_is_created_listed_shown_and_deleted():
    assert sessions("create", "work", "--agent", "mock", "--label", "team=web").out == "work\n"
    listed = sessions("list")
    assert listed.out.splitlines()[0].split("\t")[:3] == ["NAME", "AGENT", "STATUS"]
    assert listed.out.splitlines()[1].split("\t")[:3] == ["work", "mock", "idle"]
    shown = sessions("get", "work", "--json").data
    assert shown["name"] == "work"
    assert shown["labels"] == {"team": "web"}
    assert shown["live"]["status"] == "idle"
    assert sessions("list", "-q").out == shown["id"] + "\n"
    assert sessions("delete", "work", "--yes", "--json").data == {"deleted": [shown["id"]]}
    assert sessions("list", "--json").data == []


def test_a_taken_name_is_exit_10_unless_it_is_the_same():
    same = ("create", "work", "--agent", "mock", "--no-provision")
    first = sessions(*same, "--json").data
    assert sessions(*same).code == 10
    assert sessions(*same, "--if-not-exists", "--json").data["id"] == first["id"]
    assert sessions(*same, "--if-not-exists", "--model", "mock-fast").code == 10


def test_the_newest_are_listed_and_the_rest_is_announced():
    for name in ("a", "b", "c"):
        sessions("create", name, "--agent", "mock", "--no-provision")
    some = sessions("list", "--limit", "2")
    assert [line.split("\t")[0] for line in some.out.splitlines()] == ["NAME", "c", "b"]
    assert "--all" in some.err
    assert len(sessions("list", "--all", "--json").data) == 3


def test_a_message_waits_for_the_final_text(session):
    done = sessions("send", session, "@tool @say=Hello")
    assert done.code == 0, done
    assert done.out == "Hello\n"
    assert "●" not in done.err


def test_a_message_under_json_is_one_envelope(session):
    done = sessions("send-message", session, "-m", "Hello", "--json")
    assert done.envelope["status"] == "ok"
    assert done.data["type"] == "result"
    assert done.data["text"] == "mock: Hello"
    refused = sessions("send", session, "@stop=refusal", "--json")
    assert refused.code == 9
    assert refused.envelope["status"] == "error"
    assert refused.data["outcome"] == "refused"


def test_no_wait_prints_the_turns_id_and_events_tell_the_rest(session):
    turn = sessions("send", session, "Hello", "--no-wait").out.strip()
    assert turn.startswith("trn_")
    followed = subprocess.run(
        [sys.executable, "-m", "agentctl.cli", "sessions", "events", session, "--follow", "--json", "--limit", "6"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    log = [json.loads(line) for line in followed.stdout.splitlines()]
    assert log[-1]["sequence"] == 6
    assert [e["sequence"] for e in log] == [1, 2, 3, 4, 5, 6]
    assert turn in {e["turn_id"] for e in log}


def test_the_same_turn_id_is_never_sent_twice(session):
    first = sessions("stream", session, "one", "--turn-id", "mine", "--json")
    again = sessions("stream", session, "one", "--turn-id", "mine", "--json")
    assert again.out == first.out
    assert len([i for i in sessions("transcript", session, "--json").data if i["item"]["role"] == "user"]) == 1


@pytest.mark.slow
def test_events_resume_after_a_number_and_carry_raw_frames(session):
    sessions("send", session, "Hello")
    every = sessions("events", session, "--json").events
    rest = sessions("events", session, "--json", "--offset", "3").events
    assert rest == every[3:]
    assert len(sessions("events", session, "--json", "--limit", "2").events) == 2
    raw = sessions("events", session, "--json", "--include-raw").events
    assert any("raw" in event for event in raw)
    lines = sessions("events", session).out.splitlines()
    assert len(lines) == len(every)
    assert "turn.ended" in lines[-1]


def test_the_transcript_is_markdown_or_items(session):
    sessions("send", session, "@tool=execute @say=Hello")
    text = sessions("transcript", session).out
    assert "> @tool=execute @say=Hello\n" in text
    assert "\n\nHello\n" in text
    items = sessions("transcript", session, "--json").data
    assert {entry["item"]["kind"] for entry in items} >= {"message", "tool_call"}


@pytest.mark.slow
def test_a_request_is_listed_and_answered_from_another_process(session):
    child = subprocess.Popen(
        [sys.executable, "-m", "agentctl.cli", "sessions", "stream", session, "@permission", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    for line in child.stdout:
        if json.loads(line)["type"] == "permission.requested":
            break
    [request] = sessions("requests", "--json").data
    assert request["session"] == session
    assert request["kind"] == "permission"
    assert sessions("requests", session).out.splitlines()[1].split("\t")[:2] == [session, request["id"]]
    answered = sessions("answer", session, request["id"], "--reply", "once")
    assert answered.code == 0, answered
    result = json.loads(child.stdout.read().splitlines()[-1])
    child.stdout.close()
    assert child.wait(timeout=60) == 0
    assert result["outcome"] == "completed"
    assert "allow" in result["text"]
    assert sessions("answer", session, request["id"], "--reply", "once").code == 10
    assert sessions("requests", session, "--json").data == []


def test_a_question_is_answered_with_its_fields(session):
    child = subprocess.Popen(
        [sys.executable, "-m", "agentctl.cli", "sessions", "stream", session, "@elicit", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    for line in child.stdout:
        event = json.loads(line)
        if event["type"] == "question.requested":
            break
    names = list(event["data"]["metadata"]["schema"]["properties"])
    assert sessions("answer", session, "--content", json.dumps({names[0]: "Ada"})).code == 0
    result = json.loads(child.stdout.read().splitlines()[-1])
    child.stdout.close()
    assert child.wait(timeout=60) == 0
    assert "Ada" in result["text"] or result["outcome"] == "completed"


def test_a_running_turn_is_cancelled_from_another_process(session):
    turn = sessions("send", session, "@hang", "--no-wait").out.strip()
    done = sessions("cancel", session, "--json")
    assert done.data == {"turn_id": turn, "cancelled": True}
    again = sessions("cancel", session)
    assert again.code == 0
    assert "No turn is running" in again.err


def test_a_busy_session_is_exit_10(session):
    sessions("send", session, "@hang", "--no-wait")
    assert sessions("send", session, "Hello").code == 10
    assert sessions("list", "--status", "busy", "-q").out != ""


def test_settings_change_and_wrong_ones_name_the_nearest(session):
    assert sessions("set-model", session, "mock-fast").out == f"{session}\n"
    assert sessions("get", session, "--json").data["live"]["model"] == "mock-fast"
    assert sessions("set-mode", session, "plan").code == 0
    wrong = sessions("set-model", session, "mock-fats")
    assert wrong.code == 2
    assert "mock-fast" in wrong.err


def test_a_raw_call_prints_its_result(session):
    sessions("send", session, "Hello")
    done = sessions("call", session, "session/list", "{}")
    assert done.code == 0, done
    assert "sessions" in json.loads(done.out)


def test_a_session_is_renamed_and_relabelled(session):
    assert sessions("update", session, "--name", "other", "--label", "a=b", "--title", "T").out == "other\n"
    changed = sessions("update", "other", "--unset-label", "a", "--json").data
    assert changed["labels"] == {}
    assert changed["title"] == "T"


@pytest.mark.slow
def test_a_released_session_goes_on_with_the_next_message(session):
    sessions("send", session, "first words")
    assert sessions("release", session).out == f"{session}\n"
    assert sessions("get", session, "--json").data["live"] is None
    done = sessions("stream", session, "@recall", "--json")
    assert done.events[-1]["context"] == "restored", done
    assert "first words" in done.events[-1]["text"]


def test_an_attachment_is_sent_or_refused_before_anything_is(session, tmp_path):
    image = tmp_path / "pixel.png"
    image.write_bytes(b"\x89PNG\r\n")
    done = sessions("send", session, "@image", "--attach", str(image))
    assert done.code == 0, done
    assert "image/png" in done.out
    missing = sessions("send", session, "x", "--attach", str(tmp_path / "none"))
    assert missing.code == 2


def test_values_given_as_environment_are_never_shown():
    made = sessions("create", "work", "--agent", "mock", "--env", "TOKEN=canary-4711", "--no-provision", "--json")
    shown = sessions("get", "work", "--json")
    assert "canary-4711" not in made.out + shown.out
    assert "TOKEN" in shown.out


@pytest.mark.parametrize("verb", ["get", "events", "transcript", "release", "cancel"])
def test_an_unknown_session_is_exit_4_with_the_nearest_name(session, verb):
    done = sessions(verb, "wrok")
    assert done.code == 4, done
    assert "work" in done.err
