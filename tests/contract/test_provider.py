"""The promises of ``providers/base.py``, kept by every provider there is."""

import json

import pytest

from agentctl import ids
from agentctl.errors import ProviderNotFound, SandboxNotFound, UsageError
from agentctl.providers.lookup import open_provider
from tests.contract.conftest import ask_health


async def found_ids(provider, labels):
    return {found.sandbox_id async for found in provider.find_by_labels(labels)}


async def test_an_unknown_provider_is_answered_with_what_there_is(paths):
    with pytest.raises(ProviderNotFound) as caught:
        open_provider("unix-local", paths)
    assert "Did you mean unix_local?" in caught.value.hint
    assert caught.value.details["providers"] == ["daytona", "docker", "modal", "unix_local"]


async def test_a_usable_backend_passes_its_check(provider):
    await provider.check()


async def test_a_created_sandbox_answers_at_its_endpoint_with_its_token_and_with_no_other(provider, create, spec_of):
    spec = spec_of(fencing=7)
    endpoint, token = await provider.endpoint(await create(spec))
    assert token == spec.boot.token
    status, health = await ask_health(endpoint, token)
    assert status == 200
    assert (health["status"], health["sandbox_id"], health["fencing"]) == ("ok", spec.sandbox_id, 7)
    status, _ = await ask_health(endpoint, "wrong")
    assert status == 401


async def test_a_handle_is_json_and_enough_for_another_process(provider, create, paths):
    handle = json.loads(json.dumps(await create()))
    other = open_provider(provider.name, paths)
    assert (await other.inspect(handle)).status == "running"
    endpoint, token = await other.endpoint(handle)
    assert (await ask_health(endpoint, token))[0] == 200
    await other.remove(handle)
    assert (await provider.inspect(handle)).status == "missing"


@pytest.mark.parametrize("at_once", [False, True], ids=["in good order", "at once"])
async def test_a_removed_sandbox_is_missing_has_no_endpoint_and_no_log_and_is_removed_again(provider, create, at_once):
    handle = await create()
    assert len(await provider.logs(handle, max_bytes=10)) <= 10
    for _ in range(2):
        await provider.remove(handle, at_once=at_once)
        assert (await provider.inspect(handle)).status == "missing"
        with pytest.raises(SandboxNotFound):
            await provider.endpoint(handle)
        with pytest.raises(SandboxNotFound):
            await provider.logs(handle, max_bytes=10)


async def test_removing_a_sandbox_keeps_its_volume(provider, create, spec_of, files):
    spec = spec_of()
    handle = await create(spec)
    files.write(spec.volume, f"{spec.home}/kept.txt", "mine")
    await provider.remove(handle)
    assert files.read(spec.volume, f"{spec.home}/kept.txt") == "mine"


async def test_sandboxes_are_found_by_all_of_their_labels(provider, create):
    handle = await create(sandbox_id="sbx_one", labels={"origin": "test", "session": "ses_1"})
    await create(sandbox_id="sbx_two", labels={"origin": "test", "session": "ses_2"})
    assert await found_ids(provider, {"origin": "test"}) == {"sbx_one", "sbx_two"}
    assert await found_ids(provider, {"origin": "test", "session": "ses_1"}) == {"sbx_one"}
    assert await found_ids(provider, {"origin": "other"}) == set()
    [found] = [found async for found in provider.find_by_labels({"session": "ses_1"})]
    assert found.handle == handle
    assert found.labels == {"origin": "test", "session": "ses_1"}
    await provider.remove(found.handle)
    assert await found_ids(provider, {}) == {"sbx_two"}


# volumes


async def test_creating_a_volume_twice_gives_the_same_volume(provider):
    labels = {"origin": "test", "owner": "me.here", "created-at": "1", "version": "1", "another": "not a volume's"}
    first = await provider.volume_create("data", labels)
    for again in (await provider.volume_create("data", {"origin": "changed"}), await provider.volume_create("data")):
        assert (first.name, first.provider, first.handle) == (again.name, provider.name, again.handle)
    assert [volume.handle for volume in await provider.volume_list()] == [first.handle]


async def test_a_bad_volume_name_is_refused(provider):
    for name in ("", "..", "a/b", "UPPER", ".hidden", "x" * 65):
        with pytest.raises(UsageError):
            await provider.volume_create(name)
    assert await provider.volume_list() == []


async def test_volumes_are_listed_by_name_and_removed_with_all_in_them(provider):
    for name in ("b", "a"):
        await provider.volume_create(name)
    volume = await provider.volume_create("b")
    assert [v.name for v in await provider.volume_list()] == ["a", "b"]
    await provider.volume_remove(volume)
    await provider.volume_remove(volume)
    assert [v.name for v in await provider.volume_list()] == ["a"]


async def test_a_path_that_leaves_the_volume_is_refused(provider):
    volume = await provider.volume_create("data")
    for relative in ("/etc/passwd", "../other", "a/../../b", "~/x", "a\0b"):
        with pytest.raises(UsageError):
            provider.volume_path(volume, relative)


async def test_removing_a_session_takes_its_home_and_log_only(provider, create, spec_of, files):
    spec = spec_of()
    volume = spec.volume
    await provider.remove(await create(spec))
    for session in ("ses_1", "ses_2"):
        files.write(volume, f"agents/{session}/home/file", "x")
    await provider.session_remove(volume, "ses_1")
    await provider.session_remove(volume, "ses_1")
    assert files.read(volume, "agents/ses_1/home/file") is None
    assert files.read(volume, "agents/ses_2/home/file") == "x"
    with pytest.raises(UsageError):
        await provider.session_remove(volume, "../ses_2")


async def test_a_home_outside_the_volume_is_refused_and_nothing_is_left(provider, spec_of):
    from dataclasses import replace

    with pytest.raises(UsageError):
        await provider.create(replace(spec_of(sandbox_id=ids.new_id("sbx")), home="../../elsewhere"))
    assert await found_ids(provider, {}) == set()


async def test_what_is_on_a_volume_can_be_read_without_a_sandbox(provider, create, spec_of, files):
    spec = spec_of()
    await provider.remove(await create(spec))
    files.write(spec.volume, f"{spec.log}/part/segment", "line")
    async with provider.volume_reading(spec.volume, spec.log) as directory:
        assert (directory / "part" / "segment").read_text() == "line"
    async with provider.volume_reading(spec.volume, "agents/ses_none/log") as directory:
        assert not directory.exists()
    with pytest.raises(UsageError):
        async with provider.volume_reading(spec.volume, "../elsewhere"):
            pass
