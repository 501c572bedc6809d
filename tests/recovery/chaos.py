"""Turns under fire: scripts talk to sessions through the command line while everything is killed at random moments.

``pytest tests/recovery/test_chaos.py --chaos-turns 2000 --chaos-seed 7`` runs it for longer; CI runs 200 turns.

Each session has a script of its own. A script does what a careful script of a user would: it gives every message a turn
id, and when its command died, or said that the sandbox is gone, it sends the same message with the same id again until
it is acknowledged. What is killed, when, and what is sent, is a function of the seed; how far the victim has come then
is up to the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from agentctl.paths import StatePaths
from agentctl.supervisor.processes import ProcessIdentity, descendants
from tests.cli import forking

Json = dict[str, Any]
How = Literal["send", "stream", "no-wait", "queue"]
Victim = Literal["cli", "supervisor", "agent", "everything", "database"]

COMMAND_LIMIT_S = 60.0
ATTEMPTS = 40
LATEST_KILL_S = 0.9
KILL_SHARE = 0.45
AGAIN_SHARE = 0.15
BUSY_PAUSE_S = 0.05

FAIR_CODES = {0, 7, 8, 10, -signal.SIGKILL}
"""done · the agent was killed · the sandbox or the database was killed · busy · the command itself was killed"""

WEIGHTS: dict[Victim, int] = {"cli": 4, "supervisor": 4, "agent": 3, "everything": 1}


@dataclass(frozen=True, slots=True)
class Shot:
    """``after_s`` from the start of the turn's first command."""

    after_s: float
    victim: Victim


@dataclass(frozen=True, slots=True)
class PlannedTurn:
    """One message of a script, how it is sent, and what is killed meanwhile. After a failure the script waits for
    ``pause_s`` before it tries again. ``again`` is an earlier turn that it sends once more afterwards, to be told how
    that one ended."""

    turn_id: str
    how: How
    chunks: int
    shots: tuple[Shot, ...] = ()
    pause_s: float = 0.0
    again: int | None = None

    def message(self, effects: Path) -> str:
        """The turn leaves its id in ``effects``, then answers its id bit by bit."""
        return f'@sh!="echo {self.turn_id} >> {effects}" @chunks={self.chunks} @delay=0.01 @say={self.turn_id}'


@dataclass(slots=True)
class Acknowledged:
    """What a script was told: that its message is kept, and perhaps how the turn ended."""

    turn_id: str
    outcome: str | None = None
    text: str | None = None


@dataclass(slots=True)
class Story:
    """One script's life. ``oddities`` are things that must not happen."""

    session: str
    directory: Path
    session_id: str = ""
    plan: list[PlannedTurn] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)

    @property
    def effects(self) -> Path:
        return self.directory / "effects"

    def ran(self) -> Counter[str]:
        """How often each turn was run, by what it left behind."""
        return Counter(self.effects.read_text().split()) if self.effects.exists() else Counter()


def planned(
    rng: random.Random, session: str, turns: int, ways: tuple[How, ...], weights: dict[Victim, int]
) -> list[PlannedTurn]:
    plan = []
    for number in range(turns):
        shots = []
        while rng.random() < KILL_SHARE and len(shots) < 3:
            [victim] = rng.choices(list(weights), list(weights.values()))
            shots.append(Shot(rng.uniform(0, LATEST_KILL_S), victim))
        shots.sort(key=lambda shot: shot.after_s)
        turn = PlannedTurn(
            turn_id=f"{session}-{number:04d}",
            how=rng.choice(ways),
            chunks=rng.randrange(1, 12),
            shots=tuple(shots),
            pause_s=rng.choice((0.0, 0.0, 0.1, 0.5)),
            again=rng.randrange(number) if number and rng.random() < AGAIN_SHARE else None,
        )
        plan.append(turn)
    return plan


