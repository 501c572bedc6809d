"""What only the SQLite store promises: one private file, migrations, errors that help, views for users."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import suppress

import pytest

from agentctl.errors import DiskFull, SessionBusy, StateError, StateNotWritable, StateTooNew, Unsupported
from agentctl.model import Request, Sandbox, Session, Turn, UserAgent, Volume
from agentctl.paths import StatePaths
from agentctl.store import sqlite_connection
from agentctl.store.lookup import open_store
from agentctl.store.migrations import MIGRATIONS
from agentctl.store.rows import TABLES, columns
from agentctl.store.sqlite import SqliteStore
from tests.contract.test_store import a_request, a_session


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "agentctl.db"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_file_and_directory_are_private_whatever_the_umask(path):
    before = os.umask(0)
    try:
        with SqliteStore(path) as store:
            store.add_session(a_session())
            modes = {entry.name: mode(entry) for entry in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    assert modes == dict.fromkeys(modes, 0o600)
    assert "agentctl.db-wal" in modes


def test_a_file_that_others_could_read_is_made_private(path):
    SqliteStore(path).close()
    path.chmod(0o644)
    SqliteStore(path).close()
    assert mode(path) == 0o600


def test_the_schema_version_is_the_number_of_migrations(path):
    assert len(MIGRATIONS._migrations) == sqlite_connection.SCHEMA_VERSION


@pytest.mark.parametrize("cls", [Session, Sandbox, Turn, Request, Volume, UserAgent])
def test_each_table_has_exactly_the_fields_of_its_dataclass(path, cls):
    SqliteStore(path).close()
    db = sqlite3.connect(path)
    names = [row[1] for row in db.execute(f"PRAGMA table_info({TABLES[cls]})")]
    db.close()
    assert sorted(names) == sorted(columns(cls))


def test_a_database_in_order_never_imports_sqlite_utils(path):
    SqliteStore(path).close()
    code = (
        "import sys; from pathlib import Path; from agentctl.store.sqlite import SqliteStore\n"
        "SqliteStore(Path(sys.argv[1])).sessions()\n"
        "print([m for m in ('sqlite_utils', 'asyncio', 'platformdirs', 'difflib', 'ctypes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_older_schema_is_brought_up_to_date_and_keeps_its_rows(path):
    from sqlite_utils import Database

    path.parent.mkdir()
    old = sqlite3.connect(path, isolation_level=None)
    MIGRATIONS.apply(Database(old), stop_before="m002_overviews")
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO meta (key, value) VALUES ('origin', 'org_1')")
    old.close()
    with SqliteStore(path) as store:
        assert store.meta("origin", "other") == "org_1"
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM session_overview").fetchone() == (0,)
    db.close()


def test_a_database_from_a_newer_version_is_left_untouched(path):
    path.parent.mkdir()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(StateTooNew, match="schema 99"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_damaged_database_is_said_with_the_way_out(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StateError) as caught:
        SqliteStore(path)
    assert "damaged" in caught.value.message
    assert f"Move {path} away" in caught.value.hint


def test_damage_inside_is_said_when_it_is_read(path):
    with SqliteStore(path) as store:
        for number in range(300):
            store.add_session(a_session(f"s{number}"))
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(StateError, match="damaged"), SqliteStore(path) as store:
        store.sessions(limit=None)


def test_a_directory_in_place_of_the_database_is_a_clear_error(path):
    path.mkdir(parents=True)
    with pytest.raises(StateNotWritable) as caught:
        SqliteStore(path)
    assert "AGENTCTL_STATE_DIR" in caught.value.hint


def test_a_state_directory_that_is_a_file_is_a_clear_error(path):
    path.parent.write_text("in the way")
    with pytest.raises(StateNotWritable):
        SqliteStore(path)


def test_a_database_that_only_reads_is_a_clear_error(path):
    with SqliteStore(path) as store:
        store._connection._db.execute("PRAGMA query_only = 1")
        with pytest.raises(StateNotWritable) as caught:
            store.add_session(a_session())
    assert "AGENTCTL_STATE_DIR" in caught.value.hint


def test_a_full_disk_is_said_and_changes_nothing(path):
    with SqliteStore(path) as store:
        session = a_session()
        store.add_session(session)
        pages = store._connection._db.execute("PRAGMA page_count").fetchone()[0]
        store._connection._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(DiskFull) as caught:
            store.add_events(session.id, [(n, b"x" * 4000) for n in range(1, 100)])
        assert "Free some space" in caught.value.hint
        assert store.events(session.id) == []
        assert store.session(session.id) == session
        store.update_session(session.id, status="idle")


@pytest.fixture
def full_disk(tmp_path):
    """Fill a small file system of its own: call it, and call what it returns to make room again."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)

    def fill():
        with open(place / "ballast", "wb", buffering=0) as file, suppress(OSError):
            while file.write(b"0" * 4096):
                pass
        assert shutil.disk_usage(place).free == 0
        return (place / "ballast").unlink

    fill.path = place / "state" / "agentctl.db"
    yield fill
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root of a Linux may mount a small disk")
def test_a_full_disk_can_still_be_read_and_is_nobodys_own(full_disk):
    session = a_session()
    with SqliteStore(full_disk.path) as store:
        store.add_session(session)
    make_room = full_disk()
    with SqliteStore(full_disk.path) as store, SqliteStore(full_disk.path) as other:
        assert store.session("one") == other.session("one") == session
        with pytest.raises(DiskFull):
            store.add_events(session.id, [(n, b"x" * 4000) for n in range(1, 100)])
        assert other.events(session.id) == []
        make_room()
        assert store.add_events(session.id, [(1, b"{}")]) == 1
        assert other.add_events(session.id, [(2, b"{}")]) == 2
        with SqliteStore(full_disk.path) as third:
            assert len(third.events(session.id)) == 2


