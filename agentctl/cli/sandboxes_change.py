"""``agentctl sandboxes``: stop, restart, pause, resume, delete; one or many, now or in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.confirm import IgnoreNotFound, confirm, missing_is_fine
from agentctl.cli.lazy import examples
from agentctl.cli.options import Labels, OutputOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.cli.sandbox_options import SandboxRef, SandboxRefs, Timeout, Wait, refs_or_labels, told
from agentctl.errors import AgentctlError, SandboxNotFound
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.model import Sandbox

AT_ONCE = 8
"""So many are stopped or deleted at the same time."""


def begin(app: App, sandbox: Sandbox, action: str, timeout_s: float | None, out: Output) -> None:
    """Leave it to the background, and say where it can be followed."""
    from agentctl.ops import sandbox_background, sandbox_facts

    told(
        out,
        f"Accepted. Follow it with: agentctl sandboxes events {sandbox.name} --follow"
        f" --offset {sandbox_facts.last_sequence(app, sandbox)}",
    )
    sandbox_background.begin(app, sandbox, action, timeout_s)


def show(app: App, out: Output, sandbox: Sandbox, *, accepted: bool = False, **more: Any) -> None:
    """What a command that made or changed a sandbox prints: its name. ``accepted``: and the rest comes by events."""
    from agentctl.ops import sandbox_facts

    if out.json:
        last = sandbox_facts.last_sequence(app, sandbox)
        out.envelope(
            {
                **sandbox_facts.to_json(sandbox),
                "accepted": True,
                "completed": not accepted,
                "last_sequence": last,
                **more,
            }
        )
    else:
        write_text(f"{sandbox.id if out.quiet else sandbox.name}\n")


@examples("""
    agentctl sandboxes stop build
    agentctl sandboxes stop --label team=web
""")
def stop(
    output: OutputOptions,
    sandbox: SandboxRefs = None,
    label: Labels = None,
    archive: Annotated[
        bool, typer.Option("--archive", help="Archive it, too (daytona): costs least, starts slowest.")
    ] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """End all that runs in sandboxes and keep their files: what needs one next brings it up again."""
    from agentctl.ops import sandboxes as ops

    async def stopped(app: App, ref: str) -> Sandbox:
        return await ops.stop(app, ref, archive=archive)

    action = "archive" if archive else "stop"
    return _for_each(sandbox, label, output.output, stopped, action, wait=wait, timeout=timeout)


@examples("""
    agentctl sandboxes restart build
    agentctl sandboxes restart build --timeout 60s
""")
def restart(sandbox: SandboxRef, output: OutputOptions, wait: Wait = True, timeout: Timeout = None) -> int:
    """End all that runs in a sandbox and bring it up again."""
    from agentctl.ops import sandboxes as ops

    out = output.output

    async def again(app: App, ref: str) -> Sandbox:
        return await ops.restart(app, ref, lambda step: told(out, step))

    return _for_each([sandbox], None, out, again, "restart", wait=wait, timeout=timeout)


@examples("""
    agentctl sandboxes pause build
""")
def pause(sandbox: SandboxRef, output: OutputOptions) -> int:
    """Freeze a sandbox, where its provider can."""
    from agentctl.ops import sandboxes as ops

    return _for_each([sandbox], None, output.output, ops.pause, "pause")


@examples("""
    agentctl sandboxes resume build
""")
def resume(sandbox: SandboxRef, output: OutputOptions) -> int:
    """Let a paused sandbox go on."""
    from agentctl.ops import sandboxes as ops

    return _for_each([sandbox], None, output.output, ops.resume, "resume")


@examples("""
    agentctl sandboxes delete build
    agentctl sandboxes delete --label team=web --yes
