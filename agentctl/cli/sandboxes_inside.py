"""``agentctl sandboxes``: exec, shell, events, logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import NoPager, OutputOptions
from agentctl.cli.output import Output, write_bytes, write_lines, write_text
from agentctl.cli.pager import paged
from agentctl.cli.running import run_async
from agentctl.cli.sandbox_options import SandboxRef, told
from agentctl.cli.sessions_exec import CommandWords, ExecOptions, execute
from agentctl.cli.untrusted import clean, one_line
from agentctl.errors import UsageError
from agentctl.ops.app import App
from agentctl.ops.own import Own

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.events import Event


@examples("""
    agentctl sandboxes exec build -- make test
    tar c src | agentctl sandboxes exec build -- tar x
    agentctl sandboxes exec -it build -- python3
    agentctl sandboxes exec build --detach --exec-id server -- ./serve
""")
def exec_(sandbox: SandboxRef, given: ExecOptions, output: OutputOptions, command: CommandWords) -> int:
    """Run a command in a sandbox and exit with its exit code.

    Killed by a signal it is 128 + its number, 127 when the command is not found, 125 when agentctl itself failed.
    What is piped in goes to its stdin. Ctrl-C ends it with all that it started.
    """
    return execute(Own(sandbox), given, command, output.output)


@examples("""
    agentctl sandboxes shell build
    agentctl sandboxes shell build --shell "python3 -q"
""")
def shell(
    sandbox: SandboxRef,
    output: OutputOptions,
    shell: Annotated[
        str | None, typer.Option("--shell", metavar="COMMAND", help="What to run (default: your shell, bash or sh).")
    ] = None,
) -> int:
    """Open a shell in a sandbox and exit with its exit code."""
    from agentctl.cli.sessions_shell import open_shell

    return open_shell(Own(sandbox), shell, output.output)


@examples("""
    agentctl sandboxes events build
    agentctl sandboxes events build --follow --offset 3 --json
""")
def events(
    sandbox: SandboxRef,
    output: OutputOptions,
    offset: Annotated[
        int | None, typer.Option("--offset", metavar="N", min=0, help="Only events after number N.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until it is deleted; Ctrl-C detaches.")
    ] = False,
    no_pager: NoPager = False,
) -> int:
    """Print what became of a sandbox, a line each; of a deleted one for a week."""
    from agentctl.ops import sandbox_events as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            async for batch in ops.events(app, sandbox, offset=offset, limit=limit, follow=follow):
                _print_events(out, batch)

    with paged(out, unless=follow):
        return run_async(body)


def _print_events(out: Output, batch: list[Event]) -> None:
    if out.json:
        write_lines(event.line for event in batch)
    elif out.quiet:
        write_text("".join(f"{event.sequence}\n" for event in batch))
    else:
        write_text("".join(_event_line(event) + "\n" for event in batch))


def _event_line(event: Event) -> str:
    summary = one_line(json.dumps(event.data, ensure_ascii=False), 100) if event.data else ""
    return f"{event.sequence:>6}  {event.body['time'][11:23]}  {event.type:<18}  {summary}".rstrip()


@examples("""
    agentctl sandboxes logs build --tail 50
    agentctl sandboxes logs build --exec server --follow
    agentctl sandboxes logs build --service db
    agentctl sandboxes logs build --network
""")
def logs(
    sandbox: SandboxRef,
    output: OutputOptions,
    exec_id: Annotated[
        str | None, typer.Option("--exec", metavar="ID", help="The output of this command instead; see exec --detach.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", metavar="NAME", help="What this container beside it printed instead.")
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="What its network policy refused instead, how often and when last.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="With --exec: go on with what comes, until it ends.")
    ] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", metavar="N", min=0, help="Only the last lines.")] = None,
    no_pager: NoPager = False,
) -> int:
    """Print what a sandbox itself printed: its supervisor's own log, which is empty while all goes well."""
    out = output.output
    if (exec_id is not None) + (service is not None) + network > 1:
        raise UsageError("--exec, --service and --network name different logs.", hint="Ask for one of them.")
    if exec_id is not None:
        from agentctl.cli.sessions_processes import print_logs

        return print_logs(Own(sandbox), exec_id, out, follow=follow, tail_lines=tail)
    if follow:
        raise UsageError("--follow goes with --exec.", hint="What becomes of it: agentctl sandboxes events -f")
    if network:
        from agentctl.cli.refused import print_refused

        return print_refused(sandbox, tail, out)
    return _log(sandbox, service, tail, out)


def _log(sandbox: str, service: str | None, tail: int | None, out: Output) -> int:
    from agentctl.ops import sandbox_facts

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            data = await sandbox_facts.logs(app, sandbox, service=service)
        lines = data.decode("utf-8", "replace").splitlines(keepends=True)
        text = "".join(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :])
        if out.json:
            out.envelope({"log": text})
        else:
            write_bytes(clean(text).encode("utf-8", "replace"))
            if not text:
                told(out, "It is empty.")

    with paged(out):
        return run_async(body)
