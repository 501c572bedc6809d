"""The branch of a session's worktree: what it did is committed there, and merged into the user's checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops import project_worktrees
from agentctl.ops.project_changes import compared, listed
from agentctl.ops.project_git import git, own_environment, switched_off, user_environment
from agentctl.ops.project_place import Kept, ProjectPlace, project_of

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App
    from agentctl.ops.project_snapshots import Comparison

Json = dict[str, Any]
_RESULT = "refs/heads/result"


async def merge(app: App, ref: str) -> Json:
    """Commit what the session did to its branch, and merge that into the checkout of the project: ``{"session",
    "branch", "commit", "merged": whether there was anything to merge, "head"}``.

    Raise ``UsageError`` for a project that is no worktree, and ``Conflict``, with the checkout as it was, when git
    cannot merge.
    """
    session = app.store.session(ref)
    project = project_of(session)
    if project["mode"] != "worktree":
        raise errors.UsageError(
            f"The project of session {session.name} is no worktree ({project['mode']}): there is no branch to merge.",
            hint=f"Bring the files back with: agentctl sessions pull {session.name}",
        )
    place = ProjectPlace(app, session.id)
    top = Path(project["path"])
    async with compared(app, session) as comparison:
        commit = await _committed(place, session, comparison)
        before = await _head(top)
        await _merge(top, place.read(), session)
        place.change(pulled=comparison.new)
    head = await _head(top)
    branch = place.read().branch
    return {"session": session.name, "branch": branch, "commit": commit, "merged": head != before, "head": head}


async def _committed(place: ProjectPlace, session: Session, comparison: Comparison) -> str:
    """The commit on the session's branch that has all that the session did; made where it is missing."""
    kept, now = place.read(), comparison.repository
    branch, tip = await project_worktrees.branch_commit(kept), await project_worktrees.tip(place)
    if kept.repository is None or branch is None:
        raise errors.NotFound(f"The branch {kept.branch} of session {session.name} is gone from its repository.")
    env = own_environment(now)
    if tip is None or (await git("cat-file", "-e", f"{tip}^{{commit}}", env=env, may_fail=True)).code != 0:
        tip = branch
    parents = await _parents(env, branch, tip)
    tree = (await git("rev-parse", f"{parents[0]}^{{tree}}", env=env)).out.decode().strip()
    commit = parents[0]
    if tree != comparison.new or len(parents) > 1:
        message = f"Changes of the agentctl session {session.name}\n".encode()
        words = [word for parent in parents for word in ("-p", parent)]
        who = await _identity(kept)
        commit = (
            (await git("commit-tree", comparison.new, *words, env={**env, **who}, stdin=message)).out.decode().strip()
        )
    if commit != branch:
        await _fetched(kept, session, now, commit, branch)
        await project_worktrees.refresh_index(place, kept)
    return commit


async def _parents(env: dict[str, str], branch: str, tip: str) -> list[str]:
    """The later one of the branch and of what the agent committed last; both where neither follows the other."""
    if await _follows(env, branch, tip):
        return [branch]
    return [tip] if await _follows(env, tip, branch) else [branch, tip]


async def _follows(env: dict[str, str], later: str, earlier: str) -> bool:
    return (await git("merge-base", "--is-ancestor", earlier, later, env=env, may_fail=True)).code == 0


async def _identity(kept: Kept) -> dict[str, str]:
    """The user's name and email, where git has them."""
    found: dict[str, str] = {}
    for name, variable in (("user.name", "NAME"), ("user.email", "EMAIL")):
        env = {**user_environment(), "GIT_DIR": str(kept.repository)}
        ran = await git("config", "--get", name, env=env, may_fail=True)
        if ran.code == 0:
            value = os.fsdecode(ran.out).rstrip("\n")
            found |= {f"GIT_{role}_{variable}": value for role in ("AUTHOR", "COMMITTER")}
    return found


async def _fetched(kept: Kept, session: Session, now: Path, commit: str, before: str) -> None:
    """Take the commit, with all that it needs, into the user's repository, and move the branch there."""
    await git("update-ref", _RESULT, commit, env=own_environment(now))
    env = {**user_environment(), "GIT_DIR": str(kept.repository)}
    arrived = f"refs/agentctl/{session.id}"
    safe = ("fetch.fsckObjects=true", "fetch.unpackLimit=100")
    quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    await git("fetch", *quiet, str(now), f"+{_RESULT}:{arrived}", env=env, settings=safe)
    try:
        await git("update-ref", f"refs/heads/{kept.branch}", commit, before, env=env)
    finally:
        await git("update-ref", "-d", arrived, env=env, may_fail=True)


async def _head(top: Path) -> str:
    return (await git("rev-parse", "HEAD", env=user_environment(), cwd=top)).out.decode().strip()


async def _merge(top: Path, kept: Kept, session: Session) -> None:
    settings = await switched_off(top)
    env = {**user_environment(), **await _somebody(top)}
    quiet = ("--quiet", "--no-edit", "--no-stat", "--no-verify", "--no-gpg-sign", "--no-autostash")
    ran = await git("merge", *quiet, str(kept.branch), env=env, cwd=top, settings=settings, may_fail=True)
    if ran.code == 0:
        return
    began = await git("rev-parse", "--verify", "--quiet", "MERGE_HEAD", env=env, cwd=top, may_fail=True)
    unmerged: list[str] = []
    if began.code == 0:
        listing = (await git("ls-files", "-u", "-z", env=env, cwd=top)).out.split(b"\0")
        unmerged = sorted({os.fsdecode(entry.split(b"\t", 1)[1]) for entry in listing if entry})
        await git("merge", "--abort", env=env, cwd=top, settings=settings)
    said = (
        f"the same places were changed in {listed(unmerged)}"
        if unmerged
        else ran.err or ran.out.decode(errors="replace")
    )
    raise errors.Conflict(
        f"The branch {kept.branch} of session {session.name} cannot be merged into {top}: {said}.",
        hint=f"The checkout is as it was. Merge by hand with: git merge {kept.branch}",
        details={"branch": kept.branch, "files": unmerged},
    )


async def _somebody(top: Path) -> dict[str, str]:
    """A name for the merge, where the user's git has none."""
    ran = await git("var", "GIT_COMMITTER_IDENT", env=user_environment(), cwd=top, may_fail=True)
    if ran.code == 0:
        return {}
    return {f"GIT_{role}_{what}": "agentctl" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
