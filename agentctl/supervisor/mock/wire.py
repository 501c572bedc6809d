"""The mock agent's end of the pipe: lines in, frames out in as few writes as asked for, its own requests awaited."""

from __future__ import annotations

import json
import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Json = dict[str, Any]

_BUFFER_BYTES = 64 * 1024
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Wire:
    """One thread reads ``frames``; any thread sends. What is queued goes out before whatever is sent after it."""

    def __init__(self, stdin: int = 0, stdout: int = 1) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._lock = threading.Lock()
        self._queued: list[bytes] = []
        self._queued_bytes = 0
        self._answers: dict[int, Answer] = {}
        self._last_id = -1

    def frames(self) -> Iterator[Any]:
        """Each line of stdin as JSON; None for a line that is none. Ends with stdin."""
        rest = b""
        while data := os.read(self._stdin, 256 * 1024):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _parsed(line)

    def queue(self, frame: bytes, *, limit: int = _BUFFER_BYTES) -> None:
        """Send ``frame`` (with its newline) soon: when ``limit`` bytes are waiting, or with the next ``flush``."""
        with self._lock:
            self._queued.append(frame)
            self._queued_bytes += len(frame)
            if self._queued_bytes >= limit:
                self._write_queued()

    def flush(self) -> None:
        with self._lock:
            self._write_queued()

    def send(self, frame: Json) -> None:
        self.queue(line_of(frame), limit=0)

    def send_bytes(self, data: bytes) -> None:
        """Bytes as they are, whatever they are."""
        self.queue(data, limit=0)

    def notify(self, method: str, params: Json) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def result(self, request_id: Any, result: Any) -> None:
        self.send({"jsonrpc": "2.0", "id": request_id, "result": result})

    def error(self, request_id: Any, code: int, message: str, data: Any = None) -> None:
        error = {"code": code, "message": message} | ({} if data is None else {"data": data})
        self.send({"jsonrpc": "2.0", "id": request_id, "error": error})

    def request(self, method: str, params: Json) -> Answer:
        """Ask the client something. The answer fills itself when it comes."""
        with self._lock:
            self._last_id += 1
            answer = self._answers[self._last_id] = Answer(self._last_id)
        self.send({"jsonrpc": "2.0", "id": answer.id, "method": method, "params": params})
        return answer

    def deliver(self, frame: Json) -> None:
        """Hand a response of the client to whoever asked."""
        answer = self._answers.pop(frame.get("id", -1), None)
        if answer is not None:
            answer.frame = frame
            answer.came.set()

    def _write_queued(self) -> None:
        data = b"".join(self._queued)
        self._queued.clear()
        self._queued_bytes = 0
        try:
            while data:
                data = data[os.write(self._stdout, data) :]
        except BrokenPipeError:
            os._exit(0)  # nobody listens any more


class Answer:
    """A response that may come: ``came`` is set when ``frame`` is there."""

    def __init__(self, request_id: int) -> None:
        self.id = request_id
        self.came = threading.Event()
        self.frame: Json = {}

    def result(self) -> Json:
        """The result, or ``{"error": {…}}``."""
        found = self.frame.get("result")
        return found if isinstance(found, dict) else {"error": self.frame.get("error", {"code": 0})}


def line_of(frame: Json) -> bytes:
    try:
        return _encode(frame).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate came in as an escape and goes out as one
        return json.dumps(frame).encode() + b"\n"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
