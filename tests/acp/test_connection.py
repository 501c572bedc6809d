"""The connection: order, ids, garbage, deadlines, size."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentctl.acp.connection import GARBAGE_REASONS, Connection, RpcError
from agentctl.errors import AgentExited, DeadlineExceeded, ProtocolError
from tests.acp.support import MemorySink, Recorder, Running, ScriptedAgent


def note(n, method="session/update"):
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": {"n": n}}).encode() + b"\n"


async def read_all(data, **options):
    """Everything a connection hears in a stream that ends."""
    source = asyncio.StreamReader(limit=2**26)
    source.feed_data(data)
    source.feed_eof()
    recorder = Recorder()
    await Connection(source, MemorySink(), recorder, **options).run()
    return recorder


async def test_frames_arrive_in_order_with_their_bytes_and_unknown_fields():
    line = b'{"jsonrpc":"2.0","method":"x","params":{"z":1,"a":{"_new":[null]}},"extra":true}'
    recorder = await read_all(line + b"\n" + note(1) + note(2))
    assert recorder.heard[0] == ("notification", json.loads(line), line)
    assert [frame["params"].get("n") for _, frame, _ in recorder.heard] == [None, 1, 2]
    assert recorder.closed_with == "eof"


async def test_a_last_line_without_newline_counts():
    recorder = await read_all(note(1) + note(2).rstrip())
    assert recorder.kinds() == {"notification": 2}


async def test_a_burst_of_fifty_thousand_updates_is_read_completely_by_a_slow_handler():
    class Slow(Recorder):
        def flushed(self):
            super().flushed()
            if self.flushes <= 20:
                os.sched_yield()
                for _ in range(20_000):
                    pass

    read_end, write_end = os.pipe()
    writer = os.fdopen(write_end, "wb")
    script = 'import sys\nfor n in range(50000): sys.stdout.write(\'{"method":"u","params":{"n":%d}}\\n\' % n)'
    process = await asyncio.create_subprocess_exec("python3", "-IS", "-c", script, stdout=writer)
    writer.close()
    source = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(source)
    pipe = os.fdopen(read_end, "rb")
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
    recorder = Slow()
    await asyncio.wait_for(Connection(source, MemorySink(), recorder).run(), 20)
    assert await process.wait() == 0
    transport.close()
    assert [frame["params"]["n"] for _, frame, _ in recorder.heard] == list(range(50_000))
    assert recorder.flushes < 10_000, "one flush serves many lines"


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.integers(1, 40))
def test_characters_cut_at_chunk_edges_arrive_whole(texts, step):
    async def run():
        stream = b"".join(
            json.dumps({"method": "m", "params": {"t": text}}, ensure_ascii=False).encode() + b"\n" for text in texts
        )

        class Crumbs:
            def __init__(self):
                self.at = 0

            async def read(self, n):
                self.at += step
                return stream[self.at - step : self.at]

        recorder = Recorder()
        await Connection(Crumbs(), MemorySink(), recorder).run()
        return [frame["params"]["t"] for _, frame, _ in recorder.heard]

    assert asyncio.run(run()) == texts


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"npm WARN deprecated", "not_json"),
        (b'{"jsonrpc":"2.0","method":"\xff\xfe"}', "not_utf8"),
        (b'[{"jsonrpc":"2.0","method":"x"}]', "batch"),
        (b"42", "not_object"),
        (b"{}", "not_jsonrpc"),
        (b'{"method":7}', "not_jsonrpc"),
        (b'{"jsonrpc":"2.0","id":99,"result":{}}', "unknown_id"),
        (b'{"jsonrpc":"2.0","id":{"a":1},"result":{}}', "unknown_id"),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}', "unknown_id"),
        (b"[" * 200_000, "not_json"),
        (b'{"method":"x","params":' + b"9" * 5000 + b"}", "not_json"),
    ],
)
async def test_garbage_is_reported_with_its_line_and_the_loop_goes_on(line, reason):
    recorder = await read_all(note(1) + line + b"\n" + note(2))
    assert [kind for kind, *_ in recorder.heard] == ["notification", "garbage", "notification"]
    assert recorder.heard[1] == ("garbage", reason, line)
    assert reason in GARBAGE_REASONS


async def test_blank_lines_and_carriage_returns_are_no_garbage():
    recorder = await read_all(b"\n  \n" + note(1).replace(b"\n", b"\r\n"))
    assert recorder.kinds() == {"notification": 1}


async def test_numbers_that_are_not_json_become_null():
    recorder = await read_all(b'{"method":"x","params":[NaN,-Infinity,1e999,1.5]}\n')
    assert recorder.heard[0][1]["params"] == [None, None, None, 1.5]


async def test_a_line_of_sixty_mebibytes_arrives():
    text = b"a" * (60 * 2**20)
    recorder = await read_all(b'{"method":"x","params":{"t":"' + text + b'"}}\n' + note(2))
    assert len(recorder.heard[0][1]["params"]["t"]) == len(text)
    assert recorder.heard[1][1]["params"]["n"] == 2


async def test_a_longer_line_than_the_limit_is_skipped_and_reported_with_its_head():
    recorder = await read_all(note(1) + b"y" * 100_000 + b"\n" + note(2), max_line_bytes=50_000)
    kind, reason, line = recorder.heard[1]
    assert (kind, reason, line) == ("garbage", "line_too_long", b"y" * 4096)
    assert recorder.heard[2][1]["params"]["n"] == 2


@pytest.mark.parametrize("echo", [lambda n: n, str, float])
async def test_an_answer_matches_however_its_id_is_echoed(echo):
    agent = ScriptedAgent()
    async with Running(agent.source, agent.sink) as (connection, recorder):
        first, second = connection.start("_x/echo"), connection.start("_x/echo")
        agent.say({"id": echo(second.id), "result": {"n": 2}}, {"id": echo(first.id), "result": {"n": 1}})
        assert await asyncio.wait_for(first.future, 5) == {"n": 1}
        assert await second.future == {"n": 2}
    assert recorder.reasons() == []


async def test_true_and_odd_strings_are_no_echo_of_an_id():
    agent = ScriptedAgent()
    async with Running(agent.source, agent.sink) as (connection, recorder):
        call = [connection.start("_x/echo") for _ in range(2)][1]
        for wrong in (True, "1.0", " 1", "٣", 1.5, [1], {}):
            agent.say({"id": wrong, "result": {}})
        agent.say({"id": 1, "result": {"right": 1}})
        assert await asyncio.wait_for(call.future, 5) == {"right": 1}
    assert recorder.reasons() == ["unknown_id"] * 7


async def test_the_handler_sees_the_answer_before_the_caller_and_after_all_earlier_updates():
    agent = ScriptedAgent()
    order = []

    class Watching(Recorder):
        def notification(self, frame, line):
            order.append("update")

        def response(self, method, frame, line):
            order.append(method)

        def flushed(self):
            order.append("flushed")

    async with Running(agent.source, agent.sink, Watching()) as (connection, _):
        call = connection.start("_x/echo")
        call.future.add_done_callback(lambda _: order.append("resolved"))
        agent.source.feed_data(note(1) + note(2) + b'{"id":0,"result":{}}\n' + note(3))
        await asyncio.wait_for(call.future, 5)
    assert order[:6] == ["update", "update", "_x/echo", "update", "flushed", "resolved"]


async def test_errors_become_typed_even_when_they_are_malformed():
    agent = ScriptedAgent()
    bodies = [
        {"error": {"code": 429, "message": "slow down", "data": {"k": 1}}},
        {"error": {"code": "E1", "message": "text code"}},
        {"error": "just text"},
        {"result": {}, "error": {"code": -1, "message": "both"}},
        {"result": [1]},
        {"result": None},
        {},
    ]
    async with Running(agent.source, agent.sink) as (connection, _):
        calls = [connection.start("_x/echo") for _ in bodies]
        agent.say(*({"id": call.id, **body} for call, body in zip(calls, bodies, strict=True)))
        got = await asyncio.wait_for(asyncio.gather(*(c.future for c in calls), return_exceptions=True), 5)
    assert (got[0].code, got[0].message, got[0].data) == (429, "slow down", {"k": 1})
    assert isinstance(got[1], RpcError)
    assert (got[2].code, got[2].data) == (-32603, "just text")
    assert got[3].code == -1
    assert isinstance(got[4], ProtocolError)
    assert got[5:] == [{}, {}]


async def test_a_request_past_its_deadline_is_cancelled_and_its_late_answer_still_told():
    agent = ScriptedAgent()
    async with Running(agent.source, agent.sink) as (connection, recorder):
        with pytest.raises(DeadlineExceeded, match="did not answer _x/echo"):
            await connection.request("_x/echo", {}, timeout_s=0.01)
        assert agent.asked("$/cancel_request") == [{"requestId": 0}]
        agent.say({"id": 0, "error": {"code": -32800, "message": "cancelled"}})
        again = connection.start("_x/echo")
        agent.say({"id": again.id, "result": {}})
        await asyncio.wait_for(again.future, 5)
    assert recorder.kinds() == {"response": 2}


async def test_a_cancelled_caller_leaves_the_connection_usable():
    agent = ScriptedAgent()
    async with Running(agent.source, agent.sink) as (connection, recorder):
        waiting = asyncio.create_task(connection.request("_x/echo"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        agent.say({"id": 0, "result": {"late": 1}})
        call = connection.start("_x/echo")
        agent.say({"id": 1, "result": {"live": 1}})
        assert await asyncio.wait_for(call.future, 5) == {"live": 1}
    assert recorder.kinds() == {"response": 2}


async def test_the_end_of_the_stream_fails_every_open_request():
    agent = ScriptedAgent()
    async with Running(agent.source, agent.sink) as (connection, recorder):
        waiting = asyncio.create_task(connection.request("_x/echo"))
        await asyncio.sleep(0)
        agent.source.feed_eof()
        with pytest.raises(AgentExited, match="before it answered _x/echo"):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(AgentExited):
            connection.start("_x/echo")
        connection.notify("session/cancel", {"sessionId": "s"})
        connection.respond(1, {})
        assert connection.is_closed
    assert recorder.closed_with == "eof"
    assert len(agent.received) == 1, "nothing is written to an agent that is gone"


async def test_close_ends_a_read_that_waits():
    agent = ScriptedAgent()
    recorder = Recorder()
    connection = Connection(agent.source, agent.sink, recorder)
    running = asyncio.create_task(connection.run())
    call = connection.start("_x/echo")
    await asyncio.sleep(0)
    connection.close()
    connection.close()
    await asyncio.wait_for(running, 5)
    assert recorder.closed_with == "closed"
    assert agent.sink.closed
    with pytest.raises(AgentExited):
        await call.future


async def test_close_from_inside_the_handler_ends_after_the_lines_at_hand():
    class Closing(Recorder):
        def notification(self, frame, line):
            super().notification(frame, line)
            connection.close()

    source = asyncio.StreamReader()
    source.feed_data(note(1) + note(2))
    recorder = Closing()
    connection = Connection(source, MemorySink(), recorder)
    await asyncio.wait_for(connection.run(), 5)
    assert recorder.kinds() == {"notification": 2}
    assert recorder.closed_with == "closed"


async def test_cancelling_run_from_outside_cancels_it():
    agent = ScriptedAgent()
    recorder = Recorder()
    running = asyncio.create_task(Connection(agent.source, agent.sink, recorder).run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert recorder.closed_with is not None


async def test_a_broken_pipe_on_reading_is_an_end():
    class Broken:
        async def read(self, n):
            raise ConnectionResetError("gone")

    recorder = Recorder()
    await Connection(Broken(), MemorySink(), recorder).run()
    assert recorder.closed_with == "error: gone"


@pytest.mark.parametrize("request_id", [0, "926b2c49", None, 1.5, [1], {"a": 1}])
async def test_agent_requests_are_answered_with_the_very_id(request_id):
    agent = ScriptedAgent()
    async with Running(agent.source, agent.sink) as (connection, recorder):
        agent.say({"id": request_id, "method": "session/request_permission", "params": {}})
        while not recorder.heard:
            await asyncio.sleep(0)
        connection.respond(recorder.heard[0][1]["id"], {"outcome": {"outcome": "cancelled"}})
        connection.respond_error(recorder.heard[0][1]["id"], -32601, "no", {"x": 1})
    assert agent.received == [
        {"jsonrpc": "2.0", "id": request_id, "result": {"outcome": {"outcome": "cancelled"}}},
        {"jsonrpc": "2.0", "id": request_id, "error": {"code": -32601, "message": "no", "data": {"x": 1}}},
    ]
    assert recorder.frames_sent == agent.received


async def test_an_agent_that_does_not_read_its_stdin_gets_a_deadline():
    class Stuck(MemorySink):
        async def drain(self):
            await asyncio.Event().wait()

    async with Running(asyncio.StreamReader(), Stuck(), write_timeout_s=0.02) as (connection, _):
        with pytest.raises(DeadlineExceeded, match="did not read its stdin"):
            await connection.request("_x/echo", {}, 5)


async def test_an_agent_that_closed_its_stdin_has_exited():
    class Shut(MemorySink):
        async def drain(self):
            raise BrokenPipeError("shut")

    async with Running(asyncio.StreamReader(), Shut()) as (connection, _):
        with pytest.raises(AgentExited, match="closed its stdin"):
            await connection.request("_x/echo", {}, 5)
