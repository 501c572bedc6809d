"""The promises of ``store/base.py``, kept by every store there is."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentctl import ids
from agentctl.errors import (
    AlreadyExists,
    LeaseLost,
    SandboxNotFound,
    SessionBusy,
    SessionExists,
    SessionNotFound,
    UsageError,
)
from agentctl.model import Request, Sandbox, Session, SessionSpec, Turn, UserAgent, Volume
from agentctl.paths import StatePaths
from agentctl.store.leases import holder_of, this_holder
from agentctl.store.lookup import open_store
from agentctl.supervisor.processes import ProcessIdentity


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request):
    """None for the state directory's own database, else the URL of a new one on a real server."""
    return request.getfixturevalue("postgres").database() if request.param == "postgres" else None


@pytest.fixture
def open_one(tmp_path, database_url):
    return lambda: open_store(StatePaths(tmp_path / "state"), database_url)


@pytest.fixture
def store(open_one):
    with open_one() as store:
        yield store


@pytest.fixture
def start_worker(tmp_path, database_url):
    """Run Python code in a process of its own, with ``store`` and ``arg`` at hand; ended with the test."""
    started = []
    prelude = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from agentctl.paths import StatePaths
        from agentctl.store.lookup import open_store
        store = open_store(StatePaths(Path(sys.argv[1])), sys.argv[2] or None)
        arg = sys.argv[3]
    """)

    def start(code, arg=""):
        argv = [sys.executable, "-c", prelude + textwrap.dedent(code), str(tmp_path / "state"), database_url or "", arg]
        process = subprocess.Popen(
            argv, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def a_session(name="one", *, at=1000.0, **fields):
    spec = fields.pop("spec", SessionSpec(agent="mock"))
    values = {"id": ids.new_id("ses"), "status": "new", "created_at": at, "updated_at": at, **fields}
    return Session(name=name, spec=spec, **values)


def a_request(session_id, request_id="perm_1", *, status="pending", at=1.0):
    return Request(
        id=request_id,
        session_id=session_id,
        turn_id="trn_1",
        kind="permission",
        status=status,
        sequence=4,
        created_at=at,
        data={"action": "rm -rf build"},
    )


def a_sandbox(sandbox_id, session_id, *, fencing=0):
    return Sandbox(
        id=sandbox_id, session_id=session_id, provider="p", handle={}, labels={}, created_at=1.0, fencing=fencing
    )


# sessions


def test_it_tells_the_time_and_what_is_damaged_in_it(store):
    assert abs(store.now() - time.time()) < 5
    assert store.faults() == []


def test_a_session_comes_back_as_it_was_stored(store):
    spec = SessionSpec(
        agent="claude",
        agent_command=("npx", "-y", "x"),
        labels={"a.b": '"quoted"'},
        env_files=(".env",),
        mcp_servers=({"name": "m", "headers": [{"name": "x", "value": "y"}]},),
        timeout_s=1.5,
    )
    session = a_session(
        spec=spec, title="Ünïcode ✓", usage={"input": 2**70}, cost={"amount": 0.1, "currency": "USD"}, ephemeral=True
    )
    store.add_session(session)
    assert store.session("one") == session
    assert store.session("one").spec.hash() == spec.hash()


def test_a_title_with_half_a_surrogate_pair_is_kept_readable(store):
    store.add_session(a_session(title="broken \ud83d emoji"))
    assert store.session("one").title == "broken ? emoji"


def test_a_nul_in_a_title_is_kept_readable_and_any_other_is_kept(store):
    spec = SessionSpec(agent="mock", env={"ODD": "a\0b"}, labels={"n": "1"})
    session = a_session(title="a\0b", spec=spec)
    store.add_session(session)
    assert store.session("one").title == "a\ufffdb"
    assert [s.spec for s in store.sessions(labels={"n": "1"})] == [spec]
    with pytest.raises(SessionNotFound):
        store.session("a\0b")


def test_a_taken_name_is_refused_and_nothing_is_written(store):
    first = a_session()
    store.add_session(first)
    with pytest.raises(SessionExists):
        store.add_session(a_session(title="second"))
    assert store.sessions() == [first]


def test_a_session_is_found_by_name_id_and_unique_prefix(store):
    session = a_session("demo", id="ses_4k2m9x0qw7ab")
    store.add_session(session)
    for ref in ("demo", "ses_4k2m9x0qw7ab", "ses_4k2", "4k2", "4k2m9x0qw7ab"):
        assert store.session(ref) == session


def test_an_ambiguous_prefix_names_its_candidates(store):
    store.add_session(a_session("a", id="ses_4k2aaaaaaaaa"))
    store.add_session(a_session("b", id="ses_4k2bbbbbbbbb"))
    with pytest.raises(UsageError) as caught:
        store.session("4k2")
    assert "ses_4k2aaaaaaaaa (a)" in caught.value.message
    assert [c["name"] for c in caught.value.details["candidates"]] == ["a", "b"]
    assert store.session("4k2b").name == "b"


@pytest.mark.parametrize("ref", ["4k", "ses_4k", "ses_", "", "%", "4k_", "4K2"])
def test_what_is_too_short_or_odd_for_a_prefix_is_not_found(store, ref):
    store.add_session(a_session("demo", id="ses_4k2m9x0qw7ab"))
    with pytest.raises(SessionNotFound):
        store.session(ref)


def test_a_name_wins_over_the_id_that_it_looks_like(store):
    store.add_session(a_session("other", id="ses_4k2m9x0qw7ab"))
    store.add_session(a_session("4k2m9x", id="ses_zzzzzzzzzzzz"))
    assert store.session("4k2m9x").id == "ses_zzzzzzzzzzzz"


def test_an_unknown_session_is_answered_with_near_names(store):
    store.add_session(a_session("frontend"))
    with pytest.raises(SessionNotFound) as caught:
        store.session("fronted")
    assert "'frontend'" in caught.value.hint


def test_last_is_the_session_used_or_created_last_and_never_an_ephemeral_one(store):
    store.add_session(a_session("thrown-away", at=9.0, ephemeral=True))
    with pytest.raises(SessionNotFound, match="There is no session yet"):
        store.session("@last")
    old, new = a_session("old", at=1.0), a_session("new", at=2.0)
    store.add_session(new)
    store.add_session(old)
    assert store.session("@last").name == "new"
    store.add_events(old.id, [(1, b"{}")])  # what went on by itself, or was only looked at, is no use
    store.update_session(old.id, status="hibernated")
    assert store.session("@last").name == "new"
    store.update_session(old.id, used_at=3.0)
    assert store.session("@last").name == "old"
    store.add_session(a_session("newest", at=4.0))
    assert store.session("@last").name == "newest"
    store.delete_session(store.session("@last").id)
    assert store.session("@last").name == "old"


def test_sessions_are_listed_newest_activity_first_and_no_more_than_asked(store):
    for number in range(5):
        store.add_session(a_session(f"s{number}", at=float(number)))
    assert [s.name for s in store.sessions(limit=3)] == ["s4", "s3", "s2"]
    assert len(store.sessions(limit=None)) == 5
    assert store.sessions(limit=0) == []


def test_sessions_are_filtered_by_labels_and_status_before_the_limit(store):
    labels = {"team.x": 'a "b"', "n": "1"}
    store.add_session(a_session("yes", at=1.0, spec=SessionSpec(agent="mock", labels=labels)))
    store.add_session(a_session("no", at=2.0, spec=SessionSpec(agent="mock", labels={"n": "2"}), status="busy"))
    assert [s.name for s in store.sessions(limit=1, labels={"team.x": 'a "b"', "n": "1"})] == ["yes"]
    assert [s.name for s in store.sessions(statuses=("busy", "idle"))] == ["no"]
    assert store.sessions(labels={"n": "1"}, statuses=("busy",)) == []
    assert store.sessions(labels={"missing": "1"}) == []


def test_updating_sets_the_fields_and_the_time(store):
    session = a_session()
    store.add_session(session)
    spec = replace(session.spec, model="opus")
    updated = store.update_session(session.id, spec=spec, status="idle", usage={"total": 3}, ephemeral=True)
    assert updated == store.session(session.id)
    assert (updated.spec.model, updated.status, updated.usage, updated.ephemeral) == (
        "opus",
        "idle",
        {"total": 3},
        True,
    )
    assert updated.updated_at == pytest.approx(time.time(), abs=5)


def test_renaming_to_a_taken_name_is_refused(store):
    store.add_session(a_session("one"))
    two = a_session("two")
    store.add_session(two)
    with pytest.raises(SessionExists):
        store.update_session(two.id, name="one", title="x")
    assert store.session("two") == two


def test_updating_a_missing_session_or_an_unknown_field_is_an_error(store):
    session = a_session()
    store.add_session(session)
    with pytest.raises(SessionNotFound):
        store.update_session("ses_zzzzzzzzzzzz", status="idle")
    for field in ("id", "colour", "status = 'dead' --"):
        with pytest.raises(TypeError):
            store.update_session(session.id, **{field: "x"})
    assert store.session(session.id) == session


def test_deleting_a_session_deletes_what_belongs_to_it_and_nothing_else(store):
    mine, other = a_session("mine"), a_session("other")
    for session in (mine, other):
        store.add_session(session)
        store.add_events(session.id, [(1, b"{}")])
        store.put_turn(Turn(id="trn_1", session_id=session.id, status="running", created_at=1.0))
        store.put_request(a_request(session.id))
        store.acquire_lease(session.id, holder="h:b:1:1", ttl_s=60)
    store.delete_session(mine.id)
    store.delete_session(mine.id)
    assert (store.events(mine.id), store.turns(mine.id), store.requests(mine.id)) == ([], [], [])
    assert len(store.events(other.id)) == len(store.turns(other.id)) == len(store.requests()) == 1
    assert [s.name for s in store.sessions()] == ["other"]


def test_nothing_comes_back_after_a_session_was_deleted(store):
    gone = "ses_zzzzzzzzzzzz"
    late_writes = [
        lambda: store.add_events(gone, [(1, b"{}")]),
        lambda: store.put_turn(Turn(id="trn_1", session_id=gone, status="ended", created_at=1.0)),
        lambda: store.put_request(a_request(gone)),
        lambda: store.acquire_lease(gone, holder="h:b:1:1", ttl_s=60),
    ]
    for write in late_writes:
        with pytest.raises(SessionNotFound):
            write()
    assert (store.events(gone), store.turns(gone), store.requests()) == ([], [], [])


# sandboxes, turns, requests, volumes, meta


def test_a_session_has_at_most_one_sandbox(store):
    first = Sandbox(id="sbx_1", session_id="ses_1", provider="p", handle={"pid": 1}, labels={"a": "b"}, created_at=1.0)
    loose = replace(first, id="sbx_9", session_id=None)
    other_loose = replace(first, id="sbx_8", session_id=None)
    for sandbox in (first, loose, other_loose, replace(first, id="sbx_2", fencing=2)):
        store.put_sandbox(sandbox)
    assert store.sandbox("sbx_1") is None
    assert {s.id for s in store.sandboxes()} == {"sbx_2", "sbx_8", "sbx_9"}
    store.put_sandbox(replace(first, id="sbx_2", handle={"pid": 7}))
    assert store.sandbox("sbx_2").handle == {"pid": 7}
    store.delete_sandbox("sbx_2")
    store.delete_sandbox("sbx_2")
    assert store.sandbox("sbx_2") is None


def own_sandbox(name="build", sandbox_id="sbx_aaaa1", **fields):
    fields = {"provider": "p", "handle": {}, "labels": {"a": "b"}, "created_at": 1.0, **fields}
    spec = SessionSpec(agent="", env={"A": "1"})
    return Sandbox(id=sandbox_id, session_id=None, name=name, spec=spec, status="creating", ttl_s=60.0, **fields)


CREATED = ("sandbox.created", {"x": "é"})


def told(store, sandbox_id="sbx_aaaa1", **which):
    return [(number, json.loads(line)["type"]) for number, line in store.sandbox_events(sandbox_id, **which)]


def test_a_sandbox_of_its_own_is_found_by_name_id_and_prefix(store):
    sandbox = own_sandbox()
    store.add_sandbox(sandbox, CREATED)
    store.add_sandbox(own_sandbox("other", "sbx_aaab2"), CREATED)
    assert store.named_sandbox("build") == store.named_sandbox("sbx_aaaa1") == store.named_sandbox("aaaa") == sandbox
    with pytest.raises(UsageError, match="several sandboxes"):
        store.named_sandbox("aaa")
    with pytest.raises(SandboxNotFound) as raised:
        store.named_sandbox("biuld")
    assert raised.value.details["near"] == ["build"]
    store.put_sandbox(Sandbox(id="sbx_zzzz", session_id="ses_1", provider="p", handle={}, labels={}, created_at=1.0))
    with pytest.raises(SandboxNotFound):
        store.named_sandbox("sbx_zzzz")


def test_a_taken_name_of_a_sandbox_is_refused_and_nothing_is_told(store):
    store.add_sandbox(own_sandbox(), CREATED)
    with pytest.raises(AlreadyExists):
        store.add_sandbox(own_sandbox(sandbox_id="sbx_other"), CREATED)
    assert told(store, "sbx_other") == []
    assert len(store.sandboxes()) == 1


def test_a_sandbox_changes_only_as_it_was_seen_unless_its_lease_is_held(store):
    sandbox = own_sandbox()
    store.add_sandbox(sandbox, CREATED)
    lease = store.acquire_lease(sandbox.id, holder=this_holder(), ttl_s=60)
    changes = {"status": "running", "handle": {"pid": 7}, "fencing": lease.fencing}
    running = store.change_sandbox(sandbox, ("sandbox.started", {}), lease=lease, **changes)
    assert store.named_sandbox("build") == running
    assert store.change_sandbox(sandbox, ("sandbox.stopped", {}), status="stopped") == running
    stopped = store.change_sandbox(running, ("sandbox.stopped", {}), status="stopped")
    assert stopped.status == store.named_sandbox("build").status == "stopped"
    assert told(store) == [(1, "sandbox.created"), (2, "sandbox.started"), (3, "sandbox.stopped")]
    store.release_lease(lease)
    store.acquire_lease(sandbox.id, holder=this_holder(), ttl_s=60)
    with pytest.raises(LeaseLost):
        store.change_sandbox(stopped, ("sandbox.started", {}), lease=lease, status="running")
    assert len(told(store)) == 3


def test_a_removed_sandbox_is_gone_with_its_lease_and_its_events_stay_for_a_while(store, monkeypatch):
    sandbox = own_sandbox()
    store.add_sandbox(sandbox, CREATED)
    store.acquire_lease(sandbox.id, holder=this_holder(), ttl_s=60)
    for _ in range(2):
        store.remove_sandbox(sandbox, ("sandbox.deleted", {}))
    assert told(store) == [(1, "sandbox.created"), (2, "sandbox.deleted")]
    assert told(store, offset=1, limit=1) == [(2, "sandbox.deleted")]
    assert store.sandbox_of_events("build") == store.sandbox_of_events(sandbox.id) == sandbox.id
    for late in (
        lambda: store.change_sandbox(sandbox, status="running"),
        lambda: store.acquire_lease(sandbox.id, holder=this_holder(), ttl_s=60),
    ):
        with pytest.raises(SandboxNotFound):
            late()
    again = own_sandbox(sandbox_id="sbx_later")
    store.add_sandbox(again, CREATED)
    assert store.sandbox_of_events("build") == "sbx_later"
    monkeypatch.setattr("agentctl.store.sandboxes.KEPT_S", -1.0)
    store.remove_sandbox(again, ("sandbox.deleted", {}))
    assert store.sandbox_of_events("build") is None


def test_only_the_newest_events_of_a_sandbox_are_kept(store, monkeypatch):
    monkeypatch.setattr("agentctl.store.sandboxes.KEPT_EVENTS", 3)
    sandbox = own_sandbox()
    store.add_sandbox(sandbox, CREATED)
    for _ in range(4):
        sandbox = store.change_sandbox(sandbox, ("sandbox.stopped", {}))
    assert [number for number, _ in told(store)] == [3, 4, 5]


def test_turns_are_replaced_by_id_and_listed_oldest_first(store):
    session = a_session()
    store.add_session(session)
    first = Turn(id="b", session_id=session.id, status="running", created_at=1.0)
    second = Turn(id="a", session_id=session.id, status="queued", created_at=1.0)
    store.put_turn(first)
    store.put_turn(second)
    ended = replace(first, status="ended", outcome="completed", result={"text": "done", "usage": None}, ended_at=2.0)
    store.put_turn(ended)
    assert store.turns(session.id) == [ended, second]
    assert store.turn(session.id, "b") == ended
    assert store.turn(session.id, "c") is None


def test_requests_are_pending_until_resolved(store):
    one, two = a_session("one"), a_session("two")
    store.add_session(one)
    store.add_session(two)
    late, early = a_request(one.id, at=2.0), a_request(two.id, at=1.0)
    store.put_request(late)
    store.put_request(early)
    assert store.requests() == [early, late]
    assert store.requests(one.id) == [late]
    resolved = replace(late, status="resolved", resolution={"status": "reject", "by": "user"})
    store.put_request(resolved)
    assert store.requests() == [early]
    assert store.requests(one.id, pending=False) == [resolved]


def test_volumes_are_kept_by_provider_and_name(store):
    volume = Volume(name="default", provider="unix_local", handle={"path": "/x"}, created_at=1.0)
    assert store.add_volume(volume) == volume
    store.add_volume(replace(volume, provider="docker"))
    assert store.add_volume(replace(volume, handle={"path": "/y"})) == volume, "whoever is second gets the first one's"
    assert store.volume("unix_local", "default") == volume
    assert [v.provider for v in store.volumes()] == ["docker", "unix_local"]
    assert store.volumes(everywhere=True) == store.volumes()
    store.delete_volume("docker", "default")
    store.delete_volume("docker", "default")
    assert store.volume("docker", "default") is None


def test_the_first_writer_of_a_meta_value_wins(store, open_one):
    assert store.meta("origin", "org_1") == "org_1"
    with open_one() as again:
        assert again.meta("origin", "org_2") == "org_1"


# events


def test_mirroring_the_same_events_again_changes_nothing(store):
    session = a_session(at=1.0)
    store.add_session(session)
    assert store.add_events(session.id, [(1, b'{"a":1}'), (2, b"\xff\x00")]) == 2
    before = store.session(session.id)
    assert store.add_events(session.id, [(1, b"other"), (2, b"other")]) == 2
    assert store.events(session.id) == [(1, b'{"a":1}'), (2, b"\xff\x00")]
    assert store.session(session.id) == before
    assert store.add_events(session.id, []) == 2


def test_late_events_fill_a_gap_and_never_lower_the_sequence(store):
    session = a_session()
    store.add_session(session)
    assert store.add_events(session.id, [(5, b"5"), (6, b"6")]) == 6
    assert store.add_events(session.id, [(2, b"2")]) == 6
    assert store.events(session.id, offset=2, limit=1) == [(5, b"5")]
    assert [n for n, _ in store.events(session.id)] == [2, 5, 6]
    assert store.session(session.id).last_sequence == 6


def test_a_failing_source_of_events_leaves_nothing(store):
    session = a_session()
    store.add_session(session)

    def source():
        yield (1, b"{}")
        raise ConnectionError("cut")

    with pytest.raises(ConnectionError):
        store.add_events(session.id, source())
    assert store.events(session.id) == []
    assert store.add_events(session.id, [(1, b"{}")]) == 1


def test_a_line_of_many_megabytes_is_kept_whole(store):
    session = a_session()
    store.add_session(session)
    line = b"x" * (16 * 1024 * 1024)
    store.add_events(session.id, [(1, line)])
    assert store.events(session.id) == [(1, line)]


# leases


@pytest.fixture
def dead_holder():
    """The holder string of a process that lived a moment ago on this host."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = holder_of(ProcessIdentity.of(process.pid))
    process.communicate(b"\n")
    return holder


