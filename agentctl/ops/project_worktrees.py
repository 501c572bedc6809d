"""A git worktree for one session, on the branch ``agentctl/<session>``; the user's own checkout is never touched.

The worktree is made in the state directory and known to the user's repository, so that ``git branch`` and ``git
worktree list`` show it. Its files are those of the commit, byte for byte: filters such as Git LFS are not run.

A worktree's ``.git`` is a file that names a directory in the user's repository. In a container that path leads nowhere,
and mounting the repository would let the agent write hooks and configuration that the user's next git runs. So a
container gets a git directory of its own (``sandbox.git``), on the same branch, which borrows the repository's objects
from a read-only mount: log, diff and commit work, and what is written stays in there. No git of this host ever opens
that directory: ``tip`` reads one id from it, and a repository of ours borrows its objects when they are fetched.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agentctl.compute import Mount
from agentctl.errors import AlreadyExists, Unsupported, UsageError
from agentctl.ops.project_git import borrow, git, make_repository, object_id, own_environment, user_environment
from agentctl.ops.project_snapshots import GITLINK
from agentctl.providers.trees import remove_tree

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.project_place import Kept, ProjectPlace
    from agentctl.ops.report import Report

AGENT_USER = 1000
INSIDE = "/opt/agentctl/project"
"""Where a container has what git needs; its agents cannot write next to it."""

_DEPTH = 5
"""Git itself follows borrowed objects no further."""

_ID_BYTES = 100
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


async def make(place: ProjectPlace, session: Session, *, for_container: bool, report: Report) -> None:
    """Raise ``AlreadyExists`` for a branch that is there already, ``UsageError`` where there is no commit yet."""
    project = session.spec.project
    assert project is not None
    top = Path(project["path"])
    start = await _commit_of(top)
    branch = await _free_branch(top, session)
    tree = place.tree(project)
    place.trees.mkdir(mode=0o700)
    repository = Path(await _asked(top, "rev-parse", "--path-format=absolute", "--git-common-dir"))
    kept = place.change(branch=branch, start=start, repository=str(repository))
    report(f"Making a worktree of {top} at {start[:12]}; what is not committed there stays there alone.")
    await git(
        *("worktree", "add", "--quiet", "--no-checkout", "-b", branch, str(tree), start),
        env=user_environment(),
        cwd=top,
    )
    await _make_sandbox_git(place, kept, top)
    await git("read-tree", "--reset", "-u", "HEAD", env=own_environment(place.sandbox_git, tree))
    await refresh_index(place, kept)
    place.change(links=await _links(place))
    if for_container:
        _give_away(tree)
        _give_away(place.sandbox_git)
    else:
        remove_tree(place.sandbox_git)


async def refresh_index(place: ProjectPlace, kept: Kept) -> None:
    """Have the user's repository know the worktree's files as those of its branch."""
    for admin in _admins(place, kept):
        env = {**user_environment(), "GIT_DIR": str(admin), "GIT_WORK_TREE": str(place.trees)}
        await git("read-tree", "HEAD", env=env)


async def _commit_of(top: Path) -> str:
    ran = await git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", env=user_environment(), cwd=top, may_fail=True)
    commit = object_id(ran.out.decode().strip())
    if commit is None:
        why = f" git says: {ran.err}" if ran.err else ""
        raise UsageError(
            f"{top} has no commit that a worktree could begin with.{why}",
            hint="Commit something first, or use --project-mode copy.",
        )
    return commit


async def _free_branch(top: Path, session: Session) -> str:
    branch = f"agentctl/{session.name}"
    env = user_environment()
    if (await git("check-ref-format", "--branch", branch, env=env, cwd=top, may_fail=True)).code != 0:
        branch = f"agentctl/{session.id}"  # a session's name may be one that git does not take
    if (
        await git("show-ref", "--verify", "--quiet", f"refs/heads/{branch}", env=env, cwd=top, may_fail=True)
    ).code == 0:
        raise AlreadyExists(
            f"There is a branch {branch} in {top} already.",
            hint=f"Name the session otherwise, or delete the branch: git branch -D {branch}",
        )
    return branch


async def _asked(top: Path, *words: str) -> str:
    return os.fsdecode((await git(*words, env=user_environment(), cwd=top)).out).rstrip("\n")


async def _make_sandbox_git(place: ProjectPlace, kept: Kept, top: Path) -> None:
    """The git directory for a container: on this host it borrows from the user's repository where that lies here."""
    assert kept.repository is not None
    assert kept.branch is not None
    assert kept.start is not None
    own, objects = place.sandbox_git, borrowed(Path(kept.repository) / "objects")
    make_repository(own, objects[:1])
    env = own_environment(own)
    _copy_if_there(Path(kept.repository, "shallow"), own / "shallow")
    await git("config", "core.bare", "false", env=env)
    for name in ("user.name", "user.email"):
        ran = await git("config", "--get", name, env=user_environment(), cwd=top, may_fail=True)
        if ran.code == 0:
            await git("config", name, os.fsdecode(ran.out).rstrip("\n"), env=env)
    await git("update-ref", f"refs/heads/{kept.branch}", kept.start, env=env)
    await git("symbolic-ref", "HEAD", f"refs/heads/{kept.branch}", env=env)
    place.sandbox_gitfile.write_text(f"gitdir: {INSIDE}/git\n")
    place.sandbox_alternates.write_text("".join(f"{INSIDE}/objects-{n}\n" for n, _ in enumerate(objects)))
    for path in (place.sandbox_gitfile, place.sandbox_alternates):
        path.chmod(0o644)


