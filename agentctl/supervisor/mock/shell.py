"""Really runs a command for the mock agent's ``@sh``, in a session of its own, as real agents do."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress


def run(command: str, cwd: str, cancelled: threading.Event) -> tuple[int, str]:
    """The exit code and the output, both streams as they came; a cancel kills it."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    while True:
        try:
            output, _ = process.communicate(timeout=0.02)
        except subprocess.TimeoutExpired:
            if cancelled.is_set():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        else:
            return process.returncode, output.decode(errors="replace")
