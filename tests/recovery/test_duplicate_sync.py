"""Whoever mirrors a log into the store, and however often: the store is the same as if one had done it once."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentctl.events import Event
from agentctl.model import Session, SessionSpec
from agentctl.ops import mirror
from agentctl.ops.app import App
from agentctl.paths import StatePaths

TOLD = ("status", "native_session_id", "last_sequence", "last_turn_id", "last_outcome", "usage", "cost", "title")


def event(sequence: int, kind: str, turn_id: str | None, data: dict[str, object]) -> Event:
    body = {
        "sequence": sequence,
        "event_id": f"evt_{sequence}",
        "time": f"2026-11-21T09:00:{sequence % 60:02d}.000Z",
        "session_id": "ses_1",
        "native_session_id": "native-1",
        "turn_id": turn_id,
        "source": "agent",
        "synthetic": False,
        "type": kind,
        "data": data,
    }
    return Event(sequence, body, json.dumps(body, separators=(",", ":")).encode())


@pytest.fixture(scope="module")
def log() -> list[Event]:
    """Three turns: one with a request that was answered, one that was in line, one cut off with a request open."""
    told: list[tuple[str, str | None, dict[str, object]]] = [("session.started", None, {"metadata": {}})]
    for number, outcome in enumerate(("completed", "denied", "interrupted"), 1):
        turn = f"trn_{number}"
        request = {"permission_id": f"req_{number}", "action": "x", "metadata": {}}
        if number == 2:
            told.append(("turn.queued", None, {"turn_id": turn, "message": {"message": "hello"}}))
        told.append(("turn.started", turn, {"turn_id": turn, "metadata": {}}))
        told += [("item.delta", turn, {"item_id": "itm_1", "delta": "x"})] * 3
        told.append(("permission.requested", turn, {**request, "status": "requested"}))
        if outcome != "interrupted":
            told.append(("permission.resolved", turn, {**request, "status": "accept", "metadata": {"by": "user"}}))
        end = {"outcome": outcome, "stop_reason": "end_turn", "usage": {"totalTokens": number}, "denied": []}
        told.append(("turn.ended", turn, {"turn_id": turn, "metadata": end}))
    told.append(("sandbox.hibernated", None, {}))
    return [event(number, kind, turn, data) for number, (kind, turn, data) in enumerate(told, 1)]


def mirrored(batches: list[list[Event]]) -> dict[str, object]:
    """All that a new store knows of the session after these batches."""
    directory = Path(tempfile.mkdtemp())
    try:
        with App(StatePaths(directory), {}) as app:
            spec = SessionSpec(agent="mock", cwd="/")
            app.store.add_session(
                Session(id="ses_1", name="work", spec=spec, status="new", created_at=1.0, updated_at=1.0)
            )
            for batch in batches:
                mirror.apply(app, "ses_1", batch)
            session = app.store.session("ses_1")
            return {
                "session": {name: getattr(session, name) for name in TOLD},
                "events": [(sequence, bytes(line)) for sequence, line in app.store.events("ses_1")],
                "turns": app.store.turns("ses_1"),
                "requests": app.store.requests("ses_1", pending=False),
            }
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def once(log: list[Event]) -> dict[str, object]:
    return mirrored([log])


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 25)), max_size=12))
def test_overlapping_batches_of_any_size_make_the_same_store_as_one_pass(
    log: list[Event], once: dict[str, object], steps: list[tuple[int, int]]
) -> None:
    """Each batch begins where somebody stood who may be behind, and never beyond what is mirrored."""
    batches, reached = [], 0
    for behind, size in steps:
        start = max(reached - behind, 0)
        batches.append(log[start : start + size])
        reached = max(reached, min(start + size, len(log)))
    assert mirrored([*batches, log[reached:]]) == once
    assert once["events"] == [(e.sequence, e.line) for e in log]


def test_the_whole_log_again_changes_nothing(log: list[Event], once: dict[str, object]) -> None:
    assert mirrored([log, log, log[:4], log[5:9], log]) == once
