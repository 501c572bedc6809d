"""An npm registry on loopback that serves small packages to the real npm."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Registry:
    """Use as a context manager. ``packages`` maps ``name@version`` to its files; ``url`` is for ``--registry``.

    While ``hold`` is set, tarballs are not answered; ``asked`` is set by the first request for one.
    """

    def __init__(self, packages: dict[str, dict[str, str]]) -> None:
        self.packages = packages
        self.hold = False
        self.asked = threading.Event()
        self.release = threading.Event()
        self.tarballs = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._http.server_port}/"

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def answer(self, path: str) -> bytes | None:
        if path.endswith(".tgz"):
            return self._tarball(path.removesuffix(".tgz"))
        versions = {key.rpartition("@")[2]: key for key in self.packages if key.rpartition("@")[0] == path}
        if not versions:
            return None
        documents = {version: self._document(key) for version, key in versions.items()}
        return json.dumps({"name": path, "versions": documents, "dist-tags": {"latest": max(versions)}}).encode()

    def _tarball(self, key: str) -> bytes | None:
        self.tarballs += 1
        self.asked.set()
        if self.hold:
            self.release.wait(60)
        return _pack(key, self.packages[key]) if key in self.packages else None

    def _document(self, key: str) -> dict[str, object]:
        digest = base64.b64encode(hashlib.sha512(_pack(key, self.packages[key])).digest()).decode()
        dist = {"tarball": f"{self.url}{key}.tgz", "integrity": f"sha512-{digest}"}
        return {**_package_json(key, self.packages[key]), "dist": dist}


def _package_json(key: str, files: dict[str, str]) -> dict[str, object]:
    name, _, version = key.rpartition("@")
    programs = {path.rpartition("/")[2]: path for path in files if path.startswith("bin/")}
    return {"name": name, "version": version, "bin": programs, **_platform(name)}


def _platform(name: str) -> dict[str, list[str]]:
    """What a package says that is for one platform."""
    match = re.search(r"-(linux|darwin)-(x64|arm64)(-musl)?$", name)
    if match is None:
        return {}
    libc = {"libc": ["musl" if match[3] else "glibc"]} if match[1] == "linux" else {}
    return {"os": [match[1]], "cpu": [match[2]], **libc}


def _pack(key: str, files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in {"package.json": json.dumps(_package_json(key, files)), **files}.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _handler(registry: Registry) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = registry.answer(unquote(self.path.lstrip("/")))
            data = body if body is not None else b'{"error":"Not found"}'
            try:
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_args: object) -> None:
            return None

    return Handler
