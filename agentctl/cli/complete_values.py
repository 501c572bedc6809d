"""The names that completion offers where they are not known ahead: from the state database, the configuration and the
state directory. No agent is started and no network touched: where sessions are kept in Postgres, none is offered."""

from __future__ import annotations

import os
from pathlib import Path

from agentctl.cli import command_table as table
from agentctl.store.names import Names

TYPE_CHECKING = False  # see complete.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentctl.cli.complete import Answer, Described, Line
    from agentctl.config import Config

_CATEGORIES = {"models": "model", "modes": "mode", "levels": "thought_level"}


def values(kind: str, start: str, line: Line) -> Answer:
    """What ``kind`` of a name can be in this place; more than what begins with ``start`` may be among it."""
    offered = Offered(line)
    if kind in _CATEGORIES:
        return "values", offered.choices(_CATEGORIES[kind])
    if kind == "places":
        return offered.places(start)
    finders: dict[str, Callable[[], list[Described]]] = {
        "sessions": lambda: offered.sessions(start),
        "agents": lambda: [*table.AGENTS.items(), *offered.names.user_agents()],
        "own_agents": lambda: offered.names.user_agents(),
        "sandboxes": lambda: offered.names.sandboxes(),
        "volumes": lambda: offered.names.volumes(),
        "workspaces": offered.workspaces,
        "presets": offered.presets,
        "requests": lambda: offered.names.requests(""),
        "turns": lambda: offered.names.turns(offered.session()),
        "option_ids": offered.option_ids,
        "option_values": offered.option_values,
        "setting_values": offered.setting_values,
        "topics": lambda: [*table.TOPICS.items(), *table.GROUPS[""].items()],
    }
    return "values", finders[kind]() if kind in finders else []


class Offered:
    """What there is to offer for one line."""

    def __init__(self, line: Line) -> None:
        from agentctl.paths import StatePaths, default_state_dir

        self._line = line
        self._paths = StatePaths(default_state_dir())
        shared = "--database-url" in line.given or _is_shared()
        self.names = Names(Path(os.devnull) if shared else self._paths.database)

    def sessions(self, start: str) -> list[Described]:
        last = self.names.last_session() if "@last".startswith(start) else ""
        return [*([("@last", f"the session that was used last: {last}")] if last else []), *self.names.sessions(start)]

    def session(self) -> str:
        """The name of the session that the line is about."""
        given = self._line.given.get("--session") or next(iter(self._line.arguments), "")
        return self.names.last_session() if given == "@last" else given

    def workspaces(self) -> list[Described]:
        found = dict(self.names.workspaces())
        for path in self._paths.volumes.glob("*/workspaces/*"):
            found.setdefault(path.name, path.parts[-3])
        return [(name, f"on the volume {volume}") for name, volume in found.items()]

    def presets(self) -> list[Described]:
        config = _config()
        return [(name, str(preset.path)) for name, preset in config.presets.items()] if config else []

    def choices(self, category: str) -> list[Described]:
        """Values of the agent's config option of that category, as it told them when it ran last."""
        return [pair for o in self._options() if o.get("category") == category for pair in _choices(o)]

    def option_ids(self) -> list[Described]:
        return [(option["id"], str(option.get("name", ""))) for option in self._options()]

    def option_values(self) -> list[Described]:
        chosen = self._line.arguments[1] if len(self._line.arguments) > 1 else ""
        return [pair for option in self._options() if option["id"] == chosen for pair in _choices(option)]

    def setting_values(self) -> list[Described]:
        """Of ``config set KEY VALUE``."""
        key = next(iter(self._line.arguments), "")
        if key == "agent":
            return [*table.AGENTS.items(), *self.names.user_agents()]
        return [(name, "") for name in table.SETTINGS.get(key, "").split("|") if name]

    def places(self, start: str) -> Answer:
        """Either end of a ``cp``: ``SESSION:``, ``volume:NAME/``, or a file here."""
        if start.startswith("volume:"):
            return "nospace", [(f"volume:{name}/", about) for name, about in self.names.volumes()]
        if "/" in start or start.startswith((".", "~")):
            return "files", []
        there = [(f"{name}:", about) for name, about in self.names.sessions(start)]
        return "nospace", [*there, ("volume:", "a volume's files"), *_files_here()]

    def _options(self) -> list[dict[str, Any]]:
        given = self._line.given.get("--agent") or self._line.given.get("--from")
        agent = given or self.names.agent_of(self.session()) or _configured_agent()
        from agentctl.ops.known_options import known

        return known(self._paths, self.names.base_of(agent)) if agent else []


def _choices(option: dict[str, Any]) -> list[Described]:
    from agentctl.acp.session_config import choices_of

    return list(choices_of(option).items())


def _files_here() -> list[Described]:
    try:
        return [(f"{entry.name}/" if entry.is_dir() else entry.name, "") for entry in os.scandir()]
    except OSError:
        return []


def _is_shared() -> bool:
    """Whether sessions are kept in a database on the network. The files are parsed only where they may say so."""
    if os.environ.get("AGENTCTL_DATABASE_URL"):
        return True
    if not any(b"database_url" in text for text in _configuration()):
        return False
    config = _config()
    return config is None or config.database_url is not None


def _configured_agent() -> str:
    if os.environ.get("AGENTCTL_AGENT"):
        return os.environ["AGENTCTL_AGENT"]
    config = _config() if any(b"agent" in text for text in _configuration()) else None
    return (config and config.agent) or ""


def _configuration() -> list[bytes]:
    """The text of the files that settings come from."""
    from agentctl.config_files import config_path, project_path

    found = []
    for path in (config_path(), project_path(Path.cwd())):
        try:
            found += [path.read_bytes()] if path else []
        except OSError:
            continue
    return found


def _config() -> Config | None:
    from agentctl.config import Config
    from agentctl.errors import AgentctlError

    try:
        return Config.load(os.environ, directory=Path.cwd())
    except (AgentctlError, OSError):
        return None
