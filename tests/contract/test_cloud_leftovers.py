"""``cleanup-orphans`` at Daytona and Modal: what the sweep of all providers makes of what was left there."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from agentctl.errors import Conflict
from agentctl.ops import orphans
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.providers.lookup import open_provider, open_sweep
from tests.cli.running import agentctl
from tests.emulators.daytona import Fault

NOW = 0.001
"""Older than that is all that there is."""


@pytest.fixture(params=["daytona", "modal"])
def provider(request):
    return request.getfixturevalue(f"{request.param}_provider")


@pytest.fixture
async def app(paths, provider):
    with App(paths, {**os.environ}) as app:
        yield app
        if provider.name == "modal":
            await app.provider("modal").sdk.close()


async def swept(app, provider, *, origin=None, kind="sandbox", **wanted):
    """(what was done, why) of all of one kind."""
    wanted = orphans.Sweep(origin=origin or app.origin, providers=(provider.name,), **wanted)
    found = await orphans.sweep(app, wanted, lambda _: None)
    return [(one.action, one.reason) for one in found if one.kind == kind]


def of_unknown_age(request, provider, handle):
    """Have the cloud say nothing of when it was made."""
    if provider.name == "modal":
        [sandbox] = [one for one in request.getfixturevalue("modal").control.living() if one.id == handle["modal"]]
        del sandbox.tags["agentctl.created-at"]
        return
    sandbox = request.getfixturevalue("daytona").cloud.sandboxes[handle["daytona"]]
    whole = sandbox.to_json
    sandbox.to_json = lambda url: {name: value for name, value in whole(url).items() if name != "createdAt"}


async def test_an_orphan_is_found_and_deleted_once_and_what_may_be_wanted_is_left(request, app, provider, create):
    lost = await create(labels={"origin": app.origin, "session": "ses_1"})
    theirs = await create(labels={"origin": "another", "session": "ses_2"})

    assert await swept(app, provider, delete=True) == [("skipped", "it is younger than that")]
    assert await swept(app, provider, older_than_s=NOW) == [("would delete", "")]
    assert (await provider.inspect(lost)).status == "running"
    sweeper = open_sweep(provider.name, app.paths)
    found = [one async for one in sweeper.leftovers(app.origin) if one.kind == "sandbox"]
    assert await swept(app, provider, older_than_s=NOW, delete=True) == [("deleted", "")]
    assert await swept(app, provider, older_than_s=NOW, delete=True) == []
    assert (await provider.inspect(lost)).status == "missing"
    for one in found:
        assert await sweeper.leftover_now(one) is None
        await sweeper.remove_leftover(one)

    assert (await provider.inspect(theirs)).status == "running"
    of_unknown_age(request, provider, theirs)
    told = await swept(app, provider, origin="another", older_than_s=NOW, delete=True)
    assert told == [("skipped", "its age is unknown")]
    assert (await provider.inspect(theirs)).status == "running"

    assert [action for action, _ in await swept(app, provider, kind="volume", older_than_s=NOW, delete=True)] == [
        "kept"
    ]
    await provider.remove(theirs)
    told = await swept(app, provider, kind="volume", older_than_s=NOW, delete=True, volumes=True)
    assert [action for action, _ in told] == ["deleted"]
    assert await provider.volume_list() == []
    if provider.name == "modal":
        await sweeper.sdk.close()


@pytest.fixture
def stray(daytona, daytona_provider, monkeypatch):
    """Make a sandbox at Daytona that bears our labels, and nothing runs in."""
    account = daytona.keys[os.environ["DAYTONA_API_KEY"]]

    def make(sandbox_id, *, hours, state="started", installation="another", **labels):
        async def make():
            body = {"name": f"agentctl-{sandbox_id}", "labels": {"agentctl.installation": installation, **labels}}
            sandbox = daytona.cloud.create(account, body)
            sandbox.created_at = time.time() - hours * 3600
            sandbox.become(state)
            return sandbox

        return daytona.call(make)

    return make


def of(sandbox_id, origin="shared"):
    return {"agentctl.sandbox": sandbox_id, "agentctl.label.origin": origin}


def test_only_what_failed_or_shows_no_life_for_long_goes_and_a_deletion_that_fails_is_exit_8(
    daytona, daytona_provider, paths, stray, monkeypatch
):
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(paths.root))
    monkeypatch.setenv("AGENTCTL_ORIGIN", "shared")
    stray("sbx_failed", hours=3, state="build_failed", **of("sbx_failed"))
    stray("sbx_stopped", hours=3, state="stopped", **of("sbx_stopped"))
    stray("sbx_old", hours=30, state="archived", **of("sbx_old"))
    stray("sbx_other", hours=30, state="error", **of("sbx_other", "theirs"))
    stray("fil_1", hours=30, installation=daytona_provider.installation, **{"agentctl.role": "shelf"})
    stray("fil_2", hours=30, **{"agentctl.role": "shelf"})
    daytona.faults.append(Fault("DELETE", "/sandbox/", status=403, message="not yours"))

    done = agentctl("cleanup-orphans", "--provider", "daytona", "--yes", "--json")
    assert done.code == 8, done
    told = {one["id"]: one["action"] for one in done.envelope["error"]["details"]["orphans"]}
    assert sorted(told.values()) == ["deleted", "deleted", "failed", "skipped"]
    assert told["agentctl-sbx_stopped"] == "skipped"
    assert agentctl("cleanup-orphans", "--provider", "daytona", "--yes", "-q").code == 0
    left = [one for one in daytona.cloud.sandboxes.values() if one.labels.get("agentctl.installation")]
    names = {one.name for one in left if one.state not in ("destroying", "destroyed")}
    assert {"agentctl-sbx_stopped", "agentctl-sbx_other", "agentctl-fil_2"} <= names
    assert not names & {"agentctl-sbx_failed", "agentctl-sbx_old", "agentctl-fil_1"}
    for sandbox in left:
        daytona.call(lambda one=sandbox: daytona.cloud._destroy(one))


@pytest.mark.parametrize("provider", ["daytona"], indirect=True)
async def test_a_running_one_of_another_state_directory_is_left_by_its_log_and_one_that_changed_hands_too(
    daytona, paths, create
):
    """Daytona's word is that it was active long ago."""
    handle = await create(labels={"origin": "shared"})
    sandbox = daytona.cloud.sandboxes[handle["daytona"]]
    sandbox.created_at = time.time() - 30 * 3600
    sweeper = open_sweep("daytona", StatePaths(paths.root / "other").ensure())
    [found] = [one async for one in sweeper.leftovers("shared")]
    assert (found.own, found.status, found.active_at) == (False, "running", pytest.approx(sandbox.created_at, abs=1))
    now = await sweeper.leftover_now(found)
    assert time.time() - now.active_at < 60
    sandbox.labels["agentctl.label.session"] = "ses_2"
    with pytest.raises(Conflict):
        await sweeper.leftover_now(found)
    assert replace(now, active_at=None) == replace(found, active_at=None)