@pytest.fixture
def leased(store):
    session = a_session()
    store.add_session(session)
    return session.id


def test_a_lease_held_by_a_living_process_is_refused_by_name(store, leased):
    store.acquire_lease(leased, holder=this_holder(), ttl_s=60)
    with pytest.raises(SessionBusy) as caught:
        store.acquire_lease(leased, holder="elsewhere:b:1:1", ttl_s=60)
    assert caught.value.details["holder"] == this_holder()


def test_fencing_rises_with_every_acquisition(store, leased):
    me = this_holder()
    first = store.acquire_lease(leased, holder=me, ttl_s=60)
    again = store.acquire_lease(leased, holder=me, ttl_s=60)
    store.release_lease(again)
    other = store.acquire_lease(leased, holder="elsewhere:b:1:1", ttl_s=60)
    assert [first.fencing, again.fencing, other.fencing] == [1, 2, 3]
    assert other.expires_at == pytest.approx(time.time() + 60, abs=5)


def test_the_lease_of_a_dead_process_is_taken_at_once(store, leased, dead_holder):
    store.acquire_lease(leased, holder=dead_holder, ttl_s=3600)
    assert store.acquire_lease(leased, holder=this_holder(), ttl_s=60).fencing == 2


@pytest.mark.parametrize("change", ["host", "twin", "garbage"])
def test_of_a_process_elsewhere_nothing_is_assumed(store, leased, dead_holder, change):
    host, boot_id, pid, ticks = dead_holder.rsplit(":", 3)
    holder = {"host": f"other:{boot_id}:{pid}:{ticks}", "twin": f"{host}x:other:{pid}:{ticks}", "garbage": "x"}[change]
    store.acquire_lease(leased, holder=holder, ttl_s=3600)
    with pytest.raises(SessionBusy):
        store.acquire_lease(leased, holder=this_holder(), ttl_s=60)


