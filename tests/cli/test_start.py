"""The command line starts fast: nothing heavy is imported before it is needed."""

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import agentctl
import agentctl.cli
from agentctl.cli.main import AgentsGroup, SessionsGroup
from agentctl.model import Session
from tests.cli.running import cpu_s

HEAVY = {
    "acp",
    "agentctl.model",
    "agentctl.ops",
    "asyncio",
    "docker",
    "email",
    "h11",
    "http",
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
NEVER_IN_A_TURN = {
    "agentctl.ops.programs",
    "agentctl.providers.bundle",
    "agentctl.schemas",
    "anyio",
    "certifi",
    "email",
    "h2",
    "http",
    "httpcore",
    "httpx",
    "importlib.metadata",
    "pydantic",
    "rich",
    "sniffio",
    "sqlite_utils",
    "starlette",
    "tomllib",
    "uvicorn",
    "wsproto",
    "yaml",
}
"""What a supervisor's events are read without, and once the runtime and the database are there."""

ONLY_TO_TALK_TO_A_SANDBOX = {
    "agentctl.agents",
    "agentctl.ops.reach",
    "agentctl.ops.sessions",
    "agentctl.providers",
    "agentctl.supervisor",
    "agentctl.supervisor_client",
    "agentctl.wire",
    "asyncio",
    "h11",
    "hashlib",
    "socket",
    "ssl",
}
IN_EVERY_COMMAND = (
    "compute",
    "config",
    "model",
    "providers.base",
    "wire",
    "agents.schema",
    "credentials.base",
)
LEAVES = [
    *(["sessions", name] for name in SessionsGroup.table),
    *(["agents", name] for name in AgentsGroup.table),
    ["run"],
]


def _imported(*args, env=None):
    code = "import sys; from agentctl.cli.entry import run, main; sys.argv = ['agentctl', *sys.argv[1:]]; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *args],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def _heavy(imported, heavy=HEAVY):
    return {name for name in imported if any(name == one or name.startswith(f"{one}.") for one in heavy)}


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


def test_a_run_imports_nothing_but_what_a_turn_needs(tmp_path):
    agent = Path(agentctl.__file__).parent / "supervisor" / "mock" / "agent.py"
    command = shlex.join([sys.executable, "-IS", str(agent)])
    for _ in range(2):  # the first one makes the supervisor's runtime and the database
        imported = _imported(
            "run", "--agent-command", command, "--json", "Hello", env={"AGENTCTL_STATE_DIR": str(tmp_path / "state")}
        )
    assert "h11" in imported
    assert not _heavy(imported, NEVER_IN_A_TURN)


def test_a_list_of_sleeping_sessions_imports_nothing_to_talk_to_them(tmp_path):
    env = {"AGENTCTL_STATE_DIR": str(tmp_path / "state")}
    _imported("sessions", "create", "asleep", "--agent", "mock", "--no-provision", env=env)
    assert not _heavy(_imported("sessions", "list", "--json", env=env), ONLY_TO_TALK_TO_A_SANDBOX | NEVER_IN_A_TURN)


@pytest.mark.parametrize("name", IN_EVERY_COMMAND)
def test_no_methods_are_compiled_for_the_dataclasses_that_every_command_imports(name):
    module = importlib.import_module(f"agentctl.{name}")
    classes = [cls for cls in vars(module).values() if isinstance(cls, type) and hasattr(cls, "__dataclass_fields__")]
    assert classes
    assert {cls.__init__ for cls in classes} == {Session.__init__}  # all made by agentctl.frozen


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
    assert cpu_s(sys.executable, "-c", code, "--version") <= 2 * cpu_s(sys.executable, "-c", "pass")
