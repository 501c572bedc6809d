"""The ``bridge`` entry point: stdin and stdout become one connection to the supervisor's socket.

For a host that can start a process in the sandbox and cannot reach the socket: one bridge is one byte stream.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

_CHUNK_BYTES = 256 * 1024


def main() -> int:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.connect(sys.argv[1])
    except OSError as e:
        sys.stderr.write(f"The supervisor does not answer on {sys.argv[1]}: {e.strerror}.\n")
        return 1
    threading.Thread(target=_send, args=(door,), daemon=True).start()
    with suppress(OSError):  # whoever reads us is gone
        while data := door.recv(_CHUNK_BYTES):
            _write(data)
    os._exit(0)  # the other direction may wait for ever


def _send(door: socket.socket) -> None:
    with suppress(OSError):
        while data := os.read(0, _CHUNK_BYTES):
            door.sendall(data)
    with suppress(OSError):
        door.shutdown(socket.SHUT_WR)


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]
