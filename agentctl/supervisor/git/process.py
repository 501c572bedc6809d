"""One run of git: what it may see of the environment, its deadline, and its whole end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from agentctl.errors import DeadlineExceeded, GitFailed
from agentctl.supervisor.git.url import is_local
from agentctl.supervisor.processes import ProcessIdentity, descendants, end_all
from agentctl.wire import SANDBOX_ENV

_SEEN = {
    *("HOME", "PATH", "LANG", "TMPDIR", "TZ", "USER", "LOGNAME", "SSH_AUTH_SOCK", SANDBOX_ENV),
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
}
"""The rest of an agent's environment are its credentials, which are no business of git's."""

_SETTINGS = (
    "core.hooksPath=/dev/null",  # a hook of a template would run in every clone
    "advice.detachedHead=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
)
_STDERR_BYTES = 64 * 1024
_GRACE_S = 1.0
_LAST_WORDS_S = 1.0


class Ran(NamedTuple):
    code: int
    stdout: str
    stderr: str


def git_environment(agent_env: Mapping[str, str], url: str) -> dict[str, str]:
    """Nothing asks on a terminal, and no address may name a program: also not that of a submodule."""
    seen = {name: value for name, value in agent_env.items() if name in _SEEN}
    protocols = "https:http:ssh:git"
    return {
        **seen,
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "GIT_ALLOW_PROTOCOL": f"{protocols}:file" if is_local(url) else protocols,
    }


async def run_git(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    timeout_s: float,
    settings: Sequence[str] = (),
    started: Callable[[int], None] | None = None,
) -> Ran:
    """Run git to its end; ``started`` hears its pid. Raise ``DeadlineExceeded``, ``GitFailed`` where there is no git.

    Whatever happens, nothing of it runs on afterwards.
    """
    given = [word for setting in (*_SETTINGS, *settings) for word in ("-c", setting)]
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *given,
            *arguments,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
    except FileNotFoundError as e:
        raise GitFailed(
            "There is no git in the sandbox.",
            hint="Install git there, or use an image that has it.",
            details={"class": "no_git"},
        ) from e
    if started is not None:
        started(process.pid)
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [asyncio.create_task(_bounded(stream)) for stream in (process.stdout, process.stderr)]
    try:
        async with asyncio.timeout(timeout_s):
            code = await process.wait()
        await asyncio.wait(readers, timeout=_LAST_WORDS_S)
        stdout, stderr = (reader.result() if reader.done() else b"" for reader in readers)
    except TimeoutError as e:
        raise DeadlineExceeded(
            f"git did not finish within {timeout_s:g} s.", hint="Give it more time, or clone less of it by --depth 1."
        ) from e
    finally:
        await _end(process)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        process._transport.close()  # type: ignore[attr-defined]  # asyncio keeps pipes open that a grandchild holds
    return Ran(code, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """The end of what it says, all of it read."""
    kept = b""
    while data := await stream.read(65536):
        kept = (kept + data)[-_STDERR_BYTES:]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    tree = {identity.pid: identity for identity in descendants(process.pid)}
    root = ProcessIdentity.of(process.pid) if process.returncode is None else None
    if root is not None:
        tree[root.pid] = root

    def living() -> list[ProcessIdentity]:
        tree.update({identity.pid: identity for identity in descendants(*tree)})
        return [identity for identity in tree.values() if identity.is_alive()]

    if tree:
        await end_all(living, grace_s=_GRACE_S)
    if process.returncode is None and root is not None:
        await process.wait()


def last_words(text: str) -> str:
    """The end of what git said, as one short text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return os.linesep.join(lines[-6:])[-1000:]
