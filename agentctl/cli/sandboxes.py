"""``agentctl sandboxes``: create, list, get."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.compute_options import ComputeOptions
from agentctl.cli.lazy import examples
from agentctl.cli.options import Labels, OutputOptions, PresetName, PrintConfig, SpecFile
from agentctl.cli.output import write_text
from agentctl.cli.plain_output import print_fields, print_table
from agentctl.cli.progress import watched
from agentctl.cli.project_options import Yes
from agentctl.cli.running import run_async
from agentctl.cli.sandbox_options import PlaceOptions, SandboxRef, Timeout, Wait, sandbox_spec, told
from agentctl.cli.sandboxes_change import begin, show
from agentctl.errors import UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.model import Sandbox

Json = dict[str, Any]
_SHOWN_REFUSED = 5
STATUSES = ("creating", "running", "paused", "stopped", "failed")


@examples("""
    agentctl sandboxes create --id build --label team=web --ttl 8h
    agentctl sandboxes create --spec sandbox.yaml --env STAGE=test
    agentctl sandboxes create --id build --no-wait
    agentctl sandboxes create --provider docker --image python:3.12 --service db=postgres:16
""")
def create(
    given: PlaceOptions,
    machine: ComputeOptions,
    output: OutputOptions,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Its name: the same spec under it is made only once."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = None,
    spec: SpecFile = None,
    preset: PresetName = None,
    print_config: PrintConfig = False,
    yes: Yes = False,
) -> int:
    """Create a sandbox of its own: to run commands in, and for sessions to share."""
    from agentctl.ops import sandboxes as ops

    out = output.output
    if spec is not None or preset is not None or print_config:
        from agentctl.cli.spec_file import merged

        bundles = (given, machine)
        if merged(spec, "sandboxes create", bundles, out, preset=preset, print_config=print_config):
            return 0

    async def body(interrupts: Interrupts) -> None:
        from agentctl.ops.deadline import within

        with App.open() as app, watched(app, out):
            wanted = sandbox_spec(app, given, machine)
            _check_background(given, wait=wait)
            async with within(timeout if wait else None, "Making the sandbox, of which nothing is left,"):
                made = await ops.create(
                    app, wanted, name=id_, ttl_s=given.ttl, wait=wait, sure=yes, report=lambda step: told(out, step)
                )
            begun = made.is_new and not wait
            if begun:
                begin(app, made.sandbox, "create", timeout, out)
            show(app, out, made.sandbox, accepted=begun, created=made.is_new)

    return run_async(body)


def _check_background(given: PlaceOptions, *, wait: bool) -> None:
    if given.secret_ephemeral and not wait:
        raise UsageError("--secret-ephemeral cannot go with --no-wait.", hint="Nobody could give the secret then.")


@examples("""
    agentctl sandboxes list
    agentctl sandboxes list --label team=web --status running --json
""")
def list_(
    output: OutputOptions,
    label: Labels = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="Only these statuses. Repeatable.")
    ] = None,
) -> int:
    """List sandboxes of their own, the oldest first. A session's own sandbox is part of the session."""
    from agentctl.ops import sandbox_facts
    from agentctl.ops import sandboxes as ops

    out = output.output
    wanted = [values.choice(s, STATUSES, "--status") for s in status or ()]
    labels = values.pairs(label or (), "--label")

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            found = await ops.listing(app, labels=labels, statuses=wanted)
        if out.json:
            out.envelope([sandbox_facts.to_json(sandbox) for sandbox in found])
        elif out.quiet:
            write_text("".join(f"{sandbox.id}\n" for sandbox in found))
        elif not found:
            out.story("There is no sandbox. Create one with: agentctl sandboxes create --id NAME")
        else:
            print_table(
                out, ("name", "provider", "status", "age", "expires", "labels", "id"), [_line(s) for s in found]
            )

    return run_async(body)


def _line(sandbox: Sandbox) -> tuple[str, ...]:
    from agentctl.cli.session_table import age

    now = time.time()
    expires = "" if sandbox.expires_at is None else f"in {_span(sandbox.expires_at - now)}"
    created = age(now - sandbox.created_at)
    return (sandbox.name or "", sandbox.provider, sandbox.status, created, expires, _pairs(sandbox.labels), sandbox.id)


def _span(seconds: float) -> str:
    from agentctl.cli.session_table import age

    return age(max(seconds, 5)).removesuffix(" ago")


def _pairs(labels: dict[str, str]) -> str:
    return ", ".join(f"{k}={v}" for k, v in labels.items())


@examples("""
    agentctl sandboxes get build
    agentctl sandboxes get build --json | jq .data.backend
""")
def get(sandbox: SandboxRef, output: OutputOptions) -> int:
    """Show one sandbox: its status, what separates it from this machine, how it is reached and swept."""
    from agentctl.ops import sandbox_facts

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            data = await sandbox_facts.details(app, sandbox)
        if out.json:
            out.envelope(data)
        elif out.quiet:
            write_text(f"{data['id']}\n")
        else:
            print_fields(_fields(data))

    return run_async(body)


def _fields(data: Json) -> list[tuple[str, str]]:
    backend, live = data["backend"] or {}, data["live"] or {}
    plain = ("name", "id", "status", "provider", "cwd", "volume", "workspace", "boundary", "transport", "sweep")
    return [
        *((key, str(data[key] or "")) for key in plain),
        ("detail", backend.get("detail", "")),
        *((key.replace("_", " "), str(value)) for key, value in backend.get("facts", {}).items()),
        *((f"service {name}", _service(one)) for name, one in data["services"].items()),
        *(("refused", _refused(one)) for one in data["refused"][-_SHOWN_REFUSED:]),
        ("idle", f"{live['idle_s']:g} s" if live else ""),
        ("sessions", ", ".join(data["bound_sessions"])),
        ("labels", _pairs(data["labels"])),
        ("error", (data["error"] or {}).get("message", "")),
        ("created", _moment(data["created_at"])),
        ("expires", _moment(data["expires_at"]) if data["expires_at"] else ""),
        ("events", str(data["last_sequence"])),
    ]


def _service(now: Json) -> str:
    optional = "" if now["required"] else ", optional"
    return f"{now['status']} ({now['image'] or 'no image'}{optional})" + (f": {now['detail']}" if now["detail"] else "")


def _refused(one: Json) -> str:
    from agentctl.cli.refused import line

    return line(one)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
