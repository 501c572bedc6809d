"""``agentctl agents``: which there are, install, uninstall, probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import write_text
from agentctl.cli.plain_output import print_fields, print_table
from agentctl.cli.progress import Progress
from agentctl.cli.running import run_async
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts

AgentName = Annotated[
    str,
    typer.Argument(metavar="AGENT", help="Its name; see 'agents list'.", show_default=False),
]


@examples("""
    agentctl agents list
    agentctl agents list --json
""")
def list_(output: OutputOptions) -> None:
    """List the agents: what is installed, and where credentials come from."""
    from agentctl.ops import agents as ops

    out = output.output
    with App.open() as app:
        found = ops.list_agents(app)
    if out.json:
        out.envelope(found)
    elif out.quiet:
        write_text("".join(f"{a['name']}\n" for a in found))
    else:
        rows = [(a["name"], a["title"], a["status"], a["installed"] or "", a["credentials"]) for a in found]
        print_table(out, ("name", "title", "status", "version", "credentials"), rows)


@examples("""
    agentctl agents get claude
    agentctl agents get codex --json
""")
def get(agent: AgentName, output: OutputOptions) -> None:
    """Show one agent: its recipe, and how things stand on this machine."""
    from agentctl.ops import agents as ops

    out = output.output
    with App.open() as app:
        data = ops.get_agent(app, agent)
    if out.json:
        out.envelope(data)
    elif out.quiet:
        write_text(f"{data['name']}\n")
    else:
        print_fields([(key.replace("_", " "), _words(value)) for key, value in data.items()])


def _words(value: Any) -> str:
    """A value for a person: short lists and small objects on one line, sentences one below the other."""
    match value:
        case None | "" | [] | {}:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{k}: {_words(v)}" for k, v in value.items() if _words(v))
        case list() | tuple():
            words = [_words(v) for v in value]
            return ("\n" if any(" " in w for w in words) else ", ").join(words)
        case _:
            return str(value)


@examples("""
    agentctl agents install claude
    agentctl agents install codex --reinstall
""")
def install(
    agent: AgentName,
    output: OutputOptions,
    reinstall: Annotated[bool, typer.Option("--reinstall", help="Install again, from scratch.")] = False,
    own_node: Annotated[
        bool, typer.Option("--own-node", help="With a Node of its own, as containers need it.")
    ] = False,
) -> int:
    """Install an agent's pinned version into the state directory."""
    from agentctl.ops import agents as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        progress = Progress(out)
        with App.open() as app:
            try:
                registry = app.config.registry
                done = await ops.install_agent(
                    app, agent, reinstall=reinstall, own_node=own_node, registry=registry, progress=progress
                )
            finally:
                progress.close()
        if out.json:
            out.envelope(done)
        else:
            out.story(f"{agent} {done['version']} {'is installed' if done['changed'] else 'was installed already'}.")
            write_text(f"{done['name'] if out.quiet else done['path']}\n")

    return run_async(body)


@examples("""
    agentctl agents uninstall codex
""")
def uninstall(agent: AgentName, output: OutputOptions) -> int:
    """Remove every installed version of an agent."""
    from agentctl.ops import agents as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            done = await ops.uninstall_agent(app, agent)
        if out.json:
            out.envelope(done)
        elif done["removed"]:
            write_text("".join(f"{version}\n" for version in done["removed"]))
        else:
            out.story(f"{done['name']} is not installed.")

    return run_async(body)


@examples("""
    agentctl agents probe mock
    agentctl agents probe claude --json
""")
def probe(agent: AgentName, output: OutputOptions) -> int:
    """Start an agent, print what it can do, and stop it."""
    from agentctl.ops import agents as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            out.story(f"Starting {agent} …", "dim")
            found = await ops.probe(app, agent)
        if out.json:
            out.envelope(found)
        else:
            print_fields([(key.replace("_", " "), _words(value)) for key, value in found.items()])

    return run_async(body)
