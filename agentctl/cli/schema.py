"""``agentctl schema``: the shape of all that is printed as JSON."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import write_text
from agentctl.errors import NotFound


@examples("""
    agentctl schema
    agentctl schema event > event.schema.json
    agentctl schema sessions-get
""")
def schema(
    output: OutputOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="envelope, error, event, result, or a command's words with dashes.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the JSON Schema of what a command prints with --json, or list the names of all.

    A command's schema is that of the envelope's data; of one that streams, that of a line.
    """
    from agentctl import schemas

    out = output.output
    found = schemas.names() if name is None else _schema(name)
    if out.json:
        out.envelope(found)
    elif isinstance(found, list):
        write_text("".join(f"{one}\n" for one in found))
    else:
        write_text(json.dumps(found, indent=2) + "\n")


def _schema(name: str) -> dict[str, object]:
    from difflib import get_close_matches

    from agentctl import schemas

    known = schemas.names()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise NotFound(f"There is no schema {name!r}.", hint=f"{meant}`agentctl schema` lists all.")
    return schemas.schema(name)
