"""What is the daytona provider's own, on the real SDK and the emulator: requests, errors, faults, leftovers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import daytona as sdk
import obstore.store
import pytest
from daytona.common import errors as sdk_errors
from daytona_api_client_async import SandboxState

from agentctl import errors
from agentctl.compute import Compute
from agentctl.model import SessionSpec
from agentctl.ops import follow, sandbox_up, sandboxes, sessions
from agentctl.ops.app import App
from agentctl.ops.report import silent
from agentctl.paths import StatePaths
from agentctl.providers.base import RuntimeBuild, quiet
from agentctl.providers.daytona import create as creation
from agentctl.providers.daytona import errors as error_map
from agentctl.providers.daytona import place
from agentctl.providers.daytona.bundle import bundle_of
from agentctl.providers.daytona.states import STATES
from agentctl.providers.lookup import open_provider
from agentctl.supervisor_client import SupervisorClient
from agentctl.wire import Recipe
from tests.cli.running import agentctl
from tests.contract.conftest import ask_health
from tests.emulators.daytona import Fault, contract

GIB = 1024**3
CREATE = {"method": "POST", "path": "/api/sandbox$"}


@pytest.fixture
def provider(daytona_provider):
    return daytona_provider


def made_by(daytona, spec):
    """What was asked for in the one call that made a sandbox."""
    return next(s for s in daytona.cloud.sandboxes.values() if s.name == place.name_of(spec.sandbox_id)).body


async def asked_for(provider, spec, daytona):
    """The same, of one that is not brought up."""
    daytona.cloud.broken = ("error", "it is enough to have asked")
    with pytest.raises(errors.SandboxError, match="it is enough"):
        await provider.create(spec)
    return made_by(daytona, spec)


def is_nothing_left(daytona, provider):
    """Waits for what is being deleted."""
    deadline = time.monotonic() + 60
    while left := [s.name for s in daytona.sandboxes(os.environ["DAYTONA_API_KEY"])]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    return list((provider.paths.daytona / "run").glob("*")) == []


# what is asked for


async def test_one_call_makes_all_of_a_sandbox_and_no_secret_is_in_it(provider, create, spec_of, daytona):
    spec = spec_of(labels={"origin": "org_1", "session": "ses_1"}, secrets=("a-canary",), idle_timeout_s=180)
    await create(spec)
    body = made_by(daytona, spec)
    assert "agentctl.label.origin" in body["labels"]
    assert body["labels"]["agentctl.sandbox"] == spec.sandbox_id
    [mount] = body["volumes"]
    assert (mount["mountPath"], mount["subpath"]) == ("/vol", "agents/ses_1")
    timers = [body[name] for name in ("autoStopInterval", "autoArchiveInterval", "autoDeleteInterval", "ttlMinutes")]
    assert timers == [63, 60, 24 * 60, 7 * 24 * 60]
    said = json.dumps(body)
    assert spec.boot.token not in said
    assert "a-canary" not in said
    assert len([call for call in daytona.log if call[:2] == ("POST", "/api/sandbox")]) >= 1


async def test_neither_token_nor_secret_is_in_a_command_or_left_where_agents_read_it(
    provider, create, spec_of, daytona
):
    spec = spec_of(secrets=("a-canary",))
    handle = await create(spec)
    machine = daytona.cloud.sandboxes[handle["daytona"]].machine
    assert not machine.path(f"{place.RUN}/boot").exists()
    assert machine.path(place.RUN).stat().st_mode & 0o777 == 0o700
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in machine.pids()]
    assert not [
        line for line in [*commands, *daytona.commands] if spec.boot.token.encode() in line or b"canary" in line
    ]


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"image": "snapshot:mine"}, {"snapshot": "mine"}),
        ({"image": "python:3.12"}, {"buildInfo": {"dockerfileContent": "FROM python:3.12\n"}}),
        (
            {"image": "python:3.12", "compute": Compute(cpus=1.5, memory_bytes=3 * GIB // 2)},
            {"cpu": 2, "memory": 2},
        ),
        ({"compute": Compute(network="none")}, {"networkBlockAll": True}),
        (
            {"compute": Compute(network="allow", allow=("pypi.org:443", "*.npmjs.org:443"))},
            {"domainAllowList": "pypi.org,*.npmjs.org"},
        ),
    ],
)
async def test_what_a_sandbox_is_made_from_and_may_reach_is_asked_for(provider, spec_of, daytona, fields, asked):
    daytona.cloud.snapshots["mine"] = None
    body = await asked_for(provider, replace(spec_of(), **fields), daytona)
    assert {name: body.get(name) for name in asked} == asked


async def test_a_dockerfile_and_the_users_own_snapshot_are_taken(provider, spec_of, daytona, tmp_path, monkeypatch):
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM python:3.12\nRUN true\n")
    spec = replace(spec_of(), compute=Compute(dockerfile=str(dockerfile)))
    assert (await asked_for(provider, spec, daytona))["buildInfo"]["dockerfileContent"] == dockerfile.read_text()
    monkeypatch.setenv("DAYTONA_SNAPSHOT", "mine")
    daytona.cloud.snapshots["mine"] = None
    assert (await asked_for(provider, spec_of(), daytona))["snapshot"] == "mine"


@pytest.fixture
def plain_storage(monkeypatch):
    """The SDK sends build contexts by a client that takes TLS and the system's own certificates only, whatever it is
    told: that is the one setting of it that a test has to change to be answered on this machine."""
    from daytona._async import object_storage

    def store(*args, client_options, **more):
        return obstore.store.S3Store(*args, client_options={**client_options, "allow_http": True}, **more)

    monkeypatch.setattr(object_storage, "S3Store", store)


async def test_what_a_dockerfile_copies_is_in_the_sandbox_with_its_network_rules(
    provider, create, spec_of, daytona, tmp_path, plain_storage
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_text("copied")
    (tmp_path / "Dockerfile").write_text("FROM python:3.12\nCOPY data /opt/data\nCOPY data/one /srv/one\n")
    compute = Compute(dockerfile=str(tmp_path / "Dockerfile"), network="allow", allow=("pypi.org:443",), cpus=2)
    for _ in range(2):
        handle = await create(replace(spec_of(), compute=compute))
        one = daytona.cloud.sandboxes[handle["daytona"]]
        assert one.machine.path("/opt/data/one").read_text() == "copied"
        assert one.machine.path("/srv/one").read_text() == "copied"
        assert (one.body["domainAllowList"], one.body["cpu"]) == ("pypi.org", 2)
        assert (await ask_health(*await provider.endpoint(handle)))[0] == 200


@pytest.mark.parametrize(
    ("line", "ignored", "said"), [("ADD data /opt/data", "", "ADD"), ("COPY . /opt/data", "data\n", ".dockerignore")]
)
async def test_what_daytona_would_send_otherwise_than_a_builder_is_refused(
    provider, spec_of, daytona, tmp_path, line, ignored, said
):
    (tmp_path / "data").write_text("not to be sent")
    (tmp_path / ".dockerignore").write_text(ignored)
    (tmp_path / "Dockerfile").write_text(f"FROM python:3.12\n{line}\n")
    with pytest.raises(errors.Unsupported, match=said) as refused:
        await provider.create(replace(spec_of(), compute=Compute(dockerfile=str(tmp_path / "Dockerfile"))))
    assert "docker" in refused.value.hint
    assert ("POST", "/api/sandbox", 200) not in daytona.log[-3:]


@pytest.mark.parametrize("source", ["/etc/hostname", "../outside", "link", "missing"])
async def test_a_dockerfile_that_copies_what_is_not_its_own_or_missing_is_refused(
    provider, spec_of, daytona, tmp_path, source, plain_storage
):
    (tmp_path / "outside").write_text("a secret of this machine")
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "context" / "Dockerfile").write_text(f"FROM python:3.12\nCOPY {source} /opt/it\n")
    spec = replace(spec_of(), compute=Compute(dockerfile=str(tmp_path / "context" / "Dockerfile")))
    with pytest.raises(errors.UsageError) as refused:
        await provider.create(spec)
    assert source in refused.value.message or "outside the build context" in refused.value.message
    assert is_nothing_left(daytona, provider)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"home": "workspaces/shared"}, "whole files"),
        ({"compute": Compute(cpus=2)}, "baked in"),
        ({"compute": Compute(network="allow", allow=("10.0.0.1:443",))}, "10.0.0.1:443"),
        ({"compute": Compute(network="allow", allow=("pypi.org:8080",))}, "pypi.org:8080"),
    ],
)
async def test_what_daytona_cannot_do_is_refused_before_anything_is_made(provider, spec_of, daytona, fields, said):
    spec = replace(spec_of(), **fields)
    before = len(daytona.log)
    with pytest.raises(errors.Unsupported, match=said) as refused:
        await provider.create(spec)
    assert refused.value.exit_code == 2
    assert len(daytona.log) == before


async def test_a_snapshot_that_has_the_supervisor_is_not_sent_it(provider, create, daytona, monkeypatch, tmp_path):
    bundle = await bundle_of(provider.paths)
    monkeypatch.setattr(daytona.cloud, "images", {place.RUNTIME: (bundle.path, "ro")})
    handle = await create()
    assert daytona.uploads[-1] == [f"{place.RUN}/boot", place.TOKEN]
    endpoint, token = await provider.endpoint(handle)
    assert (await ask_health(endpoint, token))[0] == 200


async def test_a_runtime_snapshot_has_supervisor_and_agents_and_is_built_once(
    provider, create, spec_of, daytona, tmp_path, monkeypatch
):
    agent = tmp_path / "agent"
    (agent / "bin").mkdir(parents=True)
    (agent / "bin" / "run").write_text("#!/bin/sh")
    (agent / "bin" / "run").chmod(0o755)
    (agent / "link").symlink_to("bin/run")
    machine = await provider.machine(None, Compute(), quiet)
    path = await provider.bring(machine, agent, "mine/1-abc", quiet)
    recipe = Recipe(name="mine", argv=(f"{path}/bin/run",))
    sent = await create(spec_of(recipes={"mine": recipe}))
    for_this = daytona.cloud.sandboxes[sent["daytona"]].machine
    assert for_this.path(f"{path}/link").readlink() == Path("bin/run")
    assert os.access(for_this.path(f"{path}/bin/run"), os.X_OK)
    built = await provider.build_runtime(RuntimeBuild(), quiet)
    assert built.changed
    again = await provider.build_runtime(RuntimeBuild(), quiet)
    assert (again.tag, again.changed) == (built.tag, False)
    monkeypatch.setenv("DAYTONA_SNAPSHOT", built.tag)
    del daytona.uploads[:]
    await create(spec_of(recipes={"mine": recipe}))
    assert daytona.uploads == [[f"{place.RUN}/boot", place.TOKEN]]
    late = await provider.bring(await provider.machine_of(sent), agent, "mine/2-def", quiet)
    assert for_this.path(f"{late}/bin/run").exists()


# who asks


def test_without_a_key_a_command_says_which_variable_and_makes_nothing(monkeypatch):
    monkeypatch.delenv("DAYTONA_API_KEY", raising=False)
    done = agentctl("run", "hello", "--agent", "mock", "--provider", "daytona", "--json")
    assert done.code == 6
    assert "DAYTONA_API_KEY" in done.err + done.out


async def test_a_strangers_env_file_is_never_read(provider, daytona, tmp_path, monkeypatch):
    """Whatever the SDK looks for in one."""
    package = Path(inspect.getfile(sdk)).parent
    names = {name for path in package.rglob("*.py") for name in re.findall(r"DAYTONA_[A-Z_]+[A-Z]", path.read_text())}
    assert "DAYTONA_TARGET" in names
    for file in (".env", ".env.local"):
        (tmp_path / file).write_text("".join(f"{name}=hostile\n" for name in sorted(names)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAYTONA_TARGET", raising=False)
    before = dict(os.environ)
    await provider.check()
    assert dict(os.environ) == before
    volume = await provider.volume_create("data")
    async with provider.volume_files(volume):
        pass
    assert "hostile" not in json.dumps([s.body for s in daytona.cloud.sandboxes.values()])


async def test_without_the_extra_it_says_how_to_get_it(provider, monkeypatch):
    monkeypatch.setitem(sys.modules, "daytona", None)
    with pytest.raises(errors.ProviderUnavailable) as missing:
        await provider.check()
    assert "pip install 'agentctl[daytona]'" in missing.value.hint
    assert missing.value.exit_code == 8


async def test_a_daytona_that_is_not_there_is_said_soon(provider, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        refused = f"http://127.0.0.1:{deaf.getsockname()[1]}/api"
    monkeypatch.setenv("DAYTONA_API_URL", refused)
    monkeypatch.setattr("agentctl.providers.daytona.client.ATTEMPTS", 2)
    with pytest.raises(errors.ProviderUnavailable):
        await provider.check()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DAYTONA_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        monkeypatch.setattr("agentctl.providers.daytona.provider.FIRST_CONTACT_S", 0.3)
        with pytest.raises(errors.ProviderUnavailable, match="did not answer within"):
            await provider.check()


async def test_another_machine_finds_the_way_in_by_the_sandbox_itself(provider, create, tmp_path):
    handle = await create()
    elsewhere = open_provider("daytona", StatePaths(tmp_path / "elsewhere").ensure())
    endpoint, token = await elsewhere.endpoint(handle)
    assert (await ask_health(endpoint, token))[0] == 200
    await elsewhere.remove(handle)
    assert (await provider.inspect(handle)).status == "missing"


async def test_machines_that_share_an_origin_find_each_others_sandboxes(provider, create, tmp_path):
    await create(sandbox_id="sbx_shared", labels={"origin": "org_1"})
    elsewhere = open_provider("daytona", StatePaths(tmp_path / "elsewhere").ensure())
    assert [found.sandbox_id async for found in elsewhere.find_by_labels({"origin": "org_1"})] == ["sbx_shared"]
    assert [found async for found in elsewhere.find_by_labels({})] == []


# errors


def test_every_error_of_the_sdk_has_a_meaning():
    public = [getattr(sdk, name) for name in dir(sdk) if name.endswith("Error")]
    classes = {cls for cls in public if isinstance(cls, type) and issubclass(cls, Exception)}
    assert {cls for _, cls in inspect.getmembers(sdk_errors, inspect.isclass) if issubclass(cls, Exception)} == classes
    for cls in classes:
        translated = error_map.translate(cls("it went wrong"), "do it")
        assert isinstance(translated, errors.AgentctlError)
        assert translated.message == "Daytona could not do it: it went wrong"
        direct = cls in error_map.TABLE or any(parent in error_map.TABLE for parent in cls.__mro__[1:-4])
        assert direct, f"{cls.__name__} has nothing but the last resort"


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (sdk.DaytonaAuthenticationError, 6),
        (sdk.DaytonaForbiddenError, 6),
        (sdk.DaytonaNotFoundError, 4),
        (sdk.DaytonaConflictError, 10),
        (sdk.DaytonaBadRequestError, 2),
        (sdk.DaytonaRateLimitError, 8),
        (sdk.DaytonaTimeoutError, 3),
        (sdk.DaytonaConnectionTimeoutError, 3),
        (sdk.DaytonaConnectionError, 8),
        (sdk.DaytonaInternalServerError, 8),
    ],
)
def test_an_error_ends_in_its_exit_code(cls, code):
    assert error_map.translate(cls("no"), "do it").exit_code == code


@pytest.mark.parametrize(
    ("text", "cls"),
    [
        ("Total disk limit exceeded. Maximum allowed: 30GiB.", errors.QuotaExceeded),
        ("Total CPU limit exceeded. Maximum allowed: 10.", errors.QuotaExceeded),
        ("Total memory limit exceeded. Maximum allowed: 10GiB.", errors.QuotaExceeded),
        ("Volume quota exceeded", errors.QuotaExceeded),
        ("CPU request 8 exceeds maximum allowed per sandbox (4)", errors.UsageError),
        ("Snapshot nope not found. Did you add it through the Daytona Dashboard?", errors.ImageNotFound),
        ("Volume 'data' is not in a ready state", errors.SandboxError),
        ("something else", errors.UsageError),
    ],
)
def test_a_bad_request_is_told_by_its_text(text, cls):
    translated = error_map.translate(sdk.DaytonaBadRequestError(f"Failed to create sandbox: {text}"), "make it")
    assert type(translated) is cls
    assert translated.message == f"Daytona could not make it: {text}"
    if cls is errors.QuotaExceeded:
        assert (translated.exit_code, "agentctl cleanup-orphans" in translated.hint) == (8, True)


def test_every_state_of_the_sdk_has_a_meaning():
    known = {state.value for state in SandboxState} - {SandboxState.UNKNOWN_DEFAULT_OPEN_API.value}
    assert set(STATES) == known


# faults


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(**CREATE, status=401), 6),
        (Fault(**CREATE, status=403), 6),
        (Fault(**CREATE, status=404), 4),
        (Fault(**CREATE, status=409), 10),
        (Fault(**CREATE, status=400, message="Total disk limit exceeded"), 8),
        (Fault(**CREATE, status=400, message="Snapshot x not found"), 4),
        (Fault(**CREATE, status=429, headers={"Retry-After-sandbox-create": "3600"}), 8),
        (Fault(**CREATE, status=500), 8),
        (Fault(**CREATE, status=502), 8),
        (Fault(**CREATE, status=503), 8),
        (Fault(**CREATE, drop=True), 8),
        (Fault("POST", "process/execute", status=500), 8),
        (Fault("POST", "bulk-upload", status=403, times=9), 6),
        (Fault("POST", "process/execute", delay_s=2.0), 3),
    ],
    ids=lambda value: f"{value.status or 'drop'}-{value.path[-9:]}" if isinstance(value, Fault) else str(value),
)
async def test_a_create_that_fails_says_why_and_leaves_nothing(provider, spec_of, daytona, monkeypatch, fault, code):
    monkeypatch.setattr(creation, "LATE_S", 0.3)
    monkeypatch.setattr("agentctl.providers.daytona.boot.PREPARE_S", -4)  # the SDK waits 5 s longer
    if fault.delay_s == 0:
        monkeypatch.setattr("agentctl.providers.daytona.boot.PREPARE_S", 60)
    spec = spec_of()
    daytona.faults.append(replace(fault))
    with pytest.raises(errors.AgentctlError) as failed:
        await provider.create(spec)
    assert failed.value.exit_code == code, failed.value
    assert is_nothing_left(daytona, provider)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(**CREATE, status=500, after=True),
        Fault(**CREATE, status=504, after=True),
        Fault(**CREATE, status=409, after=True),
        Fault(**CREATE, drop=True, after=True),
        Fault(**CREATE, status=429, headers={"Retry-After-sandbox-create": "0.2"}, times=2),
        Fault("GET", "/api/sandbox/[^/]+$", status=503, times=2),
        Fault("GET", "/api/sandbox/[^/]+$", drop=True),
        Fault("GET", "/api/volumes", delay_s=0.5),
    ],
    ids=lambda f: f"{f.status or ('drop' if f.drop else 'slow')}-{f.method}-{f.path[5:12]}",
)
async def test_what_passes_is_waited_for_and_what_was_made_is_taken_over(provider, create, spec_of, daytona, fault):
    spec = spec_of()
    daytona.cloud.late_s = 0.4 if fault.after else 0.0
    daytona.faults.append(replace(fault))
    handle = await create(spec)
    assert daytona.faults[0].times == 0
    assert [s.name for s in daytona.sandboxes(os.environ["DAYTONA_API_KEY"])] == [place.name_of(spec.sandbox_id)]
    endpoint, token = await provider.endpoint(handle)
    assert (await ask_health(endpoint, token))[0] == 200


async def test_a_create_that_takes_too_long_ends_in_time_and_leaves_nothing(provider, spec_of, daytona, monkeypatch):
    monkeypatch.setattr(creation, "SNAPSHOT_S", 1)
    monkeypatch.setattr(creation, "ADOPT_S", 0.5)
    daytona.cloud.boot_s = 30
    with pytest.raises(errors.DeadlineExceeded) as failed:
        await provider.create(spec_of())
    assert failed.value.exit_code == 3
    assert is_nothing_left(daytona, provider)


async def test_a_sandbox_that_daytona_cannot_start_is_told_and_deleted(provider, spec_of, daytona):
    daytona.cloud.broken = ("error", "no runner has room")
    with pytest.raises(errors.SandboxError, match="no runner has room"):
        await provider.create(spec_of())
    assert is_nothing_left(daytona, provider)


async def test_a_name_that_somebody_else_has_is_a_conflict_and_theirs_stays(provider, create, spec_of, daytona):
    spec = spec_of()
    handle = await create(spec)
    with pytest.raises(errors.Conflict):
        await provider.create(spec)
    endpoint, token = await provider.endpoint(handle)
    assert (await ask_health(endpoint, token))[0] == 200


@pytest.mark.parametrize("when", ["request", "boot", "supervisor"])
async def test_a_create_that_is_cancelled_leaves_nothing(provider, spec_of, daytona, when):
    met = {"request": CREATE, "boot": None, "supervisor": {"method": "POST", "path": "bulk-upload"}}[when]
    if met:
        daytona.faults.append(Fault(**met, delay_s=0.5))
    else:
        daytona.cloud.boot_s = 0.8
    creating = asyncio.create_task(provider.create(spec_of()))
    while not (daytona.faults and daytona.faults[0].times == 0) and not (
        not met and daytona.sandboxes(os.environ["DAYTONA_API_KEY"])
    ):
        await asyncio.sleep(0.01)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert is_nothing_left(daytona, provider)


async def test_a_state_that_lags_behind_is_looked_through(provider, create, spec_of, daytona):
    spec = spec_of()
    handle = await create(spec)
    sandbox = daytona.cloud.sandboxes[handle["daytona"]]
    sandbox.stale = ("starting", 1)
    assert (await provider.inspect(handle)).detail == "it is starting"
    assert (await provider.inspect(handle)).status == "running"
    sandbox.stale = ("starting", 2)
    await provider.remove(handle)
    assert (await provider.inspect(handle)).status == "missing"


@pytest.mark.parametrize("refusal", [401, 307])
async def test_a_token_that_daytona_changes_is_asked_for_again(provider, create, daytona, refusal):
    handle = await create()
    endpoint, token = await provider.endpoint(handle)
    sandbox = daytona.cloud.sandboxes[handle["daytona"]]
    daytona.previews.refusal = refusal
    daytona.call(lambda: daytona.rotate(sandbox))
    async with SupervisorClient(endpoint, token) as client:
        assert (await client.health())["status"] == "ok"
        assert (await client.health())["status"] == "ok"
        daytona.call(lambda: daytona.rotate(sandbox))
        with contextlib.suppress(errors.SupervisorUnreachable):  # it broke off just then
            await client.health()
        assert (await client.health())["status"] == "ok"
    asked = daytona.previews.seen[-1]
    assert b"authorization" not in asked
    assert asked[b"x-daytona-skip-preview-warning"] == b"true"


async def test_a_volume_that_is_ready_late_is_waited_for(provider, spec_of, create, daytona):
    daytona.cloud.volume_lag_s = 0.5
    volume = await provider.volume_create("slow")
    await create(replace(spec_of(), volume=volume))
    with pytest.raises(errors.Conflict):
        await _removed_in_a_moment(provider, volume)


async def _removed_in_a_moment(provider, volume):
    from agentctl.providers.daytona import volumes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(volumes, "IN_USE_S", 0.3)
        await provider.volume_remove(volume)


async def test_a_volume_that_is_on_its_way_out_is_made_anew(provider, daytona):
    first = await provider.volume_create("data")
    before = daytona.volume_path(first.handle["volume"])
    daytona.cloud.volume_lag_s = 0.3
    await provider.volume_remove(first)
    assert await provider.volume_list() == []
    again = await provider.volume_create("data")
    assert again.handle == first.handle
    assert daytona.volume_path(again.handle["volume"]) != before


async def test_a_stopped_and_a_failed_one_are_told_and_removed(provider, create, daytona):
    handle = await create()
    sandbox = daytona.cloud.sandboxes[handle["daytona"]]
    daytona.call(lambda: daytona.cloud.stop(sandbox))
    assert (await provider.inspect(handle)).status == "stopped"
    with pytest.raises(errors.SandboxNotFound):
        await provider.endpoint(handle)
    while sandbox.state != "stopped":
        await asyncio.sleep(0.01)
    sandbox.become("error", "the disk is full")
    state = await provider.inspect(handle)
    assert (state.status, state.detail) == ("stopped", "it failed: the disk is full")
    daytona.faults.append(
        Fault("DELETE", "/api/sandbox", status=409, message="Sandbox state change in progress", times=2)
    )
    await provider.remove(handle)
    assert is_nothing_left(daytona, provider)


# started again


async def in_state(daytona, handle, wanted):
    sandbox = daytona.cloud.sandboxes[handle["daytona"]]
    while sandbox.state != wanted:
        await asyncio.sleep(0.01)
    return sandbox


async def test_a_stopped_or_archived_sandbox_starts_with_its_disk_and_its_door_is_found_again(
    provider, create, spec_of, daytona, tmp_path
):
    spec = spec_of()
    handle = await create(spec)
    endpoint, token = await provider.endpoint(handle)
    elsewhere = open_provider("daytona", StatePaths(tmp_path / "elsewhere").ensure())
    assert (await elsewhere.endpoint(handle))[1] == token
    machine = daytona.cloud.sandboxes[handle["daytona"]].machine
    machine.path("/home/agent/mine").write_text("kept")
    machine.path("/srv/installed").write_text("kept, and on no volume")
    async with SupervisorClient(endpoint, token) as client:
        for archive, state in ((False, "stopped"), (True, "archived")):
            await provider.stop(handle, archive=archive)
            await provider.stop(handle, archive=archive)
            assert (await provider.inspect(handle)).status == "stopped"
            assert (await in_state(daytona, handle, state)).machine.pids() == []
            fencing = 7 + archive
            await provider.start(handle, spec_of(sandbox_id=spec.sandbox_id, fencing=fencing))
            with contextlib.suppress(errors.SupervisorUnreachable):  # the old connection broke off
                await client.health()
            assert (await client.health())["fencing"] == fencing
    assert machine.path("/home/agent/mine").read_text() == "kept"
    assert machine.path("/srv/installed").read_text() == "kept, and on no volume"
    assert daytona.uploads[-1] == [f"{place.RUN}/boot", place.TOKEN]
    assert (await ask_health(*await elsewhere.endpoint(handle)))[0] == 200
    await provider.remove(handle)
    await provider.stop(handle)
    with pytest.raises(errors.SandboxNotFound):
        await provider.start(handle, spec)


async def test_a_supervisor_that_left_is_started_in_place_and_one_that_died_takes_all_else_along(
    provider, create, spec_of, daytona
):
    spec = spec_of()
    handle = await create(spec)
    machine = daytona.cloud.sandboxes[handle["daytona"]].machine
    async with SupervisorClient(*await provider.endpoint(handle)) as client:
        await client.shutdown()
    while (await provider.inspect(handle)).status == "running":
        await asyncio.sleep(0.01)
    stops = [call for call in daytona.log if call[1].endswith("/stop")]
    await provider.start(handle, spec)
    assert [call for call in daytona.log if call[1].endswith("/stop")] == stops
    with subprocess.Popen(machine.argv(["sleep", "1000"])) as escaped:
        assert machine.kill("/runtime/__main__.py serve")
        await provider.start(handle, spec)
        assert (await ask_health(*await provider.endpoint(handle)))[0] == 200
        assert escaped.wait(60) != 0


LIFECYCLE = r"/api/sandbox/[^/]+/(start|stop|recover)$"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", LIFECYCLE, status=409, message="Sandbox state change in progress", times=2),
        Fault("POST", LIFECYCLE, status=500, after=True),
    ],
    ids=["changing", "answered by an error"],
)
async def test_one_in_an_error_that_daytona_can_mend_is_recovered(provider, create, spec_of, daytona, fault):
    spec = spec_of()
    handle = await create(spec)
    await provider.stop(handle)
    sandbox = await in_state(daytona, handle, "stopped")
    sandbox.become("error", "the disk was full", recoverable=True)
    daytona.faults.append(replace(fault))
    await provider.start(handle, spec)
    assert (await ask_health(*await provider.endpoint(handle)))[0] == 200
    assert daytona.faults[0].times == 0


async def test_what_cannot_be_started_again_is_said_to_be_gone_and_what_can_be_later_stays(
    provider, create, spec_of, daytona
):
    spec = spec_of()
    handle = await create(spec)
    await provider.stop(handle)
    sandbox = await in_state(daytona, handle, "stopped")
    daytona.faults.append(
        Fault("POST", LIFECYCLE, status=400, message="Total CPU limit exceeded. Maximum allowed: 10.")
    )
    with pytest.raises(errors.QuotaExceeded):
        await provider.start(handle, spec)
    assert sandbox.state == "stopped"
    daytona.cloud.broken = ("error", "no runner has room")
    with pytest.raises(errors.SandboxNotFound, match="no runner has room"):
        await provider.start(handle, spec)


async def test_a_sandbox_is_paused_where_daytona_can_and_goes_on_where_it_was(provider, create, daytona):
    handle = await create()
    with pytest.raises(errors.Unsupported, match="cannot be paused") as refused:
        await provider.pause(handle)
    assert "sandboxes stop" in refused.value.hint
    daytona.cloud.are_vms = True
    endpoint, token = await provider.endpoint(handle)
    async with SupervisorClient(endpoint, token) as client:
        before = (await client.health())["pid"]
        await provider.pause(handle)
        await provider.pause(handle)
        assert (await provider.inspect(handle)).status == "paused"
        await provider.resume(handle)
        await provider.resume(handle)
        assert (await provider.inspect(handle)).status == "running"
        with contextlib.suppress(errors.SupervisorUnreachable):
            await client.health()
        assert (await client.health())["pid"] == before, "it is the same supervisor"
    await provider.pause(handle)
    await provider.remove(handle)
    with pytest.raises(errors.SandboxNotFound):
        await provider.resume(handle)


async def test_a_sandbox_of_its_own_is_stopped_archived_and_goes_on_with_what_was_in_it(provider, daytona, monkeypatch):
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(provider.paths.root))
    with App.open() as app:
        made = await sandboxes.create(app, SessionSpec(agent="", provider="daytona"), name="box")
        [one] = daytona.sandboxes(os.environ["DAYTONA_API_KEY"])
        assert (await sandboxes.stop(app, "box")).status == "stopped"
        assert (await sandboxes.stop(app, "box", archive=True)).status == "stopped"
        await in_state(daytona, made.sandbox.handle, "archived")
        async with sandbox_up.up(app, app.store.named_sandbox("box"), silent) as client:
            assert (await client.health())["status"] == "ok"
        assert (await sandboxes.restart(app, "box")).handle == made.sandbox.handle
        daytona.call(lambda: daytona.cloud.destroy(one))
        await in_state(daytona, made.sandbox.handle, "destroyed")
        again = await sandboxes.restart(app, "box")
        assert again.handle != made.sandbox.handle
        kinds = [json.loads(line)["type"] for _, line in app.store.sandbox_events(made.sandbox.id)]
        assert kinds == [f"sandbox.{k}" for k in ("created", "started", "stopped", "started", "restarted", "restarted")]
        await sandboxes.delete(app, "box")
    assert is_nothing_left(daytona, provider)


async def test_a_reader_who_waits_for_a_sleeping_session_costs_one_sandbox_and_no_more(provider, daytona, monkeypatch):
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(provider.paths.root))
    monkeypatch.setattr(follow, "LOOK_AGAIN_S", 0.2)
    with App.open() as app:
        session = await sessions.create(app, SessionSpec(agent="mock", provider="daytona"), name="w", provision=False)
        app.store.add_volume(await provider.volume_create("default"))
        session = app.store.update_session(session.id, status="hibernated")
        del daytona.log[:]
        reading = asyncio.create_task(anext(follow.followed(app, session, 0)))
        while not any(call[0] == "DELETE" for call in daytona.log):
            await asyncio.sleep(0.01)
        await asyncio.sleep(5 * follow.LOOK_AGAIN_S)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    made = [call for call in daytona.log if call[:2] == ("POST", "/api/sandbox")]
    assert is_nothing_left(daytona, provider)
    assert len(made) == 1


# the emulator itself


def test_what_is_not_in_the_contract_is_found():
    package = contract.API[0]
    volume = {
        "id": "x", "name": "n", "organizationId": "o", "state": "ready",
        "createdAt": "t", "updatedAt": "t", "errorReason": None,
    }  # fmt: skip
    assert contract.model_faults(package, "VolumeDto", volume) == []
    broken = [
        {k: v for k, v in volume.items() if k != "name"},
        {**volume, "colour": "red"},
        {**volume, "name": 3},
        {**volume, "state": "sunny"},
    ]
    assert [len(contract.model_faults(package, "VolumeDto", one)) > 0 for one in broken] == [True] * 4
    assert contract.model_faults(package, "List[VolumeDto]", [volume]) == []
    op = contract.find(contract.operations(*contract.API), "GET", "/sandbox")
    assert contract.request_faults(op, {"labels", "page"}, "", b"") == ["list_sandboxes: unknown query page"]
    assert contract.answer_faults(op, 218, "", b"") == ["list_sandboxes: undeclared status 218"]


async def test_a_call_that_is_not_emulated_is_told(daytona):
    from agentctl.providers.daytona.client import Account, connected

    async with connected(Account.of()) as client:
        with pytest.raises(sdk.DaytonaError):
            await client.snapshot.list()
    assert daytona.is_clean() == ["not emulated: GET /api/snapshots"]


# from the command line


def test_a_message_is_answered_from_a_cloud_and_nothing_stays_there(daytona, provider, monkeypatch):
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(provider.paths.root))
    done = agentctl("run", "hello", "--agent", "mock", "--provider", "daytona", "--json")
    assert done.code == 0, done.err
    assert "mock: hello" in done.out
    refused = agentctl("run", "hello", "--agent", "mock", "--provider", "daytona", "--workspace", "shared", "--json")
    assert refused.code == 2
    assert "whole files" in refused.out + refused.err
    refused = agentctl("run", "hello", "--agent", "mock", "--provider", "daytona", "--port", "8080", "--json")
    assert refused.code == 2
    assert "docker" in refused.out + refused.err
    assert is_nothing_left(daytona, provider)
