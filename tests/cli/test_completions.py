"""Completion, in the shells themselves: bash, zsh and fish on a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentctl.agents import recipes
from agentctl.cli import command_table as table
from agentctl.cli.complete import complete, split
from agentctl.cli.completion_scripts import SCRIPTS
from agentctl.model import Session, SessionSpec
from agentctl.providers.lookup import PROVIDERS
from agentctl.store.sqlite import SqliteStore
from tests.cli.running import agentctl, cpu_s
from tests.cli.terminal import Terminal

SHELLS = ("bash", "zsh", "fish")
PROMPT = "ready>"
BIN = Path(sys.executable).parent


@pytest.fixture
def state():
    """A state directory with sessions, as commands would leave it; the latest comes first."""
    root = Path(os.environ["AGENTCTL_STATE_DIR"])
    with SqliteStore(root / "agentctl.db") as store:
        for at, (name, title) in enumerate(
            [("website", None), ("web-login", "Mend the login"), ("api", "Speed it up")]
        ):
            spec = SessionSpec(agent="mock", workspace="team" if name == "api" else None)
            made = Session(
                id=f"ses_{name}", name=name, spec=spec, status="idle", created_at=at, updated_at=at, title=title
            )
            store.add_session(made)
    return root


@pytest.fixture
def shell(state, tmp_path):
    """Start a shell with the completions of the distribution, in a directory with one file: ``shell("zsh")``."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "spec.yaml").write_text("agent: mock\n")
    started = []

    def start(name):
        started.append(_started(name, tmp_path, here))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def _started(name, tmp_path, here):
    script = tmp_path / ("_agentctl" if name == "zsh" else f"agentctl.{name}")
    script.write_text(SCRIPTS[name])
    if name == "zsh":  # found on fpath, as the wheel installs it
        begin = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; PS1='{PROMPT} '"
        argv = ["zsh", "-f", "-i"]
    elif name == "bash":
        begin = f"source {script}; bind 'set show-all-if-ambiguous on'; PS1='{PROMPT} '"
        argv = ["bash", "--norc", "--noprofile", "-i"]
    else:
        begin = f"source {script}; function fish_prompt; echo -n '{PROMPT} '; end"
        argv = ["fish", "--no-config", "-i"]
    environ = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "PS1": "> "}
    terminal = Terminal(argv, columns=110, rows=40, env=environ)
    terminal.read(0.5)
    terminal.send(f"cd {here}; {begin}; clear; echo be''gun\r")
    terminal.wait_for("begun")
    terminal.wait_for(PROMPT)
    return terminal


