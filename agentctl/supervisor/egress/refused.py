"""What was refused, counted by host and port, and written down so that the newest lines always tell all of it.

Each time something changed, at most once a second, all counts are written, a line of JSON each: the log of a container
loses its oldest lines. A reader takes the last line of each host and port.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

MOST = 200
OTHERS = "(others)"
"""Stands for all hosts that came when ``MOST`` were counted already."""

NOT_LISTED = "it is not on the list"
NOT_PUBLIC = "its address is not a public one, which has to be listed itself"
WHY = (NOT_LISTED, NOT_PUBLIC)

_PAUSE_S = 1.0
_LONGEST = 253
_UNFIT = re.compile(r"[^!-~]")


def clean(text: str) -> str:
    """Visible ASCII only, as long as a host's name may be: it came from whoever is locked in."""
    return _UNFIT.sub("?", text[:_LONGEST])


class Refused:
    """To be used inside a running loop."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], dict[str, object]] = {}
        self._seen: dict[tuple[str, int], int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_new = False

    def add(self, host: str, port: int, why: str) -> None:
        key = (clean(host), port)
        if key not in self._counts and len(self._counts) >= MOST:
            key = (OTHERS, 0)
        now = round(time.time(), 3)
        self._seen[key] = self._seen.get(key, 0) + 1
        first = self._counts.get(key, {}).get("first", now)
        self._counts[key] = {
            "host": key[0],
            "port": key[1],
            "count": self._seen[key],
            "first": first,
            "last": now,
            "why": why,
        }
        self._is_new = True
        if self._timer is None:
            self._write()

    def _write(self) -> None:
        self._timer = None
        if self._is_new:
            self._is_new = False
            sys.stdout.write("".join(f"{json.dumps(count)}\n" for count in self._counts.values()))
            sys.stdout.flush()
            self._timer = asyncio.get_running_loop().call_later(_PAUSE_S, self._write)
