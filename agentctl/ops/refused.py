"""What the network policy of a sandbox refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentctl.errors import SandboxNotFound, UsageError
from agentctl.ops.elsewhere import require_here
from agentctl.ops.own import as_session
from agentctl.ops.sandbox_facts import seen

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]


async def refused(app: App, ref: str) -> list[Json]:
    """Each host and port once, the latest last: ``host``, ``port``, ``count``, ``first``, ``last`` (times) and ``why``.

    Raise ``UsageError`` for a policy that writes down nothing, ``SandboxNotFound`` when the list went with the sandbox.
    """
    sandbox = app.store.named_sandbox(ref)
    require_here(app, as_session(sandbox))
    policy = as_session(sandbox).spec.compute.network
    if policy != "allow":
        raise UsageError(
            f"The network of the sandbox {sandbox.name} is {policy!r}, which keeps no list of what it refused.",
            hint="One with --network allow=HOST:PORT,… does.",
        )
    sandbox, state = await seen(app, sandbox)
    if state is None or "refused" not in state.facts:
        raise SandboxNotFound(
            f"The sandbox {sandbox.name} is {sandbox.status}, and its list of what was refused is gone with it.",
            hint=f"What became of it: agentctl sandboxes events {sandbox.name}",
        )
    found: list[Json] = state.facts["refused"]
    return found