def _type(terminal, text, *shown):
    """Type ``text`` and TAB, see what is ``shown``, and take the line back."""
    terminal.send(f"{text}\t")
    for what in shown:
        terminal.wait_for(what)
    terminal.send("\x03")
    terminal.read(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_completes_names_and_shows_what_they_are(shell, name):
    assert shutil.which(name), f"CI has {name}"
    terminal = shell(name)
    _type(terminal, "agentctl sessions get ap", "agentctl sessions get api")
    _type(terminal, "agentctl sessions get web", "Mend the login", "web-login", "website")
    _type(terminal, "agentctl sessions get @l", "agentctl sessions get @last")
    _type(terminal, "agentctl run --agent=moc", "agentctl run --agent=mock")
    _type(terminal, "agentctl run --permissions acc", "--permissions accept-edits")
    _type(terminal, "agentctl run --spec sp", "--spec spec.yaml")
    _type(terminal, "agentctl cp spec.yaml ap", "cp spec.yaml api:")
    _type(terminal, "agentctl sessions send-message-", "agentctl sessions send-message-stream")


def test_words_are_read_as_the_shell_reads_them():
    assert split('agentctl run \'a b\' "c \\" d" e\\ f ') == ["agentctl", "run", "a b", 'c " d', "e f", ""]
    assert split("agentctl ''  x") == ["agentctl", "", "x"]


def _names(*words):
    return [name for name, _ in complete(list(words))[1]]


def test_every_kind_of_name_is_offered(state, tmp_path, monkeypatch):
    (state / "volumes" / "default" / "workspaces" / "made").mkdir(parents=True)
    config = tmp_path / "config.toml"
    config.write_text("[presets.review]\nagent = 'mock'\n")
    monkeypatch.setenv("AGENTCTL_CONFIG", str(config))
    assert _names("sessions", "get", "") == ["@last", "api", "web-login", "website"]
    assert _names("sessions", "get", "ses_w") == ["ses_web-login", "ses_website"]
    assert complete(["sessions", "get", "@"])[1] == [("@last", "the session that was used last: api")]
    assert complete(["sessions", "--json", "send", "web-"])[1] == [("web-login", "mock, idle: Mend the login")]
    assert _names("run", "--agent", "c") == [n for n in recipes.names() if n.startswith("c")]
    assert _names("run", "--provider", "") == list(PROVIDERS)
    assert _names("run", "--workspace", "") == ["team", "made"]
    assert _names("run", "--preset", "") == ["review"]
    assert _names("config", "get", "data") == ["database_url"]
    assert _names("config", "set", "permissions", "a") == ["ask", "accept-edits", "allow"]
    assert _names("help", "exit") == ["exit-codes"]
    assert _names("schema", "sessions-ge") == ["sessions-get"]
    assert _names("sessions", "list", "--status", "id") == ["idle"]
    assert complete(["run", "--cwd", ""]) == ("dirs", [])
    assert complete(["sessions", "files", "put", "api", ""]) == ("files", [])
    assert _names("run", "--", "--agent") == []
    assert "--keep" in _names("run", "--ke")
    assert _names("run", "--keep", "--ke") == []
    assert _names("no-such", "") == []


def test_models_and_modes_are_those_that_the_agent_told_when_it_ran_last():
    assert agentctl("sessions", "create", "known", "--agent", "mock", "--no-provision").code == 0
    done = agentctl("run", "--agent", "mock", "Hello")
    assert done.code == 0, done
    assert _names("sessions", "set-mode", "known", "") == ["default", "plan"]
    assert _names("run", "--agent", "mock", "--model", "") == _names("sessions", "set-model", "@last", "")
    assert _names("run", "--agent", "claude", "--model", "") == []
    assert "model" in _names("sessions", "set-option", "known", "")


def test_nothing_is_said_where_nothing_can_be_read(tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("")
    for name, value in (
        ("AGENTCTL_STATE_DIR", str(tmp_path / "blocked" / "x")),
        ("AGENTCTL_CONFIG", str(tmp_path / "blocked" / "config.toml")),
        ("AGENTCTL_DATABASE_URL", "postgresql://nobody@192.0.2.1/none"),
    ):
        monkeypatch.setenv(name, value)
        assert _names("sessions", "get", "w") == []
        assert _names("run", "--preset", "") == []


def test_a_request_is_answered_in_time_with_a_thousand_sessions(tmp_path, monkeypatch):
    """100 ms are promised, where bare Python takes ten."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "cache"))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("_AGENTCTL_COMPLETE", "zsh")
    spec = SessionSpec(agent="mock")
    with SqliteStore(Path(os.environ["AGENTCTL_STATE_DIR"]) / "agentctl.db") as store:
        for at in range(1000):
            store.add_session(
                Session(id=f"ses_{at:04}", name=f"work-{at}", spec=spec, status="idle", created_at=at, updated_at=at)
            )

    code = "from agentctl.cli.entry import main; main()"
    asked = cpu_s(sys.executable, "-c", code, "sessions", "get", "work")
    assert asked < 10 * cpu_s(sys.executable, "-c", "pass")


def test_a_request_imports_no_command_line_and_no_network():
    code = "import sys; from agentctl.cli.entry import main; main(); print(*sys.modules, file=sys.stderr)"
    environ = {**os.environ, "_AGENTCTL_COMPLETE": "zsh"}
    command = [sys.executable, "-c", code, "sessions", "get", ""]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert not {"typer", "socket", "asyncio", "sqlite_utils", "psycopg", "inspect"} & set(done.stderr.split())


def test_show_completion_gives_the_script_of_the_distribution():
    done = agentctl("--show-completion", "zsh", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert done.out.strip() == SCRIPTS["zsh"].strip(), done


def test_the_table_knows_every_command():
    from agentctl.cli.main import RootGroup

    assert set(table.GROUPS[""]) == set(RootGroup.table)
