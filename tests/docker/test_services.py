"""The containers beside a docker sandbox: started with it, reached by name, watched, and ended with it."""

import asyncio
import json
from dataclasses import replace

import pytest

from agentctl import errors
from agentctl.compute import Compute, Healthcheck, Service
from agentctl.providers.docker.services import service_name
from tests.docker.support import everything_of, installation

SERVE = ("python3", "-m", "http.server", "8000", "--directory", "/etc")
FAILS_FIRST = "test -f /tmp/asked || { touch /tmp/asked; exit 1; }; wget -qO- http://localhost:8000/group"
FETCH = "wget -qO- http://web:8000/nsswitch.conf | head -c 5 >> order; id -u >> order; echo $MARK >> order"


@pytest.fixture
def serving(spec_of, docker_image):
    """A spec with services, each given by its fields; ``told`` collects what is told of them."""

    def make(*services, told=None, compute=None, start_timeout_s=None, **boot):
        made = tuple(Service(**{"image": docker_image, "command": SERVE, **fields}) for fields in services)
        tell = (lambda kind, data: told.append((kind, data))) if told is not None else (lambda kind, data: None)
        compute = replace(compute or Compute(), services=made)
        return replace(spec_of(**boot), compute=compute, tell=tell, start_timeout_s=start_timeout_s)

    return make


def inside(api, handle, command):
    made = api.exec_create(handle["container"], ["sh", "-c", command], user="1000:1000", workdir="/home/agent")
    return api.exec_start(made["Id"]).decode()


async def until(condition):
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