def test_a_lock_held_for_too_long_is_busy_and_never_a_sqlite_error(path, monkeypatch):
    monkeypatch.setattr(sqlite_connection, "BUSY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(sqlite_connection.patiently, "__defaults__", (0.1,))
    with SqliteStore(path) as store:
        session = a_session()
        store.add_session(session)
        rival = sqlite3.connect(path, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        with pytest.raises(SessionBusy, match="locked for too long") as caught:
            store.update_session(session.id, status="idle")
        assert caught.value.retryable
        assert store.session("one") == session, "readers are not held up"
        rival.execute("ROLLBACK")
        rival.close()
        assert store.update_session(session.id, status="idle").status == "idle"


def test_an_unknown_kind_of_database_is_refused_without_its_password(tmp_path):
    with pytest.raises(Unsupported) as caught:
        open_store(StatePaths(tmp_path), "oracle://user:hunter2@db/x")
    assert "hunter2" not in str(caught.value.to_json())


def test_users_can_read_the_overviews(path):
    with SqliteStore(path) as store:
        session = a_session(cost={"amount": 0.5, "currency": "USD"}, status="idle")
        store.add_session(session)
        store.put_request(a_request(session.id))
        turn = {"id": "trn_1", "session_id": session.id, "status": "ended", "created_at": 10.0, "ended_at": 12.5}
        store.put_turn(Turn(**turn, outcome="failed", result={"text": "Hi", "error": {"message": "no key"}}))
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    [session_row] = map(dict, db.execute("SELECT * FROM session_overview"))
    [turn_row] = map(dict, db.execute("SELECT * FROM turn_overview"))
    db.close()
    assert session_row["agent"] == "mock"
    assert session_row["created"] == "1970-01-01 00:16:40"
    assert (session_row["turns"], session_row["pending_requests"], session_row["cost"]) == (1, 1, 0.5)
    assert (turn_row["session"], turn_row["duration_s"], turn_row["text"]) == ("one", 2.5, "Hi")
    assert turn_row["error"] == "no key"
