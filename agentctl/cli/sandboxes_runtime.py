"""``agentctl sandboxes build-runtime``: the image of sandboxes for which none is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli import values
from agentctl.cli.compute_options import file_of
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts


@examples("""
    agentctl sandboxes build-runtime
    agentctl sandboxes build-runtime --ca-bundle company.pem
    agentctl sandboxes build-runtime --build-arg BASE=python:3.13-slim --tag agents:mine
""")
def build_runtime(
    output: OutputOptions,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="For sandboxes of this one (default: docker).")
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", metavar="NAME", help="What to call it, to be named by --image; else it is the default."),
    ] = None,
    ca_bundle: Annotated[
        Path | None, typer.Option("--ca-bundle", metavar="FILE", help="Certificates (PEM) to trust while it is built.")
    ] = None,
    build_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--build-arg",
            metavar="NAME=VALUE",
            help="BASE, the image that it stands on, or NODE, the one that Node is taken from. Repeatable.",
        ),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build it again, with newer base images and packages.")
    ] = False,
) -> int:
    """Build the default runtime image, from which sandboxes are made when no image is named.

    It has Python, Node, git and the tools that agents expect. Agents themselves are not in it: sandboxes mount them.
    """
    from agentctl.ops.images import build_runtime as build
    from agentctl.providers.base import RuntimeBuild

    out = output.output
    request = RuntimeBuild(
        tag=tag,
        ca_bundle=file_of(ca_bundle, "--ca-bundle"),
        arguments=values.pairs(build_arg or (), "--build-arg"),
        afresh=rebuild,
    )

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            done = await build(app, provider or "docker", request)
        if out.json:
            out.envelope({"tag": done.tag, "id": done.id, "provider": provider or "docker", "changed": done.changed})
        else:
            out.story(
                f"The image {done.tag} {'is' if done.changed else 'was'} built{'' if done.changed else ' already'}."
            )
            write_text(f"{done.tag}\n")

    return run_async(body)