def test_an_expired_lease_is_free(store, leased):
    store.acquire_lease(leased, holder="elsewhere:b:1:1", ttl_s=-1)
    assert store.acquire_lease(leased, holder=this_holder(), ttl_s=60).fencing == 2


def test_releasing_a_lease_that_another_took_over_leaves_it_alone(store, leased):
    old = store.acquire_lease(leased, holder="elsewhere:b:1:1", ttl_s=-1)
    store.acquire_lease(leased, holder=this_holder(), ttl_s=60)
    store.release_lease(old)
    with pytest.raises(SessionBusy):
        store.acquire_lease(leased, holder="third:b:1:1", ttl_s=60)


def test_a_renewed_lease_lasts_longer_under_the_same_number(store, leased):
    lease = store.acquire_lease(leased, holder="elsewhere:b:1:1", ttl_s=0.05)
    renewed = store.renew_lease(lease, ttl_s=60)
    assert (renewed.fencing, renewed.holder) == (lease.fencing, lease.holder)
    time.sleep(0.06)
    with pytest.raises(SessionBusy):
        store.acquire_lease(leased, holder=this_holder(), ttl_s=60)


@pytest.mark.parametrize("how", ["taken over", "let go"])
def test_a_lease_that_is_lost_cannot_be_renewed(store, leased, how):
    old = store.acquire_lease(leased, holder="elsewhere:b:1:1", ttl_s=-1)
    if how == "taken over":
        store.acquire_lease(leased, holder=this_holder(), ttl_s=60)
    else:
        store.release_lease(old)
    with pytest.raises(LeaseLost):
        store.renew_lease(old, ttl_s=60)


