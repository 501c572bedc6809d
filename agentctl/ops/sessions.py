"""Sessions: made, found, changed, put to sleep, deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors, ids
from agentctl.model import Session, SessionSpec, Volume
from agentctl.ops import images, launch, mirror, provision, reach, secrets, user_agents, volume_needed
from agentctl.ops.elsewhere import is_elsewhere, require_here
from agentctl.ops.report import Report, silent

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
LEAVE_TIMEOUT_S = 15.0
GONE_POLL_S = 0.01
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
        await delete(app, session_id, without_trace=True)
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
    spec = placed(app, user_agents.expanded(app, spec), sure=sure, report=report)
    if not spec.copies:
        return spec
    from agentctl.ops import project_copies

    return replace(spec, copies=project_copies.checked(app, spec, report))


def placed(app: App, spec: SessionSpec, *, sure: bool = False, report: Report = silent) -> SessionSpec:
    """The spec with its directories and origin. Raise ``UsageError`` for a directory that is not there, and as
    ``projects.placed`` and ``mounts.check``."""
    provider = app.provider(spec.provider)
    if spec.project is not None:
        from agentctl.ops import projects

        spec = projects.placed(app, spec)
    ids.require_name(spec.volume, "a volume")
    if spec.workspace is not None:
        ids.require_name(spec.workspace, "a workspace")
    cwd = spec.cwd or provider.capabilities.default_cwd or str(Path.cwd())
    sees_host = provider.capabilities.layout is None
    if sees_host:
        path = Path(cwd).expanduser().absolute()
        if not path.is_dir():
            raise errors.UsageError(f"--cwd {cwd} is not a directory.")
        cwd = str(path)
    root = _completed_root(spec.root, cwd, local=sees_host)
    _check_compute(spec)
    if spec.sandbox is None and (spec.compute.mounts or spec.project):
        from agentctl.ops import mounts

        mounts.check(app, spec, sure=sure, report=report)
    image = _image(app, spec, provider.capabilities.images)
    return replace(spec, cwd=cwd, root=root, image=image, origin=spec.origin or app.origin)


def _check_compute(spec: SessionSpec) -> None:
    """Raise ``Unsupported`` for what the provider has no answer to."""
    from agentctl.providers.lookup import COMPUTE

    for name in spec.compute.asked():
        if name not in COMPUTE.get(spec.provider, ()):
            able = sorted(provider for provider, has in COMPUTE.items() if name in has)
            option = "--" + name.removesuffix("_bytes").removesuffix("s" if name != "cpus" else "").replace("_", "-")
            raise errors.Unsupported(
                f"The provider {spec.provider} has no {option}.", hint=f"These have it: {', '.join(able)}."
            )


def _image(app: App, spec: SessionSpec, has_images: bool) -> str | None:
    """The image for a provider that makes containers. Raise ``UsageError`` or ``Unsupported``."""
    if not has_images:
        if spec.image is not None:
            raise errors.Unsupported(
                f"The provider {spec.provider} makes no containers, so --image says nothing to it.",
                hint="Add --provider docker, or leave --image out.",
            )
        return None
    if spec.sandbox is not None:  # it has what it was made from
        return spec.image
    if spec.image is not None and spec.compute.dockerfile is not None:
        raise errors.UsageError("--image and --dockerfile cannot go together.", hint="Leave one of them out.")
    image = None if spec.compute.dockerfile else spec.image or app.config.image
    if app.provider(spec.provider).capabilities.machines:
        return image
    if image is None and spec.compute.dockerfile is None:
        raise errors.UsageError(
            f"The provider {spec.provider} needs to know which image to make a container from.",
            hint="Name one that has Python 3.11 or newer: --image python:3.12, or `image` in the configuration.",
        )
    return image


def _completed_root(root: str | None, cwd: str, *, local: bool) -> str | None:
    """The directory that files are confined to, as an absolute path. Raise ``UsageError``."""
    if root is None:
        return None
    path = Path(cwd, Path(root).expanduser() if local else root)
    if local and not path.is_dir():
        raise errors.UsageError(f"--root {root} is not a directory.")
    return str(path)


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
    sessions = app.store.sessions(limit=None if statuses else limit, labels=labels)
    sessions = [await _refreshed(app, s) if s.sandbox_id else s for s in sessions]
    return [s for s in sessions if not statuses or s.status in statuses][:limit]


async def _refreshed(app: App, session: Session) -> Session:
    """The stored status may be older than the sandbox: a turn went on without us, or the sandbox is gone."""
    if session.sandbox_id is None or session.status in reach.WITHOUT_AGENT or is_elsewhere(app, session):
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


def to_json(session: Session) -> Json:
    """The session as ``--json`` shows it: the values of ``--env`` are the user's own and stay unsaid."""
    spec = session.spec
    return {
        "id": session.id,
        "name": session.name,
        "title": session.title,
        "agent": spec.agent,
        "agent_command": list(spec.agent_command) if spec.agent_command else None,
        "provider": spec.provider,
        "status": session.status,
        "model": spec.model,
        "mode": spec.mode,
        "thought_level": spec.thought_level,
        "options": spec.options,
        "permissions": spec.permissions,
        "cwd": spec.cwd,
        "root": spec.root,
        "sandbox": spec.sandbox,
        "volume": spec.volume,
        "workspace": spec.workspace,
        "env": sorted(spec.env),
        "secrets": [{"name": secret["name"], "from": secret["from"]} for secret in spec.secrets],
        "mcp_servers": [server["name"] for server in spec.mcp_servers],
        "skills": [skill["source"] for skill in spec.skills],
        "files": [file["target"] for file in spec.files],
        "pre_start": list(spec.pre_start),
        "user_agent": spec.user_agent,
        "clones": list(spec.clones),
        "copies": list(spec.copies),
        "project": spec.project,
        "labels": spec.labels,
        "origin": spec.origin,
        "native_session_id": session.native_session_id,
        "sandbox_id": session.sandbox_id,
        "place": session.place or None,
        "last_sequence": session.last_sequence,
        "last_turn_id": session.last_turn_id,
        "last_outcome": session.last_outcome,
        "usage": session.usage,
        "cost": session.cost,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }


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


