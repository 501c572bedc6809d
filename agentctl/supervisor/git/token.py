"""How git comes by a token: it asks a helper, which asks us. The token is in no file, argument or environment.

Only processes below the git that we started are answered, and only for the server that the token is for: a submodule
or a redirect may lead to another one.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import shlex
import shutil
import socket
import struct
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from agentctl.supervisor.git import askpass
from agentctl.supervisor.git.url import origin
from agentctl.supervisor.processes import descendants

_QUESTION = re.compile(r"(Username|Password) for '(.+)': ?")
_USERS = {"bitbucket.org": "x-token-auth"}
_ANY_USER = "x-access-token"
"""Servers that take a token as password take any user name with it; GitHub's documentation has this one."""

_LONGEST_SOCKET_PATH = 100
_PATIENCE_S = 5.0
_MAX_QUESTION = 8192


class TokenDoor:
    """``environ`` has what makes git ask here. ``serve`` says whose children are answered. Use as an async context
    manager: nothing is left of it afterwards."""

    def __init__(self, tmp: str, url: str, token: str) -> None:
        self._tmp = tmp
        self._origin = origin(url)
        self._answers = {"Username": user_name(url), "Password": token}
        self._directory: Path | None = None
        self._server: asyncio.Server | None = None
        self._git: int | None = None

    async def __aenter__(self) -> Self:
        self._directory = directory = _private_directory(self._tmp)
        try:
            self._server = await asyncio.start_unix_server(self._answer, directory / "s", limit=_MAX_QUESTION)
            helper = directory / "askpass.py"
            helper.write_text(inspect.getsource(askpass))  # a packed bundle has no file of it
            command = shlex.join([sys.executable, "-IS", str(helper), str(directory / "s")])
            script = directory / "askpass"
            script.write_text(f'#!/bin/sh\nexec {command} "$1"\n')
            script.chmod(0o700)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def environ(self) -> dict[str, str]:
        return {"GIT_ASKPASS": f"{self._directory}/askpass"}

    def serve(self, git: int) -> None:
        """Answer the children of this process from now on."""
        self._git = git

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                question = (await reader.readline()).decode(errors="replace").rstrip("\n")
                answer = self._answer_to(question) if self._is_ours(writer) else None
                if answer is not None:
                    writer.write(answer.encode() + b"\n")
                    await writer.drain()
        except (TimeoutError, OSError, ValueError):
            return  # a helper that was killed, or somebody else
        finally:
            writer.close()

    def _answer_to(self, question: str) -> str | None:
        asked = _QUESTION.fullmatch(question)
        if asked is None or self._origin is None or origin(asked[2]) != self._origin:
            return None
        return self._answers[asked[1]]

    def _is_ours(self, writer: asyncio.StreamWriter) -> bool:
        if self._git is None:
            return False
        if not hasattr(socket, "SO_PEERCRED"):
            return True  # no Linux: the directory is private to the user all the same
        peer: socket.socket = writer.get_extra_info("socket")
        pid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
        return any(process.pid == pid for process in descendants(self._git))


def user_name(url: str) -> str:
    """The user name that goes with a token."""
    asked = origin(url)
    return _USERS.get(asked[1], _ANY_USER) if asked else _ANY_USER


def _private_directory(tmp: str) -> Path:
    """In the sandbox's own directory, or where the path is short enough for a socket."""
    for parent in (tmp, None, "/tmp"):  # noqa: S108 - mkdtemp makes a private directory in it
        if parent == tmp and not os.path.isdir(tmp):
            continue
        directory = tempfile.mkdtemp(prefix="git-", dir=parent)
        if len(os.fsencode(directory)) + 2 <= _LONGEST_SOCKET_PATH:
            break
        os.rmdir(directory)
    else:
        raise OSError(f"no directory with a path that is short enough for a socket: {tmp}")
    return Path(directory)
