"""``python -m tests.bench [--runs N] [--only GROUP] [--no-peer] [--output FILE]``: measure, tell, write results.json.

Run it on a quiet machine: beside other work, minima and medians part, and it measures again and again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.bench import cloud, docker, files, one_shot, processes, recovery, start, store, supervisor, warm
from tests.bench.peers import NoPeer, install_acpx
from tests.bench.report import Report
from tests.bench.workshop import Workshop

GROUPS = {
    "start": start.rows,
    "one-shot": one_shot.rows,
    "warm": warm.rows,
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
    report = Report(load_before=os.getloadavg())
    with Workshop(runs=given.runs, acpx=None if given.no_peer else _acpx()) as shop:
        for name in given.only or GROUPS:
            for row in GROUPS[name](shop):
                report.add(row)
                print(row.line(), flush=True)
        report.finish(shop)
    print(f"\n{report.text()}")
    if given.output != "-":
        Path(given.output).write_text(report.json(), encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="counted runs of each command, at least 7 (default: 9)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure this group alone; repeatable")
    parser.add_argument("--no-peer", action="store_true", help="do not install or run acpx")
    parser.add_argument("--output", default=str(RESULTS), help="where the JSON goes; - for nowhere")
    given = parser.parse_args()
    given.runs = max(given.runs, 7)
    return given


def _acpx() -> list[str] | None:
    try:
        return install_acpx()
    except NoPeer as e:
        print(f"acpx is not measured: {e}", file=sys.stderr)
        return None


sys.exit(main())
