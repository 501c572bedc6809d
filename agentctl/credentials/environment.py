"""The plain family: the user's environment variables and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentctl.credentials.base import Credentials, Need, present


def search(need: Need, environ: Mapping[str, str], _user_home: Path) -> Credentials:
    return from_variables(need, environ)


def from_variables(need: Need, environ: Mapping[str, str]) -> Credentials:
    """All of the need's variables that have a value, or only the first where the need is exclusive."""
    found = present(environ, need.variables)
    if need.exclusive:
        found = dict(list(found.items())[:1])
    return Credentials(env=found, source=f"environment: {', '.join(found)}" if found else "")


def from_switches(need: Need, environ: Mapping[str, str]) -> Credentials:
    """A cloud's own login (``CLAUDE_CODE_USE_BEDROCK=1``) and the variables that belong to it."""
    for switch, names in need.switches.items():
        if environ.get(switch, "").strip().lower() in ("1", "true", "yes", "on"):
            return Credentials(env=present(environ, (switch, *names)), source=f"environment: {switch}")
    return Credentials()
