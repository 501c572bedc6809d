"""Volumes and workspaces through the ops: who uses them, what their files show, what their end does to sessions."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from agentctl import errors
from agentctl.model import SessionSpec
from agentctl.ops import sandboxes, session_end, sessions, turns, volume_files, volumes, workspaces
from agentctl.ops.app import App
from agentctl.ops.copy import Where, copy
from agentctl.paths import StatePaths
from tests.ops.support import say, spec, supervisor_pid

BAD_NAMES = ["", "..", "a/b", "../x", "UPPER", ".hidden", "-x", "x" * 65, "a b", "é", "a\0b", "x\n"]


@pytest.fixture
def root(app):
    """Where the volume ``default`` lies."""
    return app.paths.volumes / "default"


@pytest.fixture
async def files(app):
    """The files of a new volume ``default``."""
    await volumes.create(app, "default")
    async with volume_files.opened(app, "default") as opened:
        yield opened


async def one(*chunks):
    for chunk in chunks:
        yield chunk


async def cat(files, path):
    async with files.read(path) as reading:
        return b"".join([chunk async for chunk in reading.chunks])


# volumes


async def test_a_volume_is_created_listed_shown_and_deleted(app):
    made = await volumes.create(app, "models")
    with pytest.raises(errors.AlreadyExists, match="models"):
        await volumes.create(app, "models")
    assert (await volumes.create(app, "models", if_not_exists=True)).name == "models"
    [listed] = await volumes.listing(app)
    assert (listed["name"], listed["provider"], listed["status"]) == ("models", "unix_local", "ready")
    about = await volumes.details(app, "models")
    assert about == {**listed, "workspaces": []}
    assert about["path"] == str(app.paths.volumes / "models")
    await volumes.delete(app, made)
    assert await volumes.listing(app) == []
    assert not (app.paths.volumes / "models").exists()


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_bad_name_makes_neither_volume_nor_workspace_nor_session(app, tmp_path, name):
    with pytest.raises(errors.UsageError, match="cannot name a volume"):
        await volumes.create(app, name)
    with pytest.raises(errors.UsageError, match="cannot name a workspace"):
        await workspaces.create(app, name)
    for field in ("volume", "workspace"):
        with pytest.raises(errors.UsageError, match=f"cannot name a {field}"):
            await sessions.create(app, spec(tmp_path, **{field: name}), provision=False)
    assert app.store.sessions() == app.store.volumes() == []
    assert not app.paths.volumes.exists()


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "x" * 64, "a..b"])
async def test_a_good_name_is_taken_as_it_is(app, name):
    assert (await workspaces.create(app, name))["name"] == name
    assert (app.paths.volumes / "default/workspaces" / name).is_dir()


async def test_a_missing_volume_is_not_found_with_the_nearest_name(app):
    await volumes.create(app, "models")
    with pytest.raises(errors.VolumeNotFound) as missing:
        await volumes.find(app, "model")
    assert missing.value.exit_code == 4
    assert "Did you mean models?" in missing.value.hint
    with pytest.raises(errors.ProviderNotFound):
        await volumes.find(app, "models", "unix-local")
    with pytest.raises(errors.VolumeNotFound):
        async with volume_files.opened(app, "model"):
            pass


async def test_a_volume_that_was_removed_behind_our_back_is_missing_and_can_be_forgotten(app, tmp_path):
    volume = await volumes.create(app, "models")
    shutil.rmtree(app.paths.volumes / "models")
    [about] = await volumes.listing(app)
    assert about["status"] == "missing"
    assert (await volumes.details(app, "models"))["status"] == "missing"
    with pytest.raises(errors.VolumeNotFound, match="gone"):
        async with volume_files.opened(app, "models"):
            pass
    await volumes.delete(app, volume)
    assert await volumes.listing(app) == []


async def test_a_volume_that_the_store_does_not_know_is_found_all_the_same(app):
    await app.provider("unix_local").volume_create("found")
    assert [about["name"] for about in await volumes.listing(app)] == ["found"]
    await volumes.delete(app, await volumes.find(app, "found"))
    assert await volumes.listing(app) == []


async def test_a_provider_that_does_not_answer_hides_no_volume(app):
    volume = await volumes.create(app, "models")
    app.store.add_volume(replace(volume, provider="gone_provider"))
    listed = {about["provider"]: about["status"] for about in await volumes.listing(app)}
    assert listed == {"gone_provider": "unknown", "unix_local": "ready"}
    with pytest.raises(errors.ProviderNotFound):
        await volumes.listing(app, "gone_provider")
    assert (await volumes.find(app, "models")).provider == "unix_local"


async def test_a_used_volume_is_not_deleted_and_says_by_whom(app, tmp_path, root):
    session = await sessions.create(app, spec(tmp_path), name="work")
    volume = await volumes.find(app, "default")
    with pytest.raises(errors.InUse, match="session work") as refused:
        await volumes.delete(app, volume)
    assert refused.value.exit_code == 10
    assert refused.value.details == {"sessions": ["work"], "sandboxes": []}
    assert "--force" in refused.value.hint
    assert [user["name"] for user in (await volumes.details(app, "default"))["sessions"]] == ["work"]
    assert (root / f"agents/{session.id}/home").is_dir()
    await session_end.delete(app, "work")
    await volumes.delete(app, volume)
    assert not root.exists()


@pytest.mark.slow
async def test_force_stops_what_runs_keeps_what_was_said_and_tells_the_loss(app, tmp_path, root):
    session = await sessions.create(app, spec(tmp_path), name="work")
    assert (await say(app, "work", "remember heron")).outcome == "completed"
    pid = supervisor_pid(app, session)
    await volumes.delete(app, await volumes.find(app, "default"), force=True)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not root.exists()
    assert app.store.session("work").status == "hibernated"
    said = [item["item"]["role"] for item in await turns.transcript(app, "work") if item["item"]["kind"] == "message"]
    assert said == ["user", "assistant"]
    with pytest.raises(errors.ContextLost):
        await say(app, "work", "what was it?")
    assert (await say(app, "work", "begin again", on_lost="new")).context == "lost"
    numbers = [number for number, _ in app.store.events(session.id)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert (root / f"agents/{session.id}/home").is_dir()


async def test_force_interrupts_a_turn_that_runs(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), name="work")
    turn = asyncio.create_task(say(app, "work", "@hang"))
    async with asyncio.timeout(60):
        while not any(t.status == "running" for t in app.store.turns(session.id)):
            await asyncio.sleep(0.01)
        await volumes.delete(app, await volumes.find(app, "default"), force=True)
        assert (await turn).outcome == "interrupted"


async def test_a_sandbox_of_its_own_keeps_its_volume_and_workspace_even_from_force(app, tmp_path):
    place = SessionSpec(agent="", cwd=str(tmp_path), workspace="shared")
    made = (await sandboxes.create(app, place, name="build")).sandbox
    try:
        volume = await volumes.find(app, "default")
        calls = [
            lambda: volumes.delete(app, volume, force=True),
            lambda: workspaces.delete(app, "shared", force=True),
        ]
        for call in calls:
            with pytest.raises(errors.InUse, match="sandbox build") as refused:
                await call()
            assert refused.value.hint == "Delete it first: agentctl sandboxes delete build"
        assert (await workspaces.details(app, "shared"))["sandboxes"][0]["name"] == "build"
    finally:
        await sandboxes.delete(app, made.id, force=True)
    await volumes.delete(app, volume)


async def test_two_that_delete_at_once_both_succeed(app, tmp_path):
    await sessions.create(app, spec(tmp_path), name="one")
    await sessions.create(app, spec(tmp_path), name="two", provision=False)
    volume = await volumes.find(app, "default")
    async with asyncio.timeout(60):
        await asyncio.gather(*(volumes.delete(app, volume, force=True) for _ in range(2)))
    assert await volumes.listing(app) == []


# their files


async def test_files_are_named_from_the_top_of_the_volume(app, files, root):
    assert await files.mkdir("a/b") == {"path": "a/b"}
    assert await files.write("/a/b/c", one(b"x\0", b"\xff")) == {"path": "a/b/c", "bytesWritten": 3}
    assert await cat(files, "a/b/c") == b"x\0\xff"
    assert [entry["path"] for entry in await files.entries("a")] == ["a/b"]
    assert (await files.stat("/"))["path"] == "."
    assert await files.move("a/b/c", "/a") == {"from": "a/b/c", "to": "a/c"}
    assert await files.remove(["a"], recursive=True) == {"removed": ["a"]}
    assert list(root.iterdir()) == []


async def test_names_that_are_no_utf_8_keep_their_bytes(app, files, root):
    (root / os.fsdecode(b"caf\xe9")).write_text("x")
    [entry] = await files.entries(".")
    assert (entry["path"], entry["rawPath"]) == ("caf\ufffd", "caf%E9")


async def test_nothing_outside_of_the_volume_is_reached(app, files, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "way").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "mine").write_text("x")
    for path in ("way/secret", "file", "../default/mine", "a/../../other", "way"):
        with pytest.raises(errors.UsageError, match=r"outside|leaves"):
            await files.stat(path)
        with pytest.raises(errors.UsageError, match=r"outside|leaves"):
            await files.write(path, one(b"x"))
    with pytest.raises(errors.UsageError, match="outside"):
        await files.move("mine", "way/moved")
    with pytest.raises(errors.UsageError, match="outside"):
        await files.remove(["way/secret"])
    with pytest.raises(errors.UsageError, match="NUL"):
        await files.stat("a\0b")
    with pytest.raises(errors.PathNotFound):
        await files.stat("/etc/passwd")  # of the volume
    assert await files.remove(["way", "file"]) == {"removed": ["way", "file"]}
    assert [p.name for p in outside.iterdir()] == ["secret"]


async def test_a_copy_tells_a_target_that_a_copy_takes(app, files, tmp_path):
    (tmp_path / "x").write_text("x")
    done = await copy(app, Where(kind="host", path=str(tmp_path / "x")), Where.parse("volume:default/d.txt"))
    assert done["target"] == "volume:default/d.txt"
    back = Where(kind="host", path=str(tmp_path / "y"))
    assert (await copy(app, Where.parse(done["target"]), back))["target"] == str(tmp_path / "y")


async def test_a_directory_of_a_volume_is_not_copied_into_itself(app, files):
    await files.mkdir("a")
    with pytest.raises(errors.UsageError, match="into itself"):
        await copy(app, Where.parse("volume:default/a"), Where.parse("volume:default/a/b"), recursive=True)


async def test_a_home_that_a_session_has_is_neither_removed_nor_moved_by_accident(app, tmp_path, files, root):
    session = await sessions.create(app, spec(tmp_path, workspace="shared"), name="work", provision=False)
    log = f"agents/{session.id}/log"
    for path in ("workspaces/shared/x", log):
        await files.mkdir(path)
    (root / "alias").symlink_to("agents")
    for path in ("workspaces", "/workspaces/shared", "workspaces/./shared/", log, f"alias/{session.id}"):
        with pytest.raises(errors.InUse, match="session work"):
            await files.remove(["workspaces/shared/x", path], recursive=True)
        with pytest.raises(errors.InUse, match="session work"):
            await files.move(path, "elsewhere")
    assert await files.remove(["workspaces/shared/x", "alias"], recursive=True)
    assert await files.move("workspaces/shared", "elsewhere", force=True) == {
        "from": "workspaces/shared",
        "to": "elsewhere",
    }
    assert await files.remove(["agents"], recursive=True, force=True) == {"removed": ["agents"]}


@pytest.fixture
def small_disk(app):
    """A volume ``small`` on a file system of 1 MB; call it with mount options to change it."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root of a Linux may mount a small disk")
    place = app.paths.ensure().volumes / "small"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_a_full_disk_and_a_read_only_one_are_said_and_leave_nothing_half_done(app, small_disk):
    async with volume_files.opened(app, "small") as files:
        await files.write("kept", one(b"old"))
        with pytest.raises(errors.DiskFull, match="kept"):
            await files.write("kept", one(*[bytes(1024 * 1024)] * 2))
        assert [entry["name"] for entry in await files.entries(".")] == ["kept"]
        assert await cat(files, "kept") == b"old"
        small_disk("ro")
        with pytest.raises(errors.PermissionDenied, match="Read-only"):
            await files.write("kept", one(b"new"))
        with pytest.raises(errors.PermissionDenied, match="Read-only"):
            await files.remove(["kept"])
        with pytest.raises(errors.PermissionDenied, match="Read-only"):
            await workspaces.create(app, "w", volume="small")
        assert await cat(files, "kept") == b"old"


