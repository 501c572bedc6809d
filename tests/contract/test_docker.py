"""What only ``docker`` promises: walls, doors, images, and an engine in which nothing is left."""

import asyncio
import hashlib
import json
import os
import socket
import sys
import textwrap
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from docker import errors as sdk

from agentctl import errors
from agentctl.compute import Compute, Mount, Port
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.docker import images as docker_images
from agentctl.providers.docker import runtime as docker_runtime
from agentctl.providers.docker import start as docker_start
from agentctl.providers.docker.engine import engine_url
from agentctl.providers.docker.errors import TABLE, translate
from agentctl.providers.lookup import open_provider
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.files import FilesClient
from agentctl.supervisor_client.processes import Processes
from tests.contract.conftest import ask_health
from tests.docker import images
from tests.docker.relay import Relay
from tests.docker.support import everything_of, installation


@pytest.fixture
def provider(docker_provider):
    return docker_provider


@pytest.fixture
def nothing_left(docker_api, paths):
    """Whether nothing of a failed create is in the engine or on this host; the volume stays."""

    def check():
        containers, volumes = everything_of(docker_api, installation(paths))
        run = paths.docker / "run"
        return not containers and all(name.endswith("-default") for name in volumes) and not list(run.glob("*"))

    return check


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Put a few lines in the place of the supervisor."""

    def use(code):
        runtime = tmp_path / "stand-in"
        runtime.mkdir()
        (runtime / "__main__.py").write_text("import json, os, sys, time\n" + textwrap.dedent(code))
        monkeypatch.setattr(docker_start, "runtime_for", lambda paths, engine, image: runtime)

    return use


@asynccontextmanager
async def talking(provider, handle):
    endpoint, token = await provider.endpoint(handle)
    async with SupervisorClient(endpoint, token) as client:
        yield client


async def run(provider, handle, script):
    """What a command of the user prints in the sandbox."""
    async with talking(provider, handle) as client:
        done = await Processes(client).run({"command": "sh", "args": ["-c", script]})
        return done["stdout"].strip()


# an engine that cannot be used


async def test_without_an_engine_check_says_how_to_get_one(provider, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    with pytest.raises(errors.ProviderUnavailable) as caught:
        await provider.check()
    assert caught.value.exit_code == 8
    assert f"unix://{tmp_path}/none" in caught.value.message
    assert "No such file" in caught.value.message
    assert "systemctl start docker" in caught.value.hint


async def test_without_the_sdk_check_says_how_to_get_it(provider, monkeypatch):
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "docker", None)
        with pytest.raises(errors.ProviderUnavailable) as caught:
            await provider.check()
    assert "agentctl[docker]" in caught.value.hint


async def test_an_engine_that_hangs_is_given_up(provider, monkeypatch, tmp_path):
    monkeypatch.setattr("agentctl.providers.docker.engine.CALL_TIMEOUT_S", 0.2)
    monkeypatch.chdir(tmp_path)  # whose path may be too long for a socket's
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("hanging")
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix:///proc/{os.getpid()}/cwd/hanging")
        with pytest.raises(errors.ProviderUnavailable, match="did not answer in time"):
            await provider.check()


def test_the_engine_of_the_docker_commands_context_is_meant(tmp_path):
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"colima").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "unix:///x.sock"}}}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "colima"}))
    assert engine_url({"DOCKER_CONFIG": str(tmp_path)}) == "unix:///x.sock"
    assert engine_url({"DOCKER_CONFIG": str(tmp_path), "DOCKER_HOST": "tcp://h:1"}) == "tcp://h:1"
    assert engine_url({"DOCKER_CONFIG": str(tmp_path / "none")}) == "unix:///var/run/docker.sock"


def test_every_public_error_of_the_sdk_has_a_translation():
    public = [one for one in vars(sdk).values() if isinstance(one, type) and issubclass(one, Exception)]
    own = [one for one in public if one.__module__ == "docker.errors"]
    assert [one.__name__ for one in own if one not in TABLE] == []
    for kind in own:
        ours = translate(_made(kind), "do it", "unix:///x")
        assert isinstance(ours, errors.AgentctlError)
        assert "why" in ours.message


def _made(kind):
    """An error of the SDK, whatever its class wants to be told."""
    for count in range(1, 6):
        with suppress(TypeError):
            return kind(*["why"] * count)
    raise AssertionError(f"{kind} cannot be made")


# images


async def test_a_missing_image_is_named_and_nothing_is_left(provider, spec_of, nothing_left):
    with pytest.raises(errors.ImageNotFound) as caught:
        await provider.create(replace(spec_of(), image="no/such-image:1"))
    assert "no/such-image:1" in caught.value.message
    assert "docker pull no/such-image:1" in caught.value.hint
    assert nothing_left()


async def test_an_image_without_python_is_refused_and_nothing_is_left(provider, spec_of, nothing_left, docker_api):
    with pytest.raises(errors.UsageError, match="no python3"):
        await provider.create(replace(spec_of(), image=images.without_python(docker_api)))
    assert nothing_left()


async def test_no_image_at_all_names_the_option(provider, spec_of, nothing_left):
    with pytest.raises(errors.UsageError) as caught:
        await provider.create(replace(spec_of(), image=None))
    assert "--image" in caught.value.hint
    assert nothing_left()


# when it does not come up


async def test_a_supervisor_that_dies_is_said_with_the_end_of_its_log(provider, spec_of, stand_in, nothing_left):
    stand_in("""
        boot = json.loads(sys.stdin.readline())
        sys.stderr.write("first\\nthe token is " + boot["token"] + "\\n")
        sys.exit(1)
    """)
    spec = spec_of()
    with pytest.raises(errors.SandboxError) as caught:
        await provider.create(spec)
    assert caught.value.message == "The supervisor ended before it was ready: the token is [redacted]"
    assert spec.boot.token not in json.dumps(caught.value.to_json())
    assert nothing_left()


async def test_a_supervisor_that_hangs_is_given_up(provider, spec_of, stand_in, nothing_left, monkeypatch):
    monkeypatch.setattr(docker_start, "READY_TIMEOUT_S", 0.5)
    stand_in("sys.stdin.readline(); time.sleep(60)")
    with pytest.raises(errors.SandboxError, match=r"not ready within 0\.5 s"):
        await provider.create(spec_of())
    assert nothing_left()


async def test_a_boot_line_of_megabytes_arrives_whole(provider, create, spec_of):
    spec = spec_of(secrets=("x" * 3_000_000,))
    endpoint, token = await provider.endpoint(await create(spec))
    assert (await ask_health(endpoint, token))[0] == 200


@pytest.mark.parametrize("moment", [0.02, 0.1, 0.25, 0.4])
async def test_a_cancelled_create_leaves_nothing_at_any_moment(provider, spec_of, nothing_left, moment):
    task = asyncio.create_task(provider.create(spec_of()))
    await asyncio.wait([task], timeout=moment)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await provider.remove(await task)
    assert nothing_left()


async def test_a_container_of_another_with_the_same_name_stays(
    provider, spec_of, nothing_left, docker_api, docker_image
):
    spec = spec_of()
    name = f"agentctl-{spec.sandbox_id}"
    other = docker_api.create_container(docker_image, name=name)["Id"]
    try:
        with pytest.raises(errors.Conflict, match=name):
            await provider.create(spec)
        assert docker_api.inspect_container(name)["Id"] == other
        assert nothing_left()
    finally:
        docker_api.remove_container(other)


async def test_two_creates_of_one_id_give_one_sandbox(provider, create, spec_of):
    spec = spec_of()
    handle = await create(spec)
    with pytest.raises(errors.Conflict):
        await provider.create(spec)
    assert (await provider.inspect(handle)).status == "running"
    assert await run(provider, handle, "echo up") == "up"


async def test_a_port_that_is_taken_is_said_and_nothing_is_left(provider, spec_of, nothing_left):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(errors.SandboxError, match=str(port)):
            await provider.create(replace(spec_of(), compute=Compute(ports=(Port(container=8080, host=port),))))
    assert nothing_left()


async def test_a_mount_of_what_is_not_there_is_said_and_nothing_is_left(provider, spec_of, nothing_left, tmp_path):
    mount = Mount(source=str(tmp_path / "none"), target="/data")
    with pytest.raises(errors.SandboxError, match="none"):
        await provider.create(replace(spec_of(), compute=Compute(mounts=(mount,))))
    assert nothing_left()


async def test_a_limit_that_the_host_cannot_give_is_said_and_nothing_is_left(provider, spec_of, nothing_left):
    with pytest.raises(errors.SandboxError, match=r"(?i)memory"):
        await provider.create(replace(spec_of(), compute=Compute(memory_bytes=1024)))
    assert nothing_left()


async def test_a_volume_of_another_engine_is_refused(provider, spec_of, nothing_left):
    volume = Volume(
        name="default", provider="docker", handle={"engine": "tcp://elsewhere:1", "volume": "x"}, created_at=0
    )
    with pytest.raises(errors.Conflict, match="tcp://elsewhere:1"):
        await provider.create(replace(spec_of(), volume=volume))
    assert nothing_left()


# walls


async def test_the_agents_user_has_no_power_and_cannot_reach_the_supervisor(provider, create):
    handle = await create()
    told = await run(
        provider,
        handle,
        """
        id -u; id -g; id -G; pwd
        grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status | tr -s '\\t ' ' '
        for path in /run/agentctl /run/agentctl/door /run/agentctl/log /proc/1/environ; do
            ls $path >/dev/null 2>&1 && cat $path >/dev/null 2>&1 && echo "reads $path"
        done
        for pid in $(pgrep -f serve); do
            kill -0 $pid 2>/dev/null && echo "signals $pid"; cat /proc/$pid/environ 2>/dev/null && echo "reads $pid"
        done
        touch /opt/agentctl/runtime/x 2>/dev/null && echo "writes the runtime"
        echo end
        """,
    )
    assert told.splitlines() == [
        *("1000", "1000", "1000", "/home/agent"),
        *("CapInh: 0000000000000000", "CapPrm: 0000000000000000", "CapEff: 0000000000000000"),
        *("CapAmb: 0000000000000000", "NoNewPrivs: 1", "end"),
    ]


async def test_files_are_made_as_the_agents_user_and_nothing_else_is_reached(provider, create):
    handle = await create()
    async with talking(provider, handle) as client:
        files = FilesClient(client, "/home/agent")

        async def chunks():
            yield b"content"

        await files.write("made.txt", chunks())
        await files.mkdir("directory")
        for forbidden in ("/etc/planted", "/run/agentctl/log/planted", "/opt/agentctl/runtime/planted"):
            with pytest.raises(errors.AgentctlError):
                await files.write(forbidden, chunks())
        await Processes(client).run({"command": "ln", "args": ["-s", "/etc", "/home/agent/link"]})
        with pytest.raises(errors.AgentctlError):
            await files.write("link/planted", chunks())
        with pytest.raises(errors.AgentctlError):
            await files.entries("/run/agentctl/log")
    owners = await run(provider, handle, "stat -c '%n %u %g' made.txt directory; ls /etc | grep planted")
    assert owners.splitlines() == ["made.txt 1000 1000", "directory 1000 1000"]


async def test_the_container_is_hardened(provider, create, docker_api):
    handle = await create()
    about = docker_api.inspect_container(handle["container"])
    host = about["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert sorted(host["CapAdd"]) == ["KILL", "SETGID", "SETUID"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["PidsLimit"], host["Init"], host["Privileged"]) == (512, True, False)
    assert host["LogConfig"]["Config"] == {"max-size": "1m", "max-file": "2"}
    assert not any("docker.sock" in mount["Source"] for mount in about["Mounts"])
    writable = {mount["Destination"] for mount in about["Mounts"] if mount["RW"]}
    assert writable == {"/home/agent", "/run/agentctl/log", "/run/agentctl/door"}


async def test_limits_ports_and_mounts_are_what_was_asked_for(provider, create, spec_of, docker_api, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("from the host")
    spec = replace(
        spec_of(),
        compute=Compute(
            cpus=1.5,
            memory_bytes=256 * 1024 * 1024,
            pids=64,
            ports=(Port(container=8080),),
            mounts=(Mount(source=str(tmp_path / "shared"), target="/shared"),),
            read_only=True,
        ),
    )
    handle = await create(spec)
    host = docker_api.inspect_container(handle["container"])["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (1_500_000_000, 256 * 1024 * 1024, 64)
    assert host["MemorySwap"] == host["Memory"]
    [published] = (await provider.inspect(handle)).facts["ports"].items()
    assert published[0] == "8080/tcp"
    assert published[1].startswith("127.0.0.1:")
    script = "cat /shared/file; touch /shared/x /etc/x 2>/dev/null || echo; touch /tmp/x ~/x && echo writes"
    assert (await run(provider, handle, script)).split("\n") == ["from the host", "writes"]


async def test_a_sandbox_without_network_has_none_and_is_reached_all_the_same(provider, create, spec_of):
    handle = await create(replace(spec_of(), compute=Compute(network="none")))
    assert await run(provider, handle, "ls /sys/class/net") == "lo"


async def test_no_secret_is_in_the_engine_or_on_this_host_but_the_token(provider, create, spec_of, docker_api, paths):
    canary = "canary-5fd1"
    spec = spec_of(agent_env={"API_KEY": canary}, secrets=(canary,))
    handle = await create(spec)
    told = json.dumps(docker_api.inspect_container(handle["container"]))
    told += docker_api.logs(handle["container"]).decode() + json.dumps(handle)
    assert "API_KEY" not in told
    assert canary not in told
    assert spec.boot.token not in told
    run_dir = paths.docker / "run" / spec.sandbox_id
    secrets = (canary, spec.boot.token)
    holders = [p.name for p in run_dir.rglob("*") if p.is_file() and any(s in p.read_text() for s in secrets)]
    assert holders == ["token"]
    assert run_dir.stat().st_mode & 0o777 == 0o700
    assert (run_dir / "token").stat().st_mode & 0o777 == 0o600
    assert await run(provider, handle, "cat /proc/1/environ /proc/*/cmdline 2>/dev/null | grep -c canary-5f[d]1") == "0"


# homes


async def test_a_session_sees_its_own_home_and_not_the_volume(provider, create, spec_of, docker_api, files):
    spec = spec_of()
    one = await create(spec)
    await run(provider, one, "echo mine > ~/mine")
    other = await create(replace(spec_of(), home="agents/ses_2/home", log="agents/ses_2/log"))
    assert await run(provider, other, "ls -A ~; find / -name mine 2>/dev/null; ls / | grep volume") == ""
    sources = {m["Name"] for m in docker_api.inspect_container(one["container"])["Mounts"] if m["Type"] == "volume"}
    assert spec.volume.handle["volume"] not in sources
    assert files.read(spec.volume, f"{spec.home}/mine") == "mine\n"


async def test_two_sandboxes_of_one_workspace_see_each_others_writes(provider, create, spec_of):
    one = await create(replace(spec_of(), home="workspaces/shared", log="agents/ses_1/log"))
    other = await create(replace(spec_of(), home="workspaces/shared", log="agents/ses_2/log"))
    await run(provider, one, "echo hello > ~/letter")
    assert await run(provider, other, "cat ~/letter && echo back >> ~/letter") == "hello"
    assert await run(provider, one, "tail -n 1 ~/letter") == "back"


async def test_a_removed_volume_is_made_again(provider, create, spec_of):
    spec = spec_of()
    await provider.volume_remove(spec.volume)
    assert await run(provider, await create(spec), "pwd") == "/home/agent"


async def test_the_files_of_a_volume_are_reached_without_a_sandbox(provider, create, spec_of, nothing_left):
    spec = spec_of()
    handle = await create(spec)
    await run(provider, handle, "mkdir -m 700 ~/private && echo text > ~/private/file; ln -s /etc ~/out")
    await provider.remove(handle)

    async def chunks():
        yield b"from outside"

    async with provider.volume_files(spec.volume) as door, SupervisorClient(door.endpoint, door.token) as client:
        volume = FilesClient(client, door.root)
        assert {entry["name"] for entry in await volume.entries(".")} == {"agents"}
        async with volume.read(f"{spec.home}/private/file") as reading:
            assert b"".join([chunk async for chunk in reading.chunks]) == b"text\n"
        await volume.write("workspaces/new/file", chunks())
        for path in (f"{spec.home}/out/passwd", "../etc/passwd", "/etc/passwd"):
            with pytest.raises(errors.AgentctlError):
                async with volume.read(path):
                    pass
    assert nothing_left()
    again = await create(replace(spec_of(), home="workspaces/new"))
    assert await run(provider, again, "cat ~/file; stat -c %u ~/file") == "from outside1000"


async def test_the_files_of_a_volume_that_is_gone_are_not_found(provider, spec_of, nothing_left):
    spec = spec_of()
    await provider.volume_remove(spec.volume)
    with pytest.raises(errors.VolumeNotFound):
        async with provider.volume_files(spec.volume):
            pass
    assert nothing_left()


# how it ends


async def test_a_killed_container_is_stopped_with_its_reason(provider, create, docker_api):
    handle = await create()
    docker_api.kill(handle["container"])
    docker_api.wait(handle["container"])
    state = await provider.inspect(handle)
    assert (state.status, state.detail) == ("stopped", "the container ended with exit code 137")
    with pytest.raises(errors.SandboxNotFound, match="exit code 137"):
        await provider.endpoint(handle)


async def test_a_paused_sandbox_is_paused_and_goes_on(provider, create, docker_api):
    handle = await create()
    await provider.pause(handle)
    await provider.pause(handle)
    assert (await provider.inspect(handle)).status == "paused"
    with pytest.raises(errors.SandboxNotFound, match="paused"):
        await provider.endpoint(handle)
    await provider.resume(handle)
    await provider.resume(handle)
    assert await run(provider, handle, "echo on") == "on"


async def test_a_paused_sandbox_can_be_removed(provider, create, nothing_left):
    handle = await create()
    await provider.pause(handle)
    await provider.remove(handle, at_once=True)
    assert nothing_left()


async def test_what_somebody_removed_without_its_volumes_is_missing_and_swept(
    provider, create, docker_api, nothing_left
):
    handle = await create()
    docker_api.remove_container(handle["container"], force=True)
    assert (await provider.inspect(handle)).status == "missing"
    with pytest.raises(errors.SandboxNotFound):
        await provider.endpoint(handle)
    await provider.remove(handle)
    assert nothing_left()


async def test_the_supervisor_says_on_its_log_what_it_has_to_say(provider, create):
    handle = await create()
    assert isinstance(await provider.logs(handle, max_bytes=1000), bytes)
    await provider.remove(handle)
    with pytest.raises(errors.SandboxNotFound):
        await provider.logs(handle, max_bytes=1000)


async def test_sandboxes_of_another_installation_are_not_found(provider, create, tmp_path):
    await create(labels={"origin": "test"})
    other = open_provider("docker", StatePaths(tmp_path / "other").ensure())
    assert [found async for found in other.find_by_labels({"origin": "test"})] == []
    assert await other.volume_list() == []


# doors


async def test_a_local_engine_is_reached_by_the_socket(provider, create):
    facts = (await provider.inspect(await create())).facts
    assert facts["boundary"] == "uid"
    assert facts["transport"].startswith("unix socket ")


async def test_a_deep_state_directory_is_no_trouble_for_the_socket(tmp_path, paths, provider, spec_of, docker_api):
    deep = StatePaths(tmp_path / ("d" * 60) / ("e" * 60)).ensure()
    deep.runtime.symlink_to(paths.runtime.resolve())
    other = open_provider("docker", deep)
    volume = await other.volume_create("default")
    handle = await other.create(replace(spec_of(), volume=volume))
    try:
        assert (await other.inspect(handle)).facts["transport"].startswith("unix socket ")
        assert await run(other, handle, "echo deep") == "deep"
    finally:
        await other.remove(handle)
        await other.volume_remove(volume)


async def test_an_engine_elsewhere_is_reached_by_a_bridge(docker_engine, paths, provider, spec_of, monkeypatch):
    with Relay(docker_engine.host.removeprefix("unix://")) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        remote = open_provider("docker", paths)
        assert not remote.capabilities.local_volumes
        volume = await remote.volume_create("default")
        handle = await remote.create(replace(spec_of(), volume=volume, compute=Compute(read_only=True)))
        try:
            assert (await remote.inspect(handle)).facts["transport"] == "docker exec"
            assert await run(remote, handle, "id -u") == "1000"
            await _bytes_go_both_ways(remote, handle)
        finally:
            await remote.remove(handle)


async def test_a_socket_that_cannot_be_connected_to_gives_way_to_a_bridge(provider, create, monkeypatch):
    async def refused(path):
        raise errors.SupervisorUnreachable("refused")

    monkeypatch.setattr(docker_start, "dial_socket", refused)
    handle = await create()
    assert (await provider.inspect(handle)).facts["transport"] == "docker exec"
    assert await run(provider, handle, "echo through") == "through"


async def _bytes_go_both_ways(provider, handle):
    data = bytes(range(256)) * 4096 * 8

    async def chunks():
        yield data

    async with talking(provider, handle) as client:
        files = FilesClient(client, "/home/agent")
        await files.write("large", chunks())
        async with files.read("large") as reading:
            assert b"".join([chunk async for chunk in reading.chunks]) == data


async def test_a_bridge_to_a_dead_sandbox_is_unreachable(provider, create, monkeypatch, docker_api, paths):
    handle = await create()
    (paths.docker / "run" / handle["sandbox"] / "door.kind").write_text("exec")
    endpoint, _ = await provider.endpoint(handle)
    docker_api.kill(handle["container"])
    docker_api.wait(handle["container"])
    with pytest.raises(errors.SupervisorUnreachable):
        await endpoint.dial()


# the runtime


def test_a_private_runtime_becomes_readable_for_the_containers_users(tmp_path):
    private = tmp_path / "runtime"
    (private / "package").mkdir(parents=True, mode=0o700)
    (private / "package" / "module.py").write_text("")
    (private / "package" / "module.py").chmod(0o600)
    private.chmod(0o700)
    docker_runtime.readable(private)
    assert (private.stat().st_mode & 0o777, (private / "package").stat().st_mode & 0o777) == (0o755, 0o755)
    assert (private / "package" / "module.py").stat().st_mode & 0o777 == 0o644


async def test_an_image_with_another_python_compiles_the_runtime_itself(
    tmp_path, provider, docker_engine, docker_api, docker_image
):
    fresh = StatePaths(tmp_path / "fresh").ensure()
    engine = provider.engine()
    known = await docker_images.look(engine, fresh, docker_image)
    other = replace(known, cache_tag="cpython-999")
    runtime = await asyncio.to_thread(docker_runtime.runtime_for, fresh, engine, other)
    assert runtime.name.endswith("-cpython-999")
    assert list(runtime.glob("agentctl/__pycache__/wire.cpython-311*.pyc"))
    assert everything_of(docker_api, provider.installation) == ([], [])


async def test_a_broken_handle_removes_nothing(provider, create, paths):
    handle = await create()
    for sandbox_id in ("", "/", "..", "x/.."):
        with pytest.raises(errors.SandboxError):
            await provider.remove({**handle, "sandbox": sandbox_id})
    assert (await provider.inspect(handle)).status == "running"
