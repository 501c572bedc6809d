"""What happens to a container and to its engine in the middle of a turn: noticed, named, and survived."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.compute import Compute
from agentctl.ops import loss, processes, session_end, sessions, turns
from agentctl.ops.app import App
from agentctl.ops.turn_stream import TurnStream
from agentctl.supervisor_client import transport
from tests.docker import images
from tests.docker.engine import own_engine
from tests.docker.relay import Relay
from tests.docker.support import clear, installation
from tests.ops.support import say, spec

pytestmark = pytest.mark.slow


@pytest.fixture
def app(runtime_root):
    with App.open() as opened:
        opened.paths.ensure().runtime.symlink_to(runtime_root)
        yield opened


@pytest.fixture
async def make(app, docker_engine, docker_api, docker_image, monkeypatch, tmp_path):
    """Make the session ``work`` in a container; nothing of its installation is left in the engine afterwards."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)

    async def made(**fields):
        how = {"provider": "docker", "image": docker_image, "cwd": None, "permissions": "allow", **fields}
        return await sessions.create(app, spec(tmp_path, **how), name="work")

    yield made
    clear(docker_api, installation(app.paths))


def container_of(app):
    return app.store.sandbox(app.store.session("work").sandbox_id).handle["container"]


async def cut(app, text, fault, **fields) -> TurnStream:
    """Send a message; when its answer begins, let ``fault`` happen (in a thread); read the turn to its end."""
    happening: list[asyncio.Task] = []
    message = turns.Message(text=text, **fields)
    async with asyncio.timeout(60), turns.open_turn(app, "work", message) as turn:
        async for batch in turn:
            if not happening and any(event.type == "item.delta" for event in batch):
                happening.append(asyncio.create_task(asyncio.to_thread(fault)))
        await happening[0]
    return turn


# The container


async def test_a_turn_that_is_frozen_with_its_container_is_said_and_the_next_message_lets_it_go_on(
    app, make, docker_api, monkeypatch
):
    await make()
    await say(app, "work", "the codeword is heron")
    before, container = app.store.session("work").sandbox_id, container_of(app)
    monkeypatch.setattr(transport, "SILENCE_TIMEOUT_S", 0.5)
    with pytest.raises(errors.SandboxPaused) as caught:
        await cut(app, "@chunks=30 @delay=0.05", lambda: docker_api.pause(container), turn_id="frozen")
    assert "the container is paused" in caught.value.message
    assert "next message" in caught.value.hint
    [listed] = await sessions.listing(app)
    assert listed.status == "paused"
    monkeypatch.setattr(transport, "SILENCE_TIMEOUT_S", 30)
    result = await say(app, "work", "@context", when_busy="queue")
    assert ("heron" in result.text, result.context) == (True, "live")
    assert (await say(app, "work", "", turn_id="frozen")).outcome == "completed", "the frozen turn went on"
    assert app.store.session("work").sandbox_id == before
    docker_api.pause(container)
    assert await processes.listing(app, "work") == []
    assert app.store.session("work").sandbox_id == before


async def test_a_container_that_ran_out_of_memory_is_named_and_the_conversation_goes_on(app, make):
    await make(compute=Compute(memory_bytes=64 << 20, network="none"))
    await say(app, "work", "the codeword is heron")
    # What a file in memory takes is nobody's: every process is killed for it, in vain.
    turn = await cut(app, '@say=filling @sh!="dd if=/dev/zero of=/dev/shm/file bs=1M count=64"', lambda: None)
    assert turn.result.outcome == "interrupted"
    assert "ran out of memory" in turn.result.error["message"]
    result = await say(app, "work", "@context")
    assert ("heron" in result.text, result.context) == (True, "restored")


async def test_an_agent_that_dies_where_memory_was_full_says_so(app, make):
    await make(compute=Compute(memory_bytes=128 << 20, network="none"))
    grow = "@sh!=\"python3 -c 'bytearray(400 << 20)'\" @crash"
    result = await say(app, "work", grow)
    assert result.outcome == "failed"
    assert "memory was full" in result.error["message"]
    assert (await say(app, "work", "hello")).outcome == "completed"


# The engine


async def test_a_turn_survives_an_engine_that_is_out_of_reach_for_a_while(
    app, make, docker_engine, docker_api, monkeypatch
):
    with Relay(docker_engine.host.removeprefix("unix://")) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        await make(compute=Compute(network="none"))

        def away():
            relay.close()
            relay.open()

        turn = await cut(app, "@chunks=40 @delay=0.05", away)
        assert turn.result.outcome == "completed"
        assert [number for number in range(40) if f"{number:06}" not in turn.result.text] == []
        monkeypatch.setattr(loss, "BACKEND_AWAY_S", 0.3)
        with pytest.raises(errors.ProviderUnavailable) as caught:
            await cut(app, "@chunks=400 @delay=0.05", relay.close, turn_id="unseen")
        assert relay.url in caught.value.message
        assert "may be going on" in caught.value.hint
        relay.open()
        assert (await turns.cancel(app, "work", turn_id="unseen"))["cancelled"]
        assert (await say(app, "work", "hello", when_busy="queue")).outcome == "completed"


@pytest.fixture(scope="module")
def engine_of_its_own():
    """One that can be stopped and started, with the tiny image."""
    place = Path(tempfile.mkdtemp(prefix="agentctl-e-", dir="/tmp"))
    try:
        with own_engine(place, "--live-restore") as daemon:
            api = daemon.api()
            image = images.tiny(api)
            api.close()
            yield daemon, image
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def daemon(engine_of_its_own, docker_engine, monkeypatch):
    daemon, _ = engine_of_its_own
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    return daemon


async def test_a_restarted_engine_is_waited_for_and_what_became_of_the_container_is_told(
    app, daemon, engine_of_its_own, tmp_path
):
    how = {"provider": "docker", "image": engine_of_its_own[1], "cwd": None, "compute": Compute(network="none")}
    await sessions.create(app, spec(tmp_path, **how), name="work")
    await say(app, "work", "the codeword is heron")

    with_live_restore = await cut(app, "@chunks=30 @delay=0.05", daemon.stop)
    assert with_live_restore.result.outcome == "completed", "containers live on without their engine"
    daemon.start()
    assert (await say(app, "work", "@recall")).context == "live"

    turn = await cut(app, "@chunks=400 @delay=0.05", lambda: daemon.restart_without("--live-restore"))
    assert turn.result.outcome == "interrupted"
    assert turn.result.text, "what was seen of the answer is told"
    assert "its sandbox was ended" in turn.result.error["message"]
    result = await say(app, "work", "@context")
    assert ("heron" in result.text, result.context) == (True, "restored")
    await session_end.delete(app, "work")