""")
def delete(
    output: OutputOptions,
    sandbox: SandboxRefs = None,
    label: Labels = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also while sessions live in it: they keep their history, no more.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ignore_not_found: IgnoreNotFound = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Delete sandboxes with their home and logs. This cannot be undone."""
    from agentctl.ops import sandboxes as ops

    async def gone(app: App, ref: str) -> Sandbox:
        return await ops.delete(app, ref, force=force)

    action = "force-delete" if force else "delete"
    ask = None if yes else _confirm
    choose = partial(_chosen, ignore_not_found=ignore_not_found)
    return _for_each(sandbox, label, output.output, gone, action, wait=wait, timeout=timeout, ask=ask, choose=choose)


def _for_each(
    refs: list[str] | None,
    label: list[str] | None,
    out: Output,
    act: Callable[[App, str], Awaitable[Sandbox]],
    action: str,
    *,
    wait: bool = True,
    timeout: float | None = None,
    ask: Callable[[list[Sandbox], Output], None] | None = None,
    choose: Callable[[App, list[str] | None, dict[str, str]], list[Sandbox]] | None = None,
) -> int:
    """Do it to all that are named or labelled, several at a time; all are found before anything is done. One that
    fails leaves the others to be done, and its error is the command's."""
    labels = refs_or_labels(refs, label)
    with App.open() as app:
        found = (choose or _chosen)(app, refs, labels)
    if ask is not None and found:
        ask(found, out)

    async def body(interrupts: Interrupts) -> None:
        single = bool(refs) and len(found) == 1
        with App.open() as app, watched(app, out):
            if not wait:
                for sandbox in found:
                    begin(app, sandbox, action, timeout, out)
                _show_all(app, out, found, single=single, accepted=True)
                return
            done, failed = await _acted(app, found, act, action, timeout)
            _show_all(app, out, done, single=single, failed=failed)

    return run_async(body)


def _chosen(
    app: App, refs: list[str] | None, labels: dict[str, str], *, ignore_not_found: bool = False
) -> list[Sandbox]:
    from agentctl.ops import sandbox_facts

    if labels:
        return sandbox_facts.labelled(app, labels)
    found: dict[str, Sandbox] = {}
    for ref in refs or ():
        with missing_is_fine(ignore_not_found, SandboxNotFound):
            sandbox = app.store.named_sandbox(ref)
            found[sandbox.id] = sandbox
    return list(found.values())


async def _acted(
    app: App,
    found: list[Sandbox],
    act: Callable[[App, str], Awaitable[Sandbox]],
    action: str,
    timeout_s: float | None,
) -> tuple[list[Sandbox], list[AgentctlError]]:
    from agentctl.ops.deadline import within

    room = asyncio.Semaphore(AT_ONCE)

    async def one(sandbox: Sandbox) -> Sandbox | AgentctlError:
        async with room:
            try:
                async with within(timeout_s, f"The {action.removeprefix('force-')} of sandbox {sandbox.name}"):
                    return await act(app, sandbox.id)
            except AgentctlError as e:
                return e

    results = await asyncio.gather(*(one(sandbox) for sandbox in found))
    done = [result for result in results if not isinstance(result, AgentctlError)]
    return done, [result for result in results if isinstance(result, AgentctlError)]


def _show_all(
    app: App,
    out: Output,
    done: list[Sandbox],
    *,
    single: bool,
    accepted: bool = False,
    failed: list[AgentctlError] | None = None,
) -> None:
    """What was done; then the first error is raised and the others are told."""
    from agentctl.ops import sandbox_facts

    failed = failed or []
    if single and done:
        show(app, out, done[0], accepted=accepted)
    elif not failed and out.json:
        out.envelope([{**sandbox_facts.to_json(s), "accepted": True, "completed": not accepted} for s in done])
    elif not out.json:
        write_text("".join(f"{s.id if out.quiet else s.name}\n" for s in done))
    for error in failed[1:]:
        out.story(error.message, "warning")
    if failed:
        failed[0].details |= {"done": [s.id for s in done]} if done else {}
        raise failed[0]


def _confirm(found: list[Sandbox], out: Output) -> None:
    names = [sandbox.name or "" for sandbox in found]
    what = names[0] if len(names) == 1 else f"{len(names)} sandboxes"
    confirm(out, what, f"Delete {', '.join(names)} with all data?")
