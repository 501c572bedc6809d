"""One Docker engine: the SDK's calls, which block, in threads; and byte streams that asyncio can read.

The SDK gives a hijacked connection as a blocking socket, or as a pipe of ssh; here the few lines of HTTP that open one
are written to a connection of our own, the same way for every kind of engine.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from agentctl.errors import AgentctlError, ProviderUnavailable, SandboxError
from agentctl.providers.finish import settled

if TYPE_CHECKING:
    from agentctl.providers.docker.ssh import Ssh

Json = dict[str, Any]
T = TypeVar("T")
CALL_TIMEOUT_S = 60
POOL_SIZE = 10
_DEFAULT = "unix:///var/run/docker.sock"
_NO_SDK = "Install it beside agentctl: `pip install 'agentctl[docker]'`."


def engine_url(environ: Mapping[str, str] = os.environ) -> str:
    """Which engine is meant: ``DOCKER_HOST``, the context that the docker command uses, a rootless one, the default."""
    given = environ.get("DOCKER_HOST") or _of_context(environ)
    if given:
        return given
    rootless = Path(environ.get("XDG_RUNTIME_DIR") or "/nowhere") / "docker.sock"
    if rootless.exists() and not Path(_DEFAULT.removeprefix("unix://")).exists():
        return f"unix://{rootless}"
    return _DEFAULT


def _of_context(environ: Mapping[str, str]) -> str | None:
    """The endpoint of the current context, read from the docker command's own files."""
    import hashlib

    place = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or "/nowhere") / ".docker")
    try:
        name = environ.get("DOCKER_CONTEXT") or json.loads((place / "config.json").read_text()).get("currentContext")
        if not name or name == "default":
            return None
        digest = hashlib.sha256(name.encode()).hexdigest()
        meta = json.loads((place / "contexts" / "meta" / digest / "meta.json").read_text())
        return str(meta["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class Engine:
    """The engine at ``url``. Every method raises ``ProviderUnavailable`` when it does not answer. ``marks`` are the
    labels of every container that is made for a moment: by them it is found when who made it was killed meanwhile."""

    def __init__(self, url: str, marks: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.marks = dict(marks or {})
        self._client: Any = None
        self._ssh: Ssh | None = None
        self._lock = threading.Lock()

    @property
    def is_local(self) -> bool:
        """Whether it may see this host's files."""
        return self.url.startswith("unix://")

    async def call(self, what: str, work: Callable[[Any], T]) -> T:
        """``work(client)`` in a thread; ``what`` completes "Docker could not …". Raise our errors only.

        A thread cannot be stopped: a cancellation is raised when it has ended, so that whoever clears up after it
        finds all that it made.
        """
        running = asyncio.ensure_future(asyncio.to_thread(self.call_here, what, work))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await settled(running)
            raise

    def call_here(self, what: str, work: Callable[[Any], T]) -> T:
        """``call`` for who is in a thread already."""
        client = self._connected()
        from agentctl.providers.docker.errors import FOREIGN, translate

        try:
            return work(client)
        except FOREIGN as e:
            raise self._explained(translate(e, what, self.url)) from e

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                try:
                    import docker
                except ImportError as e:
                    raise ProviderUnavailable(f"The docker provider needs the package {e.name}.", hint=_NO_SDK) from e
                from agentctl.providers.docker.errors import FOREIGN, translate

                self._knock()
                try:
                    self._client = self._made(docker.APIClient)
                except FOREIGN as e:
                    raise self._explained(translate(e, "connect", self.url)) from e
            return self._client

    def _made(self, client: Any) -> Any:
        from agentctl.providers.docker import tls

        how: Json = {"version": "auto", "timeout": CALL_TIMEOUT_S, "max_pool_size": POOL_SIZE}
        if self.url.startswith("ssh://"):
            from agentctl.providers.docker.ssh import SshClient

            return SshClient(self._through_ssh(), **how)
        return tls.TlsClient(self.url, **how) if tls.is_meant(self.url) else client(base_url=self.url, **how)

    def _through_ssh(self) -> Ssh:
        from agentctl.providers.docker.ssh import Ssh

        if self._ssh is None:
            self._ssh = Ssh(self.url)
        return self._ssh

    def _explained(self, error: AgentctlError) -> AgentctlError:
        """Of a connection by ssh only ssh knows why it broke."""
        said = self._ssh.last_words() if self._ssh is not None else ""
        if said and isinstance(error, ProviderUnavailable):
            error.message = f"The Docker engine at {self.url} cannot be used: {said}"
            error.hint = f"It has to work without a question: {shlex.join(self._through_ssh().command)} docker version"
        return error

    def _knock(self) -> None:
        """The SDK never closes a socket on which nobody listens, which Python tells on stderr."""
        if not self.is_local:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(CALL_TIMEOUT_S)
            try:
                door.connect(self.url.removeprefix("unix://"))
            except OSError as e:
                from agentctl.providers.docker.errors import translate_os

                raise translate_os(e, self.url) from e

    async def hijack(self, path: str, body: Json | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """POST ``path``; return the connection, which is a raw stream from there on. Raise ``SandboxError`` with the
        engine's own words when it refuses."""
        content = json.dumps(body or {}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        reader, writer = await self.dial()
        try:
            writer.write(head.encode() + content)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                answer = (await reader.readuntil(b"\r\n\r\n")).decode(errors="replace")
            status = answer.split(" ", 2)[1:2]
            if status not in (["101"], ["200"]):
                said = (await reader.read(4096)).decode(errors="replace").strip()
                raise SandboxError(f"The Docker engine refused a stream: {said or answer.splitlines()[0]}")
        except TimeoutError as e:
            writer.close()
            raise ProviderUnavailable(f"The Docker engine at {self.url} did not answer in time.") from e
        except (OSError, asyncio.IncompleteReadError) as e:
            writer.close()
            raise self._explained(ProviderUnavailable(f"The Docker engine at {self.url} broke off.")) from e
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own."""
        try:
            return await self._dial()
        except OSError as e:
            from agentctl.providers.docker.errors import translate_os

            raise translate_os(e, self.url) from e

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return await asyncio.open_unix_connection(parts.path)
        if parts.scheme == "ssh":
            return await self._through_ssh().dial()
        from agentctl.providers.docker import tls

        context = tls.context(self.url)
        return await asyncio.open_connection(parts.hostname, parts.port or (tls.PORT if context else 2375), ssl=context)
