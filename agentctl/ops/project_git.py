"""Git on this host, on repositories that may be hostile: nothing that a repository says is ever run.

A repository can name programs in its configuration (hooks, filters, a file system monitor, external diffs, transports)
and choose among those of the user by its ``.gitattributes``. So

* a repository that a sandbox could write to is never opened by a git of this host: what came out of a sandbox is read
  as files, and as objects that a repository of our own borrows (``objects/info/alternates``);
* repositories of our own (``own_environment``) see no configuration but their own, which we wrote, and take files byte
  for byte: neither filters nor line ends nor ``$Id$``;
* the user's repository (``user_environment``) is used with the user's own configuration, for a name and an email, but
  what its own ``.git/config`` would have run is switched off (``switched_off``), with hooks and all transports.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from agentctl.errors import DeadlineExceeded, GitFailed

TIMEOUT_S = 600.0
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=true",
    "core.pager=cat",
    "core.editor=true",
    "core.quotePath=true",
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "commit.gpgSign=false",
    "merge.verifySignatures=false",
    "credential.helper=",
)
_KEPT = ("PATH", "HOME", "TMPDIR", "TZ", "USER", "LOGNAME", "XDG_CONFIG_HOME")
_BASE = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_LITERAL_PATHSPECS": "1",
}
_NAME = "agentctl"
_RAN_BY_CONFIG = "|".join(
    (
        r"^filter\..*\.(clean|smudge|process|required)$",
        r"^merge\..*\.driver$",
        r"^diff\..*\.(command|textconv)$",
        r"^diff\.external$",
        r"^core\.(sshcommand|askpass|gitproxy)$",
    )
)
_RAW = "* -text -eol -ident -filter -working-tree-encoding !diff !merge\n"
_CONFIG = """\
[core]
	repositoryformatversion = 0
	bare = true
	logAllRefUpdates = false
	compression = 1
	protectNTFS = false
	protectHFS = false
[fastimport]
	unpackLimit = 1
"""
"""A name that only other systems mind must not stop a snapshot; packs are what later snapshots find again."""

_WORDS = 1000
_OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Ran(NamedTuple):
    code: int
    out: bytes
    err: str


def own_environment(git_dir: Path, work_tree: Path | None = None) -> dict[str, str]:
    """For a repository that we made, and no configuration but its own."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    who = {f"GIT_{role}_{what}": _NAME for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    none = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1", "HOME": "/dev/null"}
    tree = {} if work_tree is None else {"GIT_WORK_TREE": str(work_tree)}
    return {**kept, **_BASE, **none, **who, "GIT_DIR": str(git_dir), **tree}


def user_environment() -> dict[str, str]:
    """For the user's repository: found by the directory that git runs in."""
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_BASE}


async def git(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    settings: Sequence[str] = (),
    stdin: bytes = b"",
    to: IO[bytes] | None = None,
    may_fail: bool = False,
) -> Ran:
    """Run git to its end; ``to`` takes what it prints instead of the answer. Raise ``GitFailed`` unless ``may_fail``,
    and where there is no git; ``DeadlineExceeded``. Nothing of it runs on afterwards."""
    with tempfile.TemporaryFile() as said:
        process = await spawned(*arguments, env=env, cwd=cwd, settings=settings, said=said, to=to)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                out, _ = await process.communicate(stdin)
        except TimeoutError as e:
            raise DeadlineExceeded(f"git {arguments[0]} did not finish within {TIMEOUT_S:g} s.") from e
        finally:
            await ended(process)
        ran = Ran(process.returncode or 0, out or b"", last_words(said))
    if ran.code != 0 and not may_fail:
        raise failed(arguments[0], ran.err)
    return ran


async def spawned(
    *arguments: str,
    env: Mapping[str, str],
    said: IO[bytes],
    cwd: Path | None = None,
    settings: Sequence[str] = (),
    to: IO[bytes] | None = None,
) -> asyncio.subprocess.Process:
    """A git that is fed and ended by the caller; ``said`` takes its stderr. Raise ``GitFailed`` where there is none."""
    given = [word for setting in (*_SETTINGS, *settings) for word in ("-c", setting)]
    try:
        return await asyncio.create_subprocess_exec(
            "git",
            *given,
            *arguments,
            env=dict(env),
            cwd=cwd or "/",
            stdin=asyncio.subprocess.PIPE,
            stdout=to or asyncio.subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
    except FileNotFoundError as e:
        raise _cannot_start(cwd) from e


def _cannot_start(cwd: Path | None) -> GitFailed:
    if cwd is not None and not cwd.is_dir():
        return GitFailed(f"The directory {cwd} is gone.")
    return GitFailed(
        "There is no git on this machine, and project directories need it.",
        hint="Install git, or use --copy and --mount instead of --project.",
    )


async def ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def failed(what: str, words: str) -> GitFailed:
    return GitFailed(f"git {what} failed: {words or 'it gave no reason.'}")


def last_words(said: IO[bytes]) -> str:
    """The end of what git said, as one short text."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - 8192))
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-6:])[-_WORDS:]


def make_repository(git_dir: Path, alternates: Sequence[Path] = ()) -> None:
    """An empty bare repository of ours that takes files byte for byte; it borrows the objects of ``alternates``."""
    for name in ("objects/info", "refs/heads", "info"):
        (git_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    (git_dir / "config").write_text(_CONFIG)
    (git_dir / "info/attributes").write_text(_RAW)
    borrow(git_dir, alternates)


def borrow(git_dir: Path, objects: Sequence[Path]) -> None:
    """Let a repository of ours see these directories of objects, too."""
    if objects:
        text = "".join(f"{place}\n" for place in objects)
        (git_dir / "objects/info/alternates").write_bytes(os.fsencode(text))


async def switched_off(top: Path) -> list[str]:
    """Settings that take from the user's repository what its own ``.git/config`` would have run; a program that the
    user's own configuration names for the same thing stays."""
    asked = ("config", "--show-scope", "-z", "--get-regexp", _RAN_BY_CONFIG)
    ran = await git(*asked, env=user_environment(), cwd=top, may_fail=True)
    words = ran.out.decode("utf-8", "surrogateescape").split("\0")
    found = [(scope, *entry.partition("\n")[::2]) for scope, entry in zip(words[::2], words[1::2], strict=False)]
    trusted = {key: value for scope, key, value in found if scope in ("system", "global")}
    return [f"{key}={trusted.get(key, _off(key))}" for scope, key, _ in found if scope in ("local", "worktree")]


def _off(key: str) -> str:
    """An empty filter is none; a merge driver that fails is a conflict."""
    return "false" if key.endswith((".required", ".driver")) else ""


def object_id(text: str) -> str | None:
    """The text when it is the id of an object."""
    return text if _OBJECT.fullmatch(text) else None
