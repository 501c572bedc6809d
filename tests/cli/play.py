"""Plays events to the terminal view, as a turn would bring them: ``python -m tests.cli.play FILE [DELAY] [CHUNK]``.

FILE holds one event a line; DELAY is the time between two batches of CHUNK events.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys

from agentctl.cli.output import Output
from agentctl.cli.rich_output import RichView
from agentctl.cli.view import Teller
from agentctl.events import Event
from agentctl.ops.result import Fold


async def play(path: str, delay: float, chunk: int) -> None:
    with open(path, "rb") as lines:
        bodies = [(json.loads(line), line.strip()) for line in lines]
    events = [Event(body["sequence"], body, line) for body, line in bodies]
    view = RichView(Output())
    view.step("Starting mock …")
    teller, fold = Teller(view), Fold("trn_1")
    for i in range(0, len(events), chunk):
        teller.feed(events[i : i + chunk])
        fold.feed(events[i : i + chunk])
        await asyncio.sleep(delay)
    result = fold.result()
    assert result is not None
    view.finish(result)
    view.close()


if __name__ == "__main__":
    delay, chunk = [*sys.argv[2:], "0.01", "1"][:2] if len(sys.argv) > 3 else ("0.01", "1")
    asyncio.run(play(sys.argv[1], float(delay), int(chunk)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    sys.stderr.write(f"cpu_ms={(used.ru_utime + used.ru_stime) * 1000:.0f}\n")
