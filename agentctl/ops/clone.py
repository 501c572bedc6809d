"""Repositories cloned into a session's sandbox: asked for by themselves, or with the session.

The clones of a session are made once, before its agent starts for the first time. A token travels to the supervisor
over its authenticated door and is kept nowhere; the session knows only the name of the variable that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops import launch, reach
from agentctl.ops.report import Report, silent
from agentctl.supervisor.git.url import check_url, is_private, without_password

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App

Json = dict[str, Any]
TIMEOUT_S = 600.0


def clone_of(
    url: str,
    *,
    path: str | None = None,
    branch: str | None = None,
    depth: int | None = None,
    submodules: bool = False,
    token_env: str | None = None,
) -> Json:
    """One of ``SessionSpec.clones``. Raise ``UsageError`` for an address that is not taken."""
    return {
        "url": check_url(url),
        "path": path,
        "branch": branch,
        "depth": depth,
        "submodules": submodules,
        "token_env": token_env,
    }


async def clone_repo(app: App, ref: str, clone: Json, *, timeout_s: float = TIMEOUT_S, report: Report = silent) -> Json:
    """Clone one repository into the session's sandbox, which is brought up without its agent when it sleeps.

    ``{"path", "url", "branch", "commit", "cloned"}``. Raise as ``Repositories.clone`` of the supervisor says; nothing
    of the repository is left then.
    """
    session = app.store.session(ref)
    wanted = _wanted(app, session, [clone], if_missing=False)
    [made] = await _clone(app, session, wanted, [clone], timeout_s, report)
    return made


async def clone_new(app: App, session: Session, report: Report) -> list[str]:
    """Clone all that a session which is being created asks for, or nothing. Returns the paths, for ``take_back``.

    Raise ``AlreadyExists`` where something is in the way, and as ``clone_repo``.
    """
    clones = session.spec.clones
    if not clones:
        return []
    wanted = _wanted(app, session, clones, if_missing=False)
    return [made["path"] for made in await _clone(app, session, wanted, clones, TIMEOUT_S, report)]


async def clone_missing(app: App, session: Session, report: Report) -> None:
    """For a session whose agent was never started: clone what is not there yet, and leave alone what is."""
    clones = session.spec.clones
    wanted = _wanted(app, session, clones, if_missing=True)
    await _clone(app, session, wanted, clones, TIMEOUT_S, report)


async def take_back(app: App, session: Session, paths: Sequence[str]) -> None:
    """Remove what ``clone_new`` made, as far as that sandbox is still there."""
    from agentctl.supervisor_client import git

    client = await reach.supervisor_client(app, app.store.session(session.id)) if paths else None
    if client is not None:
        async with client:
            try:
                await git.take_back(client, list(paths))
            except errors.SupervisorUnreachable:
                return


async def _clone(
    app: App, session: Session, wanted: list[Json], clones: Sequence[Json], timeout_s: float, report: Report
) -> list[Json]:
    from agentctl.supervisor_client import git

    async with reach.sandbox_of(app, session, report) as client:
        for one in clones:
            report(f"Cloning {without_password(one['url'])} …")
            if one.get("token_env") and not is_private(one["url"]):
                report("The token goes over the network unencrypted, since the address begins with http://.")
        try:
            return await git.clone(client, wanted, timeout_s=timeout_s)
        except errors.CredentialsRejected as e:
            names = sorted({one["token_env"] for one in clones if one.get("token_env")})
            if names:
                e.hint = f"Check that {' and '.join(names)} holds a token that may read this repository."
            raise


def _wanted(app: App, session: Session, clones: Sequence[Json], *, if_missing: bool) -> list[Json]:
    """What the supervisor is asked, token and all. Raise ``CredentialsMissing`` for a variable that is not set."""
    needs_token = any(one.get("token_env") for one in clones)
    environ = {**app.environ, **launch.given_environment(app, session.spec, session)} if needs_token else {}
    wanted = []
    for one in clones:
        asked = {key: value for key, value in one.items() if key != "token_env" and value}
        if name := one.get("token_env"):
            asked["token"] = _token(name, environ)
        wanted.append({**asked, "cwd": session.spec.cwd, "ifMissing": if_missing})
    return wanted


def _token(name: str, environ: dict[str, str]) -> str:
    token = environ.get(name, "").strip()
    if not token:
        raise errors.CredentialsMissing(
            f"The variable {name}, which should hold the token for the repository, is not set.",
            hint=f"Set {name}, or leave --token-env out for a public repository.",
            details={"class": "auth", "variables": [name]},
        )
    return token
