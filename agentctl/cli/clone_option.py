"""``--clone URL[#BRANCH][=PATH]``: from what was typed to what a session is to clone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from agentctl.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def clones(given: Iterable[str], token_env: str | None) -> tuple[dict[str, Any], ...]:
    """The clones of a session. Raise ``UsageError`` for an address that is not taken."""
    found = tuple(_clone(text, token_env) for text in given)
    if token_env is not None:
        variable(token_env, "--clone-token-env")
        if not found:
            raise UsageError("--clone-token-env is for --clone.", hint="Add --clone URL, or leave it out.")
    return found


def _clone(text: str, token_env: str | None) -> dict[str, Any]:
    from agentctl.ops.clone import clone_of
    from agentctl.supervisor.git.url import is_http

    address, hash_sign, rest = text.partition("#")
    if hash_sign:
        branch, _, path = rest.partition("=")
    else:
        branch = ""
        address, _, path = text.partition("=")
    # A token is for those that can take one: a session may have both kinds.
    return clone_of(
        address, path=path or None, branch=branch or None, token_env=token_env if is_http(address) else None
    )


def variable(name: str, option: str) -> str:
    """The name of a variable; a token that was given in its place is not repeated."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{option} takes the name of a variable, not its value.", hint=f"Write {option} GITHUB_TOKEN, for example."
        )
    return name
