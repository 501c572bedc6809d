"""The supervisor's bundle: complete, pure, made once, seen only whole, and found again cheaply."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

from agentctl.agents.recipes import command_recipe
from agentctl.errors import InstallFailed, StateNotWritable
from agentctl.paths import StatePaths
from agentctl.providers import bootstrap
from agentctl.providers.base import Endpoint
from agentctl.providers.bootstrap import ensure_runtime, fingerprint
from agentctl.providers.bundle import build_bundle
from agentctl.providers.packed import packed
from agentctl.supervisor import late_modules
from agentctl.supervisor_client import SupervisorClient
from agentctl.wire import Boot, Ready

MODULES_AT_REST = 272
"""Each of them is memory of every session: 254 with CPython 3.11, 259 with 3.13."""

ENSURE = (
    "import sys; from pathlib import Path; from agentctl.paths import StatePaths\n"
    "from agentctl.providers.bootstrap import ensure_runtime\n"
    "print(ensure_runtime(StatePaths(Path(sys.argv[1])).ensure()))"
)


@pytest.fixture(scope="session")
def runtime(runtime_root):
    [runtime] = runtime_root.iterdir()
    return runtime


@pytest.fixture
def fresh(tmp_path):
    return StatePaths(tmp_path / "fresh").ensure()


@pytest.fixture
def quick_build(monkeypatch):
    """Build a tiny bundle, for tests that are not about its content."""

    def build(target):
        (target / "__main__.py").write_text("print('tiny')\n")

    monkeypatch.setattr("agentctl.providers.bundle.build_bundle", build)


def run(*argv, **options):
    return subprocess.run([sys.executable, "-IS", *map(str, argv)], capture_output=True, text=True, **options)


# content


def test_the_bundle_imports_only_itself_and_the_standard_library(runtime):
    code = f"""
import importlib, json, pathlib, sys
root = pathlib.Path({str(runtime)!r})
sys.path.insert(0, str(root))
for path in sorted((root / "agentctl").rglob("*.py")):
    importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
names = {{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names) - {{"__main__"}}
files = [m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)]
print(json.dumps([sorted(names), [f for f in files if "site-packages" in f]]))
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    names, foreign = json.loads(done.stdout)
    libraries = {"anyio", "h11", "idna", "starlette", "typing_extensions", "uvicorn", "wsproto"}
    assert "agentctl" in names
    assert set(names) - {"agentctl"} <= libraries
    assert foreign == []


def test_the_bundle_holds_no_command_line_of_uvicorn_and_no_tests(runtime):
    names = {path.relative_to(runtime).as_posix() for path in runtime.rglob("*")}
    assert {"agentctl/wire.py", "uvicorn/server.py", "starlette/routing.py", "wsproto/events.py"} <= names
    assert not {"click", "uvicorn/main.py", "starlette/testclient.py", "h11/tests", "agentctl/cli"} & names
    assert not [name for name in names if name.endswith((".so", ".pyd"))]