def test_who_lost_the_lease_changes_neither_the_session_nor_its_sandbox(store, leased):
    old = store.acquire_lease(leased, holder="elsewhere:b:1:1", ttl_s=-1)
    new = store.acquire_lease(leased, holder=this_holder(), ttl_s=60)
    before = store.session(leased)
    with pytest.raises(LeaseLost):
        store.update_session(leased, lease=old, status="idle")
    with pytest.raises(LeaseLost):
        store.put_sandbox(a_sandbox("sbx_old", leased, fencing=old.fencing))
    assert (store.session(leased), store.sandbox("sbx_old")) == (before, None)
    store.put_sandbox(a_sandbox("sbx_new", leased, fencing=new.fencing))
    assert store.update_session(leased, lease=new, status="idle").status == "idle"


def test_open_turns_are_those_that_have_not_ended(store, leased):
    for number, status in enumerate(("ended", "running", "ended", "queued")):
        store.put_turn(Turn(id=f"trn_{number}", session_id=leased, status=status, created_at=float(number)))
    assert [turn.id for turn in store.turns(leased, open_only=True)] == ["trn_1", "trn_3"]
    assert len(store.turns(leased)) == 4


def test_sessions_in_line_are_those_with_a_queued_turn(store, leased):
    assert store.sessions_in_line() == set()
    for number, status in enumerate(("ended", "running", "queued", "queued")):
        store.put_turn(Turn(id=f"trn_{number}", session_id=leased, status=status, created_at=float(number)))
    assert store.sessions_in_line() == {leased}
    for number in (2, 3):
        store.put_turn(Turn(id=f"trn_{number}", session_id=leased, status="ended", created_at=float(number)))
    assert store.sessions_in_line() == set()


