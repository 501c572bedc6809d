"""A reboot as agentctl sees it: nothing of it runs any more, and all that was written down is of an earlier boot."""

from __future__ import annotations

import json
import signal
import sqlite3

from agentctl.paths import StatePaths
from agentctl.supervisor import process_table
from agentctl.supervisor.processes import ProcessIdentity
from tests.recovery.leftovers import process_ids

EARLIER_BOOT = "00000000-0000-4000-8000-000000000000"


def reboot(paths: StatePaths) -> None:
    """SIGKILL to everything that was started for this state directory, then another boot id than the one written in
    handles, labels and leases. What lies on the disk stays."""
    while pids := process_ids(paths):
        for process in filter(None, map(ProcessIdentity.of, pids)):
            process.signal(signal.SIGKILL)
    now = process_table.boot_id()
    for labels in paths.run.glob("*/labels.json"):
        labels.write_text(labels.read_text().replace(now, EARLIER_BOOT))
    database = sqlite3.connect(paths.database)
    try:
        with database:
            for sandbox_id, handle in database.execute("SELECT id, handle FROM sandboxes").fetchall():
                earlier = json.dumps({**json.loads(handle), "boot_id": EARLIER_BOOT})
                database.execute("UPDATE sandboxes SET handle = ? WHERE id = ?", (earlier, sandbox_id))
            database.execute("UPDATE leases SET holder = replace(holder, ?, ?)", (now, EARLIER_BOOT))
    finally:
        database.close()
