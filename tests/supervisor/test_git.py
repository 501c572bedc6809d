"""Repositories cloned into a sandbox: from a real git server, by a real supervisor, and no trace of the token."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.supervisor.git.stage import Stage
from agentctl.supervisor.processes import marked
from agentctl.supervisor_client import git as client_git
from tests.supervisor.git_server import TOKEN, git, git_server
from tests.supervisor.support import mock_recipe, supervisor


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """The repositories of the server, made once: they are only read."""
    with git_server(tmp_path_factory.mktemp("git") / "root") as server:
        server.main = server.repository("plain", branch="side")
        server.repository("private")
        server.repository("parent", submodule=server.url("plain"))
        server.repository("escape", submodule=f"file://{server.root / 'plain.git'}")
        yield server


@pytest.fixture
def server(repositories):
    yield repositories
    repositories.hold.set()
    repositories.held.clear()
    repositories.seen.clear()
    repositories.answers.clear()


class Sandbox:
    """``clone(url, …)`` into ``project``."""

    def __init__(self, running, client) -> None:
        self.running = running
        self.client = client
        self.project: Path = running.root / "project"

    async def clone(self, url, *more, timeout_s=30, **fields):
        clones = [{"url": url, "cwd": str(self.project), **fields}, *more]
        made = await client_git.clone(self.client, clones, timeout_s=timeout_s)
        return made if more else made[0]

    def left(self) -> list[str]:
        return sorted(os.listdir(self.project))


@pytest.fixture
async def sandbox(tmp_path):
    async with supervisor(tmp_path, mock_recipe()) as running, running.client() as client:
        yield Sandbox(running, client)


async def failure(awaitable) -> errors.AgentctlError:
    with pytest.raises(errors.AgentctlError) as failed:
        await awaitable
    return failed.value


async def test_a_repository_is_cloned_under_its_own_name(sandbox, server):
    made = await sandbox.clone(server.url("plain"))
    assert made == {
        "path": str(sandbox.project / "plain"),
        "url": server.url("plain"),
        "branch": "main",
        "commit": server.main,
        "cloned": True,
    }
    assert (sandbox.project / "plain/file.txt").read_text() == "two"
    assert sandbox.left() == ["plain"]


async def test_a_branch_a_depth_and_a_path_are_kept_to(sandbox, server):
    made = await sandbox.clone(server.url("plain"), path="deep/er", branch="side", depth=1)
    assert made["branch"] == "side"
    assert git("rev-list", "--count", "HEAD", cwd=sandbox.project / "deep/er") == "1"


async def test_submodules_come_along_when_asked_for(sandbox, server):
    await sandbox.clone(server.url("parent"), path="without")
    await sandbox.clone(server.url("parent"), path="with", submodules=True)
    assert not (sandbox.project / "without/sub/file.txt").exists()
    assert (sandbox.project / "with/sub/file.txt").read_text() == "two"
    assert git("status", "--porcelain", cwd=sandbox.project / "with/sub") == ""


async def test_a_private_repository_opens_with_its_token(sandbox, server):
    made = await sandbox.clone(server.url("private"), token=TOKEN)
    assert made["cloned"]
    assert any(authorization for _, authorization in server.seen)


async def test_several_come_at_once_or_none_of_them(sandbox, server):
    here = {"cwd": str(sandbox.project)}
    made = await sandbox.clone(server.url("plain"), {"url": server.url("private"), "token": TOKEN, **here})
    assert [one["path"] for one in made] == [str(sandbox.project / name) for name in ("plain", "private")]
    more = ({"url": server.url("missing"), **here}, {"url": server.url("private"), "path": "p2", **here})
    failed = await failure(sandbox.clone(server.url("plain"), *more, path="new/place"))
    assert failed.exit_code in (4, 6)
    assert sandbox.left() == ["plain", "private"]


FAILURES = [
    ("private", {}, "auth", errors.CredentialsMissing),
    ("private", {"token": "a-wrong-token-123"}, "auth", errors.CredentialsRejected),
    ("missing", {}, "not_found", errors.RepositoryNotFound),
    ("missing", {"token": TOKEN}, "not_found", errors.RepositoryNotFound),
    ("plain", {"branch": "no-such-branch"}, "not_found", errors.RepositoryNotFound),
    ("private", {"branch": "no-such-branch", "token": TOKEN}, "not_found", errors.RepositoryNotFound),
    ("escape", {"submodules": True}, "other", errors.GitFailed),
]


async def test_a_failure_has_its_class_and_leaves_nothing(sandbox, server):
    for name, fields, kind, error in FAILURES:
        failed = await failure(sandbox.clone(server.url(name), path="a/b", **fields))
        assert type(failed) is error, (name, fields)
        assert failed.details["class"] == kind
        assert "a-wrong-token-123" not in str(failed.to_json())
        assert sandbox.left() == [], (name, fields)


ANSWERS = [(403, "auth", 6), (404, "not_found", 4), (503, "network", 8), (429, "network", 8)]


async def test_the_servers_own_answer_decides(sandbox, server):
    for status, kind, exit_code in ANSWERS:
        server.answers["odd"] = (status, {}, b"no")
        failed = await failure(sandbox.clone(server.url("odd")))
        assert (failed.details["class"], failed.exit_code) == (kind, exit_code), status


async def test_a_server_that_is_not_there_is_a_matter_of_the_network(sandbox, unused_tcp_port):
    failed = await failure(sandbox.clone(f"http://127.0.0.1:{unused_tcp_port}/x.git"))
    assert type(failed) is errors.RemoteUnreachable
    assert (failed.exit_code, failed.retryable, failed.details["class"]) == (8, True, "network")


@pytest.fixture
def unused_tcp_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def test_what_is_there_is_never_touched(sandbox, server):
    (sandbox.project / "plain").mkdir()
    (sandbox.project / "plain/mine").write_text("mine")
    (sandbox.project / "file").write_text("mine")
    (sandbox.project / "link").symlink_to("nowhere")
    for path in ("plain", "file", "link"):
        failed = await failure(sandbox.clone(server.url("never-asked-for"), path=path))
        assert (type(failed), failed.exit_code, failed.details["class"]) == (errors.AlreadyExists, 10, "exists")
    assert not [path for path, _ in server.seen if "never-asked-for" in path]
    assert (sandbox.project / "plain/mine").read_text() == "mine"
    kept = await sandbox.clone(server.url("plain"), ifMissing=True)
    assert kept["cloned"] is False
    assert sandbox.left() == ["file", "link", "plain"]


async def test_an_empty_directory_is_filled(sandbox, server):
    (sandbox.project / "plain").mkdir()
    assert (await sandbox.clone(server.url("plain")))["cloned"]
    assert (sandbox.project / "plain/file.txt").exists()


async def test_of_two_to_the_same_place_one_wins(sandbox, server):
    results = await asyncio.gather(
        *(sandbox.clone(server.url("plain"), path="same") for _ in range(2)), return_exceptions=True
    )
    lost = [one for one in results if isinstance(one, Exception)]
    assert [type(one) for one in lost] == [errors.AlreadyExists]
    assert sandbox.left() == ["same"]


async def test_a_deadline_ends_git_and_leaves_nothing(sandbox, server):
    server.hold.clear()
    failed = await failure(sandbox.clone(server.url("plain"), timeout_s=0.5))
    assert type(failed) is errors.DeadlineExceeded
    assert sandbox.left() == []
    assert _gits(sandbox) == []


async def test_a_client_that_goes_away_ends_the_clone(sandbox, server):
    server.hold.clear()
    cloning = asyncio.create_task(sandbox.clone(server.url("plain")))
    await asyncio.to_thread(server.held.wait, 60)
    assert _gits(sandbox)
    cloning.cancel()
    await asyncio.gather(cloning, return_exceptions=True)
    async with asyncio.timeout(30):
        while _gits(sandbox) or sandbox.left():
            await asyncio.sleep(0.02)


async def test_what_a_killed_supervisor_left_is_swept_by_the_next_clone(tmp_path, server):
    server.hold.clear()
    async with supervisor(tmp_path, mock_recipe()) as running, running.client() as client:
        sandbox = Sandbox(running, client)
        cloning = asyncio.create_task(sandbox.clone(server.url("plain")))
        await asyncio.to_thread(server.held.wait, 60)
        running.process.kill()
        await asyncio.gather(cloning, return_exceptions=True)
        for process in marked(running.sandbox_id):
            process.signal(signal.SIGKILL)
    assert sandbox.left() != []
    server.hold.set()
    async with supervisor(tmp_path, mock_recipe()) as running, running.client() as client:
        await Sandbox(running, client).clone(server.url("plain"))
    assert sandbox.left() == ["plain"]


def _gits(sandbox) -> list[int]:
    found = []
    for process in marked(sandbox.running.sandbox_id):
        try:
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"git" in words.split(b"\0")[0]:
            found.append(process.pid)
    return found


class Watcher:
    """Looks at the arguments and the environment of every process, again and again, for the token."""

    def __init__(self, needles: list[bytes]) -> None:
        self.needles = needles
        self.found: list[str] = []
        self.seen: set[bytes] = set()
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.001):
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                for name in ("cmdline", "environ"):
                    self._look(f"/proc/{pid}/{name}", name)
            self.rounds += 1

    def _look(self, path, name):
        try:
            data = Path(path).read_bytes()
        except OSError:
            return
        if name == "cmdline":
            self.seen.add(data.split(b"\0")[0].rpartition(b"/")[2])
        if any(needle in data for needle in self.needles):
            self.found.append(path)


async def test_the_token_is_nowhere_while_and_after_a_clone(sandbox, server, tmp_path):
    import base64

    needles = [TOKEN.encode(), base64.b64encode(f"x-access-token:{TOKEN}".encode())]
    (sandbox.running.root / "home/.gitconfig").write_text("[credential]\n\thelper = store\n")
    server.hold.clear()
    with Watcher(needles) as watcher:
        cloning = asyncio.create_task(sandbox.clone(server.url("private"), token=TOKEN))
        await asyncio.to_thread(server.held.wait, 60)
        at = watcher.rounds
        while watcher.rounds < at + 3:
            await asyncio.sleep(0.02)
        during = [path for path in tmp_path.rglob("*") if path.is_file() and _holds(path, needles)]
        server.hold.set()
        await cloning
        await failure(sandbox.clone(server.url("private"), token=TOKEN, branch="no-such", path="p2"))
    assert watcher.found == []
    assert {b"git-remote-http", b"git"} & watcher.seen
    assert during == []
    assert [path for path in tmp_path.rglob("*") if path.is_file() and _holds(path, needles)] == []
    assert not list((sandbox.running.root / "tmp").iterdir())
    assert "@" not in (sandbox.project / "private/.git/config").read_text()


def _holds(path: Path, needles: list[bytes]) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return any(needle in data for needle in needles)


async def test_a_server_that_says_the_token_back_does_not_get_it_told(sandbox, server):
    server.answers["echo"] = (403, {"X-Said": TOKEN}, f"you sent {TOKEN}".encode())
    failed = await failure(sandbox.clone(server.url("echo"), token=TOKEN))
    assert TOKEN not in str(failed.to_json())


async def test_the_token_goes_to_its_own_server_only(sandbox, server, tmp_path):
    with git_server(tmp_path / "other") as other:
        other.repository("private-sub")
        server.repository(
            "trap", submodule=f"http://x-access-token:{TOKEN}@127.0.0.1:{other.base.rpartition(':')[2]}/private-sub.git"
        )
        work = server.root / "trap-work"
        git("config", "-f", ".gitmodules", "submodule.sub.url", other.url("private-sub"), cwd=work)
        git("commit", "-qam", "without the token", cwd=work)
        git("push", "-q", str(server.root / "trap.git"), "main", cwd=work)
        other.seen.clear()
        failed = await failure(sandbox.clone(server.url("trap"), token=TOKEN, submodules=True))
        assert failed.details["class"] == "auth"
        assert other.seen
        assert all(authorization is None for _, authorization in other.seen)


async def test_another_process_of_the_sandbox_is_not_told_the_token(sandbox, server):
    server.hold.clear()
    cloning = asyncio.create_task(sandbox.clone(server.url("private"), token=TOKEN))
    await asyncio.to_thread(server.held.wait, 60)
    [script] = (sandbox.running.root / "tmp").glob("git-*/askpass")
    asked = await asyncio.to_thread(
        subprocess.run,
        [str(script), f"Password for '{server.base}': "],
        capture_output=True,
        check=False,
        timeout=60,
    )
    server.hold.set()
    await cloning
    assert (asked.returncode, asked.stdout) == (1, b"")


ADDRESSES_THAT_ARE_NONE = [
    "",
    "ext::sh -c touch% /tmp/x",
    "fd::17/foo",
    "--upload-pack=touch",
    "relative/path",
    "http://user:geheim-1234@host/x.git",
    "https://geheim-1234@host/x.git",
    "ssh://git:geheim-1234@host/x.git",
    "ssh://-oProxyCommand=x/y",
    "https://host/x y",
    "https://host/x\nhost=evil",
    "https:///x",
    "https://",
    "javascript://x",
]


async def test_an_address_that_is_none_is_refused_before_anything_happens(sandbox):
    for url in ADDRESSES_THAT_ARE_NONE:
        failed = await failure(sandbox.clone(url, path="x"))
        assert type(failed) is errors.UsageError, url
        assert "geheim" not in str(failed.to_json())
        assert sandbox.left() == []


NONSENSE = [
    {"depth": 0},
    {"depth": True},
    {"branch": "--config=x"},
    {"submodules": "yes"},
    {"path": "a\0b"},
    {"unknown": 1},
    {"timeoutS": -1},
    {"token": "line\nbreak"},
    {"path": 3},
]


async def test_a_request_that_makes_no_sense_is_refused(sandbox, server):
    for fields in NONSENSE:
        url = server.url("never-asked-for")
        failed = await failure(sandbox.client.request("POST", "/v1/git/clone", {"url": url, **fields}))
        assert failed.exit_code == 2, fields
        assert not [path for path, _ in server.seen if "never-asked-for" in path]


async def test_a_token_is_refused_where_it_cannot_be_used(sandbox, server):
    failed = await failure(sandbox.clone(str(server.root / "plain.git"), token=TOKEN))
    assert failed.exit_code == 2


async def test_a_repository_of_the_sandbox_itself_is_cloned_by_its_path(sandbox, server):
    local = server.root / "plain.git"
    assert (await sandbox.clone(str(local)))["commit"] == server.main
    assert (await sandbox.clone(f"file://{local}", path="two"))["commit"] == server.main
    failed = await failure(sandbox.clone(f"file://{local}-no", path="three"))
    assert failed.exit_code == 4


async def test_a_hook_of_a_template_does_not_run(sandbox, server):
    template = sandbox.running.root / "template/hooks"
    template.mkdir(parents=True)
    (template / "post-checkout").write_text(f"#!/bin/sh\ntouch {sandbox.project}/ran\n")
    (template / "post-checkout").chmod(0o755)
    (sandbox.running.root / "home/.gitconfig").write_text(f"[init]\n\ttemplateDir = {template.parent}\n")
    await sandbox.clone(server.url("plain"))
    assert sandbox.left() == ["plain"]


async def test_the_agents_credentials_are_not_seen_by_git(tmp_path, server):
    env = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": "sk-ant-canary-key"}
    server.hold.clear()
    async with supervisor(tmp_path, mock_recipe(), agent_env=env) as running, running.client() as client:
        sandbox = Sandbox(running, client)
        cloning = asyncio.create_task(sandbox.clone(server.url("plain")))
        await asyncio.to_thread(server.held.wait, 60)
        pids = _gits(sandbox)
        assert pids
        assert all(b"canary-key" not in Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)
        server.hold.set()
        await cloning


async def test_a_path_outside_of_the_root_is_refused(tmp_path, server):
    async with (
        supervisor(tmp_path, mock_recipe(), root=str(tmp_path / "project")) as running,
        running.client() as client,
    ):
        sandbox = Sandbox(running, client)
        (sandbox.project / "out").symlink_to(tmp_path)
        for path in ("../x", str(tmp_path / "x"), "out/x"):
            failed = await failure(sandbox.clone(server.url("plain"), path=path))
            assert type(failed) is errors.PermissionDenied
        assert (await sandbox.clone(server.url("plain"), path="in/side"))["cloned"]


async def test_what_was_cloned_can_be_taken_back_and_nothing_else(sandbox, server):
    (sandbox.project / "mine").mkdir()
    await sandbox.clone(server.url("plain"), path="a/b")
    await client_git.take_back(sandbox.client, [str(sandbox.project / name) for name in ("a/b", "mine")])
    assert sandbox.left() == ["mine"]


async def test_a_sandbox_without_git_says_so(tmp_path, server):
    env = {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path)}
    async with supervisor(tmp_path, mock_recipe(), agent_env=env) as running, running.client() as client:
        failed = await failure(Sandbox(running, client).clone(server.url("plain")))
    assert (type(failed), failed.details["class"]) == (errors.GitFailed, "no_git")


def test_a_stage_that_is_alive_is_not_swept(tmp_path):
    first = Stage(str(tmp_path / "one"))
    second = Stage(str(tmp_path / "two"))
    assert len(os.listdir(tmp_path)) == 2
    first.drop()
    second.drop()
    assert os.listdir(tmp_path) == []