def test_every_module_of_a_runtime_is_compiled_and_never_checked_again(runtime):
    tag = sys.implementation.cache_tag
    for source in runtime.rglob("*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
        assert compiled.read_bytes()[4:8] == (1).to_bytes(4, "little"), f"{source}: not an unchecked hash"


def test_tracebacks_name_the_place_where_the_runtime_lies(runtime):
    code = f"import sys; sys.path.insert(0, {str(runtime)!r}); import h11; print(h11.Request.__init__.__code__)"
    done = run("-c", code)
    assert f'"{runtime}/h11/_events.py"' in done.stdout


@pytest.mark.parametrize("form", ["file", "directory", "zip"])
def test_serve_without_a_boot_line_just_ends(runtime, tmp_path, form):
    target = {"file": runtime / "__main__.py", "directory": runtime, "zip": tmp_path / "bundle.zip"}[form]
    if form == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in runtime.rglob("*.py"):
                archive.write(path, path.relative_to(runtime))
    done = run(target, "-C", tmp_path, "serve", input="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_slow_is_imported_before_a_supervisor_listens(runtime):
    code = f"import sys; sys.path.insert(0, {str(runtime)!r}); import agentctl.supervisor.serve; print(*sys.modules)"
    slow = {
        "asyncio",
        "ctypes",
        "dataclasses",
        "inspect",
        "logging",
        "pathlib",
        "ssl",
        "starlette",
        "subprocess",
        "uvicorn",
    }
    assert not slow & set(run("-c", code).stdout.split())


TELLING = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
leave = os._exit
def tell(code):
    real = [name for name, module in sys.modules.items() if type(module).__name__ != "_LateModule"]
    with open(sys.argv[2], "w") as file:
        json.dump(real, file)
    leave(code)
os._exit = tell
from agentctl.supervisor.serve import main
main()
"""


async def test_a_supervisor_that_has_had_a_turn_keeps_no_module_that_it_did_not_need(runtime, tmp_path):
    recipe = command_recipe((sys.executable, "-IS", str(runtime / "agentctl/supervisor/mock/agent.py")))
    boot = Boot(
        sandbox_id="sbx_rest",
        token="t",
        listen={"unix": str(tmp_path / "s")},
        log_root=str(tmp_path),
        home=str(tmp_path),
        tmp=str(tmp_path),
        agent_env={"HOME": str(tmp_path)},
        recipes={"mock": recipe},
    )
    argv = [sys.executable, "-IS", "-c", TELLING, str(runtime), str(tmp_path / "told")]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(boot.to_line())
    process.stdin.flush()
    Ready.from_line(process.stdout.readline())
    endpoint = Endpoint(dial=lambda: asyncio.open_unix_connection(str(tmp_path / "s")))
    async with SupervisorClient(endpoint, "t") as client:
        await client.create_session("ses_1", {"agent": "mock", "cwd": str(tmp_path)}, timeout_s=30)
        await client.send("ses_1", {"message": "hello", "turnId": "trn_1"})
        async for batch in client.stream("ses_1", 0):
            if any(event.type == "turn.ended" for event in batch):
                break
    process.terminate()
    process.communicate(timeout=60)
    kept = set(json.loads((tmp_path / "told").read_text()))
    assert {"agentctl.supervisor.turns", "starlette.routing", "h11"} <= kept
    assert not kept & set(late_modules._LATE)
    assert not {"_hashlib", "_ssl", "anyio._backends._asyncio", "calendar", "dis", "tarfile", "tomllib"} & kept
    assert len(kept) < MODULES_AT_REST


def test_a_supervisor_ends_when_it_is_told_so_right_after_ready(runtime, tmp_path):
    boot = Boot(
        sandbox_id="sbx_short", token="t", listen={"unix": str(tmp_path / "s")}, log_root="", home="", tmp=str(tmp_path)
    )
    argv = [sys.executable, "-IS", str(runtime / "__main__.py"), "serve"]
    for pause_s in (0, 0.2):
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(boot.to_line())
        process.stdin.flush()
        assert Ready.from_line(process.stdout.readline()).pid == process.pid
        time.sleep(pause_s)  # in the midst of its imports, or after them
        process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM)
        process.communicate()


@pytest.mark.parametrize("argv", [[], ["unknown"]])
def test_an_unknown_entry_point_is_a_usage_error(runtime, argv):
    done = run(runtime / "__main__.py", *argv)
    assert done.returncode == 2
    assert "serve|bridge|" in done.stderr
    assert "|mock-agent" in done.stderr


@pytest.fixture(params=[True, False], ids=["this Python", "another"])
def few_files(runtime, tmp_path, monkeypatch, request):
    """A packed bundle, as made by this Python or by another one."""
    if not request.param:
        monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"none")
    (tmp_path / "packed").mkdir()
    for name, content in packed(runtime).items():
        (tmp_path / "packed" / name).write_bytes(content)
    return tmp_path / "packed"


def test_a_packed_bundle_is_as_good_as_an_unpacked_one(few_files, runtime, tmp_path):
    assert sorted(path.name for path in few_files.iterdir()) == ["__main__.py", "bundle"]
    done = run(few_files / "__main__.py", "-C", tmp_path, "serve", input="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(few_files / "__main__.py", "none").stderr == run(runtime / "__main__.py", "none").stderr.replace(
        str(runtime), str(few_files)
    )
    asked = run(few_files / "__main__.py", "mock-agent", input='{"jsonrpc":"2.0","id":1,"method":"initialize"}\n')
    assert json.loads(asked.stdout)["id"] == 1
    code = """
        import sys; from importlib.machinery import SourceFileLoader
        entry = SourceFileLoader("entry", sys.argv[1] + "/__main__.py").load_module()
        sys.meta_path.insert(-1, entry.Bundle(sys.argv[1]))
        from agentctl.supervisor.git import askpass
        import inspect; print(inspect.getsource(askpass))"""
    told = run("-Wignore", "-c", textwrap.dedent(code), few_files)
    assert told.stdout.strip() == (runtime / "agentctl/supervisor/git/askpass.py").read_text().strip()
    wrong = run(few_files / "__main__.py", "serve", input='{"listen": {}}\n')
    assert wrong.stderr.endswith("KeyError: 'host'\n")  # nothing that is said later hides why


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """Put a distribution named starlette before the real one; returns a function that adds a file to it."""
    site = tmp_path / "site"
    info = site / "starlette-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: starlette\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(site)

    def add(name):
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text("")
        with (info / "RECORD").open("a") as record:
            record.write(f"{name},,\n")

    return add


def test_a_library_with_a_compiled_part_is_refused(fake_library, tmp_path):
    fake_library("starlette/__init__.py")
    fake_library("starlette/speedups.cpython-311-x86_64-linux-gnu.so")
    (tmp_path / "bundle").mkdir()
    with pytest.raises(InstallFailed, match=r"compiled part \(starlette/speedups"):
        build_bundle(tmp_path / "bundle")


def test_a_library_installed_without_a_list_of_files_is_refused(fake_library, tmp_path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(InstallFailed, match="without a list of its files"):
        build_bundle(tmp_path / "bundle")


# the content hash


def test_the_fingerprint_costs_no_heavy_import():
    code = (
        "import sys; from agentctl.providers.bootstrap import fingerprint; fingerprint()\n"
        "print([m for m in ('importlib.metadata', 'subprocess', 'starlette', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_edited_checkout_has_another_fingerprint(tmp_path, monkeypatch):
    copy = tmp_path / "agentctl"
    shutil.copytree(bootstrap.OWN_PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(bootstrap, "OWN_PACKAGE", copy)
    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    (copy / "supervisor" / "brand_new.py").write_text("")
    seen.append(fingerprint())
    os.utime(copy / "wire.py", ns=(1, 1))
    seen.append(fingerprint())
    (copy / "cli" / "__init__.py").write_text("# not part of the bundle")
    assert fingerprint() == seen[2]
    assert len(set(seen)) == 3


def test_an_upgraded_library_has_another_fingerprint(fake_library):
    fake_library("starlette/__init__.py")
    before = fingerprint()
    site = Path(sys.path[0])
    (site / "starlette-9.9.dist-info").rename(site / "starlette-9.10.dist-info")
    assert fingerprint() != before


# making it


def test_a_runtime_is_made_once(fresh, quick_build):
    runtime = ensure_runtime(fresh)
    before = (runtime / "__main__.py").stat()
    assert ensure_runtime(fresh) == runtime
    assert (runtime / "__main__.py").stat() == before
    assert runtime.name.endswith(sys.implementation.cache_tag)
    assert [path.name for path in fresh.runtime.iterdir()] == [runtime.name]


@pytest.mark.slow
def test_processes_that_make_a_runtime_together_share_one(fresh, runtime):
    makers = [
        subprocess.Popen([sys.executable, "-c", ENSURE, str(fresh.root)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = {maker.communicate(timeout=60)[0].strip() for maker in makers}
    assert [maker.returncode for maker in makers] == [0, 0, 0]
    assert answers == {str(fresh.runtime / runtime.name)}
    assert [path.name for path in fresh.runtime.iterdir()] == [runtime.name]


def test_a_maker_killed_half_way_leaves_nothing_that_is_taken_for_a_runtime(fresh, runtime):
    maker = subprocess.Popen([sys.executable, "-c", ENSURE, str(fresh.root)], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(fresh.runtime.glob(".new-*/agentctl/*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    assert [path.name[:5] for path in fresh.runtime.iterdir()] == [".new-"]
    made = ensure_runtime(fresh)
    assert run(made / "__main__.py", "serve", input="").returncode == 0


def test_a_failed_build_leaves_nothing(fresh, monkeypatch):
    def fail(target):
        (target / "half.py").write_text("")
        raise InstallFailed("no such library")

    monkeypatch.setattr("agentctl.providers.bundle.build_bundle", fail)
    with pytest.raises(InstallFailed):
        ensure_runtime(fresh)
    assert list(fresh.runtime.iterdir()) == []


def test_a_runtime_directory_that_cannot_be_used_is_a_clear_error(fresh):
    fresh.runtime.write_text("in the way")
    with pytest.raises(StateNotWritable) as caught:
        ensure_runtime(fresh)
    assert "AGENTCTL_STATE_DIR" in caught.value.hint


def test_a_python_that_is_missing_or_too_old_is_refused_with_the_fix(fresh, tmp_path):
    with pytest.raises(InstallFailed, match="no Python at /missing/python"):
        ensure_runtime(fresh, "/missing/python")
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho cpython-39 3 9\n")
    old.chmod(0o755)
    with pytest.raises(InstallFailed, match=r"is Python 3\.9; the supervisor needs 3\.11 or newer"):
        ensure_runtime(fresh, str(old))
    assert not fresh.runtime.exists()


# sweeping


@pytest.fixture
def old_runtimes(fresh):
    """Six runtimes of other versions, last used 1 to 6 days ago, and two builds that were given up."""
    now = time.time()

    def make(name, age_s):
        path = fresh.runtime / name
        path.mkdir(parents=True)
        (path / "__main__.py").write_text("input()")
        os.utime(path, (now - age_s, now - age_s))
        return path

    make(".new-abandoned", 2 * 3600)
    make(".new-running", 60)
    return [make(f"v{days}-x", days * 24 * 3600) for days in range(1, 7)]


def test_the_newest_few_and_those_in_use_survive_a_new_one(fresh, old_runtimes, quick_build):
    used = old_runtimes[5] / "__main__.py"
    user = subprocess.Popen([sys.executable, "-IS", str(used)], stdin=subprocess.PIPE)
    while used.name not in Path(f"/proc/{user.pid}/cmdline").read_text():
        time.sleep(0.001)
    made = ensure_runtime(fresh)
    user.communicate(b"\n")
    assert {path.name for path in fresh.runtime.iterdir()} == {
        made.name,
        ".new-running",
        "v1-x",
        "v2-x",
        "v3-x",
        "v6-x",
    }


def test_what_was_not_used_for_a_week_goes_even_among_the_newest(fresh, quick_build):
    ancient = fresh.runtime / "ancient"
    ancient.mkdir(parents=True)
    os.utime(ancient, (0, 0))
    made = ensure_runtime(fresh)
    assert list(fresh.runtime.iterdir()) == [made]


def test_where_the_system_tells_no_use_only_a_week_counts(fresh, old_runtimes, quick_build, monkeypatch):
    monkeypatch.setattr(bootstrap, "_command_lines", lambda: None)
    os.utime(old_runtimes[0], (0, 0))
    ensure_runtime(fresh)
    assert sorted(path.name for path in fresh.runtime.glob("v*")) == [f"v{days}-x" for days in range(2, 7)]
