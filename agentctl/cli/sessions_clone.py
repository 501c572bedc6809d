"""``agentctl sessions clone-repo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions, SessionRef
from agentctl.cli.output import write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts


@examples("""
    agentctl sessions clone-repo my-work https://github.com/owner/project
    agentctl sessions clone-repo my-work https://github.com/owner/private --token-env GITHUB_TOKEN
    agentctl sessions clone-repo my-work https://host/big.git --branch main --depth 1 --path vendor/big
""")
def clone_repo(
    session: SessionRef,
    url: Annotated[str, typer.Argument(metavar="URL", help="The repository's address.", show_default=False)],
    output: OutputOptions,
    path: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="Where to; relative to the session's directory.")
    ] = None,
    branch: Annotated[str | None, typer.Option("--branch", "-b", metavar="NAME", help="A branch or a tag.")] = None,
    depth: Annotated[int | None, typer.Option("--depth", metavar="N", min=1, help="Only the last N commits.")] = None,
    token_env: Annotated[
        str | None,
        typer.Option("--token-env", metavar="NAME", help="The variable that holds a token for a private repository."),
    ] = None,
    submodules: Annotated[bool, typer.Option("--submodules", help="Clone its submodules, too.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="TIME", parser=values.duration, help="Give up after so long (default: 10m)."),
    ] = None,
) -> int:
    """Clone a git repository into a session's sandbox, by the git there.

    Nothing is left of a clone that fails. The token is handed to git alone, and is written nowhere. An address with a
    user or a password in it is refused.
    """
    from agentctl.cli.clone_option import variable
    from agentctl.ops import clone as ops

    out = output.output
    name = variable(token_env, "--token-env") if token_env is not None else None
    wanted = ops.clone_of(url, path=path, branch=branch, depth=depth, submodules=submodules, token_env=name)

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            made = await ops.clone_repo(app, session, wanted, timeout_s=timeout or ops.TIMEOUT_S, report=out.step)
        if out.json:
            out.envelope(made)
        else:
            write_text(f"{made['path']}\n")

    return run_async(body)
