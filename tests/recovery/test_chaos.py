"""Random SIGKILL of commands, supervisors and agents: nothing is lost, doubled, left behind or told wrongly."""

from __future__ import annotations

import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from agentctl.ops import session_end
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from tests.postgres import PostgresServer
from tests.recovery.chaos import Chaos
from tests.recovery.leftovers import leftovers
from tests.recovery.truth import untruths


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--chaos-seed")
    return random.randrange(1 << 32) if given is None else given


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_whatever_is_killed_nothing_is_lost_and_nothing_is_told_wrongly(
    paths: StatePaths, seed: int, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    turns: int = pytestconfig.getoption("--chaos-turns")
    await survives(Chaos(seed, turns, paths.root, tmp_path / "work"), paths)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_the_same_with_a_database_that_is_killed_as_well(
    paths: StatePaths, seed: int, tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: int = pytestconfig.getoption("--chaos-turns") // 4
    monkeypatch.delenv("AGENTCTL_STATE_DIR")  # the server is nothing that agentctl could leave behind
    with PostgresServer() as server:
        given = {"AGENTCTL_DATABASE_URL": server.database()}
        work, kill = tmp_path / "work", lambda: killed(server)
        await survives(Chaos(seed, turns, paths.root, work, environment=given, kill_database=kill), paths)


def killed(server: PostgresServer) -> None:
    """SIGKILL, and up again as soon as its orphans have noticed."""
    server.stop(signal.SIGKILL)
    for patience in (0.2, 0.5, 1, 2):
        with suppress(RuntimeError):
            server.start()
            return
        time.sleep(patience)
    server.start()


async def survives(chaos: Chaos, paths: StatePaths) -> None:
    started = time.monotonic()
    turns = sum(len(story.plan) for story in chaos.stories)
    print(f"{turns} turns; the same again with: --chaos-seed {chaos.seed}")  # shown when the test fails
    await chaos.run()
    print(f"{time.monotonic() - started:.1f} s; hit: {dict(chaos.shots)}")
    with App(paths, chaos.environment) as app:
        assert {story.session: wrong for story in chaos.stories if (wrong := untruths(app, story))} == {}
        assert (leftovers(paths), app.store.sandboxes()) == ([], [])
        for story in chaos.stories:
            app.store.release_lease(app.store.acquire_lease(story.session_id, holder="nobody", ttl_s=9))
            await session_end.delete(app, story.session)
        assert not list((paths.volumes / "default" / "agents").iterdir())
        assert (leftovers(paths), app.store.sandboxes()) == ([], [])
    assert chaos.shots["cli"] + chaos.shots["supervisor"] + chaos.shots["agent"] >= turns / 10, chaos.shots
