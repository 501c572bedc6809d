"""What is installed, read from manifests alone: no subprocess, no scan of packages."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from agentctl.agents.platform import agents_root
from agentctl.frozen import frozen
from agentctl.paths import StatePaths

MANIFEST = "manifest.json"
FORMAT = 1


@frozen
class Installed:
    """One finished install under ``<state>/agents/<name>/<version>/``.

    ``node`` is the Node binary it runs on (None: it needs none). ``packages`` maps each pinned package to its
    version, ``integrity`` to the hash of npm's lock file, which lies beside the manifest as ``package-lock.json``.
    """

    name: str
    version: str
    path: Path
    packages: dict[str, str] = field(default_factory=dict)
    integrity: dict[str, str] = field(default_factory=dict)
    node: Path | None = None
    node_version: str | None = None
    installed_at: float = 0
    size_bytes: int = 0

    @property
    def modules(self) -> Path:
        return self.path / "node_modules"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "node": str(self.node) if self.node else None}


_KEYS = {*Installed.__dataclass_fields__, "format"} - {"path"}


def installed(
    paths: StatePaths, name: str, version: str | None = None, *, platform: str | None = None
) -> Installed | None:
    """The finished install of ``name`` (the newest, or exactly ``version``) for ``platform`` (this machine's), or None.
    Costs under a millisecond.

    A half-finished install has no manifest and is never seen.
    """
    root = agents_root(paths, platform) / name
    if version is not None:
        return read_manifest(root / version)
    found = [one for one in map(read_manifest, _versions(root)) if one]
    return max(found, key=lambda one: one.installed_at, default=None)


def _versions(root: Path) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_manifest(path: Path) -> Installed | None:
    """The install at ``path``, or None where its manifest is absent, unreadable or of another format."""
    try:
        data = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("format") != FORMAT or set(data) != _KEYS:
        return None
    node = data["node"]
    fields = {key: value for key, value in data.items() if key not in ("format", "node")}
    return Installed(**fields, path=path, node=Path(os.path.normpath(path / node)) if node else None)


def write_manifest(path: Path, one: Installed) -> None:
    """Write the manifest into ``path`` (the directory still under its temporary name)."""
    data = {k: v for k, v in one.to_json().items() if k != "path"} | {"format": FORMAT}
    (path / MANIFEST).write_text(json.dumps(data, indent=2) + "\n")
