"""What the shell offers on TAB. Completion must never complain: whatever fails, it offers nothing."""

from __future__ import annotations

from agentctl.errors import AgentctlError


def sessions(incomplete: str) -> list[tuple[str, str]]:
    """Names of sessions with agent and title."""
    from agentctl.ops.app import App

    if incomplete.startswith("@"):
        return [("@last", "the session that was used last")]
    try:
        with App.open() as app:
            found = app.store.sessions(limit=200)
    except AgentctlError:
        return []
    return [(s.name, s.title or s.spec.agent) for s in found if s.name.startswith(incomplete)]


def sandboxes(incomplete: str) -> list[tuple[str, str]]:
    """Names of sandboxes of their own with their status."""
    from agentctl.ops.app import App

    try:
        with App.open() as app:
            found = app.store.sandboxes()
    except AgentctlError:
        return []
    return [(s.name, s.status) for s in found if s.name is not None and s.name.startswith(incomplete)]


def agents(incomplete: str) -> list[str]:
    """Names of agents, built-in ones and the user's own."""
    from agentctl.ops.agents import agent_names

    return [name for name in (*agent_names(), *own_agents(incomplete)) if name.startswith(incomplete)]


def own_agents(incomplete: str) -> list[str]:
    """Names of agents that the user made."""
    from agentctl.ops.app import App

    try:
        with App.open() as app:
            found = app.store.user_agents()
    except AgentctlError:
        return []
    return [agent.name for agent in found if agent.name.startswith(incomplete)]


def volumes(incomplete: str) -> list[tuple[str, str]]:
    """Names of volumes with their provider."""
    from agentctl.ops.app import App

    try:
        with App.open() as app:
            found = app.store.volumes()
    except AgentctlError:
        return []
    return [(volume.name, volume.provider) for volume in found if volume.name.startswith(incomplete)]


def presets(incomplete: str) -> list[tuple[str, str]]:
    """Names of presets with the file that has them."""
    from agentctl.ops.app import App

    try:
        with App.open() as app:
            found = app.config.presets
    except AgentctlError:
        return []
    return [(name, str(preset.path)) for name, preset in found.items() if name.startswith(incomplete)]


def providers(incomplete: str) -> list[str]:
    """Providers by name."""
    from agentctl.providers.lookup import PROVIDERS

    return [name for name in PROVIDERS if name.startswith(incomplete)]
