"""``agentctl agents create``, ``update`` and ``delete``: agents of the user's own, made from built-in ones."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentctl.cli.confirm import IgnoreNotFound, missing_is_fine
from agentctl.cli.lazy import examples
from agentctl.cli.options import McpServer, Mode, Model, OutputOptions, ThoughtLevel
from agentctl.cli.output import Output, write_text
from agentctl.cli.setup_options import McpConfig, Skill, SystemPrompt, mcp_servers, skills, system_prompt
from agentctl.errors import AgentNotFound, UsageError
from agentctl.ops.app import App

Json = dict[str, Any]
OwnName = Annotated[
    str,
    typer.Argument(metavar="AGENT", help="An agent of your own.", show_default=False),
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="The new agent's name.", show_default=False)]


@examples("""
    agentctl agents create reviewer --from claude --model opus --system-prompt @review.md
    agentctl agents create helper --from codex --skill ./skills --mcp-config .mcp.json
""")
def create(
    name: NewName,
    output: OutputOptions,
    base: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="AGENT",
            help="The agent it is made from.",
            show_default=False,
        ),
    ],
    model: Model = None,
    mode: Mode = None,
    thought_level: ThoughtLevel = None,
    mcp_server: McpServer = None,
    mcp_config: McpConfig = None,
    skill: Skill = None,
    prompt: SystemPrompt = None,
) -> None:
    """Make an agent of your own: a name for a model, a mode, MCP servers, skills and instructions."""
    from agentctl.ops import user_agents as ops

    settings = _settings(model, mode, thought_level, mcp_server, mcp_config, skill, prompt)
    with App.open() as app:
        _show(output.output, ops.to_json(ops.create(app, name, base, settings)))


@examples("""
    agentctl agents update reviewer --model sonnet
    agentctl agents update reviewer --unset skills --unset mode
""")
def update(
    agent: OwnName,
    output: OutputOptions,
    model: Model = None,
    mode: Mode = None,
    thought_level: ThoughtLevel = None,
    mcp_server: McpServer = None,
    mcp_config: McpConfig = None,
    skill: Skill = None,
    prompt: SystemPrompt = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="SETTING", help="Drop a setting. Repeatable.")
    ] = None,
) -> None:
    """Change an agent of your own; sessions that there are keep what they have."""
    from agentctl.ops import user_agents as ops

    settings = _settings(model, mode, thought_level, mcp_server, mcp_config, skill, prompt)
    dropped = tuple(word.replace("-", "_") for word in unset or ())
    if not dropped and not any(settings.values()):
        raise UsageError("Nothing to change.", hint="Give --model, --mode, --skill, … or --unset SETTING.")
    with App.open() as app:
        _show(output.output, ops.to_json(ops.update(app, agent, settings, dropped)))


@examples("""
    agentctl agents delete reviewer
""")
def delete(agent: OwnName, output: OutputOptions, ignore_not_found: IgnoreNotFound = False) -> None:
    """Delete an agent of your own; its sessions stay as they are."""
    from agentctl.ops import user_agents as ops

    out = output.output
    deleted = None
    with App.open() as app, missing_is_fine(ignore_not_found, AgentNotFound):
        ops.delete(app, agent)
        deleted = agent
    if out.json:
        out.envelope({"deleted": deleted})
    elif deleted:
        write_text(f"{agent}\n")


def _settings(
    model: str | None,
    mode: str | None,
    thought_level: str | None,
    mcp_server: list[str] | None,
    mcp_config: list[Any] | None,
    skill: list[str] | None,
    prompt: str | None,
) -> Json:
    return {
        "model": model,
        "mode": mode,
        "thought_level": thought_level,
        "mcp_servers": mcp_servers(mcp_server or (), mcp_config or ()),
        "skills": skills(skill or ()),
        "system_prompt": system_prompt(prompt),
    }


def _show(out: Output, data: Json) -> None:
    if out.json:
        out.envelope(data)
    else:
        write_text(f"{data['name']}\n")