# workspaces


async def test_a_workspace_is_created_listed_shown_and_deleted(app, root):
    made = await workspaces.create(app, "shared")
    assert made == {
        "name": "shared", "volume": "default", "provider": "unix_local", "status": "ready",
        "path": "workspaces/shared", "sessions": [], "sandboxes": [],
    }  # fmt: skip
    with pytest.raises(errors.AlreadyExists, match="shared"):
        await workspaces.create(app, "shared")
    assert await workspaces.create(app, "shared", if_not_exists=True) == made
    assert await workspaces.listing(app) == ([made], [])
    assert (await volumes.details(app, "default"))["workspaces"] == ["shared"]
    with pytest.raises(errors.WorkspaceNotFound) as missing:
        await workspaces.details(app, "share")
    assert missing.value.exit_code == 4
    assert "Did you mean shared?" in missing.value.hint
    await workspaces.delete(app, "shared")
    with pytest.raises(errors.WorkspaceNotFound):
        await workspaces.delete(app, "shared")
    assert not (root / "workspaces/shared").exists()


async def test_a_workspace_needs_its_volume_unless_that_is_the_default_one(app):
    for call in (workspaces.create, workspaces.details, workspaces.delete):
        with pytest.raises(errors.VolumeNotFound):
            await call(app, "shared", volume="nowhere")
    with pytest.raises(errors.VolumeNotFound):
        await workspaces.listing(app, volume="nowhere")
    with pytest.raises(errors.WorkspaceNotFound):  # nobody named that volume; and looking makes nothing
        await workspaces.details(app, "shared")
    assert await workspaces.listing(app) == ([], [])
    await volumes.create(app, "team")
    assert (await workspaces.create(app, "shared", volume="team"))["volume"] == "team"


