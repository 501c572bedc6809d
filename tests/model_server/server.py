"""The HTTP side: routes, keep-alive, chunked SSE, the log of requests."""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

from tests.model_server import anthropic, chat, gemini, responses
from tests.model_server.conversation import Conversation, Json
from tests.model_server.script import MARKER, Pause, Reply, reply_to

_HANG_S = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    """One logged request. ``side`` names a call that is not part of the turn: ``title``, ``review``, ``router``, …"""

    path: str
    headers: dict[str, str]
    body: Json
    prompt: str
    model: str
    side: str | None
    at: float


class ModelServer:
    """The scripted model on ``host``; use as a context manager. ``url`` has no path, ``requests`` is the log."""

    def __init__(self, port: int = 0, *, host: str = "127.0.0.1", verbose: bool = False) -> None:
        self.requests: list[Request] = []
        self.verbose = verbose
        self._arrived = threading.Condition()
        self._failures: Counter[str] = Counter()
        self._http = _HttpServer((host, port), _Handler)
        self._http.model = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="model-server")
        self.url = f"http://{host}:{self._http.server_port}"

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()

    def turns(self) -> list[Request]:
        """The requests that belong to turns, without titles and the like."""
        with self._arrived:
            return [request for request in self.requests if request.side is None]

    def wait_for(self, wanted: str | Callable[[Request], bool], timeout_s: float = 30) -> Request:
        """The first logged request that matches: a predicate, or a text in a turn's prompt. TimeoutError if none."""
        matches = wanted if callable(wanted) else lambda request: request.side is None and wanted in request.prompt
        with self._arrived:
            self._arrived.wait_for(lambda: any(map(matches, self.requests)), timeout_s)
            for request in self.requests:
                if matches(request):
                    return request
        raise TimeoutError(f"no request matched within {timeout_s} s; prompts: {[r.prompt for r in self.requests]}")

    def answer(self, path: str, headers: dict[str, str], body: Json, conversation: Conversation) -> Reply:
        reply = reply_to(conversation, lambda: self._count_failure(conversation))
        prompt = conversation.prompt(MARKER)
        request = Request(path, headers, body, prompt, conversation.model, reply.side, time.time())
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        if self.verbose:
            print(f"{path} {conversation.model} {reply.side or 'turn'}: {prompt[:120]!r}", file=sys.stderr, flush=True)
        return reply

    def _count_failure(self, conversation: Conversation) -> int:
        key = json.dumps(conversation.users)
        with self._arrived:
            self._failures[key] += 1
            return self._failures[key] - 1


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = False
    model: ModelServer

    def __init__(self, *args: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Wake every handler that waits for a client, so that its thread ends."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go away at any time; anything else is a bug in the server and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def do_GET(self) -> None:
        if "upgrade" in self.headers.get("Connection", "").lower():
            # Codex asks for a web socket first. After any other status it asks again for 19 s.
            self._send_json(426, chat.error(426, "no web sockets here"))
        elif self.path == "/healthz":
            self._send_json(200, {"status": "ok"})
        elif self.path.partition("?")[0] in ("/v1/models", "/models"):
            self._send_json(200, {"object": "list", "data": [{"id": "scripted-1", "object": "model"}]})
        else:
            self._send_json(404, chat.error(404, f"no such page: {self.path}"))

    def do_POST(self) -> None:
        body = json.loads(self._read_body() or b"{}")
        path = self.path.partition("?")[0]
        if path.endswith(("/count_tokens", ":countTokens")):
            self._send_json(200, {"input_tokens": 100, "totalTokens": 100})
            return
        api = _api_of(path)
        if api is None:
            self._send_json(404, chat.error(404, f"no such API: {path}"))
            return
        conversation = api.read(path, body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send_reply(api, self.server.model.answer(self.path, headers, body, conversation), conversation)

    def _send_reply(self, api: ModuleType, reply: Reply, conversation: Conversation) -> None:
        if reply.error is not None:
            self._send_json(reply.error, api.error(reply.error, f"scripted error {reply.error}"))
        elif conversation.streaming or reply.cut_short:
            self._send_stream(api.stream(reply, conversation))
            self._end_stream(reply)
        else:
            self._send_json(200, api.whole(reply, conversation))

    def _send_stream(self, frames: Iterator[bytes | Pause]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for frame in frames:
            if isinstance(frame, Pause):
                self._wait_for_client(frame.seconds)
            else:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))

    def _end_stream(self, reply: Reply) -> None:
        if reply.ending == "hang":
            self._wait_for_client(_HANG_S)
        if reply.ending == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("the script drops this connection")
        self.wfile.write(b"0\r\n\r\n")

    def _wait_for_client(self, seconds: float) -> None:
        """Wait; a client that goes away in the meantime ends the answer."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionAbortedError("the client went away")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send_json(self, status: int, data: Json) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The log is ``ModelServer.requests``."""


def _api_of(path: str) -> ModuleType | None:
    if path.endswith("/messages"):
        return anthropic
    if path.endswith("/responses"):
        return responses
    if path.endswith("/chat/completions"):
        return chat
    return gemini if path.endswith((":generateContent", ":streamGenerateContent")) else None
