"""A conversation that comes back: on which rung, with how much of its history, in which place, with which settings."""

from __future__ import annotations

import json
import os
import time

import pytest

from agentctl import errors
from agentctl.supervisor.log.session_log import LogReader
from tests.supervisor.support import mock_recipe
from tests.supervisor.test_session_api import events_until, session, turn

LOAD = "--no-resume"


async def begin(root, *flags, said=("the codeword is heron",), **fields):
    """A session with a past, whose supervisor has left: what a caller passes to the next one."""
    async with session(root, *flags, **fields) as (_, client):
        for text in said:
            await turn(client, text, offset=(await client.snapshot("ses_x"))["eventCount"])
        snapshot = await client.snapshot("ses_x")
    return {"nativeSessionId": snapshot["nativeSessionId"], "minSequence": snapshot["eventCount"]}


async def next_turn(root, *flags, text="@recall", recipe=None, **fields):
    """The next supervisor's first turn: its events since the start, and its summary."""
    async with session(root, *flags, recipe=recipe, **fields) as (_, client):
        return await turn(client, text, offset=fields["minSequence"])


async def test_a_load_that_replays_nothing_is_lost_and_not_restored(tmp_path):
    past = await begin(tmp_path, LOAD)
    with pytest.raises(errors.ContextLost) as caught:
        await next_turn(tmp_path, LOAD, "--load-forgets", **past)
    assert caught.value.details["tried"] == ["load: the agent replayed nothing"]


async def test_a_forgetful_load_goes_on_with_a_fresh_context_where_the_user_allows_it(tmp_path):
    past = await begin(tmp_path, LOAD)
    seen, summary = await next_turn(tmp_path, LOAD, "--load-forgets", text="hello", onLost="new", **past)
    assert summary["context"] == "lost"
    (lost,) = [e.data for e in seen if e.type == "session.context_lost"]
    assert (lost["tried"], lost["action"]) == (["load: the agent replayed nothing"], "new")


async def test_a_replay_without_our_last_message_is_said_and_taken_as_restored(tmp_path):
    past = await begin(tmp_path, LOAD, said=("one", "two"))
    seen, summary = await next_turn(tmp_path, LOAD, "--load-forgets=last", text="hello", **past)
    assert summary["context"] == "restored"
    (differs,) = [e.data for e in seen if e.type == "session.history_differs"]
    assert differs == {"known": 2, "replayed": 1, "missing": 1}


async def test_a_whole_replay_says_nothing(tmp_path):
    past = await begin(tmp_path, LOAD, said=("one   two\nthree", "four"))
    seen, summary = await next_turn(tmp_path, LOAD, **past)
    assert summary["context"] == "restored"
    assert "session.history_differs" not in [e.type for e in seen]


async def test_a_replay_after_the_answer_is_waited_for_and_compared(tmp_path):
    past = await begin(tmp_path, LOAD)
    recipe = mock_recipe(LOAD, "--replay-late", replay_after_response=True)
    seen, summary = await next_turn(tmp_path, recipe=recipe, **past)
    assert summary["context"] == "restored"
    assert "session.history_differs" not in [e.type for e in seen]


async def test_text_that_no_user_wrote_is_no_message_of_the_user(tmp_path):
    past = await begin(tmp_path, LOAD, said=("[ctx] machinery", "heron"))
    recipe = mock_recipe(LOAD, "--load-forgets=last", replay_skip=(r"^\[ctx\]",))
    seen, _ = await next_turn(tmp_path, recipe=recipe, text="hello", **past)
    (differs,) = [e.data for e in seen if e.type == "session.history_differs"]
    assert differs["replayed"] == 0


async def test_an_interrupted_message_need_not_be_replayed(tmp_path):
    async with session(tmp_path, LOAD) as (_, client):
        seen, _ = await turn(client, "heron")
        await client.send("ses_x", {"message": "@hang"})
        await events_until(client, "turn.started", seen[-1].sequence)
        native_id = (await client.snapshot("ses_x"))["nativeSessionId"]
    past = {"nativeSessionId": native_id, "minSequence": LogReader(tmp_path / "log").last_sequence}
    seen, summary = await next_turn(tmp_path, LOAD, text="hello", **past)
    assert summary["context"] == "restored"
    assert "session.history_differs" not in [e.type for e in seen]


async def test_a_session_in_which_nothing_was_said_has_nothing_to_lose(tmp_path):
    past = await begin(tmp_path, said=())
    seen, summary = await next_turn(tmp_path, "--no-resume", "--no-load", text="hello", **past)
    assert summary["context"] == "new"
    assert "session.context_lost" not in [e.type for e in seen]


async def test_a_conversation_is_not_taken_to_another_directory(tmp_path):
    past = await begin(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(errors.UsageError, match="cannot go on in"):
        await next_turn(tmp_path, cwd=str(tmp_path / "elsewhere"), **past)


@pytest.mark.parametrize("rung", ["resume", "load"])
async def test_settings_and_servers_are_given_again_on_every_rung(tmp_path, rung):
    flags = () if rung == "resume" else (LOAD,)
    past = await begin(tmp_path, *flags)
    server = {"name": "probe", "command": "/bin/true", "args": [], "env": []}
    wanted = {"model": "mock-fast", "agentMode": "plan", "options": {"thought_level": "high"}, "mcpServers": [server]}
    async with session(tmp_path, *flags, **wanted, **past) as (_, client):
        snapshot = await client.snapshot("ses_x")
        seen, summary = await turn(client, "@mcp", offset=past["minSequence"])
    assert summary["context"] == "restored"
    assert (snapshot["model"], snapshot["agentMode"], snapshot["thoughtLevel"]) == ("mock-fast", "plan", "high")
    assert "probe" in json.dumps([e.data for e in seen if e.type == "item.completed"])


async def test_a_young_session_is_not_loaded_before_its_time(tmp_path):
    past = await begin(tmp_path, LOAD)
    recipe = mock_recipe(LOAD, load_min_age_s=2.5)
    born = os.stat(tmp_path / "log" / f"{1:020d}.jsonl").st_ctime
    _, summary = await next_turn(tmp_path, recipe=recipe, createdAt=time.time() - 3600, **past)
    assert summary["context"] == "restored"
    assert time.time() >= born + 2.4


async def test_a_replayed_transcript_has_a_limit_and_says_what_was_left_out(tmp_path):
    flags = ("--no-resume", "--no-load")
    past = await begin(tmp_path, *flags, said=("the first", *(f"{n} " + "x" * 20_000 for n in range(4)), "the last"))
    seen, summary = await next_turn(tmp_path, *flags, text="@echo and now?", onLost="replay", **past)
    told = json.dumps([e.data for e in seen if e.type == "item.completed"][-1])
    assert summary["context"] == "replayed"
    assert ("the last" in told, "its beginning left out" in told, "the first" in told) == (True, True, False)
    assert len(told) < 70_000
