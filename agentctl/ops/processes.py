"""The processes of a session's sandbox: listed, looked at, read, fed, ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentctl.ops import reach
from agentctl.ops.own import Ref, find
from agentctl.ops.report import Report, silent

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.supervisor_client.processes import Processes, Told

Json = dict[str, Any]


@asynccontextmanager
async def processes_of(app: App, ref: Ref, report: Report = silent) -> AsyncIterator[Processes]:
    """Those of the session's sandbox, which is brought up when it sleeps: their logs are on the volume."""
    from agentctl.supervisor_client.processes import Processes

    session = find(app, ref)
    async with reach.sandbox_of(app, session, report) as client:
        yield Processes(client)


async def listing(app: App, ref: Ref, report: Report = silent) -> list[Json]:
    """Oldest first."""
    async with processes_of(app, ref, report) as processes:
        return await processes.listing()


async def get(app: App, ref: Ref, process_id: str, report: Report = silent) -> Json:
    """Raise ``ProcessNotFound``."""
    async with processes_of(app, ref, report) as processes:
        return await processes.get(process_id)


async def cancel(
    app: App, ref: Ref, process_id: str, *, signal: str = "TERM", grace_s: float = 5.0, report: Report = silent
) -> Json:
    """End it with everything it started: the signal, then KILL after the grace time. An ended one stays as it is."""
    async with processes_of(app, ref, report) as processes:
        return await processes.stop(process_id, signal=signal, grace_s=grace_s)


async def write(
    app: App, ref: Ref, process_id: str, data: bytes, *, end: bool = False, report: Report = silent
) -> None:
    """Give it input. Raise ``Conflict`` when it has ended, has no input, or reads no more."""
    async with processes_of(app, ref, report) as processes:
        await processes.write(process_id, data, end=end)


async def logs(
    app: App,
    ref: Ref,
    process_id: str,
    *,
    follow: bool = False,
    stream: str | None = None,
    tail_lines: int | None = None,
    since: int | None = None,
    report: Report = silent,
) -> AsyncGenerator[list[Told], None]:
    """What is kept of its output, and with ``follow`` what comes until it ends."""
    async with processes_of(app, ref, report) as processes:
        query: Json = {"stream": stream, "tailLines": tail_lines, "since": since}
        if follow:
            async with aclosing(processes.follow(process_id, **query)) as batches:
                async for batch in batches:
                    yield batch
        else:
            yield [told async for told in processes.logs(process_id, **query)]
