"""Sessions: made, found, changed; their end is in ``session_end.py``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentctl import errors, ids
from agentctl.model import Session, SessionSpec
from agentctl.ops import (
    images,
    launch,
    mirror,
    provision,
    reach,
    secrets,
    session_end,
    session_list,
    session_spec,
    user_agents,
)
from agentctl.ops.elsewhere import is_elsewhere
from agentctl.ops.report import Report, silent
from agentctl.ops.session_list import to_json as to_json

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
STARTING_S = 5.0
"""For so long a sandbox may be about to be made without anybody seeing it."""


async def create(
    app: App,
    spec: SessionSpec,
    *,
    name: str | None = None,
    if_not_exists: bool = False,
    provision: bool = True,
    ephemeral: bool = False,
    sure: bool = False,
    report: Report = silent,
) -> Session:
    """Make a session and, with ``provision``, bring its agent up. On any error there is no session.

    Raise ``SessionExists`` for a taken name, unless ``if_not_exists`` and the session there has the same spec; then it
    is returned as it is. ``sure``: its sandbox may see what ``mounts.check`` refuses otherwise.
    """
    if name is not None and not ids.is_name(name):
        raise errors.UsageError(f"{name!r} cannot name a session: use a-z, 0-9, '.', '_', '-', at most 64 characters.")
    spec = await images.settled(app, _completed(app, spec, sure=sure, report=report))
    if name is not None and if_not_exists and (there := _same(app, name, spec)):
        secrets.give(app, there)
        return there
    launch.check(app, spec)
    for warning in secrets.warnings(app, spec.secrets) if spec.secrets else ():
        report(warning)
    if spec.files or spec.skills or spec.system_prompt:
        from agentctl.ops import home_files

        home_files.check(spec)
    session_id = ids.new_id("ses")
    if spec.project is not None:
        from agentctl.ops import projects

        spec = projects.settled(app, spec, session_id)
    session = _row(app, session_id, spec, name, ephemeral=ephemeral)
    app.store.add_session(session)
    cloned: list[str] = []
    try:
        secrets.keep(app, session, app.given_secrets)
        if spec.project is not None:
            await projects.prepare(app, session, report)
        if not provision:
            return session
        if spec.clones:
            from agentctl.ops import clone

            cloned = await clone.clone_new(app, session, report)
        async with reach.living(app, session, report) as link:
            return link.session
    except BaseException:
        if cloned:
            await clone.take_back(app, session, cloned)
        await session_end.delete(app, session_id, without_trace=True)
        raise


def _row(app: App, session_id: str, spec: SessionSpec, name: str | None, *, ephemeral: bool) -> Session:
    now = time.time()
    return Session(
        id=session_id,
        name=name or f"{spec.user_agent or spec.agent}-{session_id[4:9]}",
        spec=spec,
        status="new",
        created_at=now,
        updated_at=now,
        ephemeral=ephemeral,
        place=app.place if app.provider(spec.provider).capabilities.local_volumes else "",
    )


def _completed(app: App, spec: SessionSpec, *, sure: bool, report: Report) -> SessionSpec:
    """The spec with everything that would otherwise depend on where it is read: agent, cwd and origin."""
    spec = session_spec.placed(app, user_agents.expanded(app, spec), sure=sure, report=report)
    if not spec.copies:
        return spec
    from agentctl.ops import project_copies

    return replace(spec, copies=project_copies.checked(app, spec, report))


def _same(app: App, name: str, spec: SessionSpec) -> Session | None:
    try:
        there = app.store.session(name)
    except errors.SessionNotFound:
        return None
    if there.name != name:
        return None
    if _as_asked(app, there).hash() != spec.hash():
        raise errors.SessionExists(
            f"Session {name} exists with another spec.", hint=f"See it with: agentctl sessions get {name}"
        )
    return there


def _as_asked(app: App, session: Session) -> SessionSpec:
    if session.spec.project is None:
        return session.spec
    from agentctl.ops import projects

    return projects.as_asked(app, session)


async def listing(
    app: App,
    *,
    limit: int | None = 50,
    labels: dict[str, str] | None = None,
    statuses: Sequence[str] = (),
) -> list[Session]:
    """Newest activity first, each with the status it has now."""
    found = session_list.stored(app, limit=limit, labels=labels, statuses=statuses)
    return session_list.chosen([await _refreshed(app, s) for s in found], limit=limit, statuses=statuses)


async def _refreshed(app: App, session: Session) -> Session:
    """The stored status may be older than the sandbox: a turn went on without us, or the sandbox is gone."""
    if session.sandbox_id is None or not session_list.may_have_changed(app, session):
        return session
    sandbox = app.store.sandbox(session.sandbox_id)
    if sandbox is None:
        return await _unrecorded(app, session)
    status = (await app.provider(sandbox.provider).inspect(sandbox.handle)).status
    with suppress(errors.StateError):  # on a full disk the mirror stays as it is, and can still be looked at
        session = await mirror.from_volume(app, session)
    if status == "running" or session.status == "hibernated":
        return session
    # Said, not stored: another command may be bringing it up right now.
    return replace(session, status="paused" if status == "paused" else "dead")


async def _unrecorded(app: App, session: Session) -> Session:
    """Whoever was starting it is still at it, or died without a word."""
    young = time.time() - session.updated_at < STARTING_S
    if young or await provision.unrecorded(app, session):
        return session
    return replace(session, status="dead")


def get(app: App, ref: str) -> Session:
    """Raise ``SessionNotFound`` with the nearest names."""
    return app.store.session(ref)


async def details(app: App, ref: str) -> Json:
    """The session as JSON: its row, and what its agent says of itself where it is alive (``live``, else null)."""
    session = await _refreshed(app, app.store.session(ref))
    client = None if is_elsewhere(app, session) else await reach.live_client(app, session)
    live = None
    if client is not None:
        async with client:
            try:
                live = await client.snapshot(session.id)
            except (errors.SupervisorUnreachable, errors.SessionNotFound):
                live = None
    return {**to_json(session), "live": live}


def update(
    app: App,
    ref: str,
    *,
    name: str | None = None,
    labels: dict[str, str] | None = None,
    unset_labels: Sequence[str] = (),
    title: str | None = None,
) -> Session:
    """Rename, relabel or retitle. Raise ``SessionExists`` for a taken name."""
    session = app.store.session(ref)
    fields: Json = {}
    if name is not None:
        if not ids.is_name(name):
            raise errors.UsageError(f"{name!r} cannot name a session.")
        fields["name"] = name
    if title is not None:
        fields["title"] = title
    if labels or unset_labels:
        kept = {k: v for k, v in session.spec.labels.items() if k not in unset_labels}
        fields["spec"] = replace(session.spec, labels={**kept, **(labels or {})})
    return app.store.update_session(session.id, used_at=time.time(), **fields) if fields else session


async def configure(
    app: App,
    ref: str,
    *,
    mode: str | None = None,
    model: str | None = None,
    thought_level: str | None = None,
    option: tuple[str, Any] | None = None,
    permissions: str | None = None,
    report: Report = silent,
) -> Session:
    """Change settings of the living agent (brought up when it sleeps) and keep them for the next one.

    Raise ``UsageError`` with the nearest names for a value the agent does not know, ``Unsupported``.
    """
    session = app.store.session(ref)
    changes: Json = {"mode": mode, "model": model, "thoughtLevel": thought_level, "permissions": permissions}
    if option is not None:
        changes["option"] = {"id": option[0], "value": option[1]}
    changes = {k: v for k, v in changes.items() if v is not None}
    async with reach.living(app, session, report) as link:
        await link.client.configure(session.id, changes)
    spec = app.store.session(session.id).spec  # as it is now: another command may have changed something else
    kept = replace(
        spec,
        mode=mode or spec.mode,
        model=model or spec.model,
        thought_level=thought_level or spec.thought_level,
        permissions=permissions or spec.permissions,  # type: ignore[arg-type]
        options={**spec.options, **({option[0]: option[1]} if option else {})},
    )
    return app.store.update_session(session.id, spec=kept)


async def call(app: App, ref: str, method: str, params: Json, report: Report = silent) -> Json:
    """One raw ACP request to the session's agent; ``sessionId`` is filled in. Returns the result object."""
    session = app.store.session(ref)
    async with reach.living(app, session, report) as link:
        answer = await link.client.call(session.id, method, params)
    result: Json = answer["result"]
    return result


async def resume(app: App, ref: str, report: Report = silent) -> Session:
    """Bring the session's sandbox and agent up, send nothing: the next message finds them. Secrets that were given with
    this command are kept as the session keeps them. Raise what bringing them up raises."""
    session = app.store.session(ref)
    secrets.give(app, session)
    async with reach.living(app, session, report) as link:
        return app.store.session(link.session.id)
