"""``agentctl sessions processes``: what runs, or ran, in a session's sandbox."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import NoPager, OutputOptions, SessionRef
from agentctl.cli.output import Output, ReaderGone, is_terminal, paging, write_bytes, write_lines, write_text
from agentctl.cli.pager import paged
from agentctl.cli.plain_output import print_fields, print_table
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.cli.session_table import age
from agentctl.cli.untrusted import one_line
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.own import Ref
    from agentctl.supervisor_client.processes import Told

Json = dict[str, Any]
GRACE_S = 5.0
STREAMS = ("stdout", "stderr", "combined", "pty")

ProcessId = Annotated[str, typer.Argument(metavar="PROCESS", help="Its id; see 'processes list'.", show_default=False)]


def _stream(text: str) -> str:
    return values.choice(text, STREAMS, "--stream")


@examples("""
    agentctl sessions processes list my-work
    agentctl sessions processes list my-work --json
""")
def list_(session: SessionRef, output: OutputOptions) -> int:
    """List the commands that were started by exec, the oldest first."""
    from agentctl.ops import processes as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            found = await ops.listing(app, session, report=out.step)
        if out.json:
            out.envelope(found)
        elif out.quiet:
            write_text("".join(f"{info['id']}\n" for info in found))
        elif not found:
            out.story("There is no process. Start one with: agentctl sessions exec SESSION -- COMMAND")
        else:
            now = time.time()
            rows = [(i["id"], state(i), age(now - i["createdAtMs"] / 1000), _line(i)) for i in found]
            print_table(out, ("id", "state", "started", "command"), rows)

    return run_async(body)


def state(info: Json) -> str:
    """How a process stands, in a word or two."""
    if info["status"] == "running":
        return "running"
    if info["timedOut"]:
        return "timed out"
    if "signal" in info:
        return f"signal {info['signal']}"
    return f"exit {info['exitCode']}" if "exitCode" in info else "lost"


def _line(info: Json) -> str:
    import shlex

    return one_line(shlex.join([info["command"], *info["args"]]), 100)


@examples("""
    agentctl sessions processes get my-work proc_1
    agentctl sessions processes get my-work proc_1 --json | jq .data.logs
""")
def get(session: SessionRef, process: ProcessId, output: OutputOptions) -> int:
    """Show one process: its state, and where its logs are."""
    from agentctl.ops import processes as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            info = await ops.get(app, session, process, report=out.step)
        _show(out, info)

    return run_async(body)


def _show(out: Output, info: Json) -> None:
    if out.json:
        out.envelope(info)
    elif out.quiet:
        write_text(f"{info['id']}\n")
    else:
        pid = [("pid", str(info["pid"]))] if "pid" in info else []
        known = [("id", info["id"]), ("state", state(info)), ("command", _line(info)), ("cwd", info["cwd"])]
        print_fields([*known, *pid, *((f"{stream} log", path) for stream, path in info["logs"].items())])


@examples("""
    agentctl sessions processes cancel my-work proc_1
    agentctl sessions processes cancel my-work build-1 --signal INT --grace 30s
""")
def cancel(
    session: SessionRef,
    process: ProcessId,
    output: OutputOptions,
    signal: Annotated[str, typer.Option("--signal", "-s", metavar="NAME", help="What to send first.")] = "TERM",
    grace: Annotated[
        float | None,
        typer.Option("--grace", metavar="TIME", parser=values.duration, help="Until it is killed (default: 5s)."),
    ] = None,
) -> int:
    """End a process with everything that it started."""
    from agentctl.ops import processes as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            info = await ops.cancel(
                app,
                session,
                process,
                signal=signal,
                grace_s=GRACE_S if grace is None else grace,
                report=out.step,
            )
        _show(out, info)

    return run_async(body)


@examples("""
    agentctl sessions processes logs my-work proc_1 --tail 20
    agentctl sessions processes logs my-work build-1 -f --stream stderr
