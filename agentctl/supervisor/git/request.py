"""What ``POST /v1/git/clone`` asks for, read strictly (``wire.py``)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from agentctl.errors import PermissionDenied, UsageError
from agentctl.supervisor.git.url import check_url, is_http, repository_name

Json = dict[str, Any]
TIMEOUT_S = 600.0
MAX_AT_ONCE = 32
_KEYS = {"url", "path", "cwd", "branch", "depth", "submodules", "token", "ifMissing", "timeoutS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """One repository to be cloned to ``target``, an absolute path. With ``if_missing`` what is there already is left
    as it is."""

    url: str
    target: str
    branch: str | None = None
    depth: int | None = None
    submodules: bool = False
    if_missing: bool = False
    timeout_s: float = TIMEOUT_S
    token: str | None = field(default=None, repr=False)


def clones_of(body: Json, home: str, root: str | None) -> list[Clone]:
    """Of ``{"url", …}`` or ``{"clones": [{"url", …}]}``. Raise ``UsageError``, or ``PermissionDenied`` for a path
    outside of ``root``."""
    given = body.get("clones", [body])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise UsageError('clones must be a list of {"url": …}.')
    if not 1 <= len(given) <= MAX_AT_ONCE:
        raise UsageError(f"Between 1 and {MAX_AT_ONCE} repositories can be cloned at once.")
    clones = [_clone(one, home, root) for one in given]
    targets = [clone.target for clone in clones]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"Two repositories would go to {target}.", hint="Give each its own path.")
    return clones


def _clone(body: Json, home: str, root: str | None) -> Clone:
    if unknown := set(body) - _KEYS:
        raise UsageError(f"A clone has no {sorted(unknown)[0]!r}.")
    url = check_url(body.get("url"))
    token = _text(body, "token")
    if token is not None and not is_http(url):
        raise UsageError("A token can only be used with an address that begins with https:// (or http://).")
    if token is not None and ("\n" in token or "\r" in token or "\0" in token):
        raise UsageError("The token has a line break or a NUL in it.")
    depth, timeout_s = body.get("depth"), body.get("timeoutS") or TIMEOUT_S
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 1):
        raise UsageError("depth must be a whole number above 0.")
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool) or timeout_s <= 0:
        raise UsageError("timeoutS must be a number of seconds above 0.")
    branch = _text(body, "branch")
    if branch is not None and (branch.startswith("-") or any(ord(char) < 33 for char in branch)):
        raise UsageError(f"{branch!r} cannot name a branch.")
    return Clone(
        url=url,
        target=_target(body, url, home, root),
        branch=branch,
        depth=depth,
        submodules=_flag(body, "submodules"),
        if_missing=_flag(body, "ifMissing"),
        timeout_s=float(timeout_s),
        token=token,
    )


def _target(body: Json, url: str, home: str, root: str | None) -> str:
    path = _text(body, "path") or repository_name(url)
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    cwd = _text(body, "cwd") or home
    target = os.path.normpath(os.path.join(home, cwd, path))
    if root is not None:
        top = os.path.realpath(root)
        real = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
        if os.path.commonpath([top, real]) != top:
            raise PermissionDenied(
                f"{path} lies outside of {root}.", hint="Choose a path inside of the session's root."
            )
    return target


def _text(body: Json, key: str) -> str | None:
    value = body.get(key)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise UsageError(f"{key} must be a text.")
    return value or None


def _flag(body: Json, key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{key} must be true or false.")
    return value
