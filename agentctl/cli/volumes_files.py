"""``agentctl volumes ls`` and its like: the files of a volume, with no sandbox alive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.files_output import file_writer, show_entries, show_stat
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.running import run_async
from agentctl.cli.volumes import VolumeName, VolumeProvider
from agentctl.errors import UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agentctl.cli.cp import Meter
    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.volume_files import VolumeFiles

Json = dict[str, Any]
PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="A path from the volume's top on.", show_default=False)
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Directories with all in them.")]
Force = Annotated[bool, typer.Option("--force", help="Even what a session has as its HOME or log.")]


@examples("""
    agentctl volumes ls default
    agentctl volumes ls default workspaces/shared --json
""")
def ls(
    volume: VolumeName,
    output: OutputOptions,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A directory, or a file.", show_default=False)] = ".",
    provider: VolumeProvider = None,
) -> int:
    """List a directory of a volume: 'workspaces' and 'agents' are the HOMEs of sessions."""
    return _run(output.output, volume, provider, lambda files: files.entries(path), show_entries)


@examples("""
    agentctl volumes cat default workspaces/shared/notes.md
    agentctl volumes cat models weights.bin > weights.bin
""")
def cat(volume: VolumeName, path: PathArgument, output: OutputOptions, provider: VolumeProvider = None) -> int:
    """Print a file of a volume, byte for byte; on a terminal without what would drive it."""
    out = output.output
    if out.json:
        return _run(out, volume, provider, lambda files: files.content(path))
    write = file_writer()

    async def copy(files: VolumeFiles) -> None:
        async with files.read(path) as file:
            async for chunk in file.chunks:
                write(chunk)

    return _run(out, volume, provider, copy, lambda out, done: None)


@examples("""
    agentctl volumes put models weights.bin
    agentctl volumes put default notes.md workspaces/shared/
    agentctl volumes put default -r src workspaces/shared/src
    tar c data | agentctl volumes put models - data.tar
""")
def put(
    volume: VolumeName,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file here; - is stdin.", show_default=False)],
    output: OutputOptions,
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="Where it goes; a directory too.", show_default=False)
    ] = None,
    recursive: Recursive = False,
    provider: VolumeProvider = None,
) -> int:
    """Put a file or a directory (-r) into a volume. It appears whole, or not at all."""
    from agentctl.cli.cp import Meter, run_copy
    from agentctl.cli.progress import Progress
    from agentctl.ops.copy import Where

    out = output.output
    if file != "-":
        where = Where(kind="volume", name=volume, path=_inside(path or "."), provider=provider)
        head = len(str(Where(kind="volume", name=volume, path="")))
        return run_copy(
            out, Where(kind="host", path=file), where, recursive=recursive, told=lambda written: written[head:]
        )
    if path is None:
        raise UsageError("What comes from stdin needs a PATH.", hint=f"agentctl volumes put {volume} - PATH")

    from agentctl.cli.stdin import stdin_chunks

    def show(out: Output, done: Json) -> None:
        out.story(f"Wrote {done['bytesWritten']} bytes.", "dim")
        write_text(f"{done['path']}\n")

    async def write(files: VolumeFiles) -> Json:
        with Progress(out) as progress:
            return await files.write(path, _counted(stdin_chunks(), Meter(progress)))

    return _run(out, volume, provider, write, show)


async def _counted(chunks: AsyncIterator[bytes], meter: Meter) -> AsyncIterator[bytes]:
    done = 0
    async for chunk in chunks:
        done += len(chunk)
        meter.moved(done, None)
        yield chunk


@examples("""
    agentctl volumes pull models weights.bin
    agentctl volumes pull default -r workspaces/shared/out ./out
""")
def pull(
    volume: VolumeName,
    path: PathArgument,
    output: OutputOptions,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where it goes here; a directory too.", show_default=False)
    ] = None,
    recursive: Recursive = False,
    provider: VolumeProvider = None,
) -> int:
    """Fetch a file or a directory (-r) from a volume."""
    from agentctl.cli.cp import run_copy
    from agentctl.ops.copy import Where

    if str(file) == "-":
        raise UsageError("A file goes to stdout with cat.", hint=f"agentctl volumes cat {volume} {path}")
    source = Where(kind="volume", name=volume, path=_inside(path), provider=provider)
    return run_copy(output.output, source, Where(kind="host", path=str(file or ".")), recursive=recursive)


@examples("""
    agentctl volumes mkdir models llama/7b
""")
def mkdir(volume: VolumeName, path: PathArgument, output: OutputOptions, provider: VolumeProvider = None) -> int:
    """Make a directory in a volume, and what is missing above it."""
    return _run(output.output, volume, provider, lambda files: files.mkdir(path), _path_shown("path"))


@examples("""
    agentctl volumes mv models draft.bin final.bin
    agentctl volumes mv models final.bin archive/ --overwrite
""")
def mv(
    volume: VolumeName,
    source: Annotated[str, typer.Argument(metavar="FROM", help="What to move.", show_default=False)],
    to: Annotated[str, typer.Argument(metavar="TO", help="Its new path, or a directory.", show_default=False)],
    output: OutputOptions,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    force: Force = False,
    provider: VolumeProvider = None,
) -> int:
    """Move or rename within a volume; nothing is replaced unless asked."""

    def move(files: VolumeFiles) -> Awaitable[Json]:
        return files.move(source, to, overwrite=overwrite, force=force)

    return _run(output.output, volume, provider, move, _path_shown("to"))


@examples("""
    agentctl volumes rm models old.bin
    agentctl volumes rm models llama mistral -r
""")
def rm(
    volume: VolumeName,
    path: Annotated[list[str], typer.Argument(metavar="PATH...", help="What to remove.", show_default=False)],
    output: OutputOptions,
    recursive: Recursive = False,
    force: Force = False,
    provider: VolumeProvider = None,
) -> int:
    """Remove files, links and directories of a volume."""
    return _run(
        output.output,
        volume,
        provider,
        lambda files: files.remove(path, recursive=recursive, force=force),
        lambda out, done: write_text("".join(f"{one}\n" for one in done["removed"])),
    )


@examples("""
    agentctl volumes stat models weights.bin --json
""")
def stat(volume: VolumeName, path: PathArgument, output: OutputOptions, provider: VolumeProvider = None) -> int:
    """Show size, time and mode of a file or directory; links are followed."""
    return _run(output.output, volume, provider, lambda files: files.stat(path), show_stat)


def _inside(path: str) -> str:
    """As ``VolumeFiles`` takes it: a ``/`` at the start is the volume's top."""
    return path.lstrip("/") or "."


def _path_shown(key: str) -> Callable[[Output, Json], None]:
    return lambda out, done: write_text(f"{done[key]}\n")


def _run(
    out: Output,
    volume: str,
    provider: str | None,
    op: Callable[[VolumeFiles], Awaitable[Any]],
    show: Callable[[Output, Any], None] | None = None,
) -> int:
    """Run one op on a volume's files and show what it answers, or print the envelope."""
    from agentctl.ops.volume_files import opened

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            async with opened(app, volume, provider) as files:
                done = await op(files)
        if out.json or show is None:
            out.envelope(done)
        else:
            show(out, done)

    return run_async(body)
