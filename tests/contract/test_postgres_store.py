"""What only the Postgres store promises: a server that comes and goes, one clock for leases, no password anywhere."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psycopg
import pytest

from agentctl.errors import (
    SessionBusy,
    StateError,
    StateNotWritable,
    StateTooNew,
    StateUnavailable,
    UsageError,
)
from agentctl.model import Request, Sandbox, Session, SessionSpec, Turn, UserAgent, Volume
from agentctl.paths import StatePaths
from agentctl.store import postgres_connection
from agentctl.store.leases import this_holder
from agentctl.store.lookup import open_store
from agentctl.store.place import place_file
from agentctl.store.postgres import PostgresStore
from agentctl.store.postgres_migrations import LATEST
from agentctl.store.rows import TABLES, columns
from tests.contract.cut_proxy import CuttingProxy
from tests.contract.test_store import a_request, a_session

PLACE = "plc_here"


@pytest.fixture
def url(postgres):
    return postgres.database()


@pytest.fixture
def store(url):
    with PostgresStore(url, PLACE) as store:
        yield store


def name_of(url):
    return re.search(r"(t\d+)", url).group(1)


# the schema


@pytest.mark.parametrize("cls", [Session, Sandbox, Turn, Request, Volume, UserAgent])
def test_each_table_has_exactly_the_fields_of_its_dataclass(store, url, cls):
    with psycopg.connect(url) as db:
        sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'agentctl' AND table_name = %s"
        names = {name for (name,) in db.execute(sql, (TABLES[cls],))}
    assert names - {"rowid"} == set(columns(cls))


def test_the_users_own_tables_are_not_touched(url):
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE sessions (mine text)")
        db.execute("INSERT INTO sessions VALUES ('kept')")
        with PostgresStore(url) as store:
            store.add_session(a_session())
        assert db.execute("SELECT * FROM sessions").fetchall() == [("kept",)]


def test_two_that_migrate_at_once_wait_for_one_another(url):
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SELECT pg_advisory_lock(%s)", (0x61676374,))
        opened = []
        threads = [threading.Thread(target=lambda: opened.append(PostgresStore(url))) for _ in range(2)]
        for thread in threads:
            thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while db.execute(waiting).fetchone() != (2,):
            time.sleep(0.01)
        assert opened == []
        db.execute("SELECT pg_advisory_unlock(%s)", (0x61676374,))
        for thread in threads:
            thread.join(timeout=60)
        assert db.execute("SELECT version FROM agentctl.schema_version").fetchall() == [(LATEST,)]
    assert len(opened) == 2
    for store in opened:
        store.close()


def test_a_migration_that_fails_leaves_nothing(url):
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE SCHEMA agentctl")
        db.execute("CREATE TABLE agentctl.leases (in_the_way text)")
        with pytest.raises(StateError, match="leases"):
            PostgresStore(url)
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'agentctl'"
        assert db.execute(tables).fetchall() == [("leases",)]


def test_a_database_from_a_newer_version_is_left_untouched(url):
    PostgresStore(url).close()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("UPDATE agentctl.schema_version SET version = 99")
    with pytest.raises(StateTooNew, match="schema 99"):
        PostgresStore(url)


def test_users_can_read_the_overviews(store, url):
    spec = SessionSpec(agent="mock", env={"ODD": "a\0b"}, labels={"team": "x"})
    session = a_session(cost={"amount": 0.5, "currency": "USD"}, status="idle", spec=spec)
    store.add_session(session)
    store.put_request(a_request(session.id))
    turn = {"id": "trn_1", "session_id": session.id, "status": "ended", "created_at": 10.0, "ended_at": 12.5}
    store.put_turn(Turn(**turn, outcome="failed", result={"text": "Hi\0", "error": {"message": "no key"}}))
    with psycopg.connect(url) as db:
        sessions = "SELECT agent, created, turns, pending_requests, cost FROM agentctl.session_overview"
        turns = "SELECT session, duration_s, text, error FROM agentctl.turn_overview"
        assert db.execute(sessions).fetchall() == [("mock", "1970-01-01 00:16:40", 1, 1, 0.5)]
        assert db.execute(turns).fetchall() == [("one", 2.5, "Hi\ufffd", "no key")]
    assert store.sessions(labels={"team": "x"}) == [session]


def test_a_user_who_may_not_create_a_schema_is_told_so_and_may_use_one_that_is_there(postgres, url):
    name = name_of(url)
    postgres.sql(f"CREATE ROLE plain_{name} LOGIN")
    plain = url.replace("user=postgres", f"user=plain_{name}")
    with pytest.raises(StateNotWritable) as caught:
        PostgresStore(plain)
    assert "CREATE" in caught.value.hint
    postgres.sql(f"CREATE SCHEMA agentctl AUTHORIZATION plain_{name}", name)
    with PostgresStore(plain) as store:
        store.add_session(a_session())


# a server that comes and goes


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_a_restart_between_calls_is_not_noticed(postgres, store, how):
    session = a_session()
    store.add_session(session)
    postgres.restart(how)
    assert store.session("one") == session
    postgres.restart(how)
    assert store.add_events(session.id, [(1, b"{}")]) == 1
    assert store.events(session.id) == [(1, b"{}")]


def test_a_restart_amid_a_write_does_it_once_or_not_at_all(postgres, store, capfd):
    session = a_session()
    store.add_session(session)
    times = []

    def body(db):
        times.append(db.execute("INSERT INTO meta (key, value) VALUES ('k', 'v') RETURNING key").fetchone())
        if len(times) == 1:
            postgres.restart()
        db.execute("UPDATE sessions SET title = 'done' WHERE id = ?", (session.id,))

    store._database.write(body)
    assert len(times) == 2
    assert (store.meta("k", "other"), store.session("one").title) == ("v", "done")
    assert capfd.readouterr() == ("", "")


def test_a_server_that_starts_late_is_waited_for(postgres, store):
    store.add_session(a_session())
    postgres.stop()
    starting = threading.Timer(0.3, postgres.start)
    starting.start()
    assert [s.name for s in store.sessions()] == ["one"]
    starting.join()


def test_a_server_that_stays_away_is_said_and_what_was_written_is_whole(postgres, store, monkeypatch):
    monkeypatch.setattr(postgres_connection, "RECONNECT_S", 0.2)
    session = a_session()
    store.add_session(session)
    postgres.stop()
    try:
        for call in (store.sessions, lambda: store.update_session(session.id, title="x")):
            with pytest.raises(StateUnavailable) as caught:
                call()
            assert (caught.value.exit_code, caught.value.retryable) == (8, True)
            assert "Start the server" in caught.value.hint
    finally:
        postgres.start()
    assert store.session("one") == session


def test_an_answer_that_is_lost_after_the_commit_makes_no_second_write(postgres, url):
    with CuttingProxy(postgres.port) as proxy:
        through = postgres.tcp_url(name_of(url)).replace(str(postgres.port), str(proxy.port))
        with PostgresStore(through) as store:
            session = a_session()
            writes = [
                lambda: store.add_session(session),
                lambda: store.add_events(session.id, [(1, b"{}"), (2, b"{}")]),
                lambda: store.put_turn(Turn(id="trn_1", session_id=session.id, status="running", created_at=1.0)),
                lambda: store.acquire_lease(session.id, holder=this_holder(), ttl_s=60),
                lambda: store.delete_session(session.id),
            ]
            for write in writes[:-1]:
                proxy.cut_next_commit()
                write()
            assert [s.id for s in store.sessions()] == [session.id]
            assert store.events(session.id) == [(1, b"{}"), (2, b"{}")]
            assert len(store.turns(session.id)) == 1
            proxy.cut_next_commit()
            writes[-1]()
            assert store.sessions() == []
        assert proxy.cuts == len(writes)


def test_nobody_there_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(StateUnavailable, match="does not answer") as caught:
        PostgresStore(f"postgresql://u:hunter2@127.0.0.1:{port}/x")
    assert time.monotonic() - started < 20
    assert "hunter2" not in str(caught.value.to_json())


@pytest.mark.slow
def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(StateUnavailable):
            PostgresStore(f"postgresql://u@127.0.0.1:{port}/x?connect_timeout=2")
        assert time.monotonic() - started < 30


# rivals


def test_a_lock_held_for_too_long_is_busy_and_other_sessions_are_not_held_up(url, monkeypatch):
    monkeypatch.setattr(postgres_connection, "RECONNECT_S", 0.2)
    monkeypatch.setattr(
        postgres_connection,
        "_SETTINGS",
        postgres_connection._SETTINGS.replace(b"lock_timeout TO '10s'", b"lock_timeout TO '100ms'"),
    )
    with PostgresStore(url) as store, psycopg.connect(url) as rival:
        session, other = a_session("held"), a_session("free")
        store.add_session(session)
        store.add_session(other)
        rival.execute("SELECT 1 FROM agentctl.sessions WHERE id = %s FOR UPDATE", (session.id,))
        with pytest.raises(SessionBusy, match="locked") as caught:
            store.update_session(session.id, status="idle")
        assert caught.value.retryable
        assert store.session("held") == session, "readers are not held up"
        assert store.update_session(other.id, status="idle").status == "idle"
        rival.rollback()
        assert store.update_session(session.id, status="idle").status == "idle"


def test_a_deadlock_is_done_again(url):
    with PostgresStore(url) as store, psycopg.connect(url) as rival:
        one, two = a_session("one"), a_session("two")
        store.add_session(one)
        store.add_session(two)
        rival.execute("UPDATE agentctl.sessions SET title = 'rival' WHERE id = %s", (two.id,))
        runs = []

        def body(db):
            runs.append(1)
            db.execute("UPDATE sessions SET title = 'mine' WHERE id = ?", (one.id,))
            db.execute("UPDATE sessions SET title = 'mine' WHERE id = ?", (two.id,))

        done = threading.Thread(target=lambda: store._database.write(body))
        done.start()
        with psycopg.connect(url, autocommit=True) as look:
            while look.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
                time.sleep(0.01)
        try:
            rival.execute("UPDATE agentctl.sessions SET title = 'rival' WHERE id = %s", (one.id,))
            rival.commit()
        except psycopg.errors.DeadlockDetected:
            rival.rollback()
        done.join(timeout=60)
        assert [store.session(n).title for n in ("one", "two")] == ["mine", "mine"]
        assert len(runs) in (1, 2)


# leases


def test_a_lease_runs_by_the_servers_clock_whatever_the_machines_say(store, monkeypatch):
    session = a_session()
    store.add_session(session)
    store.acquire_lease(session.id, holder="elsewhere:b:1:1", ttl_s=60)
    now = time.time()
    for skew_s in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda skew_s=skew_s: now + skew_s)
        with pytest.raises(SessionBusy) as caught:
            store.acquire_lease(session.id, holder=this_holder(), ttl_s=60)
        assert 0 < caught.value.details["expires_in_s"] <= 60


def test_two_machines_hand_a_lease_to_and_fro_and_its_number_rises(url):
    with PostgresStore(url, "plc_a") as a, PostgresStore(url, "plc_b") as b:
        session = a_session()
        a.add_session(session)
        numbers = []
        for store, holder in [(a, "a:boot:1:1"), (b, "b:boot:1:1")] * 3:
            lease = store.acquire_lease(session.id, holder=holder, ttl_s=60)
            other = b if store is a else a
            with pytest.raises(SessionBusy):
                other.acquire_lease(session.id, holder="third:boot:1:1", ttl_s=60)
            store.release_lease(lease)
            numbers.append(lease.fencing)
        assert numbers == [1, 2, 3, 4, 5, 6]


# places


def test_each_machine_has_its_own_volumes(url):
    volume = Volume(name="default", provider="unix_local", handle={"path": "/a"}, created_at=1.0, place="plc_a")
    cloud = Volume(name="cloud", provider="modal", handle={"id": "vo-1"}, created_at=1.0)
    with PostgresStore(url, "plc_a") as a, PostgresStore(url, "plc_b") as b:
        a.add_volume(volume)
        a.add_volume(cloud)
        assert b.volume("unix_local", "default") is None
        b.add_volume(replace(volume, handle={"path": "/b"}, place="plc_b"))
        assert a.volume("unix_local", "default") == volume
        assert [v.handle for v in b.volumes()] == [{"id": "vo-1"}, {"path": "/b"}]
        assert [v.handle for v in b.volumes(everywhere=True)] == [{"id": "vo-1"}, {"path": "/a"}, {"path": "/b"}]
        b.delete_volume("unix_local", "default")
        assert a.volumes() == [cloud, volume]


def test_a_state_directory_for_which_no_server_answered_has_shared_nothing(tmp_path):
    paths = StatePaths(tmp_path / "state")
    with pytest.raises(StateUnavailable):
        open_store(paths, "postgresql://me@127.0.0.1:1/nix")
    assert not place_file(paths).exists()


def test_a_state_directory_keeps_its_place(tmp_path, url):
    places = set()
    for _ in range(2):
        with open_store(StatePaths(tmp_path / "state"), url) as store:
            places.add(store._place)
    assert len(places) == 1
    assert next(iter(places)).startswith("plc_")
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["place"]


# the URL


def test_a_password_is_used_and_never_shown(postgres, url, capfd):
    with PostgresStore(postgres.tcp_url(name_of(url))) as store:
        store.add_session(a_session())
        for thing in (store, store._database, store._database._target):
            assert postgres.password not in f"{thing!r} {thing}"
    with pytest.raises(StateUnavailable, match="refused the connection") as caught:
        PostgresStore(postgres.tcp_url(name_of(url), password="hunter2"))
    assert "hunter2" not in f"{caught.value.to_json()} {caught.value.__cause__!r} {capfd.readouterr()}"


def test_a_database_that_is_not_there_is_said(postgres):
    with pytest.raises(StateUnavailable, match="nowhere"):
        PostgresStore(postgres.url("nowhere"))


@pytest.mark.parametrize(
    "bad",
    [
        "postgresql://u:hun/ter2@db/x",
        "postgresql://u:hun@ter2@db/x",
        "postgresql://u:hun:ter2@db:port/x",
        "postgresql://u:hun%ter2@db/x",
        "postgresql://u:pw@db/x?hunter2=1",
        "postgresql://u:hunter2@db:99999999/x",
        "postgresql://u:hunter2@[::1/x",
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_without_a_part_of_it(bad):
    with pytest.raises((UsageError, StateUnavailable)) as caught:
        PostgresStore(bad)
    told = f"{caught.value.to_json()} {caught.value.__cause__!r}"
    assert not any(part in told for part in ("hun", "ter2"))


def test_a_missing_driver_is_said_with_the_command_that_installs_it(tmp_path):
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from pathlib import Path\nfrom agentctl.errors import Unsupported\nfrom agentctl.paths import StatePaths\n"
        "from agentctl.store.lookup import open_store\n"
        "try: open_store(StatePaths(Path(sys.argv[1])), 'postgresql://u:hunter2@db/x')\n"
        "except Unsupported as e: print(e.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=os.environ)
    assert "pip install 'agentctl[postgres]'" in done.stdout, done.stderr