@pytest.mark.slow
async def test_two_sessions_in_one_workspace_see_what_the_other_writes(app, tmp_path):
    await workspaces.create(app, "shared")
    async with volume_files.opened(app, "default") as files:
        await files.write("workspaces/shared/brief.txt", one(b"from outside"))
        for name in ("one", "two"):
            await sessions.create(app, spec(tmp_path, workspace="shared"), name=name)
        assert "from outside" in (await say(app, "one", '@sh!="cat ~/brief.txt"')).text
        await say(app, "one", '@sh!="echo heron > ~/note"')
        assert "heron" in (await say(app, "two", '@sh!="cat ~/note"')).text
        assert await cat(files, "workspaces/shared/note") == b"heron\n"
        await files.write("workspaces/shared/later.txt", one(b"while they live"))
        assert "while they live" in (await say(app, "two", '@sh!="cat ~/later.txt"')).text
    about = await workspaces.details(app, "shared")
    assert sorted(user["name"] for user in about["sessions"]) == ["one", "two"]
    await session_end.delete(app, "one")
    assert "heron" in (await say(app, "two", '@sh!="cat ~/note"')).text


@pytest.mark.slow
async def test_a_later_sandbox_of_a_session_finds_its_workspace_again(app, tmp_path):
    await sessions.create(app, spec(tmp_path, workspace="shared"), name="work")
    await say(app, "work", '@sh!="echo heron > ~/note"')
    await session_end.release(app, "work")
    result = await say(app, "work", '@sh!="cat ~/note"')
    assert (result.context, "heron" in result.text) == ("restored", True)


