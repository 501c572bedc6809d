"""What goes wrong on the way to Daytona, when a test wants it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """The next ``times`` requests of that method to a path that has ``path`` (a regular expression) end like this.

    ``status`` with ``message`` and ``headers``; or ``drop``: the connection breaks without an answer; or only
    ``delay_s``. With ``after`` the request is served first and only its answer is lost: what it made is there.
    """

    method: str
    path: str
    status: int | None = None
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    delay_s: float = 0.0
    after: bool = False
    times: int = 1

    def meets(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in (method, "*") and re.search(self.path, path) is not None
