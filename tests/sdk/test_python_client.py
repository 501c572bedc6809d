"""The third-party Python client of sandbox-agent, unmodified, against our supervisor."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor.support import TOKEN, mock_recipe, supervisor

VERSION = "0.1.5"
PLACE = Path(f"~/.cache/agentctl-tests/sandbox-agent-sdk-{VERSION}").expanduser()


@pytest.fixture(scope="session")
def client_python() -> Path:
    """The interpreter of an environment with the client, made once per machine."""
    if not PLACE.is_dir():
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=PLACE.parent))
        subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
        packages = [f"sandbox-agent-sdk=={VERSION}"]
        subprocess.run([str(made / "bin" / "pip"), "install", "--quiet", *packages], check=True)
        try:
            made.rename(PLACE)
        except OSError:  # another worker was faster
            assert PLACE.is_dir()
    return PLACE / "bin" / "python"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_its_calls_for_files_processes_terminals_and_agents_work(tmp_path: Path, client_python: Path) -> None:
    listen = {"host": "127.0.0.1", "port": 0}
    async with supervisor(tmp_path, mock_recipe(), listen=listen) as running:
        port = running.ready.listen["port"]
        said = await calls(client_python, f"http://127.0.0.1:{port}")
    assert said["health"]["status"] == "ok"
    assert said["read"] == "héllo"
    assert [e["name"] for e in said["entries"]] == ["a.txt"]
    assert (said["stat"]["size"], said["after"]) == (6, [])
    assert "refused" in said["missing"]
    check_processes(said)
    assert "33 91" in said["terminal"]
    assert [a["id"] for a in said["agents"]] == ["mock"]
    assert said["agent"]["installed"] is True
    assert said["installed"] == {"already_installed": True, "artifacts": []}
    assert "nobody" in said["unknown"]["refused"] or "refused" in said["unknown"]
    assert said["servers"] == {"servers": []}


def check_processes(said: dict[str, Any]) -> None:
    run = said["run"]
    assert (run["exitCode"], run["stdout"], run["stderr"]) == (3, "out\n", "err\n")
    assert said["created"]["id"] in said["listed"]
    assert said["got"]["status"] == "running"
    assert base64.b64decode(said["logs"]["entries"][0]["data"]) == b"line\n"
    assert said["stopped"]["status"] == "exited"
    assert said["created"]["id"] not in said["left"]
    assert said["limits_set"]["maxConcurrentProcesses"] == 7


async def calls(python: Path, url: str) -> dict[str, Any]:
    script = Path(__file__).with_name("client_script.py")
    process = await asyncio.create_subprocess_exec(
        str(python),
        str(script),
        env={**os.environ, "URL": url, "TOKEN": TOKEN},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, err.decode()[-3000:]
    said: dict[str, Any] = json.loads(out)
    return said
