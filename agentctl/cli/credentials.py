"""``agentctl credentials``: extract, extract-env, status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, write_bytes, write_text
from agentctl.cli.plain_output import print_table
from agentctl.ops.app import App

SHELLS = ("bash", "zsh", "fish")


def _shell(text: str) -> str:
    return values.choice(text, SHELLS, "--shell")


HomeDir = Annotated[
    Path | None, typer.Option("--home-dir", "-d", metavar="DIR", help="Look here in place of your home directory.")
]
NoOauth = Annotated[bool, typer.Option("--no-oauth", help="Only API keys, no logins.")]


@examples("""
    agentctl credentials extract
    agentctl credentials extract --provider openrouter
    agentctl credentials extract --agent claude --reveal
""")
def extract(
    output: OutputOptions,
    agent: Annotated[
        str | None,
        typer.Option("--agent", "-a", metavar="NAME", help="Only the one for this agent."),
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", "-p", metavar="NAME", help="Only the one of this model provider.")
    ] = None,
    home_dir: HomeDir = None,
    no_oauth: NoOauth = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", "-r", help="Show values; with --agent or --provider print only the value.")
    ] = False,
) -> None:
    """Print the credentials that are found, one for each model provider, as JSON.

    Values are cut short unless --reveal is given. Where both --agent and --provider are given, the provider decides.
    """
    from agentctl.credentials.survey import credential_json
    from agentctl.ops import credentials as ops

    out = output.output
    with App.open() as app:
        found = ops.extract(app, home=home_dir, oauth=not no_oauth)
    _warn(out, found.warnings)
    if agent is None and provider is None:
        _show(out, found.to_json(reveal=reveal))
        return
    one = ops.of_provider(found, provider) if provider is not None else ops.of_agent(found, agent or "")
    if reveal and not out.json:
        write_bytes(one.value.encode("utf-8", "surrogateescape") + b"\n")
    else:
        _show(out, credential_json(one, reveal=reveal))


def _show(out: Output, data: Any) -> None:
    import json

    if out.json:
        out.envelope(data)
    else:
        write_text(json.dumps(data, indent=2) + "\n")


def _warn(out: Output, warnings: Any) -> None:
    for warning in warnings:
        out.story(warning, "warning")


@examples("""
    eval "$(agentctl credentials extract-env --export)"
    agentctl credentials extract-env --export --shell fish | source
""")
def extract_env(
    output: OutputOptions,
    export: Annotated[bool, typer.Option("--export", "-e", help="Export the variables.")] = False,
    shell: Annotated[
        str,
        typer.Option("--shell", metavar="SHELL", parser=_shell, help="bash (any POSIX shell), zsh or fish."),
    ] = "bash",
    home_dir: HomeDir = None,
    no_oauth: NoOauth = False,
) -> None:
    """Print the credentials as variables for a shell, values and all.

    Every value is quoted: evaluating the lines sets the variables and runs nothing. A login is put into the variable
    that takes logins, such as CLAUDE_CODE_OAUTH_TOKEN.
    """
    from agentctl.ops import credentials as ops

    out = output.output
    with App.open() as app:
        found = ops.extract(app, home=home_dir, oauth=not no_oauth)
    lines = ops.Assignments(found, shell, export=export)
    text = list(lines)
    _warn(out, (*found.warnings, *lines.warnings))
    if not text:
        out.story("No credentials were found; nothing was set. See: agentctl credentials status")
    if out.json:
        out.envelope({"variables": lines.names})
    else:
        write_bytes(b"".join(text))


@examples("""
    agentctl credentials status
    agentctl credentials status --json
""")
def status(output: OutputOptions) -> None:
    """Show where credentials were found, and whether each agent will accept them. Values are never shown."""
    from agentctl.ops import credentials as ops

    out = output.output
    with App.open() as app:
        data = ops.status(app)
    if out.json:
        out.envelope(data)
        return
    if out.quiet:
        write_text("".join(f"{row['agent']}\n" for row in data["agents"] if row["ready"] and row["found"]))
        return
    _warn(out, data["warnings"])
    rows = [(r["provider"], r["auth_type"], r["source"], r["place"], _ends(r)) for r in data["providers"]]
    if rows:
        print_table(out, ("provider", "kind", "source", "found in", "ends"), rows)
        write_text("\n")
    agents = [(r["agent"], _ready(r), r["source"] or r["note"], r["fix"]) for r in data["agents"]]
    print_table(out, ("agent", "ready", "with", "to set it up"), agents)


def _ready(row: dict[str, Any]) -> str:
    if row["found"]:
        return "yes"
    if row["required"]:
        return "no"
    return "its own login" if row["needs_login"] else "not needed"


def _ends(row: dict[str, Any]) -> str:
    if row["expires_at"] is None:
        return ""
    if row["expired"]:
        return "expired"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(row["expires_at"]))
