"""What only ``unix_local`` promises: private places, an allow-listed environment, and no process left behind."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agentctl import ids
from agentctl.errors import SandboxError, SupervisorUnreachable, UsageError
from agentctl.paths import StatePaths
from agentctl.providers import prespawn as prespawn_module
from agentctl.providers import unix_local
from agentctl.providers.local_environment import agent_environment, proxy_secrets
from agentctl.providers.lookup import open_provider
from agentctl.providers.prespawn import prespawn
from agentctl.supervisor.processes import ProcessIdentity, marked
from agentctl.wire import SANDBOX_ENV
from tests.contract.conftest import ask_health


@pytest.fixture
def provider(paths):
    return open_provider("unix_local", paths)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Put a few lines in the place of the supervisor: a real process, started and told like the real one."""

    def use(code):
        runtime = tmp_path / "stand-in"
        runtime.mkdir()
        (runtime / "__main__.py").write_text("import json, os, signal, sys, time\n" + textwrap.dedent(code))
        monkeypatch.setattr(prespawn_module, "ensure_runtime", lambda paths: runtime)

    return use


@pytest.fixture
def bystander():
    """Start ``sleep`` with the mark of a sandbox but in a session of its own, as agents' tools do."""
    started = []

    def start(sandbox_id, command=("sleep", "60")):
        process = subprocess.Popen(command, env={**os.environ, SANDBOX_ENV: sandbox_id}, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def nothing_left(paths, sandbox_id):
    # A walk passes over what others remove meanwhile; a glob would raise.
    groups = [place for place, names, _ in os.walk("/sys/fs/cgroup") if f"agentctl-{sandbox_id}" in names]
    return not marked(sandbox_id) and not list(paths.run.iterdir()) and not groups


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# what create makes


async def test_everything_of_a_sandbox_is_private(create, paths, provider, spec_of):
    spec = spec_of()
    handle = await create(spec)
    run_dir = Path(handle["run_dir"])
    assert mode(run_dir) == mode(run_dir / "tmp") == 0o700
    assert mode(run_dir / "token") == mode(run_dir / "labels.json") == mode(run_dir / "supervisor.log") == 0o600
    assert mode(provider.volume_path(spec.volume, spec.home)) == 0o700


async def test_no_secret_is_in_argv_environment_or_files_but_the_token(create, spec_of):
    canary = "canary-5fd1"
    spec = spec_of(agent_env={"API_KEY": canary}, secrets=(canary,))
    handle = await create(spec)
    proc = Path("/proc") / str(handle["pid"])
    for secret in (canary, spec.boot.token):
        assert secret.encode() not in (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    holders = {
        path.name
        for path in Path(handle["run_dir"]).rglob("*")
        if path.is_file() and any(s in path.read_text() for s in (canary, spec.boot.token))
    }
    assert holders == {"token"}


async def test_the_supervisor_outlives_its_starter_in_a_session_of_its_own(create):
    handle = await create()
    assert os.getsid(handle["pid"]) == handle["pid"]
    assert os.readlink(f"/proc/{handle['pid']}/cwd") == handle["run_dir"]


async def test_the_supervisor_inherits_no_descriptor(create):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    await create()
    os.close(write)
    assert os.read(read, 1) == b"", "nobody else holds the pipe"
    os.close(read)


async def test_a_socket_path_too_long_for_the_system_is_moved_to_a_private_place(tmp_path, runtime_root, spec_of):
    deep = StatePaths(tmp_path / ("d" * 60) / ("e" * 60)).ensure()
    deep.runtime.symlink_to(runtime_root)
    provider = unix_local.UnixLocalProvider(deep)
    await provider.volume_create("default")
    handle = await provider.create(spec_of())
    place = Path(handle["socket"]).parent
    try:
        assert len(handle["socket"]) < 100
        assert mode(place) == 0o700
        endpoint, token = await provider.endpoint(handle)
        assert (await ask_health(endpoint, token))[0] == 200
    finally:
        await provider.remove(handle)
    assert not place.exists()
    handle = await provider.create(spec_of())
    process = ProcessIdentity.of(handle["pid"])
    assert (await ask_health(*await provider.endpoint(handle)))[0] == 200
    os.kill(handle["pid"], signal.SIGTERM)
    async with asyncio.timeout(60):
        while process.is_alive():
            await asyncio.sleep(0.02)
    assert not Path(handle["socket"]).parent.exists(), "nobody may ever come who would remove it"
    await provider.remove(handle)


def test_agents_see_only_what_is_allowed():
    user = {
        "PATH": "/bin", "LANG": "C", "LC_TIME": "de", "TZ": "UTC", "https_proxy": "http://p", "HOME": "/home/me",
        "TMPDIR": "/t", "XDG_CONFIG_HOME": "/x", "OPENAI_API_KEY": "k", "SSH_AUTH_SOCK": "/s", "AGENTCTL_MODEL": "m",
    }  # fmt: skip
    env = agent_environment(user, {"MY": "1", "HOME": "/y", "LANG": "fr"}, sandbox_id="sbx_1", home="/h", tmp="/tmp/t")
    assert env == {
        "TERM": "dumb", "PATH": "/bin", "LANG": "fr", "LC_TIME": "de", "TZ": "UTC", "https_proxy": "http://p",
        "MY": "1", "HOME": "/h", "TMPDIR": "/tmp/t", "XDG_CONFIG_HOME": "/h/.config",
        "XDG_DATA_HOME": "/h/.local/share", "XDG_STATE_HOME": "/h/.local/state", "XDG_CACHE_HOME": "/h/.cache",
        SANDBOX_ENV: "sbx_1",
    }  # fmt: skip


def test_the_password_of_a_proxy_is_a_secret():
    assert proxy_secrets({"HTTPS_PROXY": "http://me:p%40ss@proxy:1", "http_proxy": "http://proxy"}) == (
        "p%40ss",
        "p@ss",
    )


# when it does not come up


async def test_a_supervisor_that_dies_is_said_with_the_end_of_its_log(provider, paths, spec_of, stand_in):
    stand_in("""
        boot = json.loads(sys.stdin.readline())
        sys.stderr.write("first\\nthe token is " + boot["token"] + "\\n")
        sys.exit(1)
    """)
    spec = spec_of()
    with pytest.raises(SandboxError) as caught:
        await provider.create(spec)
    assert caught.value.message == "The supervisor ended before it was ready: the token is [redacted]"
    assert spec.boot.token not in json.dumps(caught.value.to_json())
    assert nothing_left(paths, spec.sandbox_id)


@pytest.mark.parametrize(("code", "size"), [("sys.exit(3)", 200_000), ("print('hi', flush=True); time.sleep(60)", 1)])
async def test_a_supervisor_that_does_not_listen_to_boot_is_an_error(provider, paths, spec_of, stand_in, code, size):
    stand_in(code)
    spec = spec_of(secrets=("x" * size,))
    with pytest.raises(SandboxError):
        await provider.create(spec)
    assert nothing_left(paths, spec.sandbox_id)


async def test_a_supervisor_that_hangs_is_given_up(provider, paths, spec_of, stand_in, monkeypatch):
    monkeypatch.setattr(unix_local, "READY_TIMEOUT_S", 0.2)
    stand_in("signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.stdin.readline(); time.sleep(60)")
    spec = spec_of()
    with pytest.raises(SandboxError, match=r"not ready within 0\.2 s"):
        await provider.create(spec)
    assert nothing_left(paths, spec.sandbox_id)


async def test_a_boot_line_larger_than_the_pipe_arrives_whole(provider, create, spec_of, stand_in):
    stand_in("""
        time.sleep(0.1)
        boot = json.loads(sys.stdin.readline())
        size = len(boot["secrets"][0])
        print(size, file=sys.stderr)
        print(json.dumps({"pid": 1, "start_ticks": 1, "boot_id": "b", "listen": {}}), flush=True)
        time.sleep(60)
    """)
    handle = await create(spec_of(secrets=("x" * 300_000,)))
    assert (Path(handle["run_dir"]) / "supervisor.log").read_text() == "300000\n"


async def test_a_cancelled_create_leaves_nothing(provider, paths, spec_of, stand_in):
    stand_in("os.chdir(sys.argv[2]); sys.stdin.readline(); open('told', 'w').close(); time.sleep(60)")
    spec = spec_of()
    task = asyncio.create_task(provider.create(spec))
    while not (paths.run / spec.sandbox_id / "told").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert nothing_left(paths, spec.sandbox_id)


# prespawned


async def test_a_prespawned_supervisor_becomes_the_sandbox(provider, paths, create, spec_of):
    sandbox_id = ids.new_id("sbx")
    spawned = prespawn(paths, sandbox_id)
    provider.use(spawned)
    handle = await create(spec_of(sandbox_id=sandbox_id))
    assert handle["pid"] == spawned.pid
    assert (await provider.inspect(handle)).status == "running"


async def test_a_discarded_prespawned_supervisor_leaves_nothing(paths):
    spawned = prespawn(paths, "sbx_unused")
    spawned.discard()
    spawned.discard()
    assert nothing_left(paths, "sbx_unused")


async def test_a_supervisor_ends_by_itself_when_its_starter_dies_before_boot(paths):
    code = (
        "import sys; from pathlib import Path; from agentctl.paths import StatePaths\n"
        "from agentctl.providers.prespawn import prespawn\n"
        "print(prespawn(StatePaths(Path(sys.argv[1])), 'sbx_orphan').pid, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(paths.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    supervisor = ProcessIdentity.of(int(starter.stdout.readline()))
    starter.kill()
    starter.communicate()
    async with asyncio.timeout(60):
        while supervisor.is_alive():
            await asyncio.sleep(0.01)
    assert (paths.run / "sbx_orphan" / "supervisor.log").read_text() == ""


async def test_what_never_came_up_is_found_without_labels_and_can_be_removed(provider, paths):
    spawned = prespawn(paths, "sbx_orphan")
    [found] = [found async for found in provider.find_by_labels({})]
    assert (found.sandbox_id, found.labels) == ("sbx_orphan", {})
    assert [found async for found in provider.find_by_labels({"origin": "x"})] == []
    await provider.remove(found.handle)
    spawned.discard()
    assert nothing_left(paths, "sbx_orphan")


# how it ends


async def test_a_killed_supervisor_is_stopped_not_missing_and_its_rest_is_counted(provider, create, bystander):
    handle = await create()
    os.kill(handle["pid"], signal.SIGKILL)
    os.waitpid(handle["pid"], 0)
    assert (await provider.inspect(handle)).detail == "the supervisor has ended"
    bystander(Path(handle["run_dir"]).name)
    state = await provider.inspect(handle)
    assert (state.status, state.detail) == ("stopped", "the supervisor is gone; 1 of its processes run on")


async def test_remove_ends_what_left_the_process_tree_and_ignores_signals(provider, create, bystander, monkeypatch):
    monkeypatch.setattr(unix_local, "_LEFTOVER_GRACE_S", 0.1)
    handle = await create()
    os.kill(handle["pid"], signal.SIGKILL)
    sandbox_id = Path(handle["run_dir"]).name
    stubborn = bystander(sandbox_id, ("sh", "-c", "trap '' TERM; while :; do sleep 60; done"))
    other = bystander("sbx_another")
    await provider.remove(handle)
    assert stubborn.wait(timeout=60) == -signal.SIGKILL
    assert other.poll() is None
    assert marked(sandbox_id) == []


async def test_a_pid_that_belongs_to_another_process_by_now_is_left_alone(provider, create, bystander):
    handle = await create()
    stranger = bystander("sbx_another")
    stale = {**handle, "pid": stranger.pid}
    assert (await provider.inspect(stale)).status == "stopped"
    await provider.remove(stale)
    assert stranger.poll() is None


async def test_a_handle_from_another_boot_is_not_alive(provider, create):
    handle = await create()
    assert (await provider.inspect({**handle, "boot_id": "another"})).status != "running"


async def test_a_supervisor_that_does_not_accept_is_unreachable(provider, create):
    handle = await create()
    endpoint, _ = await provider.endpoint(handle)
    Path(handle["socket"]).unlink()
    with pytest.raises(SupervisorUnreachable):
        await endpoint.dial()


@pytest.mark.parametrize("run_dir", ["", "/", "..", "/x/.."])
async def test_a_broken_handle_removes_nothing(provider, create, run_dir):
    handle = await create()
    with pytest.raises(SandboxError):
        await provider.remove({"run_dir": run_dir})
    assert (await provider.inspect(handle)).status == "running"


# volumes on this host


async def test_read_only_directories_do_not_stop_a_removal(provider):
    volume = await provider.volume_create("data")
    cache = provider.volume_path(volume, "go/pkg")
    cache.mkdir(parents=True)
    (cache / "file").write_text("x")
    cache.chmod(0o500)
    cache.parent.chmod(0o500)
    await provider.volume_remove(volume)
    assert await provider.volume_list() == []


async def test_a_symbolic_link_neither_leaves_the_volume_nor_is_followed_in_a_removal(provider, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    volume = await provider.volume_create("data")
    root = provider.volume_path(volume, ".")
    (root / "agents").mkdir()
    for link in ("link", "agents/ses_1"):
        (root / link).symlink_to(outside)
    with pytest.raises(UsageError):
        provider.volume_path(volume, "link/precious")
    await provider.session_remove(volume, "ses_1")
    await provider.volume_remove(volume)
    assert (outside / "precious").read_text() == "x"