async def test_a_workspace_that_no_session_has_made_yet_is_planned(app, tmp_path):
    await volumes.create(app, "default")
    await sessions.create(app, spec(tmp_path, workspace="later"), name="work", provision=False)
    [about], _ = await workspaces.listing(app)
    assert (about["name"], about["status"]) == ("later", "planned")
    with pytest.raises(errors.InUse):
        await workspaces.delete(app, "later")
    assert (await workspaces.create(app, "later"))["status"] == "ready"


@pytest.mark.slow
async def test_a_used_workspace_is_deleted_by_force_alone_and_its_session_begins_with_an_empty_one(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path, workspace="shared"), name="work")
    await sessions.create(app, spec(tmp_path, workspace="other"), name="bystander")
    await say(app, "work", '@sh!="echo heron > ~/note"')
    with pytest.raises(errors.InUse, match="session work") as refused:
        await workspaces.delete(app, "shared")
    assert refused.value.exit_code == 10
    bystander = supervisor_pid(app, app.store.session("bystander"))
    await workspaces.delete(app, "shared", force=True)
    assert app.store.session(session.id).status == "hibernated"
    os.kill(bystander, 0)
    result = await say(app, "work", '@sh!="ls -a ~; cat ~/note"', on_lost="new")
    assert (result.context, "heron" in result.text) == ("lost", False)


