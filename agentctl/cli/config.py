"""``agentctl config``: show, get, set, unset, path, trust, untrust."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import write_text
from agentctl.cli.plain_output import print_table
from agentctl.cli.untrusted import clean
from agentctl.ops.app import App

Json = dict[str, Any]
WithOrigin = Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")]
MAX_VALUE_BYTES = 8192


Key = Annotated[str, typer.Argument(metavar="KEY", help="The setting.", show_default=False)]
ProjectFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The project's file (default: the nearest).", show_default=False)
]


@examples("""
    agentctl config show
    agentctl config show --origin
""")
def show(output: OutputOptions, origin: WithOrigin = False) -> None:
    """Print all settings as they are here: options, then variables, then the project's file, then yours."""
    from agentctl.ops import settings

    out = output.output
    with App.open() as app:
        found = settings.listing(app)
    if out.json:
        out.envelope(found)
        return
    rows = [(about["key"], _text(about["value"]), *([about["origin"]] if origin else [])) for about in found]
    print_table(out, ("setting", "value", *(["origin"] if origin else [])), rows)


@examples("""
    agentctl config get provider
    agentctl config get agent --origin
""")
def get(key: Key, output: OutputOptions, origin: WithOrigin = False) -> None:
    """Print one setting as it is here; an empty line when it is not set."""
    from agentctl.ops import settings

    out = output.output
    with App.open() as app:
        about = settings.get(app, key)
    if out.json:
        out.envelope(about)
    else:
        write_text(_text(about["value"]) + (f"\t{about['origin']}" if origin else "") + "\n")


@examples("""
    agentctl config set provider docker
    agentctl config set timeout 20m
    agentctl config set database_url - < url.txt
""")
def set_(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value; - reads it from stdin.")],
    output: OutputOptions,
) -> None:
    """Write a setting into your configuration file; the rest of the file stays as it is."""
    _change(key, sys.stdin.read(MAX_VALUE_BYTES).strip() if value == "-" else value, output)


@examples("""
    agentctl config unset provider
""")
def unset(key: Key, output: OutputOptions) -> None:
    """Take a setting out of your configuration file."""
    _change(key, None, output)


def _change(key: str, value: str | None, output: OutputOptions) -> None:
    from agentctl.ops import settings

    out = output.output
    with App.open() as app:
        path = settings.change(app, key, value)
    with App.open() as app:
        about = settings.get(app, key)
    if out.json:
        out.envelope({**about, "path": str(path)})
        return
    out.story(f"Written: {path}", "dim")
    if about["origin"].rpartition(":")[0] != str(path) and value is not None:
        out.story(f"Here {about['origin']} goes before it: {key} is {_text(about['value'])}.", "warning")


@examples("""
    agentctl config path
""")
def path(output: OutputOptions) -> None:
    """Print where the configuration is: your file, and the project's where there is one."""
    from agentctl.ops import settings

    out = output.output
    with App.open() as app:
        found = settings.paths(app)
    if out.json:
        out.envelope(found)
        return
    write_text(f"{found['user']}\n")
    if found["project"]:
        write_text(f"{found['project']}\n")
        if not found["trusted"]:
            out.story("The project's file is not trusted: see agentctl config trust --help", "dim")


@examples("""
    agentctl config trust
    agentctl config trust ~/src/project/agentctl.toml
""")
def trust(output: OutputOptions, file: ProjectFile = None) -> None:
    """Let all settings of a project's file count, for as long as its content stays what it is now.

    Without this it may only choose agent, model, mode, provider and image.
    """
    _trust(output, file, trusted=True)


@examples("""
    agentctl config untrust
""")
def untrust(output: OutputOptions, file: ProjectFile = None) -> None:
    """Take back what 'config trust' said of a project's file."""
    _trust(output, file, trusted=False)


def _trust(output: OutputOptions, file: Path | None, *, trusted: bool) -> None:
    from agentctl.ops import settings

    out = output.output
    with App.open() as app:
        found, text = settings.trust(app, file, trusted=trusted)
    if out.json:
        out.envelope({"path": str(found), "trusted": trusted})
    elif trusted:
        out.story(f"Trusted as it is now: {found}", "good")
        write_text(clean(text))
    else:
        out.story(f"No longer trusted: {found}")


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else clean(str(value))
