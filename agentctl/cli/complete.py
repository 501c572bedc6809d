"""What the shell offers on TAB. Completion must never complain: whatever fails, it offers nothing."""

from __future__ import annotations

from agentctl.errors import AgentctlError


def sessions(incomplete: str) -> list[tuple[str, str]]:
    """Names of sessions with agent and title."""
    from agentctl.ops.app import App

    try:
        with App.open() as app:
            found = app.store.sessions(limit=200)
    except AgentctlError:
        return []
    return [(s.name, s.title or s.spec.agent) for s in found if s.name.startswith(incomplete)]


def agents(incomplete: str) -> list[str]:
    """Names of agents."""
    from agentctl.ops.agents import agent_names

    return [name for name in agent_names() if name.startswith(incomplete)]