@pytest.mark.parametrize("provider", ["docker", "modal"], indirect=True)
async def test_one_of_another_state_directory_that_has_no_session_is_told_by_the_sign_of_its_supervisor(
    paths, provider, create
):
    await create(labels={"origin": "shared"})
    sweeper = open_sweep(provider.name, StatePaths(paths.root / "other").ensure())
    [found] = [one async for one in sweeper.leftovers("shared") if one.kind == "sandbox"]
    assert (found.own, found.status) == (False, "running")
    assert time.time() - found.active_at < 60
    if provider.name == "modal":
        await sweeper.sdk.close()


@pytest.mark.parametrize("provider", ["daytona"], indirect=True)
async def test_a_volume_of_another_state_directory_is_found_by_its_origin_and_left_while_it_may_be_used(
    app, daytona, paths, provider
):
    """As old test machines leave them, of which an account takes a hundred."""
    theirs = open_provider("daytona", StatePaths(paths.root / "other").ensure())
    volume = await theirs.volume_create("data", {"origin": "shared"})
    assert (await theirs.volume_create("data", {"origin": "changed"})).handle == volume.handle
    assert [one.name for one in await theirs.volume_list()] == ["data"]
    assert await provider.volume_list() == []

    async def told(**wanted):
        return await swept(app, provider, kind="volume", older_than_s=NOW, **wanted)

    assert await told(volumes=True, delete=True) == []
    assert [action for action, _ in await told(origin="shared")] == ["kept"]
    account = daytona.keys[os.environ["DAYTONA_API_KEY"]]
    labels = {"agentctl.installation": theirs.installation}
    user = daytona.call(lambda: make(daytona.cloud, account, {"name": "agentctl-user", "labels": labels}))
    unsure = ("skipped", "whether it is in use cannot be told")
    assert await told(origin="shared", volumes=True, delete=True) == [unsure]
    daytona.call(lambda: daytona.cloud._destroy(user))
    assert await told(origin="shared", volumes=True, delete=True) == [("deleted", "")]
    assert await theirs.volume_list() == []


async def make(cloud, account, body):
    return cloud.create(account, body)
