"""The tree of commands, as tables: reading them imports no command."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from agentctl.cli.lazy import Entry, LazyGroup, group

if TYPE_CHECKING:
    from typer._click import Command, Context


class SessionProcessesGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "list": Entry("sessions_processes", "list_", "List the commands that exec started."),
        "get": Entry("sessions_processes", "get", "Show one process and where its logs are."),
        "logs": Entry("sessions_processes", "logs", "Print a process's output, or follow it."),
        "input": Entry("sessions_processes", "input_", "Send input to a process."),
        "cancel": Entry("sessions_processes", "cancel", "End a process with everything that it started."),
    }
    examples = """
        agentctl sessions processes list my-work
        agentctl sessions processes logs my-work proc_1 -f
        agentctl sessions processes cancel my-work proc_1
    """


class SessionsGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "create": Entry("sessions", "create", "Create a session.", "Manage"),
        "list": Entry("sessions_list", "list_", "List sessions, the latest first.", "Manage"),
        "get": Entry("sessions", "get", "Show one session and its live state.", "Manage"),
        "update": Entry("sessions", "update", "Rename a session, or change its labels and title.", "Manage"),
        "resume": Entry("sessions_wait", "resume", "Bring a sleeping session up before its next message.", "Manage"),
        "release": Entry("sessions", "release", "Stop a session's sandbox; the next message resumes it.", "Manage"),
        "delete": Entry("sessions", "delete", "Delete sessions with all their data.", "Manage"),
        "send-message": Entry("sessions_send", "send_message", "Send a message and print the final answer.", "Talk"),
        "send-message-stream": Entry(
            "sessions_send", "send_message_stream", "Send a message and show the turn as it happens.", "Talk"
        ),
        "cancel": Entry("sessions_send", "cancel", "Cancel the running turn, or one that waits in line.", "Talk"),
        "wait": Entry("sessions_wait", "wait", "Wait until it is idle, a turn has ended, or it asks.", "Talk"),
        "requests": Entry("sessions_requests", "requests", "List what agents are waiting to be told.", "Talk"),
        "answer": Entry("sessions_requests", "answer", "Answer a permission request or a question.", "Talk"),
        "events": Entry("sessions_read", "events", "Print a session's events, or follow them.", "Read"),
        "transcript": Entry("sessions_read", "transcript", "Print the conversation so far.", "Read"),
        "usage": Entry("sessions_usage", "usage", "Print the tokens and the cost of turns.", "Read"),
        "exec": Entry("sessions_exec", "exec_", "Run a command in the session's sandbox.", "Inside"),
        "shell": Entry("sessions_shell", "shell", "Open a shell in the session's sandbox.", "Inside"),
        "processes": Entry("main", "SessionProcessesGroup", "List, read, feed and end what exec started.", "Inside"),
        "set-model": Entry("sessions_set", "set_model", "Change the model.", "Configure"),
        "set-mode": Entry("sessions_set", "set_mode", "Change the agent's mode.", "Configure"),
        "set-thought-level": Entry("sessions_set", "set_thought_level", "Change how hard it thinks.", "Configure"),
        "set-option": Entry("sessions_set", "set_option", "Change one of the agent's own options.", "Configure"),
        "call": Entry("sessions_set", "call", "Send one raw ACP request and print its result.", "Configure"),
        "clone-repo": Entry("sessions_clone", "clone_repo", "Clone a git repository into its sandbox.", "Inside"),
        "diff": Entry("sessions_diff", "diff", "Print what it changed in its project.", "Inside"),
        "pull": Entry("sessions_pull", "pull", "Bring back what it changed in its project.", "Inside"),
        "files": Entry("main", "FilesGroup", "Its files: ls, cat, put, pull, mv, rm, mkdir, stat, edit.", "Inside"),
    }
    aliases: ClassVar[dict[str, str]] = {"send": "send-message", "stream": "send-message-stream"}
    examples = """
        agentctl sessions create my-work --agent claude
        agentctl sessions stream my-work "What does this project do?"
        agentctl sessions events my-work --follow
    """


class FilesGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "ls": Entry("sessions_files", "ls", "List a directory."),
        "cat": Entry("sessions_files", "cat", "Print a file."),
        "put": Entry("sessions_files", "put", "Put a file, or stdin, into a session."),
        "pull": Entry("sessions_files", "pull", "Fetch a file from a session."),
        "mv": Entry("sessions_files", "mv", "Move or rename."),
        "rm": Entry("sessions_files", "rm", "Remove files and directories."),
        "mkdir": Entry("sessions_files", "mkdir", "Make a directory."),
        "stat": Entry("sessions_files", "stat", "Show size, time and mode."),
        "edit": Entry("sessions_files", "edit", "Replace text in a file."),
    }
    examples = """
        agentctl sessions files ls my-work src
        agentctl sessions files put my-work data.csv
        agentctl sessions files cat my-work result.json
    """


class VolumesGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "create": Entry("volumes", "create", "Create a volume.", "Manage"),
        "list": Entry("volumes", "list_", "List volumes, and how many use each.", "Manage"),
        "get": Entry("volumes", "get", "Show one volume: who uses it, its workspaces.", "Manage"),
        "delete": Entry("volumes", "delete", "Delete volumes with all in them.", "Manage"),
        "ls": Entry("volumes_files", "ls", "List a directory.", "Files"),
        "cat": Entry("volumes_files", "cat", "Print a file.", "Files"),
        "put": Entry("volumes_files", "put", "Put a file, a directory or stdin into a volume.", "Files"),
        "pull": Entry("volumes_files", "pull", "Fetch a file or a directory from a volume.", "Files"),
        "mkdir": Entry("volumes_files", "mkdir", "Make a directory.", "Files"),
        "mv": Entry("volumes_files", "mv", "Move or rename.", "Files"),
        "rm": Entry("volumes_files", "rm", "Remove files and directories.", "Files"),
        "stat": Entry("volumes_files", "stat", "Show size, time and mode.", "Files"),
    }
    examples = """
        agentctl volumes create models
        agentctl volumes put models weights.bin
        agentctl volumes ls models
    """


class WorkspacesGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "create": Entry("workspaces", "create", "Create a workspace."),
        "list": Entry("workspaces", "list_", "List workspaces, and who uses each."),
        "get": Entry("workspaces", "get", "Show one workspace and the sessions that use it."),
        "delete": Entry("workspaces", "delete", "Delete workspaces with all in them."),
    }
    examples = """
        agentctl workspaces create shared
        agentctl workspaces list
        agentctl workspaces get shared
    """


class SandboxesGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "create": Entry("sandboxes", "create", "Create a sandbox of its own.", "Manage"),
        "list": Entry("sandboxes", "list_", "List sandboxes, the oldest first.", "Manage"),
        "get": Entry("sandboxes", "get", "Show one: its status, its boundary, how it is reached.", "Manage"),
        "stop": Entry("sandboxes_change", "stop", "End all that runs in sandboxes; keep their files.", "Manage"),
        "restart": Entry("sandboxes_change", "restart", "Bring one up again, with nothing left of before.", "Manage"),
        "pause": Entry("sandboxes_change", "pause", "Freeze one, where its provider can.", "Manage"),
        "resume": Entry("sandboxes_change", "resume", "Let a paused one go on.", "Manage"),
        "delete": Entry("sandboxes_change", "delete", "Delete sandboxes with their home and logs.", "Manage"),
        "build-runtime": Entry("sandboxes_runtime", "build_runtime", "Build the image they are made from.", "Manage"),
        "exec": Entry("sandboxes_inside", "exec_", "Run a command in one.", "Inside"),
        "shell": Entry("sandboxes_inside", "shell", "Open a shell in one.", "Inside"),
        "events": Entry("sandboxes_inside", "events", "Print what became of one, or follow it.", "Read"),
        "logs": Entry("sandboxes_inside", "logs", "Print what one printed, or a command in it.", "Read"),
    }
    examples = """
        agentctl sandboxes create --id build --ttl 8h
        agentctl sandboxes exec build -- make test
        agentctl sandboxes events build --follow
    """


class AgentsGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "list": Entry("agents", "list_", "List the agents: what is installed, and who has credentials."),
        "get": Entry("agents", "get", "Show one agent's recipe."),
        "install": Entry("agents", "install", "Install an agent into the state directory."),
        "uninstall": Entry("agents", "uninstall", "Remove an installed agent."),
        "probe": Entry("agents", "probe", "Start an agent and print what it can do."),
        "create": Entry("agents_made", "create", "Make an agent of your own from another."),
        "update": Entry("agents_made", "update", "Change an agent of your own."),
        "delete": Entry("agents_made", "delete", "Delete an agent of your own."),
    }
    examples = """
        agentctl agents list
        agentctl agents install claude
        agentctl agents probe claude
    """


class CredentialsGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "extract": Entry("credentials", "extract", "Print the credentials that are found, cut short."),
        "extract-env": Entry("credentials", "extract_env", "Print them as variables for a shell."),
        "status": Entry("credentials", "status", "Show what was found where, and what each agent will accept."),
    }
    examples = """
        agentctl credentials status
        eval "$(agentctl credentials extract-env --export)"
    """


class ConfigGroup(LazyGroup):
    table: ClassVar[dict[str, Entry]] = {
        "show": Entry("config", "show", "Print all settings, and with --origin where they come from."),
        "get": Entry("config", "get", "Print one setting."),
        "set": Entry("config", "set_", "Write a setting into your configuration file."),
        "unset": Entry("config", "unset", "Take a setting out of it."),
        "path": Entry("config", "path", "Print where the configuration files are."),
        "trust": Entry("config", "trust", "Let all settings of a project's file count."),
        "untrust": Entry("config", "untrust", "Take that back."),
    }
    examples = """
        agentctl config show --origin
        agentctl config set provider docker
        agentctl config trust
    """


class RootGroup(LazyGroup):
    anywhere: ClassVar[tuple[str, ...]] = ("--database-url",)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and args[0] in ("--install-completion", "--show-completion"):
            from agentctl.cli.completion_scripts import teach_typer

            teach_typer()
        return super().parse_args(ctx, args)

    table: ClassVar[dict[str, Entry]] = {
        "run": Entry("run", "run", "Ask an agent one thing in a throw-away session."),
        "cp": Entry("cp", "cp", "Copy files between this host, sessions and volumes."),
        "sessions": Entry("main", "SessionsGroup", "Conversations that last: create, talk, read, configure."),
        "volumes": Entry("main", "VolumesGroup", "Durable storage of sandboxes, and its files."),
        "workspaces": Entry("main", "WorkspacesGroup", "HOMEs that several sessions share."),
        "sandboxes": Entry("main", "SandboxesGroup", "Compute of its own: create, run commands, share with sessions."),
        "agents": Entry("main", "AgentsGroup", "The agents: list, install, probe."),
        "credentials": Entry("main", "CredentialsGroup", "Keys and logins: what there is, and for which agent."),
        "config": Entry("main", "ConfigGroup", "Settings: show, change, and trust a project's."),
        "doctor": Entry("doctor", "doctor", "Look at all that agentctl needs here, and how to mend it."),
        "schema": Entry("schema", "schema", "Print the JSON Schema of what --json prints."),
        "help": Entry("help_topics", "help_", "Explain exit codes, variables, JSON, settings, permissions, providers."),
        "cleanup-orphans": Entry("cleanup_orphans", "cleanup_orphans", "Delete what sandboxes left behind."),
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


def _use_database(url: str | None) -> None:
    """The option is the variable for this one command: whatever opens the store finds it there."""
    if url is not None:
        from agentctl.ops.app import App

        os.environ["AGENTCTL_DATABASE_URL"] = App.flags["database_url"] = url


def _root_options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            metavar="URL",
            callback=_use_database,
            expose_value=False,
            help="Keep sessions in this Postgres database, which several machines may share. Others on this machine"
            " see a password that is given here: better set AGENTCTL_DATABASE_URL.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Options of agentctl itself; ``entry.py`` answers a lone ``--version`` before anything is imported."""


def root_command() -> Command:
    """The whole command line, ready to run."""
    purpose = "Run coding agents in sandboxes, and never lose a conversation."
    return group(RootGroup, "agentctl", purpose, completion=True, callback=_root_options)
