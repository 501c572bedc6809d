"""Installing with the real npm from a registry on loopback: whole or not at all, once, with errors that help."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys

import pytest

from agentctl.agents import node, recipes
from agentctl.agents.install import install, installed, uninstall
from agentctl.errors import AgentNotFound, AgentNotInstalled, DiskFull, InstallFailed, Unsupported
from tests.agents.conftest import NODE, PI

pytestmark = pytest.mark.slow

NEW_NODE = "echo v99.0.0"


@pytest.fixture(autouse=True)
def new_node(program):
    """The machine's own Node is new enough; npm goes on with the real one."""
    real = shutil.which("node", path="/usr/local/bin:/usr/bin:/bin")
    return program("node", f'if [ "$1" = --version ]; then {NEW_NODE}; else exec {real} "$@"; fi')


def leftovers(paths, name="pi"):
    return [entry.name for entry in (paths.agents / name).iterdir() if entry.name.startswith(".tmp")]


async def test_an_install_has_exactly_the_pinned_packages_and_their_hashes_and_tells_its_bytes(
    paths, registry, tmp_path, new_node
):
    seen: list[tuple[str, int | None, int | None]] = []
    done = await install(paths, "pi", registry=registry.url, progress=lambda *args: seen.append(args))
    assert installed(paths, "pi") == done
    assert done.version == recipes.load("pi").version
    assert done.packages == {"pi-acp": "0.0.34", "@earendil-works/pi-coding-agent": "0.87.1"}
    assert all(value.startswith("sha512-") for value in done.integrity.values())
    assert (done.path / "package-lock.json").exists()
    assert (done.node, done.node_version) == (new_node, "99.0.0")
    assert done.path == paths.agents / "pi" / "0.0.34"
    assert leftovers(paths) == []

    assert seen[0][0] == "pi 0.0.34"
    assert seen[0][2] == recipes.load("pi").install.size_mb * 1_000_000
    assert seen[-1] == ("pi 0.0.34", done.size_bytes, done.size_bytes)

    wired = recipes.to_wire(
        recipes.load("pi"), installed=done, runtime=tmp_path, python=sys.executable, permissions="allow"
    )
    assert wired.argv == (str(new_node), str(done.modules / "pi-acp/dist/index.js"))
    assert wired.path == (str(done.modules / ".bin"), str(new_node.parent))


async def test_installing_again_changes_nothing_and_needs_no_network_unless_it_is_to_install_anew(paths, registry):
    first = await install(paths, "pi", registry=registry.url)
    assert await install(paths, "pi", registry="http://127.0.0.1:9/") == first
    (first.modules / "pi-acp/dist/index.js").unlink()
    second = await install(paths, "pi", registry=registry.url, reinstall=True)
    assert (second.modules / "pi-acp/dist/index.js").exists()
    assert second.installed_at > first.installed_at
    assert leftovers(paths) == []


async def test_two_installs_at_once_download_once(paths, registry):
    registry.hold = True
    phases: list[str] = []
    waits = asyncio.Event()

    def progress(phase, _done, _total):
        phases.append(phase)
        if phase.startswith("Waiting"):
            waits.set()

    first = asyncio.create_task(install(paths, "pi", registry=registry.url))
    await asyncio.to_thread(registry.asked.wait, 30)
    second = asyncio.create_task(install(paths, "pi", registry=registry.url, progress=progress))
    await waits.wait()
    registry.release.set()
    assert await first == await second
    assert registry.tarballs == len(PI)


INSTALL_IN_A_PROCESS = """
import asyncio, sys
from pathlib import Path
from agentctl.agents.install import install
from agentctl.paths import StatePaths
asyncio.run(install(StatePaths(Path(sys.argv[1])), "pi", registry=sys.argv[2]))
"""


async def test_a_killed_install_is_never_seen_and_the_next_one_cleans_up(paths, registry):
    registry.hold = True
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", INSTALL_IN_A_PROCESS, str(paths.root), registry.url, start_new_session=True
    )
    await asyncio.to_thread(registry.asked.wait, 30)
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    assert installed(paths, "pi") is None
    assert len(leftovers(paths)) == 1
    registry.hold = False
    await install(paths, "pi", registry=registry.url)
    assert leftovers(paths) == []