def _copy_if_there(source: Path, target: Path) -> None:
    if source.exists():
        target.write_bytes(source.read_bytes())


def borrowed(objects: Path) -> list[Path]:
    """A directory of objects of the user's, and those that it borrows from."""
    found = [objects]
    for _ in range(_DEPTH):
        for place in list(found):
            try:
                lines = os.fsdecode((place / "info/alternates").read_bytes()).splitlines()
            except OSError:
                continue
            found += [path for line in lines if line and (path := place / line) not in found and path.is_dir()]
    return found


async def _links(place: ProjectPlace) -> dict[str, str]:
    """The submodules of the commit; a worktree has none of their files."""
    ran = await git("ls-tree", "-r", "-z", "HEAD", env=own_environment(place.sandbox_git))
    entries = (entry.split(b"\t", 1) for entry in ran.out.split(b"\0") if entry)
    return {
        os.fsdecode(path): about.split()[2].decode() for about, path in entries if about.startswith(GITLINK.encode())
    }


def check_user() -> None:
    """Raise ``Unsupported`` where the agent's user in a container could not write to a worktree of ours, or would leave
    files there that we cannot delete. Engines in a virtual machine translate users."""
    if sys.platform == "linux" and os.getuid() not in (0, AGENT_USER):
        raise Unsupported(
            f"In a container the agent is user {AGENT_USER}, who could not write to a worktree of user {os.getuid()}.",
            hint="Use --project-mode copy: files are brought in and out as the user that they need.",
        )


def _give_away(tree: Path) -> None:
    """Let the agent's user in a container write there."""
    if os.getuid() != 0:
        return
    for root, directories, files in os.walk(tree):
        for path in (root, *(os.path.join(root, name) for name in (*directories, *files))):
            os.chown(path, AGENT_USER, AGENT_USER, follow_symlinks=False)


def git_mounts(place: ProjectPlace, target: str) -> list[Mount]:
    """What a container needs beside the worktree itself, for git to work in it. The agent cannot take the places of the
    two files, nor write to the objects of the user's repository."""
    kept = place.read()
    assert kept.repository is not None
    objects = borrowed(Path(kept.repository) / "objects")
    return [
        Mount(source=str(place.sandbox_gitfile), target=f"{target}/.git"),
        Mount(source=str(place.sandbox_git), target=f"{INSIDE}/git", writable=True),
        Mount(source=str(place.sandbox_alternates), target=f"{INSIDE}/git/objects/info/alternates"),
        *(Mount(source=str(path), target=f"{INSIDE}/objects-{n}") for n, path in enumerate(objects)),
    ]