""")
def logs(
    session: SessionRef,
    process: ProcessId,
    output: OutputOptions,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until it ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", metavar="N", min=0, help="Only the last lines.")] = None,
    since: Annotated[
        int | None, typer.Option("--since", metavar="N", min=0, help="Only pieces after number N (see --json).")
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="NAME", parser=_stream, help="Only stdout, stderr or pty."),
    ] = None,
    no_pager: NoPager = False,
) -> int:
    """Print a process's output: its stdout here on stdout, its stderr on stderr; with --json a piece a line."""
    chosen = None if stream == "combined" else stream
    return print_logs(session, process, output.output, follow=follow, tail_lines=tail, since=since, stream=chosen)


def print_logs(ref: Ref, process: str, out: Output, **which: Any) -> int:
    """Of a process in a session's sandbox or in one of its own; ``which`` as ``ops.processes.logs`` takes it."""
    from agentctl.ops import processes as ops

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            async for batch in ops.logs(app, ref, process, **which, report=lambda step: out.story(step, "dim")):
                _print(out, batch)

    with paged(out, unless=bool(which.get("follow"))):
        return run_async(body)


def _print(out: Output, batch: list[Told]) -> None:
    from agentctl.cli.exec_streams import missing_text
    from agentctl.supervisor_client.processes import Missing
    from agentctl.supervisor_client.processes import Output as Piece

    if out.json:
        write_lines(_json_line(told) for told in batch)
        return
    for told in batch:
        if isinstance(told, Missing):
            out.story(missing_text(told), "warning")
        elif isinstance(told, Piece):
            _write(told.data, stderr=told.stream == "stderr")


def _json_line(told: Told) -> bytes:
    """Text where it is text, else base64."""
    import base64
    import json

    body: Json = told._asdict()
    if isinstance(data := body.pop("data", None), bytes):
        try:
            body |= {"data": data.decode(), "encoding": "utf-8"}
        except UnicodeDecodeError:
            body |= {"data": base64.b64encode(data).decode(), "encoding": "base64"}
    kind = "output" if "encoding" in body else "missing"
    return json.dumps({"type": kind, **body}, ensure_ascii=False).encode()


def _write(data: bytes, *, stderr: bool) -> None:
    if not stderr or (paging and is_terminal(sys.stderr)):  # in a pager both are on the one screen
        write_bytes(data)
        return
    try:
        sys.stderr.flush()
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
    except OSError as e:
        raise ReaderGone from e


@examples("""
    agentctl sessions processes input my-work proc_1 "yes"
    agentctl sessions processes input my-work proc_1 --file answers.txt --eof
""")
def input_(
    session: SessionRef,
    process: ProcessId,
    output: OutputOptions,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="A line; without it, stdin.", show_default=False)
    ] = None,
    file: Annotated[str | None, typer.Option("--file", metavar="FILE", help="What to send; - is stdin.")] = None,
    eof: Annotated[bool, typer.Option("--eof", help="Close its stdin afterwards.")] = False,
) -> int:
    """Send input to a process that was started with --interactive."""
    from agentctl.ops import processes as ops

    out = output.output
    data = _input_bytes(text, file)

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            await ops.write(app, session, process, data, end=eof, report=out.step)
        if out.json:
            out.envelope({"id": process, "bytes_written": len(data), "eof": eof})

    return run_async(body)


def _input_bytes(text: str | None, file: str | None) -> bytes:
    from pathlib import Path

    from agentctl.errors import UsageError

    if text is not None and file is not None:
        raise UsageError("The input is given twice.", hint="Give it as TEXT or with --file: one of them.")
    if text is not None:
        return text.encode("utf-8", "surrogateescape") + b"\n"
    if file in (None, "-"):
        return sys.stdin.buffer.read()
    try:
        return Path(str(file)).read_bytes()
    except OSError as e:
        raise UsageError(f"Cannot read {file}: {e.strerror}.") from e
