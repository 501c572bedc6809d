"""``agentctl sessions pull``: what a session changed in its project, brought back."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions, SessionRef
from agentctl.cli.output import Output, is_terminal, write_text
from agentctl.cli.running import run_async
from agentctl.cli.untrusted import one_line
from agentctl.errors import AlreadyExists, StateError, UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts

Json = dict[str, Any]
_COPY_BYTES = 1024 * 1024
_NAME_WIDTH = 1000


@examples("""
    agentctl sessions pull my-work
    agentctl sessions pull my-work --to ./result
    agentctl sessions pull my-work --patch - | git apply
    agentctl sessions pull my-work --merge
""")
def pull(
    session: SessionRef,
    output: OutputOptions,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Write the files there, not into the project.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option("--patch", metavar="FILE", help="Write a patch instead of files; - is stdout.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Of a worktree: merge its branch into the project's checkout.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Overwrite what somebody else changed meanwhile.")] = False,
) -> int:
    """Bring back what a session changed in its project: as files, as a patch, or as a merge of its branch.

    Nothing is written when a file was changed here as well since the session began; with --merge, git merges such
    files, and leaves the checkout alone where it cannot.
    """
    out = output.output
    if sum((to is not None, patch is not None, merge)) > 1:
        raise UsageError("--to, --patch and --merge are three ways: give one of them.")

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            if merge:
                await _merge(app, session, out)
            elif patch is not None:
                await _patch(app, session, patch, out, overwrite=yes)
            else:
                await _files(app, session, to, out, overwrite=yes)

    return run_async(body)


async def _merge(app: App, session: str, out: Output) -> None:
    from agentctl.ops.project_merge import merge

    done = await merge(app, session)
    if out.json:
        out.envelope(done)
    elif done["merged"]:
        out.story(f"Merged {done['branch']}.", "dim")
        write_text(f"{done['head']}\n")
    else:
        out.story("There was nothing to merge.", "dim")


async def _patch(app: App, session: str, target: str, out: Output, *, overwrite: bool) -> None:
    from agentctl.cli.sessions_diff import show_patch
    from agentctl.ops.project_pull import pull_patch

    with tempfile.TemporaryFile() as file:
        if target == "-":
            if out.json:
                raise UsageError("--patch - and --json are both for stdout.", hint="Name a file for the patch.")
            await pull_patch(app, session, file)
            show_patch(file)
            return
        path = _free(target, overwrite=overwrite)
        count = await pull_patch(app, session, file)
        _save(file, path)
    if out.json:
        out.envelope({"session": session, "patch": str(path), "files": count})
    else:
        out.story(f"{count} file{'' if count == 1 else 's'} changed. Apply it with: git apply {path}", "dim")
        write_text(f"{path}\n")


def _free(target: str, *, overwrite: bool) -> Path:
    path = Path(target).expanduser().absolute()
    if path.exists() and not overwrite:
        raise AlreadyExists(f"{path} exists already.", hint="Overwrite it with --yes.")
    return path


def _save(file: IO[bytes], path: Path) -> None:
    file.seek(0)
    try:
        with path.open("wb") as target:
            while data := file.read(_COPY_BYTES):
                target.write(data)
    except OSError as e:
        raise StateError(f"Cannot write {path}: {e.strerror}.") from e


async def _files(app: App, session: str, to: Path | None, out: Output, *, overwrite: bool) -> None:
    from agentctl.ops.project_pull import pull

    done = await pull(app, session, to=to, overwrite=overwrite)
    if out.json:
        out.envelope(done)
        return
    paths = [*done["written"], *done["deleted"]]
    if not paths:
        out.story(f"There is nothing to bring: {done['to']} has it all.", "dim")
        return
    out.story(f"Wrote {len(done['written'])} and deleted {len(done['deleted'])} files in {done['to']}.", "dim")
    if out.quiet or not is_terminal(sys.stdout):
        write_text("".join(f"{one_line(path, _NAME_WIDTH)}\n" for path in paths))
