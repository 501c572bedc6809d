"""An engine that is reached through the user's own ssh, as the docker command does it: each connection is one
``docker system dial-stdio`` over there. Keys, known hosts, ports and jumps are as ssh is set up; nothing is ever asked.

The SDK's own way needs paramiko, which knows little of that, or a pipe on which it waits for more than was sent.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
import threading
import weakref
from typing import Any
from urllib.parse import urlsplit

from docker import APIClient
from docker.transport import unixconn

from agentctl.errors import ProviderUnavailable

CONNECT_TIMEOUT_S = 15
_TAIL_BYTES = 2000


class Ssh:
    """The way to the engine at ``url``, an ``ssh://[USER@]HOST[:PORT]``. Raise ``ProviderUnavailable`` without ssh."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        program = shutil.which("ssh")
        if program is None:
            raise ProviderUnavailable(
                f"The Docker engine at {url} is reached by the program ssh, which is not on PATH.",
                hint="Install an ssh client (openssh-client on Debian and Ubuntu).",
            )
        user = ["-l", parts.username] if parts.username else []
        port = ["-p", str(parts.port)] if parts.port else []
        options = ["-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT_S}"]
        self.command = [program, *options, *user, *port, "--", parts.hostname or ""]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - as long as we live
        weakref.finalize(self, self._stderr.close)

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [*self.command, "docker", "system", "dial-stdio"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._stderr,
                start_new_session=True,  # a Ctrl-C is for us, and we may have to clear up through it
            )
        # It ends with its end of the connection; somebody has to take note of that.
        threading.Thread(target=process.wait, daemon=True).start()
        return ours

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=await asyncio.to_thread(self.connect))

    def last_words(self) -> str:
        """What ssh said last, which is why a connection broke; empty when it said nothing."""
        end = self._stderr.seek(0, 2)
        self._stderr.seek(max(0, end - _TAIL_BYTES))
        lines = self._stderr.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class SshClient(APIClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client, all of whose connections are ssh's."""

    def __init__(self, ssh: Ssh, **how: Any) -> None:
        self._over_ssh = _Adapter(ssh, how["timeout"], how["max_pool_size"])
        super().__init__(base_url="unix:///over-ssh", **how)

    def get_adapter(self, url: str) -> Any:
        return self._over_ssh


class _Connection(unixconn.UnixHTTPConnection):  # type: ignore[misc]
    def __init__(self, ssh: Ssh, timeout: float) -> None:
        super().__init__("", "", timeout)
        self._ssh = ssh

    def connect(self) -> None:
        self.sock = self._ssh.connect()
        self.sock.settimeout(self.timeout)


class _Pool(unixconn.UnixHTTPConnectionPool):  # type: ignore[misc]
    def __init__(self, ssh: Ssh, url: str, timeout: float, maxsize: int) -> None:
        super().__init__(url, "", timeout, maxsize=maxsize)
        self._ssh = ssh

    def _new_conn(self) -> _Connection:
        return _Connection(self._ssh, self.timeout)


class _Adapter(unixconn.UnixHTTPAdapter):  # type: ignore[misc]
    def __init__(self, ssh: Ssh, timeout: float, max_pool_size: int) -> None:
        super().__init__("/over-ssh", timeout, max_pool_size=max_pool_size)
        self._pool = _Pool(ssh, "http+docker://ssh", timeout, max_pool_size)

    def get_connection(self, url: str, proxies: Any = None) -> _Pool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()