async def tip(place: ProjectPlace) -> str | None:
    """The last commit of the session's branch: in the container's git directory, where there is one, else in the
    user's repository. None when it cannot be told."""
    kept = place.read()
    if kept.branch is None or kept.repository is None:
        return None
    if not place.sandbox_git.is_dir():
        return await branch_commit(kept)
    text = _read_in(place.sandbox_git, f"refs/heads/{kept.branch}")
    if text is None:
        packed = _read_in(place.sandbox_git, "packed-refs", 1024 * 1024) or ""
        lines = (line.split(" ") for line in packed.splitlines())
        text = next((words[0] for words in lines if words[1:] == [f"refs/heads/{kept.branch}"]), "")
    return object_id(text.strip())


def _read_in(top: Path, path: str, size: int = _ID_BYTES) -> str | None:
    """The beginning of a file that may be anything. No link below ``top`` is followed."""
    from agentctl.supervisor.files.space import open_below

    *parents, name = path.split("/")
    try:
        directory = open_below(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW), parents)
        try:
            fd = os.open(name, _READ, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError:
        return None
    with open(fd, "rb") as file:
        return file.read(size).decode("ascii", "replace") if stat.S_ISREG(os.fstat(fd).st_mode) else None


async def branch_commit(kept: Kept) -> str | None:
    """Where the branch is in the user's repository; None where it is gone."""
    repository = Path(kept.repository or "/nonexistent")
    if kept.branch is None:
        return None
    ran = await git(  # which fails where the repository is gone
        *("rev-parse", "--verify", "--quiet", f"refs/heads/{kept.branch}^{{commit}}"),
        env={**user_environment(), "GIT_DIR": str(repository)},
        may_fail=True,
    )
    return object_id(ran.out.decode().strip())


def lend(repository: Path, base: Path, place: ProjectPlace) -> None:
    """Let a repository of ours see what the session committed, the user's repository, and our base."""
    kept = place.read()
    sandbox = [objects] if _is_as_made(objects := place.sandbox_git / "objects", kept) else []
    borrow(repository, [base / "objects", *sandbox, *borrowed(Path(kept.repository or "/") / "objects")[:1]])


def _is_as_made(objects: Path, kept: Kept) -> bool:
    """Whether the directory that a sandbox writes its objects to is still itself, and leads where we let it lead."""
    try:
        lent = os.fsdecode((objects / "info/alternates").read_bytes())
        return not objects.is_symlink() and lent == f"{kept.repository}/objects\n"
    except OSError:
        return False


async def remove(place: ProjectPlace, *, discard: bool) -> None:
    """Remove the worktree from the user's repository, where that is still there, and its branch; without ``discard``
    one that has commits which no other branch has stays. ``place`` itself is the caller's."""
    kept = place.read()
    admins = _admins(place, kept)
    remove_tree(place.trees)
    for admin in admins:
        remove_tree(admin)
    commit = await branch_commit(kept)
    if commit is None or not (discard or await _is_elsewhere(kept, commit)):
        return
    env = {**user_environment(), "GIT_DIR": str(kept.repository)}
    await git("update-ref", "-d", f"refs/heads/{kept.branch}", commit, env=env, may_fail=True)


def _admins(place: ProjectPlace, kept: Kept) -> list[Path]:
    """What the user's repository keeps of the worktree: one directory, if it is there."""
    found = []
    for admin in Path(kept.repository or "/nonexistent", "worktrees").glob("*"):
        try:
            tree = os.fsdecode((admin / "gitdir").read_bytes()).rstrip("\n")
        except OSError:
            continue
        if Path(tree).is_relative_to(place.trees):
            found.append(admin)
    return found


async def _is_elsewhere(kept: Kept, commit: str) -> bool:
    """Whether nothing is lost with the branch."""
    if commit == kept.start:
        return True
    ran = await git(
        *("for-each-ref", "--contains", commit, "--format=%(refname)", "refs/heads", "refs/remotes", "refs/tags"),
        env={**user_environment(), "GIT_DIR": str(kept.repository)},
        may_fail=True,
    )
    return any(ref != f"refs/heads/{kept.branch}" for ref in ran.out.decode(errors="replace").split())