async def test_a_link_in_the_place_of_a_workspace_is_no_way_out(app, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    await workspaces.create(app, "real")
    (root / "workspaces/evil").symlink_to(outside)
    assert [about["name"] for about in (await workspaces.listing(app))[0]] == ["real"]
    with pytest.raises(errors.UsageError, match="leaves the volume"):
        await sessions.create(app, spec(tmp_path, workspace="evil"))
    with pytest.raises(errors.WorkspaceNotFound):
        await workspaces.delete(app, "evil")
    assert (outside / "precious").exists()


# machines that share a store


@pytest.mark.slow
async def test_a_volume_of_another_machine_is_told_as_such(postgres, tmp_path):
    environ = {**os.environ, "AGENTCTL_DATABASE_URL": postgres.database()}
    with App(StatePaths(tmp_path / "a"), environ) as here, App(StatePaths(tmp_path / "b"), environ) as there:
        volume = await volumes.create(here, "models")
        await workspaces.create(here, "shared", volume="models")
        await sessions.create(here, spec(tmp_path, volume="models"), name="work", provision=False)
        [about] = await volumes.listing(there)
        assert (about["status"], about["path"]) == ("elsewhere", None)
        assert str(here.paths.root) in about["machine"]
        found, closed = await workspaces.listing(there)
        assert (found, [v["name"] for v in closed]) == ([], ["models"])
        for call in (volumes.details(there, "models"), workspaces.details(there, "shared", volume="models")):
            with pytest.raises(errors.VolumeElsewhere) as caught:
                await call
            assert caught.value.exit_code == 10
            assert str(here.paths.root) in caught.value.message
        # A volume of the same name here is another one, and who uses that one does not use this.
        await volumes.delete(there, await volumes.create(there, "models"))
        assert [user["name"] for user in (await volumes.details(here, "models"))["sessions"]] == ["work"]
        await session_end.delete(here, "work")
        await volumes.delete(here, volume)
        assert await volumes.listing(there) == []
