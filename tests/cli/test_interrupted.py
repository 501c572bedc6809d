"""A sandbox that dies in mid-turn: what ``--on-interrupt`` makes of it, and that nothing runs twice unasked."""

import json
import os
import signal

import pytest

from agentctl.ops.interrupted import CONTINUE
from tests.cli.running import agentctl
from tests.cli.watching import Watched, kill_supervisor, supervisor_pid


def sessions(*args, **how):
    return agentctl("sessions", *args, **how)


def user_messages(session):
    items = sessions("transcript", session, "--json").data
    return [i["item"]["content"][0]["text"] for i in items if i["item"]["role"] == "user"]


def interrupted(session, effects, *more, hangs=1):
    """A turn ``mine`` whose supervisor was killed in the middle, watched to the end of the command."""
    with Watched("sessions", "stream", session, effects.message(hangs), "--turn-id", "mine", *more) as watched:
        effects.wait_begun()
        kill_supervisor()
        watched.finish()
    return watched


def test_by_default_it_is_told_with_the_command_to_go_on_and_nothing_runs_again(session, effects):
    watched = interrupted(session, effects)
    result = watched.lines[-1]
    assert (watched.code, result["outcome"], result["interrupted"]) == (8, "interrupted", ["mine"])
    assert "agentctl sessions stream work" in result["error"]["hint"]
    assert "--turn-id mine" in result["error"]["hint"]
    assert "agentctl sessions stream work" in watched.err
    again = sessions("send", session, effects.message(), "--turn-id", "mine", "--json")
    assert (again.code, again.data["outcome"], again.data["interrupted"]) == (8, "interrupted", ["mine"])
    assert effects.count == 1


def test_continue_tells_the_agent_and_sends_nothing_of_the_user_s_again(session, effects):
    watched = interrupted(session, effects, "--on-interrupt", "continue")
    result = watched.lines[-1]
    assert watched.code == 0, watched.err
    assert (result["turn_id"], result["outcome"], result["context"]) == ("mine~2", "completed", "restored")
    assert result["interrupted"] == ["mine"]
    assert effects.count == 1
    assert user_messages(session) == [effects.message(), CONTINUE]
    assert "The turn mine was cut off: going on with a new turn (attempt 2 of 3)" in watched.err
    the_same_turn_id_again_runs_nothing(session, effects, watched, "continue")


@pytest.mark.slow
def test_retry_sends_the_message_again_as_a_new_turn_and_the_stream_has_all_events_once(session, effects):
    watched = interrupted(session, effects, "--on-interrupt", "retry")
    result = watched.lines[-1]
    assert (watched.code, result["turn_id"], result["interrupted"]) == (0, "mine~2", ["mine"])
    assert effects.count == 2
    assert user_messages(session) == [effects.message()] * 2
    assert "sending the message again" in watched.err
    log = sessions("events", session, "--json").events
    assert watched.types("mine") == ["turn.started", "turn.ended"]
    assert watched.types("mine~2") == ["turn.started", "turn.ended"]
    numbers = [line["sequence"] for line in watched.lines[:-1]]
    assert numbers == list(range(numbers[0], log[-1]["sequence"] + 1))
    assert [line["type"] for line in watched.lines].count("result") == 1
    the_same_turn_id_again_runs_nothing(session, effects, watched, "retry")


def the_same_turn_id_again_runs_nothing(session, effects, first, policy):
    """It follows the same turns."""
    ran = effects.count
    again = sessions(*("stream", session, effects.message(), "--turn-id", "mine", "--on-interrupt", policy), "--json")
    assert again.code == 0, again
    assert again.events[-1] == first.lines[-1]
    assert [e for e in again.events if e["type"].startswith("turn.")] == [
        line for line in first.lines if line["type"].startswith("turn.")
    ]
    assert effects.count == ran


@pytest.mark.slow
def test_a_caller_that_died_itself_goes_on_where_it_was_with_the_same_turn_id(session, effects):
    with Watched("sessions", "stream", session, effects.message(), "--turn-id", "mine") as watched:
        effects.wait_begun()
        watched.process.kill()
    kill_supervisor()
    done = sessions("send", session, effects.message(), "--turn-id", "mine", "--on-interrupt", "retry", "--json")
    assert (done.code, done.data["turn_id"], done.data["interrupted"]) == (0, "mine~2", ["mine"])
    assert effects.count == 2


@pytest.mark.slow
def test_after_three_attempts_it_gives_up(session, effects):
    message = effects.message(hangs=9)
    with Watched("sessions", "stream", session, message, "--turn-id", "mine", "--on-interrupt", "retry") as watched:
        for _ in range(3):
            effects.wait_begun()
            kill_supervisor()
        result = watched.finish()
    assert (watched.code, result["outcome"]) == (8, "interrupted")
    assert result["interrupted"] == ["mine", "mine~2", "mine~3"]
    assert effects.count == 3


