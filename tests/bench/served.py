"""Turns over HTTP with one client and one agent: agentctl's supervisor against sandbox-agent, in time and in losses.

The supervisor has written each event to its log before anyone sees it; sandbox-agent keeps the last 1,024 in memory.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

from agentctl.wire import TOKEN_HEADER
from tests.bench.http_door import HttpDoor
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.supervisor import local_sandbox
from tests.bench.workshop import Workshop

TIMES_PEER = 3.0
TURNS = 20
"""How many turns each counted value is the median of: to the first text one takes about a millisecond."""

BURST = 20_000
REST_EVERY, REST_S = 100, 0.005
"""A reader that has something else to do: after so many lines, for so long."""

TEXT = "@chunks=2 @delay=0.01"
"""The first text does not come together with the turn's end, which waits for the disk."""

READY_S = 10.0

Turn = Callable[[str], Iterator[bytes]]
"""Sends a prompt and gives the lines of the stream up to the turn's end."""


def rows(shop: Workshop) -> Iterator[Row]:
    with ExitStack() as opened:
        durable, raw = opened.enter_context(_ours(shop))
        peer = opened.enter_context(_sandbox_agent(shop)) if shop.sandbox_agent else None
        turns = [turn for turn in (durable, raw, peer) if turn]
        series = interleave([lambda turn=turn: _first_ms(turn) for turn in turns], shop.runs)
        theirs = series[2] if peer else None
        name = "served turn: message to the agent's first text"
        for how, ours in (("every event on disk", series[0]), ("raw ACP", series[1])):
            yield compared(f"{name}, {how}", ours, theirs, peer_name="sandbox-agent", times_peer=TIMES_PEER)
        lost = [[float(_lost(turn))] for turn in turns]
        for how, ours in (("every event on disk", lost[0]), ("raw ACP", lost[1])):
            yield compared(
                f"served turn: events a slow reader misses of {BURST:,} at once, {how}",
                ours,
                lost[2] if peer else None,
                unit="events",
                peer_name="sandbox-agent",
                goal=0,
            )


def _first_ms(turn: Turn) -> float:
    return statistics.median(_one_first_ms(turn) for _ in range(TURNS))


def _one_first_ms(turn: Turn) -> float:
    started, first = time.perf_counter(), 0.0
    for line in turn(TEXT):
        if not first and _is_text(line):
            first = time.perf_counter()
    assert first
    return (first - started) * 1000


def _lost(turn: Turn) -> int:
    seen = 0
    for number, line in enumerate(turn(f"@chunks={BURST} @batch")):
        seen += _is_text(line)
        if number % REST_EVERY == 0:
            time.sleep(REST_S)
    return BURST - seen


def _is_text(line: bytes) -> bool:
    return line.startswith(b"data:") and (b'"item.delta"' in line or b"agent_message_chunk" in line)


@contextmanager
def _ours(shop: Workshop) -> Iterator[tuple[Turn, Turn]]:
    with asyncio.Runner() as runner:
        opened = local_sandbox(shop)
        provider, handle = runner.run(opened.__aenter__())
        try:
            _, token = runner.run(provider.endpoint(handle))

            def dial() -> socket.socket:
                dialled = socket.socket(socket.AF_UNIX)
                dialled.connect(handle["socket"])
                return dialled

            with HttpDoor(dial, {TOKEN_HEADER: token}) as sessions, HttpDoor(dial, {TOKEN_HEADER: token}) as raw:
                yield _session(sessions, str(shop.directory)), _acp(raw, str(shop.directory), "stub")
        finally:
            runner.run(opened.__aexit__(None, None, None))


@contextmanager
def _sandbox_agent(shop: Workshop) -> Iterator[Turn]:
    """Its server, with the stub in the place of its mock agent's launcher."""
    assert shop.sandbox_agent is not None
    data = shop.directory / "sandbox-agent"
    launcher = data / "sandbox-agent" / "bin" / "agent_processes" / "mock-acp"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f"#!/bin/sh\nexec {shop.stub}\n")
    launcher.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [*shop.sandbox_agent, "server", "--no-token", "--no-telemetry", "--host", "127.0.0.1", "--port", str(port)],
        env={**shop.env, "XDG_DATA_HOME": str(data), "SANDBOX_AGENT_REQUIRE_PREINSTALL": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_port(port)

        def dial() -> socket.socket:
            dialled = socket.create_connection(("127.0.0.1", port))
            dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return dialled

        with HttpDoor(dial, {}) as door:
            yield _acp(door, str(shop.directory), "mock")
    finally:
        server.terminate()  # its agents end with their stdin
        server.wait(READY_S)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "sandbox-agent does not listen"
            time.sleep(0.01)
        else:
            return


def _session(door: HttpDoor, cwd: str) -> Turn:
    """Turns of the session API."""
    path = "/v1/sessions/ses_served"
    door.post(path, {"agent": "stub", "cwd": cwd})
    stream = door.lines(f"{path}/events/sse?offset=0")
    numbers = count()

    def turn(text: str) -> Iterator[bytes]:
        door.send(f"{path}/messages", {"message": text, "turnId": f"trn_served{next(numbers)}"})
        for line in stream:
            yield line
            if b'"turn.ended"' in line:
                break
        door.answer()

    return turn


def _acp(door: HttpDoor, cwd: str, agent: str) -> Turn:
    """Turns of raw ACP, which both servers speak."""
    path = "/v1/acp/bench"
    numbers = count(1)

    def frame(method: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(numbers), "method": method, "params": params}

    door.post(f"{path}?agent={agent}", frame("initialize", {"protocolVersion": 1, "clientCapabilities": {}}))
    stream = door.lines(path)
    door.post(path, frame("session/new", {"cwd": cwd, "mcpServers": []}))
    new = next(line for line in stream if b'"sessionId"' in line)
    session = json.loads(new.removeprefix(b"data:"))["result"]["sessionId"]

    def turn(text: str) -> Iterator[bytes]:
        prompt = {"sessionId": session, "prompt": [{"type": "text", "text": text}]}
        door.send(path, frame("session/prompt", prompt))
        for line in stream:
            yield line
            if b'"stopReason"' in line:
                break
        door.answer()

    return turn