async def release(app: App, ref: str) -> Session:
    """Put the session to sleep: end its sandbox, keep its volume and log. Releasing a sleeping one succeeds."""
    async with asleep(app, ref) as session:
        return session


@asynccontextmanager
async def asleep(app: App, ref: str) -> AsyncIterator[Session]:
    """The session with its sandbox ended and its log mirrored; while the block lasts nobody brings it up."""
    session = app.store.session(ref)
    async with _without_sandbox(app, session):
        session = await mirror.from_volume(app, app.store.session(session.id))
        if session.status not in ("new", "hibernated") or session.sandbox_id is not None:
            session = app.store.update_session(session.id, status="hibernated", sandbox_id=None)
        yield session


async def delete(
    app: App,
    ref: str,
    *,
    at_once: bool = False,
    without_trace: bool = False,
    discard: bool = False,
    only_pulled: bool = False,
) -> None:
    """End the session's sandbox, delete its home and log from the volume, then the session. A workspace stays.

    ``at_once`` does not wait for the supervisor to write what is deleted anyway: for a throw-away session whose turn
    is over. ``without_trace``, as for any throw-away session: a volume that nobody asked for and that is empty goes
    with it. A worktree of its project goes, too, and its branch unless that has commits that would be lost; with
    ``discard`` in any case. With ``only_pulled`` raise ``Conflict``, before anything is done, for changes in a worktree
    that nobody has brought back.
    """
    session = app.store.session(ref)
    if only_pulled and session.spec.project is not None:
        from agentctl.ops import project_changes

        await project_changes.require_pulled(app, session)
    async with _without_sandbox(app, session, at_once=at_once):
        volume = app.store.volume(session.spec.provider, session.spec.volume)
        if volume is not None:
            empty = await app.provider(session.spec.provider).session_remove(volume, session.id)
            if session.spec.sandbox is not None:
                _remove_shared_log(app, session, volume)
        if session.spec.secrets:
            secrets.forget(app, session.id)
        if session.spec.project or session.spec.copies:
            from agentctl.ops import projects

            await projects.forget(app, session, discard=discard or without_trace)
        app.store.delete_session(session.id)
        if (session.ephemeral or without_trace) and volume is not None and empty is not None:
            await volume_needed.remove_empty(app, volume, session.id, is_empty=empty)


def _remove_shared_log(app: App, session: Session, volume: Volume) -> None:
    """Where this host reaches it; else it goes with its sandbox."""
    directory = app.provider(volume.provider).volume_path(volume, mirror.log_of(session))
    if directory is not None:
        from agentctl.providers.trees import remove_tree

        remove_tree(directory)


@asynccontextmanager
async def _without_sandbox(app: App, session: Session, *, at_once: bool = False) -> AsyncIterator[None]:
    """The session's lease, with nothing left of its sandbox.

    It is told to leave before the lease is waited for: a bring-up that hangs holds the lease, and fails by that.
    """
    require_here(app, session)
    if not at_once or session.spec.sandbox is not None:  # nobody else ends an agent in a sandbox that lives on
        await _ask_to_leave(app, session)
    async with reach.lease_of(app, session.id):
        now = app.store.session(session.id)
        if now.sandbox_id != session.sandbox_id:  # it came up while we waited
            await _ask_to_leave(app, now)
        await provision.clear_away(app, now, at_once=at_once)
        yield


async def _ask_to_leave(app: App, session: Session) -> None:
    """Have the supervisor leave in good order, where there is one; of a sandbox that others use too, only the agent."""
    client = await reach.supervisor_client(app, session)
    if client is not None:
        async with client:
            try:
                if session.spec.sandbox is not None:
                    await client.release(session.id)
                    return
                await client.shutdown()
                await _gone(app, session)
            except errors.SupervisorUnreachable:
                pass  # it left while we were asking


async def _gone(app: App, session: Session) -> None:
    """Wait until the supervisor has left, at most ``LEAVE_TIMEOUT_S``: then it is removed the hard way."""
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    if sandbox is None:
        return
    provider = app.provider(sandbox.provider)
    for _ in range(int(LEAVE_TIMEOUT_S / GONE_POLL_S)):
        if (await provider.inspect(sandbox.handle)).status != "running":
            return
        await asyncio.sleep(GONE_POLL_S)
