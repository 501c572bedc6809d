"""Where an agent's keys are found and how they are handed on. One module per family of sources.

The environment is searched first, then the files of the agent's own command line tool under the user's HOME. Nothing
is written, and nothing but the variables that a recipe or a configuration names leaves the user's environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agentctl.credentials import claude, codex, environment, opencode
from agentctl.credentials.base import Agent, Credentials, Need, present, secrets_among, secrets_in
from agentctl.errors import CredentialsMissing

__all__ = ["NONE", "Credentials", "for_agent", "missing", "require", "status"]

NONE = Credentials()
"""Nothing is handed on: a program given by ``--agent-command`` gets only what the user names."""

_FAMILIES: dict[str, Callable[[Need, Mapping[str, str], Path], Credentials]] = {
    "environment": environment.search,
    "claude": claude.search,
    "codex": codex.search,
    "opencode": opencode.search,
}


def for_agent(agent: Agent, environ: Mapping[str, str], user_home: Path) -> Credentials:
    """What ``agent`` gets from this user: its credential, and the settings that its recipe hands on.

    Never raises for what is not there: ``found`` is then false and ``env`` still has the settings.
    """
    need = agent.credentials
    found = _FAMILIES[need.family](need, environ, user_home)
    env = {**present(environ, need.passes), **found.env}
    inside_files = [value for text in found.files.values() for value in secrets_in(text)]
    secrets = tuple(dict.fromkeys([*found.secrets, *secrets_among(env, need.variables), *inside_files]))
    return Credentials(env=env, files=found.files, secrets=secrets, source=found.source, note=found.note)


def require(agent: Agent, environ: Mapping[str, str], user_home: Path) -> Credentials:
    """Like ``for_agent``. Raise ``CredentialsMissing`` where the agent needs one and has none."""
    found = for_agent(agent, environ, user_home)
    if agent.credentials.required and not found.found:
        raise missing(agent, found)
    return found


def missing(agent: Agent, searched: Credentials | None = None) -> CredentialsMissing:
    """The error that names the variables that would do."""
    variables = agent.credentials.variables
    reason = f": {searched.note}" if searched and searched.note else ""
    also = f" {agent.credentials.note}" if agent.credentials.note else ""
    return CredentialsMissing(
        f"No credentials for {agent.title} were found{reason}.",
        hint=f"Set {' or '.join(variables)}.{also}" if variables else also.strip() or None,
        details={"agent": agent.name, "variables": list(variables)},
    )


def status(agent: Agent, environ: Mapping[str, str], user_home: Path) -> dict[str, Any]:
    """``{"agent", "found", "required", "source", "note", "variables"}``, without any value."""
    found = for_agent(agent, environ, user_home)
    return {
        "agent": agent.name,
        "found": found.found,
        "required": agent.credentials.required,
        "source": found.source,
        "note": found.note,
        "variables": list(agent.credentials.variables),
    }
