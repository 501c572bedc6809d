"""``cleanup-orphans`` as cron runs it, on the providers of this machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentctl.ops import orphans
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.providers.lookup import open_provider
from tests.cli.running import agentctl, alive
from tests.cli.watching import Watched, supervisor_pid
from tests.docker.support import clear, everything_of, installation

OLD = ("--older-than", "0.001s")


@pytest.fixture(params=["unix_local", "docker"])
def provider(request, monkeypatch):
    monkeypatch.setenv("AGENTCTL_PROVIDER", request.param)
    if request.param == "docker":
        monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue("docker_engine").host)
        monkeypatch.setenv("AGENTCTL_IMAGE", request.getfixturevalue("docker_image"))
        own = installation(StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"])))
        yield "docker"
        clear(request.getfixturevalue("docker_api"), own)
    else:
        yield "unix_local"


@pytest.fixture
def orphan(provider):
    """A living sandbox of a session that its store does not know any more: its id. The next one is for ``orphan``."""
    three_mb = 'head -c 3000000 /dev/zero > "$TMPDIR/three"; head -c 3000000 /dev/zero > "$HOME/three"'
    assert agentctl("run", "--agent", "mock", "--session", "lost", "--pre-start", three_mb, "hello").code == 0
    with App.open() as app:
        session = app.store.session("lost")
        sandbox = app.store.sandbox(session.sandbox_id)
        app.store.delete_sandbox(sandbox.id)
        app.store.delete_session(session.id)
    return sandbox.id


def cleanup(*args: str):
    return agentctl("cleanup-orphans", *args, "--json")


def actions(done) -> list[tuple[str, str]]:
    """Without volumes, and without sockets: those in the machine's temporary directory are anybody's."""
    found = [(orphan["kind"], orphan["action"]) for orphan in done.data["orphans"]]
    return [(kind, action) for kind, action in found if kind not in ("volume", "socket")]


def sandboxes_left(name: str) -> list[str]:
    async def found() -> list[str]:
        with App.open() as app:
            return [one.sandbox_id async for one in app.provider(name).find_by_labels({})]

    return asyncio.run(found())


def test_an_orphan_is_shown_first_and_deleted_with_yes_once(provider, orphan):
    shown = cleanup(*OLD)
    assert shown.code == 0, shown
    assert actions(shown) == [("sandbox", "would_delete")]
    [about] = [one for one in shown.data["orphans"] if one["kind"] == "sandbox"]
    assert (about["sandbox_id"], about["provider"], about["status"]) == (orphan, provider, "running")
    assert about["owner"]
    assert 3_000_000 <= about["size_bytes"] == shown.data["freed_bytes"] < 4_500_000
    assert sandboxes_left(provider) == [orphan]
    done = agentctl("cleanup-orphans", *OLD, "--yes", "--quiet")
    assert (done.code, done.out.count("\n")) == (0, 1), done
    assert "deleted; 3." in done.out  # how many tells nothing: sockets in /tmp are anybody's
    assert " MB freed." in done.out
    assert sandboxes_left(provider) == []
    assert actions(cleanup(*OLD, "--yes")) == []


def test_what_is_young_or_of_another_origin_or_wanted_is_left(provider, orphan):
    assert agentctl("run", "--agent", "mock", "--session", "kept", "hello").code == 0
    assert actions(cleanup("--yes")) == [("sandbox", "skipped")]
    assert actions(cleanup("--origin", "another", *OLD, "--yes")) == []
    assert actions(cleanup(*OLD, "--yes")) == [("sandbox", "deleted")]
    assert "hello" in agentctl("run", "--session", "kept", "@context").out
    agentctl("sessions", "delete", "--yes", "kept")


def volumes_in(done) -> list[tuple[str, str]]:
    return [(one["action"], one["reason"]) for one in done.data["orphans"] if one["kind"] == "volume"]


def test_a_volume_goes_only_when_volumes_are_asked_for_and_no_store_wants_it(provider, orphan):
    assert volumes_in(cleanup(*OLD, "--volumes", "--yes")) == []
    with App.open() as app:
        app.store.delete_volume(provider, "default")
    [kept] = [one for one in cleanup(*OLD, "--yes").data["orphans"] if one["kind"] == "volume"]
    assert kept["action"] == "kept"
    assert 3_000_000 <= kept["size_bytes"] < 4_500_000
    [gone] = [one for one in cleanup(*OLD, "--yes", "--volumes").data["orphans"] if one["kind"] == "volume"]
    assert gone["action"] == "deleted"
    assert [one for one in cleanup(*OLD, "--volumes").data["orphans"] if one["kind"] == "volume"] == []


def test_a_volume_of_another_state_directory_is_found_by_its_origin_and_left_while_it_may_be_used(
    docker, docker_api, tmp_path, monkeypatch
):
    monkeypatch.setenv("AGENTCTL_ORIGIN", "shared")
    theirs = {"AGENTCTL_STATE_DIR": str(tmp_path / "theirs")}
    their_installation = installation(StatePaths(tmp_path / "theirs"))
    try:
        assert agentctl("sandboxes", "create", "--id", "box", "--volume", "data", env=theirs).code == 0
        unsure = ("skipped", "whether it is in use cannot be told")
        assert unsure in volumes_in(cleanup(*OLD, "--volumes", "--yes"))
        assert agentctl("sandboxes", "delete", "--yes", "box", env=theirs).code == 0
        shown = cleanup(*OLD)
        [about] = [one for one in shown.data["orphans"] if one["kind"] == "volume"]
        name = f"agentctl-{their_installation}-data"
        assert (about["action"], about["id"], bool(about["owner"])) == ("kept", name, True)
        assert volumes_in(cleanup(*OLD, "--volumes", "--yes")) == [("deleted", "")]
        assert everything_of(docker_api, their_installation) == ([], [])
    finally:
        clear(docker_api, their_installation)


def test_a_volume_of_another_origin_in_the_same_state_directory_is_left():
    assert agentctl("volumes", "create", "kept", env={"AGENTCTL_ORIGIN": "theirs"}).code == 0
    with App.open() as app:
        app.store.delete_volume("unix_local", "kept")
        (app.paths.volumes / "old").mkdir()  # as an older agentctl made it
    told = cleanup(*OLD, "--origin", "ours", "--volumes", "--yes").data["orphans"]
    assert [one["id"] for one in told if one["kind"] == "volume"] == ["old"]
    told = cleanup(*OLD, "--origin", "theirs", "--volumes", "--yes").data["orphans"]
    assert [(one["id"], bool(one["owner"])) for one in told if one["kind"] == "volume"] == [("kept", True)]
    with App.open() as app:
        left = [*app.paths.volumes.iterdir(), *(app.paths.root / "volume-labels").iterdir()]
    assert left == []


def test_what_is_wanted_again_is_left_and_what_is_gone_meanwhile_counts_as_deleted(provider):
    """Each is looked at once more right before it is deleted."""
    lost = {}
    with App.open() as app:
        for name in ("one", "two", "three"):
            assert agentctl("sandboxes", "create", "--id", name).code == 0
            sandbox = app.store.named_sandbox(name)
            app.store.delete_sandbox(sandbox.id)
            lost[sandbox.id] = sandbox
        told: list[str] = []

        def hear(orphan: orphans.Orphan) -> None:
            told.append(orphan.sandbox_id)
            if told == [orphan.sandbox_id]:
                app.store.put_sandbox(lost[next(one for one in lost if one not in told)])
                remove_elsewhere(app.paths, lost[[one for one in lost if one not in told][1]])

        wanted = orphans.Sweep(origin=app.origin, providers=(provider,), older_than_s=0.0, delete=True)
        found = asyncio.run(orphans.sweep(app, wanted, hear))
        by_id = {one.sandbox_id: (one.action, one.reason) for one in found if one.kind == "sandbox"}
        rest = [by_id[one] for one in lost if one != told[0]]
        assert (by_id[told[0]], rest) == (("deleted", ""), [("skipped", "it is in use again"), ("deleted", "")])
        [again] = sandboxes_left(provider)
    assert agentctl("sandboxes", "delete", "--yes", again).code == 0


def remove_elsewhere(paths, sandbox) -> None:
    """As another process would."""

    def remove() -> None:
        asyncio.run(open_provider(sandbox.provider, paths).remove(sandbox.handle))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(remove).result(60)


@pytest.mark.parametrize("origin", ["", "*", "prod?"])
def test_an_origin_is_never_a_pattern(origin):
    assert cleanup("--origin", origin).code == 2
    assert cleanup("--dry-run", "--yes").code == 2


def test_nothing_is_touched_while_the_database_of_the_sessions_is_not_named(postgres):
    shared = {"AGENTCTL_DATABASE_URL": postgres.database()}
    assert agentctl("run", "--agent", "mock", "--session", "shared", "hello", env=shared).code == 0
    done = cleanup(*OLD, "--volumes", "--yes")
    assert (done.code, "AGENTCTL_DATABASE_URL" in done.envelope["error"]["hint"]) == (2, True)
    assert "hello" in agentctl("run", "--session", "shared", "@context", env=shared).out
    agentctl("sessions", "delete", "--yes", "shared", env=shared)


def test_what_the_state_directory_itself_wants_is_left_when_the_store_is_another(postgres):
    assert agentctl("run", "--agent", "mock", "--session", "local", "hello").code == 0
    done = agentctl(
        "cleanup-orphans", *OLD, "--volumes", "--yes", "--json", env={"AGENTCTL_DATABASE_URL": postgres.database()}
    )
    assert [one for one in done.data["orphans"] if one["kind"] != "socket"] == []
    Path(os.environ["AGENTCTL_STATE_DIR"], "place").unlink()
    assert "hello" in agentctl("run", "--session", "local", "@context").out


def test_two_cleanups_do_not_meet():
    paths = StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"])).ensure()
    with (paths.root / "cleanup.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cleanup("--yes").code == 10


def test_a_busy_sandbox_is_left_although_its_session_is_in_no_store():
    """As when the command forgot the database that the session is in."""
    with Watched("run", "--agent", "mock", "--session", "busy", "@hang") as watched:
        watched.until("turn.started")
        with App.open() as app:
            session = app.store.session("busy")
            sandbox = app.store.sandbox(session.sandbox_id)
            app.store.delete_sandbox(sandbox.id)
            app.store.delete_session(session.id)
        done = cleanup("--older-than", "1s", "--yes")
        assert actions(done) == [("sandbox", "skipped")]
        assert alive(sandbox.handle["pid"])
        os.kill(sandbox.handle["pid"], signal.SIGKILL)
    assert actions(cleanup(*OLD, "--yes")) == [("sandbox", "deleted")]


def test_a_run_that_was_killed_leaves_nothing_after_it():
    with Watched("run", "--agent", "mock", "@hang") as watched:
        watched.until("turn.started")
        watched.process.kill()
        watched.process.wait()
        pid = supervisor_pid()
        assert actions(cleanup("--yes")) == []
        assert actions(cleanup("--older-than", "1s", "--yes")) == [], "its turn is still running"
        os.kill(pid, signal.SIGKILL)
    assert actions(cleanup(*OLD, "--yes")) == [("session", "deleted")]
    with App.open() as app:
        assert app.store.sessions(limit=None) == []
        assert list(app.paths.run.glob("*")) == []


@pytest.fixture
def own_temporary(monkeypatch):
    """A temporary directory of this test's own: nobody else's cleanup looks there. Short, for sockets."""
    with tempfile.TemporaryDirectory(prefix="own-") as place:
        monkeypatch.setenv("TMPDIR", place)
        yield Path(place)


def test_processes_whose_directory_is_gone_and_dead_sockets_are_found(own_temporary):
    assert agentctl("run", "--agent", "mock", "--session", "lost", "hello").code == 0
    pid = supervisor_pid()
    with App.open() as app:
        session = app.store.session("lost")
        app.store.delete_sandbox(session.sandbox_id)
        app.store.delete_session(session.id)
        shutil.rmtree(app.paths.run / session.sandbox_id)
    place = own_temporary / "agentctl-dead"
    place.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "sock"))
    os.utime(place, (1, 1))
    found = {(one["kind"], one["id"]) for one in cleanup("--older-than", "0.001s").data["orphans"]}
    assert {("processes", f"processes of {session.sandbox_id}"), ("socket", str(place))} <= found
    assert agentctl("cleanup-orphans", *OLD, "--yes").code == 0
    assert not place.exists()
    assert not alive(pid)


def test_a_deletion_that_fails_is_exit_8_and_the_others_go(docker_api, docker_engine, docker_image, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    paths = StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"]))
    own = installation(paths)
    labels = {"agentctl.installation": own, "agentctl.volume": "busy"}
    docker_api.create_volume(f"agentctl-{own}-busy", labels=labels)
    docker_api.create_volume(f"agentctl-{own}-free", labels={**labels, "agentctl.volume": "free"})
    from docker.types import Mount

    host = docker_api.create_host_config(mounts=[Mount("/busy", f"agentctl-{own}-busy", type="volume")])
    user = docker_api.create_container(docker_image, command=["true"], host_config=host)["Id"]
    try:
        done = cleanup("--provider", "docker", *OLD, "--volumes", "--yes")
        assert done.code == 8, done
        told = done.envelope["error"]["details"]
        assert (told["counts"]["deleted"], told["counts"]["failed"]) == (1, 1)
    finally:
        docker_api.remove_container(user, force=True)
    assert cleanup("--provider", "docker", *OLD, "--volumes", "--yes").code == 0
    assert everything_of(docker_api, own) == ([], [])


def test_an_engine_that_is_needed_and_away_is_exit_8(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert cleanup("--provider", "docker").code == 8
    assert cleanup().code == 0


def test_it_is_fast_enough_for_cron():
    began = time.monotonic()
    assert agentctl("cleanup-orphans", "--provider", "unix_local", "-q").code == 0
    assert time.monotonic() - began < 20