class Chaos:
    """``state`` is the state directory, ``ways`` are how messages are sent, ``environment`` is what commands get
    besides ours. ``kill_database`` kills the server of the store and starts it again. Run it, then read ``stories`` and
    ``shots`` (victim → how often one was really hit)."""

    def __init__(
        self,
        seed: int,
        turns: int,
        state: Path,
        work: Path,
        *,
        sessions: int = 5,
        ways: tuple[How, ...] = ("send", "stream", "no-wait", "queue"),
        environment: dict[str, str] | None = None,
        kill_database: Callable[[], None] | None = None,
    ) -> None:
        self.seed = seed
        self.paths = StatePaths(state)
        self.shots: Counter[str] = Counter()
        self.stories: list[Story] = []
        self.environment = {**os.environ, "AGENTCTL_STATE_DIR": str(state), **(environment or {})}
        self._kill_database = kill_database
        self._database_lock = asyncio.Lock()
        self._commands: dict[str, ProcessIdentity | None] = {}
        self._callers = ThreadPoolExecutor(sessions)
        weights = {**WEIGHTS, "database": 3} if kill_database else WEIGHTS
        rng = random.Random(seed)
        for number in range(sessions):
            share = turns // sessions + (number < turns % sessions)
            directory = work / f"chaos{number}"
            directory.mkdir(parents=True)
            story = Story(f"chaos{number}", directory)
            story.plan = planned(rng, story.session, share, ways, weights)
            self.stories.append(story)

    async def run(self) -> None:
        """Play all scripts, then let each session come to rest: its last turn closed, nothing running."""
        for story in self.stories:
            made = await self._command(story, "sessions", "create", story.session, "--agent", "mock", "--no-provision")
            story.session_id = made.data["id"]
        for part in (self._play, self._come_to_rest):  # nobody rests while another shoots at the database of all
            async with asyncio.TaskGroup() as group:
                for story in self.stories:
                    group.create_task(part(story))
        self._callers.shutdown()

    async def _play(self, story: Story) -> None:
        for turn in story.plan:
            shooting = asyncio.create_task(self._shoot(story, turn.shots))
            try:
                await self._until_acknowledged(story, turn)
                if turn.again is not None:
                    await self._until_acknowledged(story, replace(story.plan[turn.again], how="send"))
            finally:
                shooting.cancel()
                await asyncio.gather(shooting, return_exceptions=True)
            if story.oddities:
                return  # what follows would only bury it

    async def _until_acknowledged(self, story: Story, turn: PlannedTurn) -> None:
        for _ in range(ATTEMPTS):
            done = await self._send(story, turn)
            if story.oddities:
                return
            if done.acknowledges(turn):
                story.acknowledged.append(Acknowledged(turn.turn_id, done.outcome, done.text))
                return
            await asyncio.sleep(BUSY_PAUSE_S if done.code == 10 else turn.pause_s)
        story.oddities.append(f"{turn.turn_id} was not acknowledged in {ATTEMPTS} attempts; the last: {done}")

    async def _send(self, story: Story, turn: PlannedTurn) -> Done:
        verb = "stream" if turn.how == "stream" else "send"
        options = {"no-wait": ("--no-wait",), "queue": ("--no-wait", "--queue")}.get(turn.how, ())
        message = turn.message(story.effects)
        return await self._command(story, "sessions", verb, story.session, message, "--turn-id", turn.turn_id, *options)

    async def _come_to_rest(self, story: Story) -> None:
        """A last turn that nobody shoots at: it comes after all that was sent, and closes what a kill left open."""
        if story.oddities:
            return
        last = PlannedTurn(f"{story.session}-last", "send", 1)
        await self._until_acknowledged(story, last)
        story.plan.append(last)
        if story.acknowledged[-1].outcome != "completed":
            story.oddities.append(f"the last turn, at which nobody shot, is {story.acknowledged[-1].outcome}")
        released = await self._command(story, "sessions", "release", story.session)
        if released.code:
            story.oddities.append(f"release failed: {released}")

    async def _command(self, story: Story, *args: str) -> Done:
        def began(pid: int) -> None:
            self._commands[story.session] = ProcessIdentity.of(pid)

        how = (None, self.environment, story.directory, COMMAND_LIMIT_S, began)
        run = asyncio.get_running_loop().run_in_executor(self._callers, forking.run, (*args, "--json"), *how)
        try:
            done = Done(args, *await run)
        except AssertionError as e:
            done = Done(args, -signal.SIGKILL, "", "")
            story.oddities.append(f"{args} hung for {COMMAND_LIMIT_S:g} s: {str(e)[-2500:]}")
        finally:
            self._commands[story.session] = None
        story.codes[done.code] += 1
        if done.code not in FAIR_CODES or "Traceback" in done.err:
            story.oddities.append(f"an unfair end: {done}")
        return done

    # Killing

    async def _shoot(self, story: Story, shots: tuple[Shot, ...]) -> None:
        started = time.monotonic()
        for shot in shots:
            await asyncio.sleep(max(0.0, started + shot.after_s - time.monotonic()))
            if shot.victim == "database":
                await self._restart_database()
            else:
                self._kill(story, shot.victim)

    async def _restart_database(self) -> None:
        """Nobody, not even the end of the turn, stops it between its death and its start."""
        assert self._kill_database is not None
        async with self._database_lock:
            restart = asyncio.create_task(asyncio.to_thread(self._kill_database))
            try:
                await asyncio.shield(restart)
            finally:
                await restart
                self.shots["database"] += 1

    def _kill(self, story: Story, victim: Victim) -> None:
        aims = {
            "cli": self._clis,
            "supervisor": self._supervisors,
            "agent": self._agents,
            "everything": self._everything,
        }
        hit = [process for process in aims[victim](story) if process.signal(signal.SIGKILL)]
        self.shots[victim if hit else f"{victim} missed"] += 1

    def _clis(self, story: Story) -> list[ProcessIdentity]:
        identity = self._commands.get(story.session)
        return [identity] if identity else []

    def _supervisors(self, story: Story) -> list[ProcessIdentity]:
        found = []
        for handle in self._handles(story):
            identity = ProcessIdentity.of(handle["pid"])
            if identity and (identity.start_ticks, identity.boot_id) == (handle["start_ticks"], handle["boot_id"]):
                found.append(identity)
        return found

    def _agents(self, story: Story) -> list[ProcessIdentity]:
        return [child for supervisor in self._supervisors(story) for child in _children(supervisor)]

    def _everything(self, story: Story) -> list[ProcessIdentity]:
        supervisors = self._supervisors(story)
        return [*self._clis(story), *supervisors, *descendants(*(s.pid for s in supervisors))]

    def _handles(self, story: Story) -> Iterator[Json]:
        for path in self.paths.run.glob("*/labels.json"):
            with suppress(OSError, ValueError):
                about = json.loads(path.read_text())
                if about["labels"].get("session") == story.session_id:
                    yield about["handle"]


