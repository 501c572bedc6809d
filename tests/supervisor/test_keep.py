"""A supervisor whose log and HOME are on a disk that dies with it, kept on a volume with S3's rules."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import suppress
from hashlib import sha256

import pytest

from agentctl import errors
from agentctl.supervisor.keep.read import assemble
from agentctl.supervisor.log.session_log import LogReader
from tests.supervisor.s3_files import REPOSITORY
from tests.supervisor.support import mock_recipe, supervisor
from tests.supervisor.test_keep_home import archive, generations
from tests.supervisor.test_keep_log import texts, volume, whole  # noqa: F401 - volume is a fixture
from tests.supervisor.test_session_api import events_until, session, turn

LOAD = "--no-resume"
pytestmark = pytest.mark.slow


def kept_at(to, fencing=1, home=True, **fields):
    return {"keep": {"to": str(to), "home": home}, "fencing": fencing, "sandbox_id": f"sbx_{os.getpid()}k{fencing}",
            **fields}  # fmt: skip


async def health(client, until):
    """The keep part of health, once it is so."""
    async with asyncio.timeout(30):
        while True:
            said = (await client.health())["keep"]
            if until(said):
                return said
            await asyncio.sleep(0.02)


async def all_kept(client):
    """Health once all of the log is on the volume, and a HOME that was made after this turn."""
    return await health(
        client,
        lambda said: said["home_at"] and all(log["last"] == log["kept"] for log in said["logs"].values()),
    )


def lose_disk(root):
    for name in ("log", "home", "tmp"):
        shutil.rmtree(root / name)


async def kill(running):
    running.process.send_signal(signal.SIGKILL)
    await running.process.wait()


async def test_a_conversation_goes_on_after_everything_but_the_volume_is_lost(tmp_path, volume):  # noqa: F811
    async with session(tmp_path, LOAD, boot=kept_at(volume)) as (running, client):
        await turn(client, "the codeword is heron")
        said = await all_kept(client)
        assert said["error"] is None
        snapshot = await client.snapshot("ses_x")
        await kill(running)
    before = whole(tmp_path / "log")
    lose_disk(tmp_path)
    told = assemble(volume / "log", tmp_path / "read")
    assert (told.last, whole(tmp_path / "read")) == (len(before), before)

    past = {"nativeSessionId": snapshot["nativeSessionId"], "minSequence": told.last}
    async with session(tmp_path, LOAD, boot=kept_at(volume, 2), **past) as (_, client):
        seen, summary = await turn(client, "@recall", offset=told.last)
    (restored,) = [e.data for e in seen if e.type == "sandbox.restored"]
    assert restored["log"] == {"last": told.last, "problem": None}
    assert restored["home"]["refused"] == []
    assert summary["context"] == "restored"
    assert "heron" in "".join(e.data.get("delta", "") for e in seen)
    assert [e.sequence for e in seen] == list(range(told.last + 1, told.last + 1 + len(seen)))
    # it left in good order: all of it is on the volume, its last words too
    assemble(volume / "log", tmp_path / "after")
    assert whole(tmp_path / "after") == whole(tmp_path / "log")
    assert texts(tmp_path / "after")[-1] == "session.ended"


async def test_events_that_only_the_store_has_are_a_gap_that_is_told(tmp_path):
    to = tmp_path / "volume"
    async with session(tmp_path, LOAD, boot=kept_at(to)) as (running, client):
        await turn(client, "one")
        await all_kept(client)
        native_id = (await client.snapshot("ses_x"))["nativeSessionId"]
        await kill(running)
    kept = assemble(to / "log", tmp_path / "read").last
    lose_disk(tmp_path)
    past = {"nativeSessionId": native_id, "minSequence": kept + 7}
    async with session(tmp_path, LOAD, boot=kept_at(to, 2), **past) as (_, client):
        seen, summary = await turn(client, "two", offset=kept + 7)
    assert summary["context"] == "restored"
    assert (seen[0].type, seen[0].sequence) == ("log.gap", kept + 8)
    assert seen[0].data == {"from": kept + 1, "to": kept + 7}
    assemble(to / "log", tmp_path / "after")
    assert whole(tmp_path / "after") == whole(tmp_path / "log")


async def test_a_volume_that_fails_ends_no_turn_and_is_told_until_it_works_again(tmp_path):
    to = tmp_path / "volume"
    async with session(tmp_path, boot=kept_at(to)) as (_, client):
        seen, _ = await turn(client, "one")
        await all_kept(client)
        to.rename(tmp_path / "away")
        to.write_text("no directory")
        seen, summary = await turn(client, "two", offset=seen[-1].sequence)
        assert summary["outcome"] == "completed"
        failed = await health(client, lambda said: said["error"] is not None)
        assert failed["error"]["code"]
        told = await events_until(client, "sandbox.keep_failed", seen[-1].sequence)
        to.unlink()
        (tmp_path / "away").rename(to)
        await turn(client, "three", offset=told[-1].sequence)
        await events_until(client, "sandbox.keep_resumed", told[-1].sequence)
        await health(client, lambda said: said["error"] is None)
        await all_kept(client)
    assemble(to / "log", tmp_path / "after")
    assert whole(tmp_path / "after") == whole(tmp_path / "log")
    assert len(generations(to / "home")) == 2


async def test_a_supervisor_that_was_replaced_shows_nothing_more(tmp_path):
    to = tmp_path / "volume"
    async with session(tmp_path / "a", boot=kept_at(to)) as (_, old):
        seen, _ = await turn(old, "one")
        await all_kept(old)
        past = {"nativeSessionId": (await old.snapshot("ses_x"))["nativeSessionId"], "minSequence": seen[-1].sequence}
        async with session(tmp_path / "b", boot=kept_at(to, 2), cwd=str(tmp_path / "a/project"), **past) as (_, new):
            with suppress(errors.LeaseLost):  # it may have noticed already
                await old.send("ses_x", {"message": "late"})
            await health(old, lambda said: said["error"] and said["error"]["code"] == "lease_lost")
            with pytest.raises(errors.LeaseLost):
                await old.send("ses_x", {"message": "later"})
            await turn(new, "two", offset=seen[-1].sequence)
            await all_kept(new)
    assemble(to / "log", tmp_path / "after")
    assert whole(tmp_path / "after") == whole(tmp_path / "b/log")
    assert LogReader(tmp_path / "after").last_sequence > seen[-1].sequence


async def test_only_the_log_is_kept_where_home_is_on_the_volume_itself(tmp_path):
    to = tmp_path / "volume"
    async with session(tmp_path, boot=kept_at(to, home=False)) as (_, client):
        await turn(client, "one")
        said = await health(client, lambda said: said["logs"]["ses_x"]["kept"])
        assert said["home_at"] is None
    assert sorted(path.name for path in to.iterdir()) == ["log"]


async def test_a_released_session_is_on_the_volume_when_its_release_is_answered(tmp_path):
    to = tmp_path / "volume"
    async with session(tmp_path, boot=kept_at(to), logName="ses_x") as (_, client):
        await turn(client, "one")
        await client.release("ses_x")
        assemble(to / "log", tmp_path / "read")
        assert texts(tmp_path / "read/sessions/ses_x")[-1] == "sandbox.released"
        recipe = mock_recipe()
        body = {"agent": recipe.name, "cwd": str(tmp_path / "project"), "permissionMode": "ask", "logName": "ses_x"}
        await client.create_session("ses_x", body, timeout_s=20)  # the same sandbox takes it up again
        assert (await client.health())["keep"]["logs"]["ses_x"]["last"] > 0


async def test_nobody_sees_a_home_that_cannot_be_restored(tmp_path):
    to = tmp_path / "volume"
    async with session(tmp_path, boot=kept_at(to)) as (_, client):
        await turn(client, "one")
    lose_disk(tmp_path)
    (tmp_path / "home/.mock-agent").parent.mkdir()
    (tmp_path / "home/.mock-agent").write_text("a file in the place of a directory")
    with pytest.raises(errors.AgentctlError, match="mock-agent"):
        async with session(tmp_path, boot=kept_at(to, 2)):
            pass
    assert len(generations(to / "home")) >= 1


async def test_requests_wait_for_home_while_health_is_answered(tmp_path):
    data = archive(("restored", tarfile.REGTYPE, ""))
    kept = tmp_path / "volume/home"
    kept.mkdir(parents=True)
    slow = kept / f"{1:020d}.1.{sha256(data).hexdigest()}.tgz"
    os.mkfifo(slow)
    boot = kept_at(tmp_path / "volume", 2)
    async with supervisor(tmp_path, mock_recipe(), **boot) as running, running.client() as client:
        listing = asyncio.create_task(client.request("GET", "/v1/fs/entries", timeout_s=20))
        assert (await client.health())["keep"]["is_restoring"]
        assert not listing.done()
        await asyncio.to_thread(slow.write_bytes, data)
        assert "restored" in [entry["name"] for entry in await listing]
        slow.unlink()


def test_a_supervisor_that_keeps_nothing_imports_nothing_for_it():
    code = (
        "import sys, agentctl.supervisor.serve, agentctl.supervisor.http_server\n"
        "sys.exit(any(name.startswith('agentctl.supervisor.keep') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
