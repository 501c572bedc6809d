"""Where an agent's keys are found and how they are handed on. One module per family of sources.

The environment is searched first, then the files of the agent's own command line tool under the user's HOME. Nothing
is written, and nothing but the variables that a recipe or a configuration names leaves the user's environment. What
there is of all providers, whoever may want it, is in ``survey.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from agentctl.credentials.base import Agent, Credentials, Need, present, secrets_among, secrets_in
from agentctl.errors import CredentialsMissing

__all__ = ["NONE", "Credentials", "for_agent", "missing", "require", "status"]

NONE = Credentials()
"""Nothing is handed on: a program given by ``--agent-command`` gets only what the user names."""

_NOTHING: Mapping[str, str] = {}
_Search = Callable[[Need, Mapping[str, str], Path, Mapping[str, str]], Credentials]


def _search_of(family: str) -> _Search:
    """Imported when it is needed: every start of a session pays for it."""
    search: _Search = import_module(f"agentctl.credentials.{family}").search
    return search


def for_agent(
    agent: Agent, environ: Mapping[str, str], user_home: Path, given: Mapping[str, str] = _NOTHING
) -> Credentials:
    """What ``agent`` gets from this user: its credential, and the settings that its recipe hands on.

    ``given`` are the variables of the session itself (``--env``, ``--env-file``, ``--secret``); they stand above those
    of ``environ``. Where an agent takes exactly one kind, the order is: the session's OAuth token, the environment's,
    the session's key, the environment's, files. The rest is withheld.

    Never raises for what is not there: ``found`` is then false and ``env`` still has the settings.
    """
    need = agent.credentials
    found = _search_of(need.family)(need, environ, user_home, given)
    env = {**present({**environ, **given}, need.passes), **found.env}
    inside_files = [value for text in found.files.values() for value in secrets_in(text)]
    secrets = tuple(dict.fromkeys([*found.secrets, *secrets_among(env, need.variables), *inside_files]))
    return Credentials(env=env, files=found.files, secrets=secrets, source=found.source, note=found.note)


def require(
    agent: Agent, environ: Mapping[str, str], user_home: Path, given: Mapping[str, str] = _NOTHING
) -> Credentials:
    """Like ``for_agent``. Raise ``CredentialsMissing`` where the agent needs one and has none."""
    found = for_agent(agent, environ, user_home, given)
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
