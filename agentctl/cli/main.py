"""The tree of commands, as tables: reading them imports no command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from agentctl.cli.lazy import Entry, LazyGroup, group

if TYPE_CHECKING:
    from typer._click import Command


class SessionsGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "create": Entry("sessions", "create", "Create a session.", "Manage"),
        "list": Entry("sessions", "list_", "List sessions, the latest first.", "Manage"),
        "get": Entry("sessions", "get", "Show one session and its live state.", "Manage"),
        "update": Entry("sessions", "update", "Rename a session, or change its labels and title.", "Manage"),
        "release": Entry("sessions", "release", "Stop a session's sandbox; the next message resumes it.", "Manage"),
        "delete": Entry("sessions", "delete", "Delete sessions with all their data.", "Manage"),
        "send-message": Entry("sessions_send", "send_message", "Send a message and print the final answer.", "Talk"),
        "send-message-stream": Entry(
            "sessions_send", "send_message_stream", "Send a message and show the turn as it happens.", "Talk"
        ),
        "cancel": Entry("sessions_send", "cancel", "Cancel the running turn.", "Talk"),
        "requests": Entry("sessions_requests", "requests", "List what agents are waiting to be told.", "Talk"),
        "answer": Entry("sessions_requests", "answer", "Answer a permission request or a question.", "Talk"),
        "events": Entry("sessions_read", "events", "Print a session's events, or follow them.", "Read"),
        "transcript": Entry("sessions_read", "transcript", "Print the conversation so far.", "Read"),
        "set-model": Entry("sessions_set", "set_model", "Change the model.", "Configure"),
        "set-mode": Entry("sessions_set", "set_mode", "Change the agent's mode.", "Configure"),
        "set-thought-level": Entry("sessions_set", "set_thought_level", "Change how hard it thinks.", "Configure"),
        "set-option": Entry("sessions_set", "set_option", "Change one of the agent's own options.", "Configure"),
        "call": Entry("sessions_set", "call", "Send one raw ACP request and print its result.", "Configure"),
    }
    aliases: ClassVar[dict[str, str]] = {"send": "send-message", "stream": "send-message-stream"}
    examples = """
        agentctl sessions create my-work --agent claude
        agentctl sessions stream my-work "What does this project do?"
        agentctl sessions events my-work --follow
    """


class AgentsGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "list": Entry("agents", "list_", "List the agents: what is installed, and who has credentials."),
        "get": Entry("agents", "get", "Show one agent's recipe."),
        "install": Entry("agents", "install", "Install an agent into the state directory."),
        "uninstall": Entry("agents", "uninstall", "Remove an installed agent."),
        "probe": Entry("agents", "probe", "Start an agent and print what it can do."),
    }
    examples = """
        agentctl agents list
        agentctl agents install claude
        agentctl agents probe claude
    """


class RootGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "run": Entry("run", "run", "Ask an agent one thing in a throw-away session."),
        "sessions": Entry("main", "SessionsGroup", "Conversations that last: create, talk, read, configure."),
        "agents": Entry("main", "AgentsGroup", "The agents: list, install, probe."),
    }
    examples = """
        agentctl run --agent mock "Hello"
        agentctl run "Why does the build fail?" < build.log
        agentctl agents install claude
        agentctl sessions create my-work --agent claude
        agentctl sessions stream my-work "Fix the failing test"
    """


def _show_version(wanted: bool) -> None:
    if wanted:
        from agentctl import __version__

        sys.stdout.write(f"agentctl {__version__}\n")
        raise typer.Exit


def _root_options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of agentctl itself; ``entry.py`` answers a lone ``--version`` before anything is imported."""


def root_command() -> Command:
    """The whole command line, ready to run."""
    purpose = "Run coding agents in sandboxes, and never lose a conversation."
    return group(RootGroup, "agentctl", purpose, completion=True, callback=_root_options)