async def test_a_cancelled_install_ends_npm_and_leaves_nothing(paths, registry):
    registry.hold = True
    task = asyncio.create_task(install(paths, "pi", registry=registry.url))
    await asyncio.to_thread(registry.asked.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert installed(paths, "pi") is None
    assert leftovers(paths) == []


async def test_a_registry_without_the_package_is_said_with_npms_words(paths, registry):
    registry.packages.clear()
    with pytest.raises(InstallFailed) as failure:
        await install(paths, "pi", registry=registry.url)
    assert failure.value.details["npm_code"] == "E404"
    assert "404" in failure.value.message
    assert "registry" in (failure.value.hint or "")
    assert installed(paths, "pi") is None
    assert leftovers(paths) == []


async def test_an_unreachable_registry_is_said_with_its_address(paths, registry):
    with pytest.raises(InstallFailed) as failure:
        await install(paths, "pi", registry="http://127.0.0.1:9/")
    assert failure.value.details["npm_code"] == "ECONNREFUSED"
    assert "127.0.0.1:9" in failure.value.message
    assert "network" in (failure.value.hint or "")


async def test_a_package_that_lacks_its_program_is_not_an_install(paths, registry):
    registry.packages["pi-acp@0.0.34"] = {"other.js": ""}
    with pytest.raises(InstallFailed, match=r"dist/index\.js is missing"):
        await install(paths, "pi", registry=registry.url)
    assert installed(paths, "pi") is None


async def test_without_npm_the_fix_is_named(paths, monkeypatch, tmp_path, program, new_node):
    monkeypatch.setenv("PATH", str(new_node.parent))
    with pytest.raises(InstallFailed, match="npm is not on PATH") as failure:
        await install(paths, "pi")
    assert "apt-get install npm" in (failure.value.hint or "")


async def test_a_full_disk_is_its_own_error(paths, program):
    program("npm", "echo 'npm error code ENOSPC' >&2; echo 'npm error nospc no space left on device' >&2; exit 228")
    with pytest.raises(DiskFull, match="no space left"):
        await install(paths, "pi")


async def test_a_password_in_the_registrys_address_is_not_repeated(paths, program):
    program("npm", "echo 'npm error 404 http://me:hunter22@reg.example/pi-acp' >&2; exit 1")
    with pytest.raises(InstallFailed) as failure:
        await install(paths, "pi")
    assert "hunter22" not in json.dumps(failure.value.to_json())
    assert "reg.example" in failure.value.message


async def test_an_old_machine_gets_our_own_node_and_keeps_it_where_the_state_directory_is_moved(
    paths, registry, program, new_node, tmp_path
):
    new_node.write_text(new_node.read_text().replace("v99.0.0", "v18.1.0"))
    done = await install(paths, "pi", registry=registry.url)
    assert done.node == node.own_node(paths).path
    assert done.node_version == node.OWN_VERSION
    count = registry.tarballs
    await node.ensure_node(paths, "22.0.0", registry=registry.url, progress=lambda *_: None)
    assert registry.tarballs == count

    paths.root.rename(tmp_path / "moved")
    moved = type(paths)(tmp_path / "moved")
    found = installed(moved, "pi")
    assert found is not None
    assert found.node == node.own_node(moved).path


async def test_a_node_package_without_a_node_is_refused(paths, registry, new_node):
    new_node.write_text(new_node.read_text().replace("v99.0.0", "v18.1.0"))
    registry.packages[next(iter(NODE))] = {"readme": ""}
    with pytest.raises(InstallFailed, match="holds no Node"):
        await install(paths, "pi", registry=registry.url)


async def test_a_node_that_vanished_is_installed_again_and_goes_with_every_version_that_needed_it(
    paths, registry, new_node
):
    new_node.write_text(new_node.read_text().replace("v99.0.0", "v18.1.0"))
    done = await install(paths, "pi", registry=registry.url)
    shutil.rmtree(paths.agents / "node")
    with pytest.raises(AgentNotInstalled, match="gone"):
        recipes.to_wire(recipes.load("pi"), installed=done, runtime=paths.root, python="py", permissions="allow")
    again = await install(paths, "pi", registry=registry.url)
    assert again.node is not None
    assert again.node.exists()

    shutil.copytree(again.path, again.path.with_name("0.0.33"))
    assert await uninstall(paths, "pi") == ["0.0.33", "0.0.34"]
    assert installed(paths, "pi") is None
    assert not (paths.agents / "node").exists()
    assert await uninstall(paths, "pi") == []


async def test_an_agent_that_is_not_on_npm_says_how_to_get_it(paths, program):
    with pytest.raises(AgentNotInstalled) as failure:
        await install(paths, "goose")
    assert "not on npm" in (failure.value.hint or "")
    program("goose", "exit 0")
    with pytest.raises(Unsupported, match="used from PATH"):
        await install(paths, "goose")


async def test_what_is_built_in_or_unknown_is_not_installed(paths):
    with pytest.raises(Unsupported, match="built in"):
        await install(paths, "mock")
    with pytest.raises(AgentNotFound):
        await install(paths, "cluade")
    assert not paths.root.exists()
