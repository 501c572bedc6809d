"""The built wheel, installed without development dependencies: what a user gets."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def wheel(tmp_path) -> Path:
    out = tmp_path / "wheel"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(REPOSITORY)]
    subprocess.run(build, check=True, timeout=200)
    return next(out.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_wheel_holds_recipes_man_pages_and_completions_but_no_tests_and_answers_a_message(wheel, tmp_path):
    names = zipfile.ZipFile(wheel).namelist()
    assert "agentctl/agents/claude.toml" in names
    assert "agentctl/py.typed" in names
    assert "agentctl/providers/docker/image/Dockerfile" in names
    assert any(n.endswith("share/man/man1/agentctl.1") for n in names)
    assert any(n.endswith("share/bash-completion/completions/agentctl") for n in names)
    assert any(n.endswith("share/zsh/site-functions/_agentctl") for n in names)
    assert any(n.endswith("share/fish/vendor_completions.d/agentctl.fish") for n in names)
    pages = {path.name for path in (REPOSITORY / "man").iterdir()}
    assert pages == {Path(n).name for n in names if "/share/man/man1/" in n}
    assert all(page.endswith(".1") for page in pages)
    assert "agentctl/cli/command_table.py" in names
    assert not [n for n in names if n.startswith("tests/")]

    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=200)
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AGENTCTL_STATE_DIR": str(tmp_path / "state")}
    run = subprocess.run(
        [home / "bin/agentctl", "run", "--agent", "mock", "Hello"],
        capture_output=True,
        text=True,
        env=environ,
        cwd=tmp_path,
        timeout=100,
    )
    assert (run.returncode, run.stdout) == (0, "mock: Hello\n"), run.stderr