@pytest.mark.slow
def test_the_session_may_say_once_and_for_all_what_is_to_be_done(effects):
    sessions("create", "work", "--agent", "mock", "--no-provision", "--on-interrupt", "retry")
    watched = interrupted("work", effects)
    assert (watched.code, watched.lines[-1]["turn_id"]) == (0, "mine~2")


@pytest.mark.slow
def test_a_throw_away_run_may_retry_too(effects):
    with Watched("run", "--agent", "mock", "--on-interrupt", "retry", effects.message()) as watched:
        effects.wait_begun()
        kill_supervisor()
        result = watched.finish()
    assert (watched.code, len(result["interrupted"]), effects.count) == (0, 1, 2)
    assert sessions("list", "--json").data == []


@pytest.mark.slow
def test_a_session_that_was_released_on_purpose_is_not_brought_back(session, effects):
    with Watched("sessions", "stream", session, effects.message(), "--on-interrupt", "retry") as watched:
        effects.wait_begun()
        assert sessions("release", session).code == 0
        result = watched.finish()
    assert (watched.code, result["outcome"], effects.count) == (8, "interrupted", 1)
    assert sessions("get", session, "--json").data["status"] == "hibernated"


@pytest.mark.slow
def test_a_supervisor_that_was_told_to_leave_by_the_system_is_followed_by_another(session, effects):
    with Watched("sessions", "stream", session, effects.message(), "--on-interrupt", "retry") as watched:
        effects.wait_begun()
        os.kill(supervisor_pid(), signal.SIGTERM)
        result = watched.finish()
    assert (watched.code, result["outcome"], effects.count) == (0, "completed", 2), watched.err


@pytest.mark.slow
def test_a_session_that_cannot_come_back_ends_the_stream_with_one_result_line_that_says_why(session, effects, tmp_path):
    env_file = tmp_path / "env"
    env_file.write_text("A=b\n")
    sessions("create", "other", "--agent", "mock", "--no-provision", "--env-file", str(env_file))
    with Watched("sessions", "stream", "other", effects.message(), "--turn-id", "mine", "--on-interrupt", "retry") as w:
        effects.wait_begun()
        env_file.unlink()
        kill_supervisor()
        result = w.finish()
    assert (w.code, result["outcome"], result["interrupted"]) == (2, "failed", ["mine"]), result
    assert [line["type"] for line in w.lines].count("result") == 1


@pytest.mark.slow
def test_a_question_is_asked_again_after_the_restart_and_an_answer_to_the_dead_one_is_exit_10(session):
    with Watched("sessions", "stream", session, "@permission", "--on-interrupt", "retry") as watched:
        dead = watched.until("permission.requested")["data"]["permission_id"]
        kill_supervisor()
        live = watched.until("permission.requested")["data"]["permission_id"]
        assert [r["id"] for r in sessions("requests", session, "--json").data] == [live]
        refused = sessions("answer", session, dead, "--reply", "once")
        assert refused.code == 10, refused
        assert sessions("answer", session, live, "--reply", "once").code == 0
        result = watched.finish()
    assert (watched.code, result["outcome"]) == (0, "completed")
    assert "allow-once" in result["text"]


@pytest.mark.slow
def test_an_answer_to_a_question_whose_sandbox_died_is_exit_10(session):
    with Watched("sessions", "stream", session, "@permission") as watched:
        request = watched.until("permission.requested")["data"]["permission_id"]
        kill_supervisor()
        watched.finish()
    refused = sessions("answer", session, request, "--reply", "once", "--json")
    assert (refused.code, refused.envelope["error"]["code"]) == (10, "request_resolved")


@pytest.mark.slow
def test_on_a_terminal_it_is_told_in_one_line_and_the_answer_goes_on(terminal, session, effects):
    screen = terminal("sessions", "stream", session, effects.message(), "--on-interrupt", "retry")
    effects.wait_begun()
    kill_supervisor()
    assert screen.finish() == 0
    assert "was cut off: sending the message again" in " ".join(screen.text.split())
    assert "Done · " in screen.text


@pytest.mark.slow
def test_ctrl_c_is_the_last_word(terminal, session, effects):
    screen = terminal("sessions", "stream", session, effects.message(hangs=9), "--on-interrupt", "retry")
    effects.wait_begun()
    kill_supervisor()
    effects.wait_begun()
    screen.send("\x03")
    assert screen.finish() == 130
    assert effects.count == 2


def test_an_unknown_policy_names_the_nearest():
    done = agentctl("run", "--agent", "mock", "--on-interrupt", "retri", "x")
    assert done.code == 2
    assert "'retry'" in done.err


def test_what_only_a_watching_command_can_do_is_refused_with_no_wait(session):
    done = sessions("send", session, "x", "--no-wait", "--on-interrupt", "retry")
    assert done.code == 2
    assert "--no-wait" in done.err
    assert json.loads(sessions("list", "--json").out)["data"][0]["status"] == "new"
