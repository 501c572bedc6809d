"""``python -m tests.bench [--runs N] [--only GROUP] [--no-peer] [--output FILE]``: measure, tell, write results.json.

Only a run of all groups writes results.json unasked. Run it on a quiet machine: beside other work, minima and medians
part, and it measures again and again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from tests.bench import (
    at_once,
    cloud,
    docker,
    files,
    listing,
    one_shot,
    processes,
    recovery,
    served,
    start,
    store,
    supervisor,
    warm,
)
from tests.bench.peers import NoPeer, install_acpx, install_sandbox_agent
from tests.bench.report import Report
from tests.bench.workshop import Workshop

GROUPS = {
    "start": start.rows,
    "list": listing.rows,
    "one-shot": one_shot.rows,
    "warm": warm.rows,
    "at-once": at_once.rows,
    "served": served.rows,
    "supervisor": supervisor.rows,
    "store": store.rows,
    "files": files.rows,
    "recovery": recovery.rows,
    "processes": processes.rows,
    "docker": docker.rows,
    "cloud": cloud.rows,
}
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    given = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the workshop is tidied up then too
    report = Report(load_before=os.getloadavg())
    peers = {} if given.no_peer else _peers()
    with Workshop(runs=given.runs, **peers) as shop:
        for name in given.only or GROUPS:
            for row in GROUPS[name](shop):
                report.add(row)
                print(row.line(), flush=True)
        report.finish(shop)
    print(f"\n{report.text()}")
    output = given.output or ("-" if given.only else str(RESULTS))
    if output != "-":
        Path(output).write_text(report.json(), encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="counted runs of each command, at least 7 (default: 9)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure this group alone; repeatable")
    parser.add_argument("--no-peer", action="store_true", help="do not install or run the peers")
    parser.add_argument("--output", help="where the JSON goes; - for nowhere (default: results.json, without --only)")
    given = parser.parse_args()
    given.runs = max(given.runs, 7)
    return given


def _peers() -> dict[str, list[str]]:
    found = {}
    for name, install in (("acpx", install_acpx), ("sandbox_agent", install_sandbox_agent)):
        try:
            found[name] = install()
        except NoPeer as e:
            print(f"{name} is not measured: {e}", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