# agents that the user made


def test_a_users_agent_is_kept_changed_and_deleted(store):
    agent = UserAgent(
        name="reviewer",
        base="claude",
        settings={"model": "opus", "skills": [{"source": "x"}]},
        created_at=1.0,
        updated_at=1.0,
    )
    store.add_user_agent(agent)
    with pytest.raises(AlreadyExists):
        store.add_user_agent(replace(agent, base="other"))
    store.put_user_agent(replace(agent, name="another"))
    changed = replace(agent, settings={}, updated_at=2.0)
    store.put_user_agent(changed)
    assert store.user_agent("reviewer") == changed
    assert [a.name for a in store.user_agents()] == ["another", "reviewer"]
    for _ in range(2):
        store.delete_user_agent("reviewer")
    assert store.user_agent("reviewer") is None
    assert len(store.user_agents()) == 1


# several processes


def test_processes_that_open_a_new_database_together_all_succeed(start_worker, open_one):
    workers = [start_worker("print(store.meta('origin', arg))", str(n)) for n in range(4)]
    answers = {worker.communicate(timeout=60)[0].strip() for worker in workers}
    assert all(worker.returncode == 0 for worker in workers)
    assert len(answers) == 1


def test_six_processes_hammer_one_database_without_error_or_loss(store, start_worker):
    session = a_session()
    store.add_session(session)
    code = """
        base, session_id = int(arg.split()[0]) * 1000, arg.split()[1]
        for n in range(1, 101):
            count = (store.session(session_id).usage or {}).get("n", 0)
            store.update_session(session_id, usage={"n": count + 1})
            store.add_events(session_id, [(base + n, b"{}")])
            store.sessions()
    """
    workers = [start_worker(code, f"{n} {session.id}") for n in range(6)]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 6
    assert len(store.events(session.id)) == 600
    assert store.session(session.id).last_sequence == 5100


