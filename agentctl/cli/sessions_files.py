"""``agentctl sessions files``: the files of a session's sandbox, whose agent need not run for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.files_output import file_writer, show_entries, show_stat
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions, SessionRef
from agentctl.cli.output import Output, write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.errors import UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentctl.cli.interrupts import Interrupts

Json = dict[str, Any]
PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="Absolute, or from the session's directory.", show_default=False)
]


@examples("""
    agentctl sessions files ls my-work
    agentctl sessions files ls my-work src --json
    agentctl sessions files ls my-work -q | head
""")
def ls(
    session: SessionRef,
    output: OutputOptions,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A directory, or a file.", show_default=False)] = ".",
) -> int:
    """List a directory of a session."""
    from agentctl.ops import files

    return _run(output.output, lambda app, say: files.entries(app, session, path, say), show_entries)


@examples("""
    agentctl sessions files cat my-work notes.md
    agentctl sessions files cat my-work build/app.tar.gz > app.tar.gz
    agentctl sessions files cat my-work result.json --json
""")
def cat(session: SessionRef, path: PathArgument, output: OutputOptions) -> int:
    """Print a file of a session, byte for byte; on a terminal without what would drive it."""
    from agentctl.ops import files

    out = output.output
    if out.json:
        return _run(out, lambda app, say: files.content(app, session, path, say))
    write = file_writer()

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            async with files.reading(app, session, path, out.step) as file:
                async for chunk in file.chunks:
                    write(chunk)

    return run_async(body)


@examples("""
    agentctl sessions files put my-work report.csv data/report.csv
    git diff | agentctl sessions files put my-work - changes.patch
""")
def put(
    session: SessionRef,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file here; - is stdin.", show_default=False)],
    output: OutputOptions,
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="Where it goes; a directory too.", show_default=False)
    ] = None,
) -> int:
    """Put a file into a session. It appears whole, or not at all."""
    from agentctl.cli.cp import run_copy
    from agentctl.ops import files
    from agentctl.ops.copy import Where

    out = output.output
    if file != "-":
        there = Where(kind="session", name=session, path=path or ".")
        return run_copy(out, Where(kind="host", path=file), there)
    if path is None:
        raise UsageError("What comes from stdin needs a PATH.", hint=f"agentctl sessions files put {session} - PATH")

    from agentctl.cli.stdin import stdin_chunks

    def show(out: Output, done: Json) -> None:
        out.story(f"Wrote {done['bytesWritten']} bytes.", "dim")
        write_text(f"{done['path']}\n")

    return _run(out, lambda app, say: files.write(app, session, path, stdin_chunks(), say), show)


@examples("""
    agentctl sessions files pull my-work dist/app.whl
    agentctl sessions files pull my-work out.log /tmp/run-1.log
""")
def pull(
    session: SessionRef,
    path: PathArgument,
    output: OutputOptions,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where it goes here; a directory too.", show_default=False)
    ] = None,
) -> int:
    """Fetch a file from a session; whole directories go with 'agentctl cp -r'."""
    from agentctl.cli.cp import run_copy
    from agentctl.ops.copy import Where

    if str(file) == "-":
        raise UsageError("A file goes to stdout with cat.", hint=f"agentctl sessions files cat {session} {path}")
    source = Where(kind="session", name=session, path=path)
    return run_copy(output.output, source, Where(kind="host", path=str(file or ".")))


@examples("""
    agentctl sessions files mv my-work draft.md final.md
    agentctl sessions files mv my-work *.log logs/ --overwrite
""")
def mv(
    session: SessionRef,
    source: Annotated[str, typer.Argument(metavar="FROM", help="What to move.", show_default=False)],
    to: Annotated[str, typer.Argument(metavar="TO", help="Its new path, or a directory.", show_default=False)],
    output: OutputOptions,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> int:
    """Move or rename within a session; nothing is replaced unless asked."""
    from agentctl.ops import files

    return _run(
        output.output,
        lambda app, say: files.move(app, session, source, to, overwrite=overwrite, report=say),
        lambda out, done: write_text(f"{done['to']}\n"),
    )


@examples("""
    agentctl sessions files rm my-work old.txt
    agentctl sessions files rm my-work build dist -r
""")
def rm(
    session: SessionRef,
    path: Annotated[list[str], typer.Argument(metavar="PATH...", help="What to remove.", show_default=False)],
    output: OutputOptions,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Directories with all in them.")] = False,
) -> int:
    """Remove files, links and directories of a session."""
    from agentctl.ops import files

    return _run(
        output.output,
        lambda app, say: files.remove(app, session, path, recursive=recursive, report=say),
        lambda out, done: write_text("".join(f"{one}\n" for one in done["removed"])),
    )


@examples("""
    agentctl sessions files mkdir my-work data/raw
""")
def mkdir(session: SessionRef, path: PathArgument, output: OutputOptions) -> int:
    """Make a directory in a session, and what is missing above it."""
    from agentctl.ops import files

    return _run(
        output.output,
        lambda app, say: files.mkdir(app, session, path, say),
        lambda out, done: write_text(f"{done['path']}\n"),
    )


@examples("""
    agentctl sessions files stat my-work notes.md --json
""")
def stat(session: SessionRef, path: PathArgument, output: OutputOptions) -> int:
    """Show size, time and mode of a file or directory; links are followed."""
    from agentctl.ops import files

    return _run(output.output, lambda app, say: files.stat(app, session, path, say), show_stat)


@examples("""
    agentctl sessions files edit my-work app.py --old "DEBUG = True" --new "DEBUG = False"
    agentctl sessions files edit my-work app.py --old-file before.txt --new-file after.txt
    agentctl sessions files edit my-work app.py --old colour --new color --all
""")
def edit(
    session: SessionRef,
    path: PathArgument,
    output: OutputOptions,
    old: Annotated[str | None, typer.Option("--old", metavar="TEXT", help="The text to replace.")] = None,
    new: Annotated[str | None, typer.Option("--new", metavar="TEXT", help="What takes its place.")] = None,
    old_file: Annotated[Path | None, typer.Option("--old-file", metavar="FILE", help="The text, from a file.")] = None,
    new_file: Annotated[Path | None, typer.Option("--new-file", metavar="FILE", help="The same for --new.")] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="Wherever it is, not just once.")] = False,
) -> int:
    """Replace text in a file of a session, at once; it must be there exactly once, unless --all."""
    from agentctl.ops import files

    before, after = _text(old, old_file, "old"), _text(new, new_file, "new")

    def show(out: Output, done: Json) -> None:
        times = "once" if done["replacements"] == 1 else f"{done['replacements']} times"
        out.story(f"Replaced {times}.", "dim")
        write_text(f"{done['path']}\n")

    return _run(
        output.output,
        lambda app, say: files.edit(app, session, path, before, after, everywhere=everywhere, report=say),
        show,
    )


def _text(given: str | None, file: Path | None, name: str) -> str:
    if (given is None) == (file is None):
        raise UsageError(f"Give --{name} TEXT or --{name}-file FILE.")
    if file is None:
        return given or ""
    try:
        return file.read_bytes().decode()
    except OSError as e:
        raise UsageError(f"Cannot read {file}: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{file} is not UTF-8 text.") from e


def _run(
    out: Output,
    op: Callable[[App, Callable[[str], None]], Awaitable[Any]],
    show: Callable[[Output, Any], None] | None = None,
) -> int:
    """Run one op and show what it answers, or print the envelope."""

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            done = await op(app, out.step)
        if out.json or show is None:
            out.envelope(done)
        else:
            show(out, done)

    return run_async(body)
