"""What can happen to a docker sandbox only: its volume is removed under it, somebody freezes it."""

from __future__ import annotations

import pytest

from agentctl import errors
from agentctl.events import text_of
from agentctl.ops import session_end, turns
from tests.recovery.plugs import DockerPlug
from tests.recovery.stage import Stage, alone

PROVIDERS = ("docker",)


@alone
async def test_a_volume_that_somebody_removed_takes_the_memory_but_nothing_that_was_said(stage: Stage) -> None:
    await stage.first_turn("the codeword is heron")
    await session_end.release(stage.app, "work")
    assert isinstance(stage.plug, DockerPlug)
    stage.plug.remove_volume()
    with pytest.raises(errors.ContextLost):
        await stage.say("hello")
    spec = stage.session.spec
    stage.app.store.update_session(stage.session.id, spec=type(spec).from_json({**spec.to_json(), "on_lost": "replay"}))
    result = await stage.say("@context")
    assert result.context == "lost", "the sandbox has no record of it either, and does not pretend"
    assert "heron" not in result.text
    said = [text_of(entry["item"]) for entry in await turns.transcript(stage.app, "work")]
    assert any(text.startswith("the codeword is heron") for text in said)


async def test_a_frozen_sandbox_goes_on_with_the_next_message(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    assert isinstance(stage.plug, DockerPlug)
    stage.plug.pause(sandbox)
    await reader.ended((await stage.goes_on(session, context=("live",))).turn_id)
    stage.has_the_sandbox(sandbox, again=True)
    assert reader.is_whole
