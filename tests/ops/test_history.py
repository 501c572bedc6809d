"""Long histories: a page costs what it costs, and what retention dropped is told, never passed over."""

from __future__ import annotations

import sqlite3
import time

import pytest

from agentctl.errors import SequenceExpired
from agentctl.events import Draft
from agentctl.model import Session, SessionSpec, Turn
from agentctl.ops import mirror, sessions, turns
from agentctl.supervisor.log.pages import list_segments
from agentctl.supervisor.log.session_log import SessionLog

SEGMENT_BYTES = 4096


@pytest.fixture
async def logged(app):
    """A session whose log has several segments, and the log's directory; nothing of it is mirrored yet."""
    provider = app.provider("unix_local")
    volume = await provider.volume_create("default")
    app.store.add_volume(volume)
    now = time.time()
    session = Session(
        id="ses_history00000",
        name="long",
        spec=SessionSpec(agent="mock"),
        status="hibernated",
        created_at=now,
        updated_at=now,
    )
    app.store.add_session(session)
    directory = provider.volume_path(volume, mirror.log_path(session.id))
    log = SessionLog(directory, session.id, segment_bytes=SEGMENT_BYTES)
    for number in range(50):
        log.append([Draft("item.delta", {"item_id": "itm_1", "delta": f"{number}"})], turn_id="trn_1")
    log.close()
    return session, directory


async def numbers(app, **how):
    return [event.sequence async for page in turns.events(app, "long", **how) for event in page]


def drop(directory, index):
    """As retention would; returns the numbers that are gone."""
    segments = list_segments(directory)
    segments[index].path.unlink()
    return range(segments[index].first, segments[index + 1].first)


async def test_what_retention_dropped_is_served_from_the_mirror(app, logged):
    _, directory = logged
    assert await numbers(app) == list(range(1, 51))
    drop(directory, 0)
    assert await numbers(app) == list(range(1, 51))
    assert await numbers(app, offset=2, limit=3) == [3, 4, 5]


async def test_what_was_dropped_before_it_was_mirrored_is_told_with_where_to_go_on(app, logged):
    _, directory = logged
    gone = drop(directory, 0)
    with pytest.raises(SequenceExpired) as caught:
        await numbers(app)
    assert f"Events 1 to {gone[-1]} are" in caught.value.message
    assert f"--offset {gone[-1]}" in caught.value.hint
    assert await numbers(app, offset=gone[-1]) == list(range(gone[-1] + 1, 51))


async def test_a_hole_amid_the_history_is_told_after_what_comes_before_it(app, logged):
    session, directory = logged
    first = list_segments(directory)[1].first - 1
    app.store.add_events(session.id, [(n, b'{"sequence":%d,"type":"item.delta","data":{}}' % n) for n in range(1, 3)])
    drop(directory, 0)
    pages = turns.events(app, "long")
    assert [event.sequence for event in await anext(pages)] == [1, 2]
    with pytest.raises(SequenceExpired, match=f"Events 3 to {first} are"):
        await anext(pages)


async def test_a_hole_does_not_keep_the_session_from_being_listed_and_read_on(app, logged):
    session, directory = logged
    drop(directory, 0)
    app.store.update_session(session.id, sandbox_id="sbx_gone")
    assert [s.name for s in await sessions.listing(app)] == ["long"]
    assert (await mirror.from_volume(app, app.store.session(session.id))).last_sequence == 50


async def test_numbers_that_a_supervisor_skipped_are_no_hole(app, logged):
    session, directory = logged
    log = SessionLog(directory, session.id, min_sequence=60)
    log.append([Draft("item.delta", {"item_id": "itm_1", "delta": "on"})], turn_id=None)
    log.close()
    assert await numbers(app) == [*range(1, 51), 61, 62]
    assert await numbers(app, offset=55) == [61, 62]
    app.store.add_events(session.id, [(70, b'{"sequence":70,"type":"item.delta","data":{}}')])
    with pytest.raises(SequenceExpired):
        await numbers(app)


async def test_turns_and_requests_of_one_session_are_found_by_an_index(app, logged):
    session, _ = logged
    app.store.put_turn(Turn(id="trn_1", session_id=session.id, status="ended", created_at=1.0))
    db = sqlite3.connect(app.paths.database)
    questions = [
        "SELECT * FROM turns WHERE session_id = 's' AND id = 't'",
        "SELECT * FROM turns WHERE session_id = 's' AND status <> 'ended'",
        "SELECT * FROM requests WHERE session_id = 's' AND status = 'pending'",
        "SELECT * FROM requests WHERE status = 'pending'",
        "SELECT * FROM events WHERE session_id = 's' AND sequence > 5 ORDER BY sequence LIMIT 5",
        "SELECT * FROM sessions ORDER BY updated_at DESC LIMIT 5",
    ]
    for question in questions:
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {question}"))
        assert "INDEX" in plan, (question, plan)
        assert "SCAN" not in plan.replace("SCAN sessions USING INDEX", ""), (question, plan)
    db.close()
