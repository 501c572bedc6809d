"""What is the modal provider's own, on the real SDK and the emulator: requests, errors, faults, what is left behind."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from grpclib.const import Status
from hypothesis import given
from hypothesis import strategies as st
from modal import exception as sdk_exception

from agentctl import errors
from agentctl.compute import Compute, Network
from agentctl.paths import StatePaths
from agentctl.providers.base import SandboxSpec
from agentctl.providers.lookup import open_provider
from agentctl.providers.modal import errors as error_map
from agentctl.providers.modal import loader, sdk, tags, talk
from agentctl.providers.modal.image import image_of
from agentctl.providers.modal.leftovers import ModalSweep
from agentctl.providers.modal.request import lifetime_s
from tests.contract.conftest import ask_health, boot_of
from tests.emulators.modal import Fault


@pytest.fixture
def provider(modal_provider):
    return modal_provider


def nothing_is_left(provider, modal):
    left = [sandbox.name for sandbox in modal.control.living()]
    files = [path.name for path in (provider.paths.modal / "run").glob("*")]
    return (left, files) == ([], [])


async def said_in(provider, handle, *command):
    """What a command says in a sandbox; it is run by Modal, not by the supervisor."""
    sandbox = await provider.sandbox(handle["modal"])
    process = await sandbox.exec.aio(*command)
    said = await process.stdout.read.aio()
    await sandbox.detach.aio()
    return said


# what is asked for


async def test_one_call_makes_all_of_a_sandbox_and_no_secret_is_in_it(provider, create, spec_of, modal):
    spec = spec_of(sandbox_id="sbx_all", labels={"origin": "a/b c", "session": "ses_1"}, secrets=("a-canary",))
    compute = Compute(cpus=1.5, memory_bytes=700 * 1024 * 1024, network="allow", allow=("pypi.org:443",))
    handle = await create(replace(spec, compute=compute))
    made = modal.control.of(handle["modal"])
    wanted = made.definition
    assert (wanted.name, wanted.timeout_secs) == ("agentctl-sbx_all", 24 * 3600)
    assert made.tags["agentctl.sandbox"] == "sbx_all"
    assert made.tags["agentctl.label.origin"] == "a.2fb.20c"
    assert {"agentctl.installation", "agentctl.created-at", "agentctl.expires-at"} <= set(made.tags)
    mounted = {mount.mount_path: (mount.sub_path, mount.read_only) for mount in wanted.volume_mounts}
    assert mounted["/home/agent"] == ("agents/ses_1/home", False)
    assert mounted["/run/agentctl/kept"] == ("agents/ses_1", False)
    assert mounted["/opt/agentctl/agents"] == ("", True)
    assert (wanted.resources.milli_cpu, wanted.resources.milli_cpu_max) == (1500, 1500)
    assert (wanted.resources.memory_mb, wanted.resources.memory_mb_max) == (700, 700)
    assert list(wanted.network_access.allowed_domains) == ["pypi.org"]
    assert modal.calls.count("SandboxCreateV2") == 1
    seen = wanted.SerializeToString() + repr(made.tags).encode()
    for pid in made.machine.pids():
        seen += Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert spec.boot.token.encode() not in seen
    assert b"a-canary" not in seen
    [found] = [found async for found in provider.find_by_labels({"origin": "a/b c"})]
    assert (found.handle, found.labels) == (handle, spec.labels)
    assert abs(found.created_at - made.created_at) < 60


async def test_a_sandbox_reaches_what_its_network_allows_and_the_supervisor_is_reached_in_any_case(
    provider, create, spec_of, modal
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        modal.reach = (port,)
        program = f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {port})))"
        for network, reached in (("open", True), ("none", False)):
            handle = await create(replace(spec_of(), compute=Compute(network=network)))
            assert (await said_in(provider, handle, "python3", "-c", program) == "0\n") is reached
            assert (await ask_health(*await provider.endpoint(handle)))[0] == 200


@pytest.mark.parametrize("place", ["10.0.0.1:443", "[::1]:443", "pypi.org:80"])
async def test_what_modal_cannot_allow_is_refused_before_anything_is_made(provider, spec_of, modal, place):
    network: Network = "allow"
    with pytest.raises(errors.Unsupported) as caught:
        await provider.create(replace(spec_of(), compute=Compute(network=network, allow=(place,))))
    assert place in caught.value.message
    assert "docker" in caught.value.hint
    assert "SandboxCreateV2" not in modal.calls


async def test_a_sandbox_lives_for_a_day_or_as_long_as_it_was_given_and_says_when_it_ends(
    provider, create, spec_of, modal
):
    day = await create()
    made = modal.control.of(day["modal"])
    facts = (await provider.inspect(day)).facts
    assert abs(facts["expires_at"] - (made.created_at + 24 * 3600)) < 60
    modal.run(made._end(made_status("TIMEOUT"), 124, commit=True))
    ended = await provider.inspect(day)
    assert (ended.status, ended.facts["expires_at"]) == ("stopped", facts["expires_at"])
    assert "24 hours" in ended.detail
    with pytest.raises(errors.SandboxNotFound, match="its time was over"):
        await provider.endpoint(day)
    short = spec_of(expires_at=made.created_at + 600)
    assert 600 <= lifetime_s(short) <= 800


def made_status(name):
    from modal_proto import api_pb2

    return getattr(api_pb2.GenericResult, f"GENERIC_STATUS_{name}")


async def test_an_image_is_built_once_and_once_more_when_modal_has_forgotten_it(provider, modal, tmp_path):
    told = []

    async def made(name="python:3.13"):
        image = await image_of(provider.sdk, name, Compute(), tmp_path / "known", lambda what, *_: told.append(what))
        return image.object_id

    image_id = await made()
    lines = [line for image in modal.control.chain(image_id) for line in image.dockerfile_commands]
    assert "FROM python:3.13" in lines
    assert "ENTRYPOINT []" in lines
    modal.calls.clear()
    assert await made() == image_id
    assert modal.calls == ["ImageFromId"]
    assert await made(image_id) == image_id
    del modal.control.images[image_id]
    assert await made() == image_id
    assert told == ["Building the image at Modal"] * 3
    with pytest.raises(errors.NotFound):
        await made("im-nobody-has-this-one")


async def test_a_dockerfile_is_built_and_what_it_sets_reaches_the_agents(provider, create, spec_of, modal, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python:3.12\nENV FROM_IMAGE=yes MODAL_OWN=no\nCOPY data /opt/data\n")
    (tmp_path / "data").write_text("copied")
    compute = Compute(dockerfile=str(tmp_path / "Dockerfile"), network="allow", allow=("pypi.org:443",))
    handle = await create(replace(spec_of(), compute=compute, image=None))
    assert list(modal.control.of(handle["modal"]).definition.network_access.allowed_domains) == ["pypi.org"]
    assert await said_in(provider, handle, "sh", "-c", "cat /opt/data*/* /opt/data 2>/dev/null") == "copied"
    process = (await said_in(provider, handle, "sh", "-c", "cat /proc/1/cmdline /proc/*/environ")).split("\0")
    assert "FROM_IMAGE=yes" in process


@pytest.mark.parametrize("source", ["/etc/hostname", "../outside", "missing"])
async def test_a_dockerfile_that_copies_what_is_not_its_own_or_missing_is_not_built(
    provider, spec_of, modal, tmp_path, source
):
    (tmp_path / "outside").write_text("a secret of this machine")
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text(f"FROM python:3.12\nCOPY {source} /opt/it\n")
    spec = replace(spec_of(), compute=Compute(dockerfile=str(tmp_path / "context" / "Dockerfile")), image=None)
    with pytest.raises((errors.InstallFailed, errors.UsageError), match=r"the (build )?context"):
        await provider.create(spec)
    assert b"a secret of this machine" not in modal.control._files.values()
    assert nothing_is_left(provider, modal)


async def test_an_agent_is_brought_once_and_a_living_sandbox_sees_it(provider, create, modal, tmp_path):
    (tmp_path / "agent" / "bin").mkdir(parents=True)
    (tmp_path / "agent" / "bin" / "run").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "agent" / "bin" / "run").chmod(0o755)
    handle = await create()
    machine = await provider.machine_of(handle)
    assert machine.platform == "linux-x64"
    path = await provider.bring(machine, tmp_path / "agent", "agent/1.0", lambda *_: None)
    assert await said_in(provider, handle, f"{path}/bin/run") == "here\n"
    assert "read-only" in (await said_in(provider, handle, "sh", "-c", f"touch {path}/x 2>&1")).lower()
    sent = modal.calls.count("VolumePutFiles2")
    assert await provider.bring(machine, tmp_path / "agent", "agent/1.0", lambda *_: None) == path
    assert modal.calls.count("VolumePutFiles2") == sent


async def test_what_a_volume_shows_late_is_there_when_the_sandbox_has_left(provider, create, spec_of, modal, files):
    modal.volume_lag = True
    spec = spec_of()
    handle = await create(spec)
    await said_in(provider, handle, "sh", "-c", "echo mine > /home/agent/note")
    assert files.read(spec.volume, f"{spec.home}/note") is None
    await provider.remove(handle)
    assert files.read(spec.volume, f"{spec.home}/note") == "mine\n"


# more machines, more commands


async def test_another_machine_gets_in_by_the_handle_alone(provider, create, tmp_path):
    handle = await create(labels={"origin": "shared"})
    other = open_provider("modal", StatePaths(tmp_path / "other").ensure())
    assert (await ask_health(*await other.endpoint(handle)))[0] == 200
    assert [found.handle async for found in other.find_by_labels({"origin": "shared"})] == [handle]
    assert [found async for found in other.find_by_labels({})] == []
    await other.remove(handle)
    await other.sdk.close()
    assert (await provider.inspect(handle)).status != "running"


async def test_of_two_that_make_the_same_sandbox_one_succeeds(provider, create, spec_of, modal, tmp_path):
    spec = spec_of(sandbox_id="sbx_same")
    other = open_provider("modal", StatePaths(tmp_path / "other").ensure())
    other.paths.runtime.symlink_to(provider.paths.runtime.resolve())
    results = await asyncio.gather(create(spec), other.create(spec), create(spec), return_exceptions=True)
    await other.sdk.close()
    assert [type(result) for result in results].count(dict) == 1
    assert {type(result) for result in results} == {dict, errors.Conflict}
    assert len(modal.control.living()) == 1
    modal.run(modal.control.living()[0].terminate())


async def test_what_is_left_is_found_by_its_origin_and_removed(provider, create, modal, tmp_path):
    mine = await create(labels={"origin": "shared", "session": "ses_1"})
    sweep = ModalSweep(StatePaths(tmp_path / "other").ensure())
    own = ModalSweep(provider.paths)
    [found] = [one async for one in sweep.leftovers("shared")]
    assert (found.kind, found.sandbox_id, found.status, found.own) == ("sandbox", mine["sandbox"], "running", False)
    assert (found.handle, found.labels["session"]) == (mine, "ses_1")
    assert abs(found.created_at - found.active_at) < 60
    assert [one async for one in sweep.leftovers("other")] == []
    [here, volume] = [one async for one in own.leftovers("shared")]
    assert (here.own, volume.kind, volume.id) == (True, "volume", "default")
    assert (await sweep.leftover_now(found)).handle == mine
    await own.remove_leftover(here)
    await own.remove_leftover(here)
    await own.remove_leftover(volume)
    assert await sweep.leftover_now(found) is None
    assert await own.leftover_now(volume) is None
    assert nothing_is_left(provider, modal)
    await sweep.sdk.close()
    await own.sdk.close()


# what goes wrong


def public_errors():
    found = inspect.getmembers(sdk_exception, inspect.isclass)
    return [
        cls
        for name, cls in found
        if cls.__module__ == "modal.exception"
        and not name.startswith("_")
        and issubclass(cls, Exception)
        and not issubclass(cls, Warning)
    ]


@pytest.mark.parametrize("cls", public_errors(), ids=lambda cls: cls.__name__)
def test_every_error_of_the_sdk_becomes_one_of_ours(cls):
    error = cls("what was said", "im-1") if cls is sdk_exception.ImageBuildError else cls("what was said")
    assert isinstance(error, error_map.FOREIGN)
    ours = error_map.translate(error, "do it")
    assert type(ours) is not errors.AgentctlError
    assert ours.message == "Modal could not do it: what was said"
    if cls not in (sdk_exception.Error, sdk_exception.SandboxFilesystemError):
        assert error_map.TABLE.get(cls) or type(ours) is not errors.SandboxError or cls in GENERIC


GENERIC = {
    sdk_exception.RemoteError,
    sdk_exception.WorkspaceManagementError,
    sdk_exception.SnapshotCreationError,
    sdk_exception.LogsFetchError,
    sdk_exception.ExecutionError,
    sdk_exception.DeserializationError,
    sdk_exception.DataLossError,
    sdk_exception.SandboxFilesystemIsADirectoryError,
    sdk_exception.SandboxFilesystemNotADirectoryError,
    sdk_exception.SandboxFilesystemPermissionError,
}
"""Of which there is nothing more to say than that Modal failed."""


@pytest.mark.parametrize(
    ("status", "message", "cls", "exit_code", "hint"),
    [
        (Status.UNAUTHENTICATED, "bad token", errors.CredentialsRejected, 6, "MODAL_TOKEN_SECRET"),
        (Status.PERMISSION_DENIED, "not yours", errors.CredentialsRejected, 6, "MODAL_TOKEN_ID"),
        (Status.RESOURCE_EXHAUSTED, "Workspace sandbox limit reached", errors.QuotaExceeded, 8, "cleanup-orphans"),
        (Status.INVALID_ARGUMENT, "no such region", errors.UsageError, 2, ""),
        (Status.OUT_OF_RANGE, "too much", errors.UsageError, 2, ""),
        (Status.FAILED_PRECONDITION, "not now", errors.Conflict, 10, ""),
        (Status.ABORTED, "somebody else", errors.Conflict, 10, ""),
        (Status.NOT_FOUND, "no such app", errors.NotFound, 4, ""),
        (Status.DATA_LOSS, "gone", errors.SandboxError, 8, ""),
        (Status.UNAVAILABLE, "down", errors.ProviderUnavailable, 8, "status.modal.com"),
        (Status.INTERNAL, "broken", errors.ProviderUnavailable, 8, "status.modal.com"),
    ],
    ids=lambda value: value.name if isinstance(value, Status) else "",
)
async def test_what_modal_refuses_is_one_clear_error_and_nothing_is_left(
    provider, spec_of, modal, status, message, cls, exit_code, hint
):
    modal.faults.append(Fault("SandboxCreateV2", status, message, n=4))
    with pytest.raises(cls) as caught:
        await provider.create(spec_of())
    assert type(caught.value) is cls
    assert caught.value.exit_code == exit_code
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    modal.faults.clear()
    assert nothing_is_left(provider, modal)


async def test_a_rate_limit_is_waited_for_and_not_for_ever(provider, create, spec_of, modal, monkeypatch):
    monkeypatch.setattr(sdk, "BACKOFF_S", (0.01, 0.02))
    limit = Fault("SandboxCreateV2", Status.RESOURCE_EXHAUSTED, "Sandbox creation rate limit (5/s) exceeded", n=2)
    modal.faults.append(limit)
    await create()
    assert limit.n == 0
    limit.n = 3
    with pytest.raises(errors.ProviderUnavailable, match="rate limit") as caught:
        await provider.create(spec_of())
    assert caught.value.retryable


async def test_a_sandbox_whose_making_was_answered_by_an_error_is_taken_over(provider, create, modal):
    modal.faults.append(Fault("SandboxCreateV2", Status.UNAVAILABLE, "the answer was lost", late=True))
    handle = await create()
    assert modal.calls.count("SandboxCreateV2") == 2, "the SDK tries again"
    assert [sandbox.id for sandbox in modal.control.living()] == [handle["modal"]]
    assert (await ask_health(*await provider.endpoint(handle)))[0] == 200


@pytest.mark.parametrize("rpc", ["ImageGetOrCreate", "SandboxCreateV2", "SandboxStdinWriteV2"])
async def test_a_cancelled_creation_leaves_nothing(provider, spec_of, modal, rpc):
    held = Fault(rpc, Status.OK, hold=threading.Event())
    modal.faults.append(held)
    making = asyncio.create_task(provider.create(spec_of()))
    while held.n:
        await asyncio.sleep(0.01)
    making.cancel()
    await asyncio.sleep(0.05)
    making.cancel()
    held.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert nothing_is_left(provider, modal)


@pytest.mark.parametrize("rpc", ["SandboxStdinWriteV2", "SandboxGetCommandRouterAccess"])
async def test_a_start_that_breaks_off_leaves_nothing(provider, spec_of, modal, rpc, monkeypatch):
    monkeypatch.setattr(talk, "END_S", 0.2)
    modal.faults.append(Fault(rpc, Status.PERMISSION_DENIED, "not for you", n=99))
    with pytest.raises(errors.AgentctlError):
        await provider.create(spec_of())
    modal.faults.clear()
    assert nothing_is_left(provider, modal)


async def test_an_image_that_cannot_be_built_or_has_no_python_is_said(provider, spec_of, modal, tmp_path):
    modal.control.broken_images.add("no/such")
    with pytest.raises(errors.InstallFailed, match="no such image") as caught:
        await provider.create(replace(spec_of(), image="no/such:image"))
    assert caught.value.exit_code == 8
    (tmp_path / "Dockerfile").write_text("FROM scratch\nENV PATH=/nowhere\n")
    with pytest.raises(errors.SandboxError, match="ended before it was ready") as caught:
        await provider.create(replace(spec_of(), compute=Compute(dockerfile=str(tmp_path / "Dockerfile"))))
    assert "Python 3.11" in caught.value.hint
    assert nothing_is_left(provider, modal)


async def test_without_a_token_the_variables_are_named(provider, monkeypatch):
    monkeypatch.delenv("MODAL_TOKEN_SECRET")
    with pytest.raises(errors.CredentialsMissing) as caught:
        await provider.check()
    assert caught.value.exit_code == 6
    assert "MODAL_TOKEN_ID" in caught.value.hint
    assert "MODAL_TOKEN_SECRET" in caught.value.hint


async def test_a_wrong_token_is_refused_once_and_for_all(provider, modal, monkeypatch):
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-wrong")
    with pytest.raises(errors.CredentialsRejected):
        await provider.check()
    assert modal.calls == ["ClientHello"]


async def test_a_server_that_does_not_answer_is_not_waited_for(provider, monkeypatch):
    monkeypatch.setattr(sdk, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MODAL_SERVER_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(60):
            with pytest.raises(errors.ProviderUnavailable, match="did not answer") as caught:
                await provider.check()
    assert caught.value.exit_code == 8


async def test_without_the_sdk_the_command_that_installs_it_is_named(provider, monkeypatch):
    monkeypatch.setitem(sys.modules, "modal", None)
    with pytest.raises(errors.ProviderUnavailable, match="needs the package modal") as caught:
        await provider.check()
    assert "pip install 'agentctl[modal]'" in caught.value.hint


async def test_what_the_first_call_is_makes_no_difference_and_a_second_one_may_take_long(provider, modal, monkeypatch):
    monkeypatch.setattr(sdk, "CONNECT_S", 0.4)
    slow = Fault("VolumeList", Status.OK, hold=threading.Event())
    modal.faults.append(slow)
    with pytest.raises(errors.ProviderUnavailable, match="did not answer"):
        await provider.volume_list()
    slow.hold.set()
    monkeypatch.setattr(sdk, "CONNECT_S", 60)
    await provider.check()
    monkeypatch.setattr(sdk, "CONNECT_S", 0.4)
    slow.n, slow.hold = 1, threading.Event()
    listing = asyncio.create_task(provider.volume_list())
    while slow.n:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.6)
    slow.hold.set()
    assert isinstance(await listing, list)


# the real thing


@pytest.mark.slow
async def test_a_sandbox_of_the_real_modal_keeps_every_promise_that_counts(request, paths):
    """``pytest --live modal``, with the token of an account in the environment: it makes one sandbox and one volume."""
    if "modal" not in request.config.getoption("--live"):
        pytest.skip("only with --live modal, and the token of an account")
    provider = open_provider("modal", paths)
    volume = await provider.volume_create("live")
    boot = boot_of("sbx_live")
    spec = SandboxSpec(
        sandbox_id="sbx_live",
        session_id="ses_live",
        volume=volume,
        home="agents/ses_live/home",
        log="agents/ses_live/log",
        boot=boot,
        labels={"origin": "live-test"},
    )
    try:
        handle = await provider.create(spec)
        try:
            assert (await ask_health(*await provider.endpoint(handle)))[0] == 200
            assert [found.handle async for found in provider.find_by_labels({"origin": "live-test"})] == [handle]
            await said_in(provider, handle, "sh", "-c", "echo kept > /home/agent/note")
        finally:
            await provider.remove(handle)
        async with provider.volume_reading(volume, "agents/ses_live/home") as home:
            assert (home / "note").read_text() == "kept\n"
    finally:
        await provider.volume_remove(volume)
        await provider.sdk.close()


# parts


@given(st.text())
def test_any_label_comes_back_as_it_was(text):
    tag = tags.encode(text)
    assert set(tag) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert tag
    assert tags.decode(tag) == text


def test_a_label_that_is_too_long_for_a_tag_is_refused():
    with pytest.raises(errors.UsageError, match="too long"):
        tags.label_tags({"name": "x" * 64})


def run_loader(*, before="", patience=loader.PATIENCE_S, stdin=None):
    text = Path(loader.__file__).read_text().replace(f"PATIENCE_S = {loader.PATIENCE_S}", f"PATIENCE_S = {patience}")
    return subprocess.run(
        [sys.executable, "-IS", "-c", f"{before}\n{text}"], stdin=stdin, capture_output=True, text=True, timeout=30
    )


def test_a_sandbox_that_nobody_tells_what_it_is_for_ends_by_itself():
    reading, writing = socket.socketpair()
    with reading, writing:
        ended = run_loader(patience=1, stdin=reading.fileno())
    assert ended.returncode == -14


def test_a_python_that_is_too_old_says_so():
    ended = run_loader(before="import sys; sys.version_info = (3, 8, 1)", stdin=subprocess.DEVNULL)
    assert ended.returncode == loader.TOO_OLD
    assert "The image has Python 3.8; the supervisor needs 3.11 or newer." in ended.stderr
