"""What counts as installed: a manifest of this format, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

from agentctl.agents.installed import Installed, installed, write_manifest


def put(paths, version, at):
    place = paths.agents / "claude" / version
    place.mkdir(parents=True)
    write_manifest(place, Installed(name="claude", version=version, path=place, node=Path("/n/node"), installed_at=at))
    return place


def test_nothing_is_installed_in_a_new_state_directory(paths):
    assert installed(paths, "claude") is None


def test_the_newest_install_counts_unless_a_version_is_asked_for(paths):
    put(paths, "2.0.0", at=10)
    put(paths, "1.0.0", at=20)
    newest, exact = installed(paths, "claude"), installed(paths, "claude", "2.0.0")
    assert (newest and newest.version, exact and exact.version) == ("1.0.0", "2.0.0")
    assert installed(paths, "claude", "3.0.0") is None


def test_a_directory_without_a_readable_manifest_is_not_an_install(paths):
    place = put(paths, "1.0.0", at=1)
    for text in ("", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "node": null, "other": 1}'):
        (place / "manifest.json").write_text(text)
        assert installed(paths, "claude") is None, text
    (place / "manifest.json").unlink()
    assert installed(paths, "claude") is None


def test_a_temporary_directory_is_never_an_install(paths):
    put(paths, ".tmp-abc", at=1)
    assert installed(paths, "claude") is None


def test_looking_is_cheap(paths):
    put(paths, "1.0.0", at=1)
    started = time.process_time()
    for _ in range(50):
        installed(paths, "claude", "1.0.0")
    assert (time.process_time() - started) / 50 < 0.001
