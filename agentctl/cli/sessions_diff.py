"""``agentctl sessions diff``: what a session changed in its project."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.files_output import file_writer
from agentctl.cli.lazy import examples
from agentctl.cli.options import NoPager, OutputOptions, SessionRef
from agentctl.cli.output import Output, write_text
from agentctl.cli.pager import paged
from agentctl.cli.running import run_async
from agentctl.cli.untrusted import one_line
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts

Json = dict[str, Any]
_PIECE_BYTES = 1024 * 1024
_NAME_WIDTH = 1000


@examples("""
    agentctl sessions diff my-work
    agentctl sessions diff my-work --stat
    agentctl sessions diff my-work src/main.py | git apply
""")
def diff(
    session: SessionRef,
    output: OutputOptions,
    path: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Only these files and directories.", show_default=False),
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only which files, and how many lines.")] = False,
    no_pager: NoPager = False,
) -> int:
    """Print what a session changed in its project, as a patch that 'git apply' takes, binary files too.

    The sandbox need not be alive. What .gitignore files leave out is left out here, unless it was there in git before.
    """
    from agentctl.ops import project_changes as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, tempfile.TemporaryFile() as patch:
            if out.json:
                out.envelope(await (ops.diff if stat else ops.diff_as_json)(app, session, path or ()))
                return
            wants_patch = not (stat or out.quiet)
            found = await ops.diff(app, session, path or (), patch if wants_patch else None)
            _show(out, found, patch if wants_patch else None)

    with paged(out):
        return run_async(body)


def _show(out: Output, found: Json, patch: IO[bytes] | None) -> None:
    if not found["files"]:
        out.story("Nothing has changed.", "dim")
    elif patch is not None:
        show_patch(patch)
    elif out.quiet:
        write_text("".join(f"{one_line(file['path'], _NAME_WIDTH)}\n" for file in found["files"]))
    else:
        show_stat(found)


def show_patch(patch: IO[bytes]) -> None:
    """Print a patch: byte for byte, on a terminal without what would drive it."""
    patch.seek(0)
    write = file_writer()
    while piece := patch.read(_PIECE_BYTES):
        write(piece)


def show_stat(found: Json) -> None:
    """A line for each file, and one for all."""
    lines = []
    for file in found["files"]:
        counts = "binary" if file["binary"] else f"+{file['additions']} -{file['deletions']}"
        lines.append(f"{file['status']:<8}  {counts:<12}  {one_line(file['path'], _NAME_WIDTH)}\n")
    count = len(found["files"])
    lines.append(f"{count} file{'' if count == 1 else 's'}, +{found['additions']} -{found['deletions']}\n")
    write_text("".join(lines))
