"""``--attach FILE``: a file as an ACP content block. Whether the agent takes that kind is the supervisor's to check."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Any

from agentctl.errors import UsageError

Json = dict[str, Any]
MAX_BYTES = 32 * 1024 * 1024


def load(path: Path) -> Json:
    """An image or audio block, an embedded text resource, or a blob resource. Raise ``UsageError`` for a file that is
    missing or larger than 32 MiB."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # a pipe or a device does not say how much is in it
    except OSError as e:
        raise UsageError(f"Cannot attach {path}: {e.strerror}") from e
    if len(data) > MAX_BYTES:
        raise UsageError(f"Cannot attach {path}: it has more than {MAX_BYTES} bytes.")
    mime = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    kind = mime.partition("/")[0]
    if kind in ("image", "audio"):
        return {"type": kind, "mimeType": mime, "data": base64.b64encode(data).decode()}
    return {"type": "resource", "resource": _resource(path, mime, data)}


def _resource(path: Path, mime: str, data: bytes) -> Json:
    uri = path.absolute().as_uri()
    try:
        return {
            "uri": uri,
            "mimeType": mime if mime != "application/octet-stream" else "text/plain",
            "text": data.decode(),
        }
    except UnicodeDecodeError:
        return {"uri": uri, "mimeType": mime, "blob": base64.b64encode(data).decode()}
