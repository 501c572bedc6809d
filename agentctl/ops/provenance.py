"""Whose a resource is at a provider, who made it and when: labels for whoever finds it."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentctl.ops.app import App

_LABEL_LENGTH = 63


def made_by() -> dict[str, str]:
    """Who makes it and when, in characters that every provider's labels take."""
    import pwd
    import socket

    from agentctl import __version__

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    owner = re.sub(r"[^A-Za-z0-9._-]", "-", f"{user}.{socket.gethostname()}")[:_LABEL_LENGTH]
    return {"owner": owner, "created-at": str(int(time.time())), "version": __version__}


def of_volume(app: App, origin: str = "") -> dict[str, str]:
    """What a volume bears; by ``origin``, else that of the configuration, it is found when no store knows it."""
    return {"origin": origin or app.origin, **made_by()}
