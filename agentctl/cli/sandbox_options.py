"""Options that the commands about sandboxes of their own share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli import values
from agentctl.cli.compute_options import ComputeOptions, compute_of
from agentctl.cli.lazy import options
from agentctl.cli.options import Cwd, Env, EnvFile, Labels, Origin, Provider, Root, Volume, Workspace
from agentctl.cli.setup_options import Secret, SecretEphemeral
from agentctl.errors import UsageError

if TYPE_CHECKING:
    from agentctl.cli.output import Output
    from agentctl.model import SessionSpec
    from agentctl.ops.app import App

IDLE_TIMEOUT_S = 600.0

SandboxRef = Annotated[
    str,
    typer.Argument(
        metavar="SANDBOX",
        help="Name, id or the start of an id.",
        show_default=False,
    ),
]
SandboxRefs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SANDBOX]...",
        help="Names, ids or starts of ids.",
        show_default=False,
    ),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done, or leave it to the background.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="TIME", parser=values.duration, help="Give up after this long; exit 3."),
]


@options
class PlaceOptions:
    """What a sandbox of its own is made of; ``sandbox_spec`` reads it."""

    provider: Provider = None
    cwd: Cwd = None
    root: Root = None
    env: Env = None
    env_file: EnvFile = None
    secret: Secret = None
    secret_ephemeral: SecretEphemeral = False
    volume: Volume = None
    workspace: Workspace = None
    label: Labels = None
    origin: Origin = None
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            "--idle-timeout",
            metavar="TIME",
            parser=values.duration_or_never,
            help="Stop it when nothing runs in it for so long; 0 is never (default: 10m).",
        ),
    ] = None
    ttl: Annotated[
        float | None,
        typer.Option("--ttl", metavar="TIME", parser=values.duration, help="Delete it after this long, whatever runs."),
    ] = None


def sandbox_spec(app: App, given: PlaceOptions, machine: ComputeOptions) -> SessionSpec:
    """The spec of a sandbox of its own: options, then configuration, then defaults. Raise ``UsageError``."""
    from agentctl.cli.spec import cwd_of, secrets_of
    from agentctl.model import SessionSpec

    provider = given.provider or app.config.provider or "unix_local"
    idle_timeout = IDLE_TIMEOUT_S if given.idle_timeout is None else given.idle_timeout
    return SessionSpec(
        agent="",
        provider=provider,
        image=machine.image,
        compute=compute_of(machine),
        volume=given.volume or "default",
        workspace=given.workspace,
        cwd=cwd_of(given.cwd, provider),
        root=given.root,
        env=values.environment(given.env or ()),
        env_files=values.existing_files(given.env_file or (), "--env-file"),
        secrets=secrets_of(app, given.secret, ephemeral=given.secret_ephemeral),
        labels=values.pairs(given.label or (), "--label"),
        origin=given.origin or app.origin,
        idle_timeout_s=idle_timeout or None,
    )


def told(out: Output, text: str) -> None:
    """A step of the story, for a person who waits."""
    out.story(text, "dim")


def refs_or_labels(refs: list[str] | None, label: list[str] | None) -> dict[str, str]:
    """The labels, when sandboxes are named by them. Raise ``UsageError`` for both at once, or none."""
    if bool(refs) == bool(label):
        hint = "Name sandboxes, or choose them with --label KEY=VALUE."
        raise UsageError("Which sandboxes?" if not refs else "Sandboxes are named in two ways.", hint=hint)
    return values.pairs(label or (), "--label")
