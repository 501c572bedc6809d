"""The program that git asks for a password: ``python git_askpass.py SOCKET PROMPT``. It passes the question on to the
supervisor, which knows the answer, and prints that. It runs on its own, without anything of agentctl's.
"""

from __future__ import annotations

import socket
import sys

_PATIENCE_S = 10


def main() -> int:
    """Print the answer; exit 1 where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(_PATIENCE_S)
        try:
            door.connect(sys.argv[1])
            door.sendall(sys.argv[2].encode("utf-8", "surrogateescape") + b"\n")
            answer = b"".join(iter(lambda: door.recv(4096), b""))
        except OSError:
            return 1
    sys.stdout.buffer.write(answer)
    return 0 if answer else 1


if __name__ == "__main__":
    sys.exit(main())
