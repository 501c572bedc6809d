"""What ``/v1/config`` keeps for a directory, and what of it an agent gets."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentctl import errors
from agentctl.supervisor import skills
from agentctl.supervisor.config_store import ConfigStore, added

LOCAL = {"type": "local", "command": "npx -y tool", "args": ["--fast"], "env": {"A": "1"}}
REMOTE = {"type": "remote", "url": "https://host/mcp", "headers": {"X": "y"}, "bearerTokenEnvVar": "TOKEN"}


@pytest.fixture
def store(tmp_path: Path) -> ConfigStore:
    return ConfigStore(tmp_path / "log" / "config.json")


def test_what_was_put_is_there_for_the_next_supervisor(store: ConfigStore, tmp_path: Path) -> None:
    store.put("mcp", "/src", "tool", LOCAL)
    file = tmp_path / "log" / "config.json"
    assert ConfigStore(file).get("mcp", "/src/", "tool") == LOCAL
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_missing_entry_is_not_found_and_deleting_it_succeeds(store: ConfigStore) -> None:
    store.delete("skills", "/src", "none")
    with pytest.raises(errors.NotFound):
        store.get("skills", "/src", "none")


def test_servers_come_as_acp_has_them(store: ConfigStore) -> None:
    store.put("mcp", "/src", "tool", LOCAL)
    store.put("mcp", "/src", "web", REMOTE)
    store.put("mcp", "/src", "off", {**LOCAL, "enabled": False})
    store.put("mcp", "/other", "else", LOCAL)
    assert store.mcp_servers("/src", {"TOKEN": "t"}) == [
        {"name": "tool", "command": "npx", "args": ["-y", "tool", "--fast"], "env": [{"name": "A", "value": "1"}]},
        {
            "type": "http",
            "name": "web",
            "url": "https://host/mcp",
            "headers": [{"name": "X", "value": "y"}, {"name": "Authorization", "value": "Bearer t"}],
        },
    ]


def test_a_session_s_own_server_goes_before_one_of_the_same_name() -> None:
    mine = {"name": "tool", "command": "mine"}
    assert added([mine], [{"name": "tool", "command": "theirs"}, {"name": "b"}]) == [mine, {"name": "b"}]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"type": "carrier-pigeon", "url": "https://host"},
        {"type": "remote", "url": "ftp://host"},
        {"type": "remote", "url": "https://host", "transport": "udp"},
        {"type": "local"},
        {"type": "local", "command": "x", "env": []},
    ],
)
def test_a_config_that_no_agent_could_use_is_refused_and_changes_nothing(
    store: ConfigStore, config: dict[str, Any]
) -> None:
    with pytest.raises(errors.UsageError):
        store.put("mcp", "/src", "bad", config)
    assert store.all("mcp", "/src") == {}


def test_a_relative_directory_is_refused(store: ConfigStore) -> None:
    with pytest.raises(errors.UsageError):
        store.put("mcp", "src", "tool", LOCAL)


def skill(root: Path, name: str, text: str = "Body") -> Path:
    (root / name / "scripts").mkdir(parents=True)
    (root / name / "SKILL.md").write_text(f"---\nname: {name}\n---\n{text}\n")
    (root / name / "scripts" / "run.sh").write_text("#!/bin/sh\n")
    return root / name


async def test_a_local_skill_is_put_in_whole_and_replaced(tmp_path: Path) -> None:
    source = skill(tmp_path / "src", "zebra")
    target = tmp_path / "skills"
    for text in ("Body", "Newer"):
        (source / "SKILL.md").write_text(text)
        await skills.install(target, [{"sources": [{"type": "local", "source": str(source)}]}])
        assert (target / "zebra" / "SKILL.md").read_text() == text
    assert [p.name for p in target.iterdir()] == ["zebra"]


def repository(root: Path, *names: str) -> Path:
    for name in names:
        skill(root / "skills", name)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=root, check=True)
    return root


def there(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))


async def test_the_skills_of_a_git_repository_are_found_and_chosen_by_name(tmp_path: Path) -> None:
    source = {"type": "git", "source": f"file://{repository(tmp_path / 'many', 'one', 'two')}", "skills": ["two"]}
    await skills.install(tmp_path / "target", [{"sources": [source]}])
    assert there(tmp_path / "target") == ["two"]


async def test_a_skill_stays_when_its_repository_is_out_of_reach(tmp_path: Path) -> None:
    remote = repository(tmp_path / "many", "one", "two")
    config = {"sources": [{"type": "git", "source": f"file://{remote}"}]}
    await skills.install(tmp_path / "target", [config])
    remote.rename(tmp_path / "gone")
    await skills.install(tmp_path / "target", [config])
    assert there(tmp_path / "target") == ["one", "two"]


async def test_a_source_without_a_skill_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"no SKILL\.md"):
        await skills.install(tmp_path / "t", [{"sources": [{"type": "local", "source": str(tmp_path)}]}])


async def test_a_repository_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.SandboxError, match="could not fetch"):
        await skills.install(tmp_path / "t", [{"sources": [{"type": "git", "source": f"file://{tmp_path}/none"}]}])