def _children(parent: ProcessIdentity) -> list[ProcessIdentity]:
    """The agents of a supervisor: not the tools below them."""
    try:
        text = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
    except OSError:
        return []
    return [identity for pid in text.split() if (identity := ProcessIdentity.of(int(pid)))]


class Done:
    """A command that has ended, and what it told its script."""

    def __init__(self, args: tuple[str, ...], code: int, out: str, err: str) -> None:
        self.args_ = args
        self.code = code
        self.err = err
        self.lines: list[Json] = []
        for line in out.splitlines():
            with suppress(ValueError):  # a killed command may leave half a line
                self.lines.append(json.loads(line))

    @property
    def data(self) -> Json:
        return self.lines[-1]["data"] if self.lines and "agentctl" in self.lines[-1] else {}

    @property
    def result(self) -> Json | None:
        """The result line of a stream, or what the envelope of a send carries."""
        last = self.lines[-1] if self.lines else {}
        last = last.get("data") or {} if "agentctl" in last else last
        return last if last.get("type") == "result" and last.get("outcome") else None

    @property
    def outcome(self) -> str | None:
        return self.result["outcome"] if self.result else None

    @property
    def text(self) -> str | None:
        return self.result["text"] if self.result else None

    def acknowledges(self, turn: PlannedTurn) -> bool:
        """Whether the script may believe that its message is kept: the turn's result, or the turn's id."""
        if turn.how in ("no-wait", "queue"):
            return self.code == 0 and self.data.get("turn_id") == turn.turn_id
        return self.result is not None and self.result["turn_id"] == turn.turn_id and bool(self.result["outcome"])

    def __repr__(self) -> str:
        return f"{' '.join(self.args_)}: exit {self.code}; {json.dumps(self.lines[-1:])[:1500]}; {self.err[-1500:]}"
