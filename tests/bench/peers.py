"""acpx, the peer of the benchmark, with a Node that is new enough for it: installed once per machine from npm."""

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

_HOME = Path("~/.cache/agentctl-tests/bench").expanduser()


class NoPeer(Exception):
    """acpx cannot be had here, with the reason."""


def install_acpx() -> list[str]:
    """The command that runs exactly this acpx on exactly this Node. Raise ``NoPeer``."""
    place = _HOME / f"acpx-{ACPX_VERSION}-node-{NODE_VERSION}"
    if not place.is_dir():
        _install(place)
    node = f"node-{npm_platform()}"
    return [
        str(place / "node_modules" / node / "bin" / "node"),
        str(place / "node_modules" / "acpx" / "dist" / "cli.js"),
    ]


def _install(place: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NoPeer("npm is not on PATH")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as made:
        new = Path(made, "new")
        new.mkdir()
        (new / "package.json").write_text(json.dumps({"private": True}))
        packages = [f"acpx@{ACPX_VERSION}", f"node-{npm_platform()}@{NODE_VERSION}"]
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", "--loglevel=error"]
        done = subprocess.run(
            [npm, "install", *quiet, *packages], cwd=new, capture_output=True, text=True, env=os.environ, check=False
        )
        if done.returncode != 0:
            raise NoPeer(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "npm failed")
        new.rename(place)