async def test_services_are_ready_by_their_checks_and_reached_by_their_names(provider, create, serving, docker_api):
    told = []
    spec = serving(
        {"name": "web", "healthcheck": Healthcheck(test=FAILS_FIRST), "post_start": FETCH},
        {
            "name": "other",
            "command": "exec sleep 1000",
            "env": {"PLACE": "there"},
            "post_start": ("sh", "-c", "pwd >> order"),
            "cpus": 0.5,
            "memory_bytes": 64 << 20,
        },
        told=told,
        agent_env={"MARK": "the session's own"},
        labels={"team": "web"},
    )
    handle = await create(spec)
    assert [(kind, data["service"]) for kind, data in told] == [("service.ready", "web"), ("service.ready", "other")]
    order = await asyncio.to_thread(inside, docker_api, handle, "cat order; nc -z other 1 2>&1")
    assert order.split("\n")[:3] == ["hosts1000", "the session's own", "/home/agent"]
    assert "bad address" not in order
    state = await provider.inspect(handle)
    ready = {"status": "ready", "detail": "", "image": spec.image, "required": True}
    assert state.facts["services"] == {"web": ready, "other": ready}
    about = docker_api.inspect_container(service_name(spec.sandbox_id, "other"))
    host = about["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 64 << 20, 512)
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
    assert "NET_RAW" not in host["CapAdd"]
    assert not about["Mounts"]
    assert host["LogConfig"]["Config"]["max-size"]
    assert "PLACE=there" in about["Config"]["Env"]
    assert not any(line.startswith("MARK=") for line in about["Config"]["Env"])
    assert about["Config"]["Labels"]["agentctl.label.team"] == "web"
    [found] = [one async for one in provider.find_by_labels({"team": "web"})]
    assert found.handle == handle


NOISE = "for i in $(seq 100); do echo line $i; done; printf '\\033[31mred\\n'; head -c 9000 /dev/zero | tr '\\0' x"
FAILURES = {
    "image": ({"image": "agentctl-none:1"}, "Docker engine has no image agentctl-none:1"),
    "program": ({"command": ("no-such-program",)}, "no-such-program"),
    "exits": ({"command": f"{NOISE}; exit 3"}, "it ended with exit code 3. Its log ends with:\n  line 93\n"),
    "unhealthy": (
        {"healthcheck": Healthcheck(test="echo not today; exit 1", interval_s=0.1, retries=2)},
        "its health check fails: not today",
    ),
    "hangs": ({"healthcheck": Healthcheck(test=("CMD", "false"))}, "it was not ready within 2 s"),
    "post": (
        {"post_start": "echo no database of the name s3cret-1f2e; exit 4"},
        "its post_start ended with exit code 4. What it printed ends with:\n  no database of the name [redacted]",
    ),
    "late": ({"command": "sleep 0.6; exit 5", "post_start": "sleep 1"}, "it ended with exit code 5"),
}


@pytest.mark.slow
async def test_a_required_one_that_fails_takes_all_with_it_and_says_why(provider, serving, docker_api, paths):
    async def fails(name, fields):
        slow = [{"name": "slow", "healthcheck": Healthcheck(test="false", start_period_s=100)}]
        others, limit_s = slow if name == "exits" else [], 2 if name == "hangs" else 60
        spec = serving({"name": "db", **fields}, *others, start_timeout_s=limit_s, secrets=("s3cret-1f2e",))
        with pytest.raises(errors.ServiceFailed) as raised:
            await provider.create(spec)
        return raised.value

    failed = await asyncio.gather(*(fails(name, fields) for name, (fields, _) in FAILURES.items()))
    for error, (name, (_, message)) in zip(failed, FAILURES.items(), strict=True):
        assert "The service db failed" in error.message, name
        assert message in error.message, name
        assert (error.exit_code, error.details["service"]) == (8, "db")
        assert "s3cret" not in json.dumps(error.to_json())
        assert "\x1b" not in error.details["log"]
        assert len(error.details["log"]) < 3000
    containers, volumes = everything_of(docker_api, installation(paths))
    assert not containers
    assert all(volume.endswith("-default") for volume in volumes)
    assert not list((paths.docker / "run").glob("*"))


async def test_an_optional_one_that_fails_is_told_and_fails_nothing(provider, create, serving):
    told = []
    spec = serving(
        {"name": "bad", "command": "echo out of luck; exit 3", "required": False},
        {"name": "gone", "image": "agentctl-none:1", "required": False},
        {"name": "post", "required": False, "post_start": "exit 6"},
        {"name": "none", "required": False, "post_start": ("no-such-program",)},
        {"name": "good", "required": False},
        told=told,
    )
    handle = await create(spec)
    reasons = {data["service"]: data.get("reason", kind) for kind, data in told}
    assert reasons.pop("none").startswith("its post_start ended with exit code 12")
    assert reasons == {
        "bad": "it ended with exit code 3",
        "gone": "the Docker engine has no image agentctl-none:1",
        "post": "its post_start ended with exit code 6",
        "good": "service.ready",
    }
    services = (await provider.inspect(handle)).facts["services"]
    statuses = {name: service["status"] for name, service in services.items()}
    del statuses["none"]
    assert statuses == {"bad": "failed", "gone": "missing", "post": "ready", "good": "ready"}
    assert await provider.service_logs(handle, "bad", max_bytes=1000) == b"out of luck\n"
    assert await provider.service_logs(handle, "bad", max_bytes=5) == b"luck\n"
    for name in ("gone", "nonesuch"):
        with pytest.raises(errors.NotFound):
            await provider.service_logs(handle, name, max_bytes=1000)


async def test_services_are_paused_resumed_missed_and_removed_with_the_sandbox(
    provider, serving, create, docker_api, paths
):
    checked = {"name": "web", "healthcheck": Healthcheck(test=("wget", "-qO-", "http://localhost:8000/group"))}
    spec = serving(checked, {"name": "other"}, compute=Compute(network="isolated"))
    handle = await create(spec)
    fetched = await asyncio.to_thread(inside, docker_api, handle, "wget -qO- http://web:8000/nsswitch.conf")
    assert fetched.startswith("hosts")

    async def statuses():
        services = (await provider.inspect(handle)).facts["services"]
        return [services[name]["status"] for name in ("web", "other")]

    await provider.pause(handle)
    assert await statuses() == ["paused", "paused"]
    await provider.resume(handle)
    assert await statuses() == ["ready", "ready"]
    docker_api.kill(service_name(spec.sandbox_id, "web"))
    docker_api.remove_container(service_name(spec.sandbox_id, "other"), force=True)
    assert await statuses() == ["failed", "missing"]
    assert (await provider.inspect(handle)).facts["services"]["web"]["detail"] == "it ended with exit code 137"
    await provider.remove(handle)
    assert everything_of(docker_api, installation(paths))[0] == []


async def test_services_stop_when_the_sandbox_ends_by_itself(provider, serving, create, docker_api):
    spec = serving({"name": "web", "command": "trap 'exit 0' TERM; sleep 1000 & wait"})
    handle = await create(spec)
    web = service_name(spec.sandbox_id, "web")
    docker_api.kill(handle["container"])
    await until(lambda: docker_api.inspect_container(web)["State"]["Status"] == "exited")
    state = await provider.inspect(handle)
    assert (state.status, state.facts["services"]["web"]["status"]) == ("stopped", "stopped")


async def test_a_cancelled_create_leaves_no_service(provider, serving, docker_api, paths):
    spec = serving({"name": "db", "healthcheck": Healthcheck(test="false")})
    making = asyncio.create_task(provider.create(spec))
    wanted = {"name": service_name(spec.sandbox_id, "db")}
    await until(lambda: docker_api.containers(filters=wanted))
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert everything_of(docker_api, installation(paths))[0] == []


async def test_services_without_a_network_are_refused(provider, serving):
    with pytest.raises(errors.UsageError, match="without a network"):
        await provider.create(serving({"name": "web"}, compute=Compute(network="none")))
