"""A registry on loopback with what the pi recipe pins, and an npm that keeps its cache to itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentctl.agents.node import OWN_VERSION, own_node
from agentctl.paths import StatePaths
from tests.agents.registry import Registry

PI = {
    "pi-acp@0.0.34": {"dist/index.js": "// adapter"},
    "@earendil-works/pi-coding-agent@0.87.1": {"bin/pi": "#!/usr/bin/env node\n"},
}
NODE_PACKAGE = own_node(StatePaths(Path())).path.parts[-3]
NODE = {f"{NODE_PACKAGE}@{OWN_VERSION}": {"bin/node": f"#!/bin/sh\necho v{OWN_VERSION}\n"}}


@pytest.fixture
def paths(tmp_path: Path) -> StatePaths:
    return StatePaths(tmp_path / "state")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.delenv("npm_config_registry", raising=False)
    with Registry({**PI, **NODE}) as served:
        yield served


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``program("node", "echo v18.0.0")`` puts a shell script first on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/local/bin:/usr/bin:/bin")

    def put(name: str, script: str) -> Path:
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    return put
