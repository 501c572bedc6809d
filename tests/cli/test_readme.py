"""What README says to scripts, run as it stands there: a workflow's steps as a runner does, cron's line, a timer."""

from __future__ import annotations

import configparser
import fcntl
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import agentctl
from agentctl.agents import recipes
from tests.agents.conftest import NODE_PACKAGE, OWN_VERSION
from tests.agents.registry import Registry
from tests.schemas import check_output

README = Path(agentctl.__file__).parents[1] / "README.md"
MOCK = Path(agentctl.__file__).parent / "supervisor/mock/agent.py"
pytestmark = pytest.mark.slow

SECRET = f"sk-ant-api03-{'c' * 90}"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def block(language: str, beginning: str) -> str:
    """The one fenced block of README in that language that begins so."""
    fenced = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    [found] = [text for text in fenced if text.startswith(beginning)]
    return found


def clean(home: Path, argv: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it as where nobody is: no terminal, no input, no variable but ``env`` and those of every login."""
    return subprocess.run(
        argv,
        cwd=cwd,
        env={"HOME": str(home), "LOGNAME": "somebody", "PATH": SYSTEM_PATH, "SHELL": "/bin/sh", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )


def agentctl_in(directory: Path, count: Path | None = None) -> None:
    """Put the command there, as an install does; ``count`` gets a line for every call."""
    directory.mkdir(parents=True)
    note = f'echo "$*" >> {shlex.quote(str(count))}\n' if count else ""
    script = directory / "agentctl"
    script.write_text(f'#!/bin/sh\n{note}exec {shlex.quote(sys.executable)} -m agentctl.cli "$@"\n')
    script.chmod(0o755)


@pytest.fixture
def home(tmp_path):
    """A user who has installed agentctl, and nothing else."""
    agentctl_in(tmp_path / "home/.local/bin")
    return tmp_path / "home"


# the workflow


@dataclass
class Runner:
    """Runs the steps of README's workflow in a clone, as a runner of GitHub does."""

    root: Path
    workflow: dict
    registry: str

    def steps(self, wanted: str) -> list[dict]:
        return [step for step in self.workflow["jobs"]["review"]["steps"] if wanted in step]

    def calls(self) -> list[str]:
        return (self.root / "calls").read_text().splitlines()

    def run(self, step: dict, secret: str = SECRET, **env: str) -> subprocess.CompletedProcess[str]:
        of_runner = {name: str(self.root / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        of_runner |= {"CI": "true", "GITHUB_BASE_REF": "main", "PATH": f"{self.root}/bin:{SYSTEM_PATH}"}
        of_runner |= {"AGENTCTL_REGISTRY": self.registry, "npm_config_cache": f"{self.root}/npm"}
        declared = {**self.workflow["jobs"]["review"]["env"], **step.get("env", {})}
        of_step = {name: self.filled(text, secret) for name, text in declared.items()}
        script = self.root / "step.sh"
        script.write_text(step["run"])
        argv = ["bash", "-e", str(script)]
        return clean(self.root / "home", argv, self.root / "clone", {**of_runner, **of_step, **env})

    def filled(self, text: str, secret: str = "") -> str:
        output = dict(line.split("=", 1) for line in (self.root / "github_output").read_text().splitlines())
        known = {f"steps.agentctl.outputs.{name}": value for name, value in output.items()}
        known |= {f"env.{name}": value for name, value in self.workflow["jobs"]["review"]["env"].items()}
        known |= {"secrets.ANTHROPIC_API_KEY": secret, "runner.os": "Linux"}
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda found: known[found[1]], str(text))


def scripted_agent() -> dict[str, dict[str, str]]:
    """What npm installs as Claude Code: a program of the same name that is the mock agent. And a Node, for where the
    machine's is too old."""
    mock = f"{sys.executable} -IS {MOCK}"
    javascript = f"""
        const [program, ...more] = {mock.split()!r};
        require("child_process").spawn(program, more, {{stdio: "inherit"}}).on("exit", code => process.exit(code ?? 1));
    """
    node = f'#!/bin/sh\n[ "$1" = --version ] && exec echo v{OWN_VERSION}\nexec {mock}\n'
    [package] = recipes.load("claude").install.packages
    return {package: {"dist/index.js": javascript}, f"{NODE_PACKAGE}@{OWN_VERSION}": {"bin/node": node}}


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A runner on which every step before the review has been run."""
    root = tmp_path_factory.mktemp("runner")
    (root / "home").mkdir()
    (root / "github_output").touch()
    agentctl_in(root / "bin", count=root / "calls")
    _clone(root)
    with Registry(scripted_agent()) as registry:
        runner = Runner(root, yaml.safe_load(block("yaml", "# .github/workflows/review.yml")), registry.url)
        install, *before, _review = runner.steps("run")
        assert install["run"].startswith("pip install ")  # tests/test_wheel.py does that
        for step in before:
            done = runner.run(step)
            assert done.returncode == 0, done
        yield runner


def _clone(root: Path) -> None:
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    for words in (
        ["init", "-q", "-b", "main", "upstream"],
        ["-C", "upstream", *who, "commit", "-q", "--allow-empty", "-m", "first"],
        ["clone", "-q", "upstream", "clone"],
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    _propose(root, "a change")


def _propose(root: Path, line: str) -> None:
    """The pull request adds a file with that line, whose ``@words`` the mock agent obeys."""
    (root / "clone/new.txt").write_text(f" {line}\n")
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    for words in (["add", "new.txt"], [*who, "commit", "-q", "--allow-empty", "-m", line]):
        subprocess.run(["git", *words], cwd=root / "clone", check=True)


def test_what_the_workflow_caches_is_what_its_agent_needs(runner):
    [cache] = [step for step in runner.steps("uses") if step["uses"].startswith("actions/cache@")]
    kept = Path(cache["with"]["path"].replace("~", str(runner.root / "home")))
    assert (kept / "claude").is_dir()
    key = runner.filled(cache["with"]["key"])
    assert key == f"Linux claude agentctl {agentctl.__version__}"
    again = runner.run(runner.steps("run")[-2], AGENTCTL_REGISTRY="http://127.0.0.1:9/")
    assert again.returncode == 0, again


@pytest.mark.parametrize(
    ("line", "more", "code", "error", "tries"),
    [
        ("a change", {}, 0, None, 1),
        ("@permission", {}, 0, None, 1),
        ("@crash", {}, 7, "agent_process_exited", 1),
        ("a change", {"secret": ""}, 6, "credentials_missing", 1),
        ("a change", {"AGENTCTL_PROVIDER": "docker", "DOCKER_HOST": "unix:///none"}, 8, "provider_unavailable", 2),
    ],
)
def test_the_workflow_tells_the_review_or_what_went_wrong_and_tries_again_what_can_help(
    runner, line, more, code, error, tries
):
    _propose(runner.root, line)
    summary, calls = runner.root / "github_step_summary", len(runner.calls())
    summary.unlink(missing_ok=True)
    done = runner.run(runner.steps("run")[-1], **more)
    events = (runner.root / "clone/events.ndjson").read_text()
    assert done.returncode == code, done
    assert len(runner.calls()) - calls == tries
    assert check_output(["run", "--json"], events) == ["run"]
    if error is None:
        assert done.stdout == ""
        said = summary.read_text()
        assert said.startswith("permission: reject-once" if line == "@permission" else "mock: Review this diff.")
    else:
        assert done.stdout.startswith(f"::error::{error}: ")
    assert SECRET not in done.stdout + done.stderr + events + summary.read_text()


# cron and systemd


@pytest.fixture
def stale():
    """A socket that a crash left two days ago."""
    place = Path(tempfile.mkdtemp(prefix="agentctl-", dir="/tmp"))
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(place / "sock"))
    two_days_ago = place.stat().st_mtime - 2 * 86400
    os.utime(place, (two_days_ago, two_days_ago))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_crons_line_deletes_what_a_crash_left_and_mails_only_what_goes_wrong(home, stale):
    [line] = [line for line in block("crontab", "").splitlines() if line]
    found = re.fullmatch(r"(?:[\d*/,-]+ ){5}(.+)", line)
    assert found is not None
    assert "%" not in found[1], "cron makes a newline of it"
    done = clean(home, ["/bin/sh", "-c", found[1]], home, {"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    assert not stale.exists()
    settings = home / ".config/agentctl/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('database_url = "postgresql://me:geheim@127.0.0.1:1/sessions"\n')
    failed = clean(home, ["/bin/sh", "-c", found[1]], home, {"PATH": "/usr/bin:/bin"})
    assert (failed.returncode, failed.stdout) == (8, ""), failed
    assert "'sessions' at 127.0.0.1:1 does not answer" in failed.stderr
    assert "geheim" not in failed.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="a machine without systemd cannot judge its units")
def test_systemd_finds_nothing_wrong_with_the_units(home, tmp_path):
    units = [tmp_path / f"agentctl-cleanup.{kind}" for kind in ("timer", "service")]
    for unit in units:
        unit.write_text(block("ini", f"# ~/.config/systemd/user/{unit.name}\n"))
    argv = ["systemd-analyze", "--user", "verify", *map(str, units)]
    judged = clean(home, argv, tmp_path, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert (judged.returncode, judged.stderr) == (0, "")


def _unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(block("ini", f"# ~/.config/systemd/user/agentctl-cleanup.{name}\n"))
    return parsed


def test_the_timers_service_deletes_it_too_and_gives_way_to_another(home, stale):
    service, timer = _unit("service")["Service"], _unit("timer")
    assert (timer["Timer"]["OnCalendar"], timer["Install"]["WantedBy"]) == ("daily", "timers.target")
    argv = shlex.split(service["ExecStart"].replace("%h", str(home)))
    done = clean(home, argv, Path("/"), {})
    assert (done.returncode, done.stderr) == (0, ""), done
    assert not stale.exists()
    with (home / ".local/state/agentctl/cleanup.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert clean(home, argv, Path("/"), {}).returncode == int(service["SuccessExitStatus"])
