"""An image registry on loopback, which an engine trusts without TLS."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "ada", "canary-pa55word"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class Registry:
    """Use as a context manager. It has ``<host>/small:1``, with content that no engine has yet. A private one wants a
    login."""

    def __init__(self, *, private=False):
        self._private = private
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self.host = f"127.0.0.1:{self._http.server_port}"
        self.blobs, self.manifests = {}, {}
        self._add("small", [os.urandom(300_000), os.urandom(100_000)])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _add(self, name, contents):
        layers = [self._keep(_tar(f"file-{i}", content)) for i, content in enumerate(contents)]
        roots = {"type": "layers", "diff_ids": [digest for digest, _ in layers]}
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]}, "rootfs": roots}
        digest, size = self._keep(json.dumps(config).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": digest, "size": size},
            "layers": [{"mediaType": _LAYER, "digest": digest, "size": size} for digest, size in layers],
        }
        self.manifests[f"{name}/manifests/1"] = json.dumps(manifest).encode()
        self.manifests[f"{name}/manifests/{_digest(self.manifests[f'{name}/manifests/1'])}"] = json.dumps(
            manifest
        ).encode()

    def _keep(self, data):
        self.blobs[_digest(data)] = data
        return _digest(data), len(data)

    def answer(self, path, login):
        """``(status, type, body)``"""
        if self._private and login != (USER, PASSWORD):
            return 401, "application/json", b"{}"
        if path == "":
            return 200, "application/json", b"{}"
        if path in self.manifests:
            return 200, _MANIFEST, self.manifests[path]
        blob = self.blobs.get(path.rpartition("/")[2])
        if blob is not None:
            return 200, "application/octet-stream", blob
        return (
            404,
            "application/json",
            json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}).encode(),
        )


def _tar(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _handler(registry):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, _, given = self.headers.get("Authorization", "").partition(" ")
            login = tuple(base64.b64decode(given).decode().split(":", 1)) if kind == "Basic" else None
            status, media, body = registry.answer(self.path.removeprefix("/v2/"), login)
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Docker-Content-Digest", _digest(body))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            return None

    return Handler
