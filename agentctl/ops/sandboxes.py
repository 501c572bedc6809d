"""Sandboxes of their own: compute without a session, to run commands in, and for sessions to share.

A change is accepted when its row and event are written, and completed when the row says the new status. Everything is
done under the sandbox's lease, by this command or by one in the background (``sandbox_background.py``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from agentctl import errors, ids
from agentctl.model import Sandbox, SessionSpec
from agentctl.ops import images, mirror, reach, sandbox_up, secrets
from agentctl.ops.elsewhere import is_elsewhere, require_here
from agentctl.ops.own import as_session
from agentctl.ops.report import Report, silent
from agentctl.ops.sandbox_facts import labelled, seen, sessions_in

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.base import PausingProvider

SHOWN_SESSIONS = 3


class Made(NamedTuple):
    """``is_new`` is false for one that was there already, with the same spec."""

    sandbox: Sandbox
    is_new: bool


async def create(
    app: App,
    spec: SessionSpec,
    *,
    name: str | None = None,
    ttl_s: float | None = None,
    wait: bool = True,
    sure: bool = False,
    report: Report = silent,
) -> Made:
    """Accept a sandbox and, with ``wait``, bring it up; on any error there is none then.

    Raise ``AlreadyExists`` for a taken name, unless the one there has the same spec: that one is returned as it is,
    brought up only when it never was. ``sure``: it may see what ``mounts.check`` refuses otherwise.
    """
    from agentctl.ops.session_spec import placed

    if name is not None:
        ids.require_name(name, "a sandbox")
    spec = await images.settled(app, placed(app, spec, sure=sure, report=report))
    made = await _accepted(app, spec, name, ttl_s)
    if not wait or not (made.is_new or made.sandbox.status in ("creating", "failed")):
        return made
    try:
        async with sandbox_up.up(app, made.sandbox, report):
            return made._replace(sandbox=app.store.named_sandbox(made.sandbox.id))
    except BaseException:
        if made.is_new:
            with suppress(errors.SandboxNotFound):
                await delete(app, made.sandbox.id, reason="failed")
        raise


async def _accepted(app: App, spec: SessionSpec, name: str | None, ttl_s: float | None) -> Made:
    provider = app.provider(spec.provider)
    if name is not None and (there := await _same(app, name, spec, ttl_s)):
        return Made(there, is_new=False)
    await provider.check()
    sandbox = _row(app, spec, name, ttl_s)
    secrets.resolve(app, spec.secrets)  # one that is missing is told before anything is written
    try:
        app.store.add_sandbox(sandbox, ("sandbox.created", {"provider": spec.provider, "labels": spec.labels}))
    except errors.AlreadyExists:
        there = await _same(app, sandbox.name or "", spec, ttl_s)  # another command was faster
        if there is None:
            raise
        return Made(there, is_new=False)
    secrets.keep(app, as_session(sandbox), app.given_secrets)
    return Made(sandbox, is_new=True)


def _row(app: App, spec: SessionSpec, name: str | None, ttl_s: float | None) -> Sandbox:
    sandbox_id = ids.new_id("sbx")
    now = time.time()
    return Sandbox(
        id=sandbox_id,
        session_id=None,
        provider=spec.provider,
        handle={},
        labels=spec.labels,
        created_at=now,
        name=name or f"sandbox-{sandbox_id[4:9]}",
        spec=spec,
        status="creating",
        updated_at=now,
        ttl_s=ttl_s,
        place=app.place if app.provider(spec.provider).capabilities.local_volumes else "",
    )


async def _same(app: App, name: str, spec: SessionSpec, ttl_s: float | None) -> Sandbox | None:
    """The sandbox of this very name, when it was made by the same spec. Raise ``AlreadyExists`` for another spec."""
    try:
        there = app.store.named_sandbox(name)
    except (errors.SandboxNotFound, errors.UsageError):
        return None
    if there.name != name or there.spec is None:
        return None
    if sandbox_up.is_expired(there):
        await delete(app, there.id, force=True, reason="expired")
        return None
    differ = _differences(there.spec, spec, there.ttl_s, ttl_s)
    if differ:
        raise errors.AlreadyExists(
            f"There is a sandbox {name} already, and it differs in: {', '.join(differ)}.",
            hint=f"See it with: agentctl sandboxes get {name}",
            details={"sandbox": there.id, "differ": differ},
        )
    return there


def _differences(has: SessionSpec, wanted: SessionSpec, has_ttl_s: float | None, ttl_s: float | None) -> list[str]:
    one, other = {**has.to_json(), "ttl_s": has_ttl_s}, {**wanted.to_json(), "ttl_s": ttl_s}
    same = SessionSpec.from_json(has.to_json()).to_json()
    return sorted(key for key, value in other.items() if key != "labels" and same.get(key, one[key]) != value)


async def listing(app: App, *, labels: dict[str, str] | None = None, statuses: Sequence[str] = ()) -> list[Sandbox]:
    """Oldest first, each with the status it has now. Those whose time is over are deleted."""
    found = []
    for sandbox in labelled(app, labels or {}):
        if sandbox_up.is_expired(sandbox) and not is_elsewhere(app, as_session(sandbox)):
            await delete(app, sandbox.id, force=True, reason="expired")
        else:
            found.append((await seen(app, sandbox))[0])
    return [s for s in found if not statuses or s.status in statuses]


async def stop(app: App, ref: str, *, archive: bool = False) -> Sandbox:
    """End everything that runs in it and keep its files: what needs it next brings it up. Stopping a stopped one
    succeeds. With ``archive`` its machine goes to where it costs least; raise ``Unsupported`` where there is no such
    place."""
    sandbox = app.store.named_sandbox(ref)
    require_here(app, as_session(sandbox))
    if archive:
        _require_archive(app, sandbox)
    await sandbox_up.ask_to_leave(app, sandbox)
    async with reach.lease_of(app, sandbox.id) as lease:
        sandbox = app.store.named_sandbox(sandbox.id)
        handle = await sandbox_up.put_down(app, sandbox, archive=archive)
        event = ("sandbox.stopped", {"reason": "asked"}) if sandbox_up.is_up(sandbox) else None
        return app.store.change_sandbox(
            sandbox, event, lease=lease, status="stopped", handle=handle, fencing=lease.fencing, error=None
        )


def _require_archive(app: App, sandbox: Sandbox) -> None:
    provider = app.provider(sandbox.provider)
    if not provider.capabilities.starts_again:
        raise errors.Unsupported(
            f"The provider {provider.name} has no archive for a sandbox; daytona has one.",
            hint=f"Stop it with: agentctl sandboxes stop {sandbox.name}. Nothing of it is left but its files.",
        )


async def restart(app: App, ref: str, report: Report = silent) -> Sandbox:
    """End everything in it and bring it up again, with the credentials and secrets as they are now."""
    sandbox = app.store.named_sandbox(ref)
    sandbox_up.require_usable(app, sandbox)
    await sandbox_up.ask_to_leave(app, sandbox)
    async with reach.lease_of(app, sandbox.id) as lease:
        sandbox = app.store.named_sandbox(sandbox.id)
        handle = await sandbox_up.put_down(app, sandbox)
        quiet = replace(sandbox, handle=handle, status="stopped")  # that it stopped goes without saying
        return await sandbox_up.start(app, quiet, lease, report, "sandbox.restarted")


async def pause(app: App, ref: str) -> Sandbox:
    """Freeze it. Raise ``Unsupported`` where the provider cannot."""
    return await _frozen(app, ref, "paused")


async def resume(app: App, ref: str) -> Sandbox:
    """Let a paused one go on. Raise ``Unsupported`` where the provider cannot."""
    return await _frozen(app, ref, "running")


async def _frozen(app: App, ref: str, status: str) -> Sandbox:
    sandbox = app.store.named_sandbox(ref)
    sandbox_up.require_usable(app, sandbox)
    provider = app.provider(sandbox.provider)
    verb = "pause" if status == "paused" else "resume"
    if not provider.capabilities.pause:
        raise errors.Unsupported(
            f"The provider {provider.name} cannot {verb} a sandbox.",
            hint=f"Stop it with: agentctl sandboxes stop {sandbox.name}. What needs it next brings it up again.",
        )
    async with reach.lease_of(app, sandbox.id) as lease:
        sandbox, _ = await seen(app, app.store.named_sandbox(sandbox.id))
        if sandbox.status == status:
            return sandbox
        if not sandbox_up.is_up(sandbox):
            raise errors.Conflict(
                f"The sandbox {sandbox.name} is {sandbox.status}: there is nothing to {verb}.",
                hint=f"Bring it up with: agentctl sandboxes restart {sandbox.name}",
            )
        able = cast("PausingProvider", provider)
        await (able.pause if verb == "pause" else able.resume)(sandbox.handle)
        event = (f"sandbox.{verb}d", {"reason": "asked"})
        return app.store.change_sandbox(sandbox, event, lease=lease, status=status, fencing=lease.fencing)


async def delete(app: App, ref: str, *, force: bool = False, reason: str = "asked") -> Sandbox:
    """End it and delete its home and logs from the volume; a workspace stays. Its events stay readable for a week.

    Raise ``InUse`` while sessions live in it, unless ``force``: they keep their history, and no more messages.
    """
    sandbox = app.store.named_sandbox(ref)
    require_here(app, as_session(sandbox))
    _require_free(app, sandbox, force=force)
    await sandbox_up.ask_to_leave(app, sandbox)
    async with reach.lease_of(app, sandbox.id):
        sandbox = app.store.named_sandbox(sandbox.id)
        await sandbox_up.clear_away(app, sandbox)
        for session in sessions_in(app, sandbox):
            await mirror.from_volume(app, session)  # their logs go now
            app.store.update_session(session.id, status="hibernated", sandbox_id=None)
        await _delete_files(app, sandbox)
        app.store.remove_sandbox(sandbox, ("sandbox.deleted", {"reason": reason}))
    return sandbox


async def _delete_files(app: App, sandbox: Sandbox) -> None:
    spec = as_session(sandbox).spec
    volume = app.store.volume(spec.provider, spec.volume)
    if volume is not None:
        await app.provider(spec.provider).session_remove(volume, sandbox.id)
    if spec.secrets:
        secrets.forget(app, sandbox.id)


def _require_free(app: App, sandbox: Sandbox, *, force: bool) -> None:
    bound = sessions_in(app, sandbox)
    if not bound or force:
        return
    names = ", ".join(session.name for session in bound[:SHOWN_SESSIONS])
    more = f" and {len(bound) - SHOWN_SESSIONS} more" if len(bound) > SHOWN_SESSIONS else ""
    raise errors.InUse(
        f"Sessions live in the sandbox {sandbox.name}: {names}{more}.",
        hint="Delete them first, or add --force: they then keep their history, but get no more messages.",
        details={"sessions": [session.name for session in bound]},
    )


def bound(app: App, spec: SessionSpec, ref: str) -> SessionSpec:
    """The spec of a session that lives in that sandbox: its place is the sandbox's. Raise ``SandboxNotFound``."""
    sandbox = app.store.named_sandbox(ref)
    sandbox_up.require_usable(app, sandbox)
    theirs = as_session(sandbox).spec
    return replace(
        spec,
        sandbox=sandbox.id,
        provider=theirs.provider,
        volume=theirs.volume,
        image=theirs.image,
        compute=theirs.compute,
        workspace=theirs.workspace,
        cwd=spec.cwd or theirs.cwd,
        root=spec.root or theirs.root,
    )
