"""Agents that a user made from built-in ones: a name for a model, a mode, MCP servers, skills and instructions."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from agentctl import errors, ids
from agentctl.model import SessionSpec, UserAgent

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
SETTINGS = ("model", "mode", "thought_level", "options", "mcp_servers", "skills", "system_prompt")
"""The fields of a ``SessionSpec`` that an agent of a user's may set."""


def create(app: App, name: str, base: str, settings: Json) -> UserAgent:
    """Raise ``UsageError`` for a bad name, ``AlreadyExists`` for a taken one, ``AgentNotFound`` for an unknown base.

    A base that is a user's agent itself is copied: later changes of it do not come along.
    """
    from agentctl.agents import recipes

    if not ids.is_name(name):
        raise errors.UsageError(f"{name!r} cannot name an agent: use a-z, 0-9, '.', '_', '-', at most 64 characters.")
    if _is_built_in(name):
        raise errors.AlreadyExists(f"There is an agent called {name} already.", hint="Choose another name.")
    parent = find(app, base)
    now = time.time()
    made = UserAgent(
        name=name,
        base=parent.base if parent else recipes.find(base).name,
        settings={**(parent.settings if parent else {}), **_given(settings)},
        created_at=now,
        updated_at=now,
    )
    _check(made)
    app.store.add_user_agent(made)
    return made


def update(app: App, name: str, settings: Json, unset: tuple[str, ...] = ()) -> UserAgent:
    """Change settings, and drop those of ``unset``. Sessions that there are keep theirs. Raise ``AgentNotFound``."""
    agent = require(app, name)
    unknown = set(unset) - set(SETTINGS)
    if unknown:
        raise errors.UsageError(
            f"An agent has no setting {sorted(unknown)[0]!r}.", hint=f"It has: {', '.join(SETTINGS)}"
        )
    kept = {key: value for key, value in agent.settings.items() if key not in unset}
    changed = replace(agent, settings={**kept, **_given(settings)}, updated_at=time.time())
    _check(changed)
    app.store.put_user_agent(changed)
    return changed


def delete(app: App, name: str) -> None:
    """Raise ``AgentNotFound``, and ``UsageError`` for a built-in one."""
    app.store.delete_user_agent(require(app, name).name)


def find(app: App, name: str) -> UserAgent | None:
    """The user's agent of that name. The store is not asked for the name of a built-in one."""
    from agentctl.agents import recipes

    return None if name in recipes.names() else app.store.user_agent(name)


def require(app: App, name: str) -> UserAgent:
    agent = find(app, name)
    if agent is not None:
        return agent
    if _is_built_in(name):
        raise errors.UsageError(
            f"{name} is built in and cannot be changed.",
            hint=f"Make your own: agentctl agents create NAME --from {name}",
        )
    from agentctl.agents import recipes

    recipes.find(name)  # raises, with the nearest names
    raise errors.AgentNotFound(f"There is no agent called {name!r}.")


def expanded(app: App, spec: SessionSpec) -> SessionSpec:
    """The spec of a session with its user's agent put in: what the spec sets itself wins, lists are joined."""
    agent = None if spec.agent_command or spec.user_agent else find(app, spec.agent)
    if agent is None:
        return spec
    defaults = {field.name: field.default for field in fields(SessionSpec)}
    given: Json = {}
    for key, value in agent.settings.items():
        own = getattr(spec, key)
        if key in ("mcp_servers", "skills"):
            given[key] = (*_without(value, own), *own)
        elif key == "options":
            given[key] = {**value, **own}
        elif own == defaults[key]:
            given[key] = value
    return replace(spec, agent=agent.base, user_agent=agent.name, **given)


def _without(theirs: Any, own: Any) -> list[Json]:
    names = {entry.get("name") for entry in own if entry.get("name")}
    return [entry for entry in theirs if entry.get("name") not in names]


def _given(settings: Json) -> Json:
    unknown = set(settings) - set(SETTINGS)
    assert not unknown, unknown
    return {key: value for key, value in settings.items() if value not in (None, (), [], {})}


def _check(agent: UserAgent) -> None:
    """Raise ``Unsupported`` for what nobody knows how to give to the agent that it is made from."""
    if agent.settings.get("skills") or agent.settings.get("system_prompt"):
        from agentctl.ops.home_files import check

        check(SessionSpec(agent=agent.base, **{k: agent.settings.get(k, ()) for k in ("skills", "system_prompt")}))


def _is_built_in(name: str) -> bool:
    from agentctl.agents import recipes

    return name in recipes.names() or any(name in recipe.aliases for recipe in recipes.load_all())


def to_json(agent: UserAgent) -> Json:
    """As ``--json`` shows it. The values of MCP servers' variables and headers stay unsaid."""
    shown = {key: agent.settings.get(key) for key in SETTINGS}
    shown["mcp_servers"] = [_without_values(server) for server in shown["mcp_servers"] or ()]
    return {
        "name": agent.name,
        "from": agent.base,
        "builtin": False,
        **shown,
        "created_at": agent.created_at,
        "updated_at": agent.updated_at,
    }


def _without_values(server: Json) -> Json:
    hidden = {key: sorted(pair["name"] for pair in server[key]) for key in ("env", "headers") if server.get(key)}
    return {**server, **hidden}
