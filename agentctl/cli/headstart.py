"""``run`` starts its supervisor before anything else: it imports its libraries while we import ours.

A guess, made from the bare arguments; a supervisor that is not needed after all is ended unused.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing costs 10 ms, which the head start would lose again
if TYPE_CHECKING:
    from agentctl.providers.prespawn import Prespawned

_NOT_NEEDED = (
    "-h",
    "--help",
    "-s",
    "--session",
    "--provider",
    "--sandbox",
    "--spec",
    "--preset",
    "--print-config",
    "--editor",
)
_started: list[Prespawned] = []


def begin(argv: list[str]) -> None:
    """Spawn a local supervisor when ``argv`` looks like a ``run`` that will need one."""
    if argv[:1] != ["run"] or os.environ.get("AGENTCTL_PROVIDER") or any(a.split("=")[0] in _NOT_NEEDED for a in argv):
        return
    from agentctl import ids
    from agentctl.errors import AgentctlError
    from agentctl.paths import StatePaths, default_state_dir
    from agentctl.providers.prespawn import prespawn

    try:
        _started.append(prespawn(StatePaths(default_state_dir()).ensure(), ids.new_id("sbx")))
    except AgentctlError:
        return  # the command itself will meet the same trouble and tell it


def take() -> Prespawned | None:
    """The supervisor that was started, given away."""
    return _started.pop() if _started else None


def end() -> None:
    """End what nobody took."""
    while _started:
        _started.pop().discard()
