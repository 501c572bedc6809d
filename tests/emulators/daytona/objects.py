"""Daytona's object storage, as far as contexts of builds go there: S3 in its barest form."""

from __future__ import annotations

import io
import re
import secrets
import shutil
import tarfile
from pathlib import Path
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response

PATH = "/s3"
BUCKET = "builds"


class Objects:
    """``contents`` are all objects, by key."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._parts: dict[str, dict[int, bytes]] = {}

    def answer(self, request: Request, body: bytes) -> Response:
        key, query = request.url.path.removeprefix(f"{PATH}/{BUCKET}/"), request.query_params
        match request.method:
            case "HEAD" if key in self.contents:
                about = {"ETag": '"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
                return Response(headers={**about, "Content-Length": str(len(self.contents[key]))})
            case "PUT" if "uploadId" in query:
                self._parts[query["uploadId"]][int(query["partNumber"])] = body
                return Response(headers={"ETag": f'"{query["partNumber"]}"'})
            case "PUT":
                self.contents[key] = body
                return Response(headers={"ETag": '"1"'})
            case "POST" if "uploads" in query:
                self._parts[upload := secrets.token_hex(8)] = {}
                return _xml("InitiateMultipartUploadResult", Bucket=BUCKET, Key=key, UploadId=upload)
            case "POST" if "uploadId" in query:
                parts = self._parts.pop(query["uploadId"])
                self.contents[key] = b"".join(data for _, data in sorted(parts.items()))
                return _xml("CompleteMultipartUploadResult", Location=key, Bucket=BUCKET, Key=key, ETag='"1"')
        return Response(status_code=404)

    def build(self, organization: str, hashes: list[str], dockerfile: str, scratch: Path, root: Path) -> None:
        """Have at ``root`` what COPY brings of the contexts. Raise ``KeyError`` for a context that is not there."""
        for name in hashes:
            data = self.contents[f"{organization}/{name}/context.tar"]
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                tar.extractall(scratch, filter="data")
        for source, target in re.findall(r"^COPY (\S+) (\S+)$", dockerfile, re.MULTILINE):
            place = root / target.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if (scratch / source).is_dir():
                shutil.copytree(scratch / source, place, dirs_exist_ok=True)
            else:
                shutil.copy2(scratch / source, place)


def _xml(name: str, **values: str) -> Response:
    inner = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in values.items())
    return Response(f"<{name}>{inner}</{name}>", media_type="application/xml")