def test_processes_that_come_and_go_among_writers_meet_no_lock(store, start_worker):
    session = a_session()
    store.add_session(session)
    code = """
        base, session_id = int(arg.split()[0]) * 1000, arg.split()[1]
        for n in range(1, 21):
            store.close()
            store = open_store(StatePaths(Path(sys.argv[1])), sys.argv[2] or None)
            store.add_events(session_id, [(base + n, b"{}")])
            store.release_lease(store.acquire_lease(session_id, holder="h:b:1:1", ttl_s=60))
            store.session("@last")
    """
    workers = [start_worker(code, f"{n} {session.id}") for n in range(4)]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 4
    assert len(store.events(session.id)) == 80
    assert store.acquire_lease(session.id, holder="last:b:1:1", ttl_s=60).fencing == 81


def test_only_one_of_six_processes_gets_a_lease(store, leased, start_worker):
    code = """
        from agentctl.errors import SessionBusy
        from agentctl.store.leases import this_holder
        print("ready", flush=True); input()
        try:
            print(store.acquire_lease(arg, holder=this_holder(), ttl_s=60).fencing, flush=True)
        except SessionBusy:
            print("busy", flush=True)
        input()
    """
    workers = [start_worker(code, leased) for _ in range(6)]
    assert all(worker.stdout.readline() == "ready\n" for worker in workers)
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert sorted(worker.stdout.readline() for worker in workers) == ["1\n", *["busy\n"] * 5]


@pytest.mark.parametrize("batches", [1, 3, 10])
def test_a_writer_killed_at_any_time_leaves_whole_transactions(store, start_worker, batches):
    session = a_session()
    store.add_session(session)
    worker = start_worker(
        """
        first = 1
        while True:
            first = store.add_events(arg, [(first + n, b"{}" * 50) for n in range(1000)]) + 1
            print(first, flush=True)
        """,
        session.id,
    )
    told = [int(worker.stdout.readline()) for _ in range(batches)][-1] - 1
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    count = len(store.events(session.id))
    assert count % 1000 == 0
    assert count >= told
    assert store.session(session.id).last_sequence == count
    assert store.add_events(session.id, [(count + 1, b"{}")]) == count + 1
