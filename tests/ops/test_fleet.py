"""Two hundred sandboxes at Daytona, driven by two processes that share one Postgres, on a bad day.

Real: agentctl with its store, leases and providers; the two driver processes, one of which is killed; Daytona's own
SDK; Postgres; the requests, answers, states, labels, volumes and preview proxy of the emulated cloud; and for the
sessions, machines with their supervisors and agents. Not real: the machines of the other sandboxes (``fleet.py``).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.providers.daytona.bundle import bundle_of
from tests.cli.running import agentctl
from tests.emulators import stand_in
from tests.emulators.daytona.kept import is_kept
from tests.ops.fleet import Fleet, weather

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BARE, TALKING, TURNS = 192, 8, 2
LOST = 20
LIMIT_S = 240
SWEEP = ("cleanup-orphans", "--provider", "daytona", "--yes", "--older-than", "0.01s", "--json")


class Driver:
    """A process on a state directory of its own: another machine, as far as agentctl can tell."""

    def __init__(self, place, environ):
        place.mkdir()
        self.paths = StatePaths(place / "state")
        self.report = place / "report"
        self.environ = {**environ, "AGENTCTL_STATE_DIR": str(self.paths.root)}
        self._plan = place / "plan"
        self._log = place / "log"

    def start(self, steps=None):
        if steps is not None:
            self.report.unlink(missing_ok=True)
            self._plan.write_text(json.dumps(steps))
        argv = [sys.executable, "-m", "tests.ops.fleet_driver", str(self._plan), str(self.report)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(argv, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def done(self):
        return self.report.read_text().count("\n") if self.report.exists() else 0

    def until(self, count):
        deadline = time.monotonic() + LIMIT_S
        while self.done() < count:
            assert self.process.poll() is None or self.done() >= count, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def finished(self):
        assert self.process.wait(LIMIT_S) == 0, self.said()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self):
        return self._log.read_text()[-6000:]


@pytest.fixture
def fleet(tmp_path):
    if why := stand_in.available():
        pytest.skip(f"no stand-ins for a cloud's machines here: {why}")
    bundle = asyncio.run(bundle_of(StatePaths(tmp_path / "bundle").ensure()))
    with Fleet(tmp_path / "daytona", bundle.key) as fleet:
        yield fleet
        assert fleet.is_clean() == []


@pytest.fixture
def environ(fleet, postgres, monkeypatch):
    monkeypatch.setattr("tests.emulators.daytona.api.PAGE", 50)
    given = {"AGENTCTL_DATABASE_URL": postgres.database(), "DAYTONA_API_URL": fleet.url}
    for name, value in {**given, "DAYTONA_API_KEY": fleet.account()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DAYTONA_SNAPSHOT", raising=False)
    return dict(os.environ)


@pytest.fixture
def drivers(tmp_path, environ):
    both = [Driver(tmp_path / name, environ) for name in ("here", "there")]
    yield both
    for driver in both:
        driver.end()


def test_nothing_is_lost_doubled_or_leaked(fleet, drivers, environ):
    here, there = drivers
    key = environ["DAYTONA_API_KEY"]
    bare = [f"s{number}" for number in range(BARE)]
    talking = [f"t{number}" for number in range(TALKING)]
    said = [["turn", name, f"trn_{name}_{number}"] for name in talking for number in range(TURNS)]

    # Each makes one half and some of the other's; all that is said, both say.
    fleet.call(lambda: fleet.faults.extend(weather()))
    here.start([*said, *(["ensure", name] for name in bare[: BARE // 2 + 5])])
    there.start(
        [*reversed(said[: TALKING * TURNS // 2]), *(["ensure", name] for name in reversed(bare[BARE // 2 - 5 :]))]
    )
    here.until(30)
    here.end()
    here.start()
    for driver in drivers:
        driver.finished()
    with App(here.paths, environ) as app:
        check(app, fleet.living(key), bare, said)

        # Some are deleted behind our back, a session's among them, and some forgotten by the store.
        rng = random.Random(6)
        doomed = rng.sample(bare, 10)
        handles = [app.store.named_sandbox(name).handle for name in doomed]
        until_kept(fleet, app, "t0")
        handles.append(app.store.sandbox(app.store.session("t0").sandbox_id).handle)
        for handle in handles:
            fleet.call(lambda id_=handle["daytona"]: fleet.cloud.destroy(fleet.cloud.sandboxes[id_]))
        again = [*doomed, *rng.sample(bare, 10)]
        said.append(["turn", "t0", "trn_t0_after"])
        here.start([said[-1], *(["ensure", name] for name in again)])
        there.start([["ensure", name] for name in reversed(again)])
        for driver in drivers:
            driver.finished()
        check(app, fleet.living(key), bare, said)
        lost = rng.sample(bare, LOST)
        for name in lost:
            app.store.delete_sandbox(app.store.named_sandbox(name).id)

        kept = [name for name in bare if name not in lost]
        here.start([*(["forget", name] for name in talking[::2]), *(["delete", name] for name in kept[::2])])
        there.start([*(["forget", name] for name in talking[1::2]), *(["delete", name] for name in kept[1::2])])
        for driver in drivers:
            driver.finished()
        assert (app.store.sandboxes(), app.store.sessions(limit=None)) == ([], [])

    assert len(fleet.living(key)) >= LOST
    fleet.call(fleet.faults.clear)
    for driver in drivers:  # of helpers, which live for an hour at most, each machine knows its own
        swept = agentctl(*SWEEP, env=driver.environ)
        assert swept.code == 0, swept
        assert {one["action"] for one in swept.data["orphans"] if one["kind"] != "volume"} <= {"deleted"}
        assert set(fleet.living(key)) <= {"helper"}
    assert fleet.living(key) == {}


def until_kept(fleet, app, name):
    session, volume = app.store.session(name), app.store.volume("daytona", "default")
    ended = max(turn.ended_at or 0 for turn in app.store.turns(session.id))
    generations = fleet.volume_path(volume.handle["volume"]) / f"agents/{session.id}/home"
    deadline = time.monotonic() + 60
    while not is_kept(generations, ended):
        assert time.monotonic() < deadline, "HOME was not kept"
        time.sleep(0.02)


def check(app, living, bare, said):
    """Each has one row, and the one living sandbox that its row names; every turn is there once."""
    rows = {sandbox.name: sandbox for sandbox in app.store.sandboxes() if sandbox.name}
    assert sorted(rows) == sorted(bare)
    for row in rows.values():
        assert living[row.id] == [row.handle["daytona"]], row
    sessions = {session.name: session for session in app.store.sessions(limit=None)}
    assert set(sessions) == {name for _, name, _ in said}
    for name, session in sessions.items():
        assert living[session.id] == [app.store.sandbox(session.sandbox_id).handle["daytona"]], session
        wanted = sorted(turn for _, owner, turn in said if owner == name)
        assert sorted(turn.id for turn in app.store.turns(session.id)) == wanted
        numbers, events = zip(*app.store.events(session.id), strict=True)
        assert numbers == tuple(range(1, len(numbers) + 1))
        ended = Counter(_turn_of(event) for event in map(json.loads, events) if event["type"] == "turn.ended")
        assert ended == Counter(wanted), events


def _turn_of(event):
    return event.get("turn_id") or event["data"]["turn_id"]
