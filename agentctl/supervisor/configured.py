"""What ``/v1/config`` holds for a directory, for the sessions opened in it. Free where there is nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentctl.wire import Boot, Recipe

Json = dict[str, Any]
_OPENING = ("session/new", "session/load", "session/resume", "session/fork")


def config_file(boot: Boot) -> Path:
    return Path(boot.log_root) / "config.json"


def mcp_servers(boot: Boot, directory: str, given: list[Json], environ: Mapping[str, str]) -> list[Json]:
    """The session's own MCP servers, and those configured for its directory under other names, with their variables
    from ``environ``. Raise ``CredentialsMissing`` for one that is not there."""
    if not config_file(boot).exists():
        return given
    from agentctl.supervisor.config_store import ConfigStore, added

    return added(given, ConfigStore(config_file(boot)).mcp_servers(directory, environ))


async def install_skills(boot: Boot, recipe: Recipe, directory: str) -> None:
    """Put the skills configured for the directory where the agent looks for them. Raises as ``skills.install``."""
    if recipe.skills is None or not config_file(boot).exists():
        return
    from agentctl.supervisor.config_store import ConfigStore
    from agentctl.supervisor.skills import install

    configs = ConfigStore(config_file(boot)).all("skills", directory)
    await install(Path(boot.home) / recipe.skills, configs.values())


async def configured(boot: Boot, recipe: Recipe, frame: Json) -> Json:
    """A raw client's frame; one that opens a session gets what is configured for its directory."""
    params = frame.get("params")
    if frame.get("method") not in _OPENING or not isinstance(params, dict) or not config_file(boot).exists():
        return frame
    directory, given = params.get("cwd"), params.get("mcpServers") or []
    if not isinstance(directory, str) or not directory.startswith("/") or not isinstance(given, list):
        return frame
    await install_skills(boot, recipe, directory)
    return {**frame, "params": {**params, "mcpServers": mcp_servers(boot, directory, given, boot.agent_env)}}
