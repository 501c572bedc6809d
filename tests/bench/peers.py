"""The peers of the benchmark, installed once per machine from npm: acpx with a Node that is new enough, sandbox-agent.

A third peer needs no install: the Python that runs the benchmark, without us.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from agentctl.agents.platform import npm_platform

ACPX_VERSION = "0.19.1"
NODE_VERSION = "22.23.3"
"""On an older Node npm silently picks an acpx of two years before."""

SANDBOX_AGENT_VERSION = "0.4.2"

_HOME = Path("~/.cache/agentctl-tests/bench").expanduser()


class NoPeer(Exception):
    """A peer cannot be had here, with the reason."""


def install_acpx() -> list[str]:
    """The command that runs exactly this acpx on exactly this Node. Raise ``NoPeer``."""
    node = f"node-{npm_platform()}"
    modules = _installed(f"acpx-{ACPX_VERSION}-node-{NODE_VERSION}", f"acpx@{ACPX_VERSION}", f"{node}@{NODE_VERSION}")
    return [str(modules / node / "bin" / "node"), str(modules / "acpx" / "dist" / "cli.js")]


def install_sandbox_agent() -> list[str]:
    """The program itself, without the Node script that npm puts before it. Raise ``NoPeer``."""
    package = f"@sandbox-agent/cli-{npm_platform()}"
    modules = _installed(f"sandbox-agent-{SANDBOX_AGENT_VERSION}", f"{package}@{SANDBOX_AGENT_VERSION}")
    program = modules / package / "bin" / "sandbox-agent"
    program.chmod(0o755)  # its Node script would do so
    return [str(program)]


def _installed(name: str, *packages: str) -> Path:
    """The ``node_modules`` of exactly these packages."""
    place = _HOME / name
    if not place.is_dir():
        _install(place, packages)
    return place / "node_modules"


def _install(place: Path, packages: tuple[str, ...]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NoPeer("npm is not on PATH")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as made:
        new = Path(made, "new")
        new.mkdir()
        (new / "package.json").write_text(json.dumps({"private": True}))
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", "--loglevel=error"]
        done = subprocess.run(
            [npm, "install", *quiet, *packages], cwd=new, capture_output=True, text=True, env=os.environ, check=False
        )
        if done.returncode != 0:
            raise NoPeer(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "npm failed")
        new.rename(place)
