"""The watchdog of a running turn: notices when its agent has said nothing for too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class StallWatch:
    """Looks at a time stamp when silence could have lasted long enough, so that a frame costs it nothing.

    ``heard_at`` says when the agent was last heard or told something (monotonic seconds), ``is_waiting`` whether it
    waits for a person; ``stalled`` is called once, with the seconds of silence.
    """

    def __init__(
        self, heard_at: Callable[[], float], is_waiting: Callable[[], bool], stalled: Callable[[float], None]
    ) -> None:
        self._heard_at = heard_at
        self._is_waiting = is_waiting
        self._stalled = stalled
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, limit_s: float | None) -> None:
        """Watch for silences of ``limit_s``; for none when it is None or 0."""
        if limit_s:
            self._look_after(limit_s, limit_s)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_after(self, delay_s: float, limit_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look, limit_s)

    def _look(self, limit_s: float) -> None:
        silent_s = time.monotonic() - self._heard_at()
        if self._is_waiting():
            self._look_after(limit_s, limit_s)  # the answer, when it is sent, begins the silence anew
        elif silent_s < limit_s:
            self._look_after(limit_s - silent_s, limit_s)
        else:
            self._timer = None
            self._stalled(silent_s)
