"""A real git server on loopback: git's own http-backend behind HTTP with a password, as hosts of repositories are."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "canary-token-4f1c9e77aa"
QUIET = {
    **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.org",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.org",
}


def git(*args: str, cwd: Path | None = None, **env: str) -> str:
    """Run git without any configuration of the machine; its stdout."""
    done = subprocess.run(
        ["git", *args], cwd=cwd, env={**QUIET, **env}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class GitServer:
    """``url(name)`` of a bare repository made by ``repository``. Names that begin with ``private`` want ``TOKEN``.

    ``held`` is set when a fetch has come while ``hold`` is not set; the fetch goes on when it is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hold = threading.Event()
        self.hold.set()
        self.held = threading.Event()
        self.seen: list[tuple[str, str | None]] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        root.mkdir(parents=True)
        owner = self

        class Handler(_Handler):
            server_of_tests = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def url(self, name: str) -> str:
        return f"{self.base}/{name}.git"

    def repository(self, name: str, *, branch: str | None = None, submodule: str | None = None) -> str:
        """A bare repository with two commits on main; the id of its last one."""
        work, bare = self.root / f"{name}-work", self.root / f"{name}.git"
        git("init", "-q", "-b", "main", str(work))
        for text in ("one", "two"):
            (work / "file.txt").write_text(text)
            git("add", ".", cwd=work)
            git("commit", "-qm", text, cwd=work)
        if submodule is not None:
            git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", submodule, "sub", cwd=work)
            git("commit", "-qm", "sub", cwd=work)
        if branch is not None:
            git("checkout", "-qb", branch, cwd=work)
            (work / "file.txt").write_text(branch)
            git("commit", "-qam", branch, cwd=work)
            git("checkout", "-q", "main", cwd=work)
        git("clone", "-q", "--bare", str(work), str(bare))
        return git("rev-parse", "HEAD", cwd=work)

    def close(self) -> None:
        self.hold.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


@contextlib.contextmanager
def git_server(root: Path):
    server = GitServer(root)
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    server_of_tests: GitServer

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def _serve(self, body: bytes) -> None:
        owner = self.server_of_tests
        authorization = self.headers.get("authorization")
        owner.seen.append((self.path, authorization))
        path, _, query = self.path.partition("?")
        name = path.split("/")[1].removesuffix(".git")
        if name in owner.answers:
            self._say(*owner.answers[name])
        elif name.startswith("private") and not _knows(authorization):
            self._say(401, {"WWW-Authenticate": 'Basic realm="tests"'}, b"no")
        elif not (owner.root / f"{name}.git").is_dir():
            self._say(404, {}, b"no")
        else:
            if path.endswith("git-upload-pack") and not owner.hold.is_set():
                owner.held.set()
                owner.hold.wait(30)
            self._backend(path, query, body)

    def _backend(self, path: str, query: str, body: bytes) -> None:
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=False,
            env={
                **QUIET,
                "GIT_PROJECT_ROOT": str(self.server_of_tests.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
                "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._say(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _say(self, status: int, headers: dict[str, str], content: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _knows(authorization: str | None) -> bool:
    if authorization is None or not authorization.startswith("Basic "):
        return False
    return base64.b64decode(authorization[6:]).decode().partition(":")[2] == TOKEN
