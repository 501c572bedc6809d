"""The command line starts fast: nothing heavy is imported before it is needed."""

import os
import subprocess
import sys
import time

import pytest

from agentctl.cli.main import AgentsGroup, SessionsGroup

HEAVY = {
    "acp",
    "agentctl.model",
    "agentctl.ops",
    "asyncio",
    "docker",
    "email",
    "http",
    "httpcore",
    "httpx",
    "importlib.metadata",
    "logging",
    "platformdirs",
    "pydantic",
    "rich",
    "sqlite3",
    "sqlite_utils",
    "starlette",
    "tomllib",
    "uvicorn",
}
LEAVES = [
    *(["sessions", name] for name in SessionsGroup.table),
    *(["agents", name] for name in AgentsGroup.table),
    ["run"],
]


def _imported(*args):
    code = "import sys; from agentctl.cli.entry import run, main; sys.argv = ['agentctl', *sys.argv[1:]]; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def _heavy(imported):
    return {name for name in imported if any(name == heavy or name.startswith(f"{heavy}.") for heavy in HEAVY)}


def test_the_version_imports_nothing_but_the_package():
    imported = _imported("--version")
    assert not _heavy(imported)
    assert "typer" not in imported
    assert "typing" not in imported


@pytest.mark.parametrize("args", [["--help"], ["sessions", "--help"], ["agents", "--help"]])
def test_the_help_of_groups_imports_no_command(args):
    imported = _imported(*args)
    assert not _heavy(imported)
    assert "agentctl.cli.sessions" not in imported
    assert "agentctl.cli.agents" not in imported


@pytest.mark.parametrize("module", ["run", "sessions", "sessions_send", "sessions_read", "agents"])
def test_the_help_of_a_command_imports_nothing_heavy(module):
    leaf = {
        "run": ["run"],
        "sessions": ["sessions", "create"],
        "sessions_send": ["sessions", "send-message"],
        "sessions_read": ["sessions", "events"],
        "agents": ["agents", "install"],
    }[module]
    assert not _heavy(_imported(*leaf, "--help")) - {"agentctl.ops", "agentctl.ops.app", "agentctl.ops.report"}


def test_a_run_spawns_its_supervisor_before_it_imports_anything_slow():
    code = (
        "import sys; from agentctl.cli import headstart; headstart.begin(['run', 'Hello']); "
        "spawned = headstart.take(); spawned.discard(); print(*sys.modules)"
    )
    slow = {"asyncio", "ctypes", "dataclasses", "inspect", "json", "secrets", "typer"}
    for _ in range(2):  # the first run builds the supervisor's runtime, with whatever that needs
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not slow & set(done.stdout.split())


def test_nothing_is_looked_through_for_garbage_while_a_command_imports(tmp_path):
    code = (
        "import gc, os; exit = os._exit; "
        "looks = lambda: sum(generation['collections'] for generation in gc.get_stats()); before = looks(); "
        "os._exit = lambda code: (print(looks() - before, flush=True), exit(code)); "
        "import sys; sys.argv = ['agentctl', 'sessions', 'list', '--json']; "
        "from agentctl.cli.entry import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AGENTCTL_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) <= 5  # it was about 60; the few are those of entry.py's own imports


def test_the_version_takes_at_most_twice_as_long_as_bare_python():
    code = "from agentctl.cli.entry import main; main()"

    def best(*args):
        times = []
        for _ in range(7):
            started = time.perf_counter()
            subprocess.run([sys.executable, *args], stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best("-c", code, "--version") <= 2 * best("-c", "pass")
