"""Whether what is written of a session is whole, true, and the same in the log and in the store."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from agentctl.ops.app import App
from agentctl.supervisor.log.session_log import LogReader
from tests.recovery.chaos import Story

Json = dict[str, Any]


@dataclass(slots=True)
class Told:
    """What the log says of one turn."""

    started: int = 0
    queued: int = 0
    messages: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)


def untruths(app: App, story: Story) -> list[str]:
    """Everything that is wrong with the session's log and its mirror, in words; ``[]`` when all is well."""
    directory = app.paths.volumes / "default" / "agents" / story.session_id / "log"
    lines = _lines(LogReader(directory))
    events = [json.loads(line) for _, line in lines]
    told = _told(events)
    return [
        *story.oddities,
        *_bad_numbers(events),
        *_bad_turns(told, story),
        *_bad_acknowledgements(told, story),
        *_bad_effects(told, story),
        *_bad_conversation(events),
        *_bad_mirror(app, story, lines, told),
    ]


def _lines(log: LogReader) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while page := log.read(found[-1][0] if found else 0):
        found += [(record.sequence, record.line) for record in page]
    return found


def _told(events: list[Json]) -> dict[str, Told]:
    told: dict[str, Told] = defaultdict(Told)
    for event in events:
        data = event["data"]
        match event["type"]:
            case "turn.queued":
                told[data["turn_id"]].queued += 1
            case "turn.started":
                told[data["turn_id"]].started += 1
            case "turn.ended":
                told[data["turn_id"]].outcomes.append(data["metadata"]["outcome"])
            case "item.completed" if data["item"]["role"] == "user" and not data.get("replayed"):
                told[event["turn_id"]].messages.append(data["item"]["content"][0]["text"])
    return dict(told)


def _bad_numbers(events: list[Json]) -> list[str]:
    """Every number once, in order; a gap only where it is said."""
    bad, expected = [], 1
    for event in events:
        number = event["sequence"]
        said_gap = event["type"] == "log.gap" and event["data"] == {"from": expected, "to": number - 1}
        if number != expected and not said_gap:
            bad.append(f"event {number} follows {expected - 1}")
        expected = number + 1
    return bad


def _bad_turns(told: dict[str, Told], story: Story) -> list[str]:
    """Each turn of the log is one of the script's; it began once, ended once, and has its message once."""
    planned = {turn.turn_id: turn.message(story.effects) for turn in story.plan}
    bad = [f"nobody sent {turn_id}" for turn_id in told.keys() - planned.keys()]
    for turn_id in told.keys() & planned.keys():
        turn = told[turn_id]
        if turn.started != 1 or turn.queued > 1 or len(turn.outcomes) != 1:
            bad.append(f"{turn_id} was queued {turn.queued} times, began {turn.started} times, ended {turn.outcomes}")
        if turn.messages != [planned[turn_id]]:
            bad.append(f"{turn_id} has the messages {turn.messages}")
    return bad


def _bad_acknowledgements(told: dict[str, Told], story: Story) -> list[str]:
    """What a script was told is what the log tells for ever."""
    bad = []
    for said in story.acknowledged:
        turn = told.get(said.turn_id)
        if turn is None:
            bad.append(f"{said.turn_id} was acknowledged, and the log does not know it")
        elif said.outcome is not None and turn.outcomes != [said.outcome]:
            bad.append(f"{said.turn_id}: the script was told {said.outcome}, the log says {turn.outcomes}")
        elif said.outcome == "completed" and said.turn_id not in (said.text or ""):
            bad.append(f"{said.turn_id} is completed with the text {said.text!r}")
    return bad


def _bad_effects(told: dict[str, Told], story: Story) -> list[str]:
    """No turn ran twice, none that is called completed did not run, and none ran that the log does not know."""
    ran = story.ran()
    bad = [f"{turn_id} ran {times} times" for turn_id, times in ran.items() if times > 1]
    bad += [f"{turn_id} ran, and the log does not know it" for turn_id in ran.keys() - told.keys()]
    for turn_id, turn in told.items():
        if turn.outcomes == ["completed"] and ran[turn_id] != 1:
            bad.append(f"{turn_id} is completed and ran {ran[turn_id]} times")
    return bad


def _bad_conversation(events: list[Json]) -> list[str]:
    """One conversation from its first turn to its last."""
    natives = Counter(event["native_session_id"] for event in events if event["native_session_id"])
    lost = [event["sequence"] for event in events if event["type"] == "session.context_lost"]
    return [f"native sessions: {dict(natives)}"] * (len(natives) > 1) + [f"context lost at {n}" for n in lost]


def _bad_mirror(app: App, story: Story, lines: list[tuple[int, bytes]], told: dict[str, Told]) -> list[str]:
    """The store has the log's lines, byte for byte, and rows of its turns that say the same."""
    bad = []
    mirrored = [(sequence, bytes(line)) for sequence, line in app.store.events(story.session_id)]
    if mirrored != lines:
        different = [a[0] for a, b in zip(mirrored, lines, strict=False) if a != b][:3]
        bad.append(f"the mirror has {len(mirrored)} events, the log {len(lines)}; they differ first at {different}")
    rows = {turn.id: turn for turn in app.store.turns(story.session_id)}
    for turn_id, turn in told.items():
        row = rows.get(turn_id)
        if row is None or row.status != "ended" or [row.outcome] != turn.outcomes:
            bad.append(f"the row of {turn_id} is {row}, the log says {turn.outcomes}")
    if missing := rows.keys() - told.keys():
        bad.append(f"rows of turns that are not in the log: {sorted(missing)}")
    last = app.store.session(story.session_id).last_sequence
    if lines and last != lines[-1][0]:
        bad.append(f"the session's last_sequence is {last}, the log ends with {lines[-1][0]}")
    return bad
