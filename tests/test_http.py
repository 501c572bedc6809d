"""Requests over the streams that a provider opens: when a stream is used again, and what is told when one breaks."""

import asyncio
import contextlib

import pytest

from agentctl.supervisor_client.http import MOST_STREAMS, Broken, Connections

HOST = [(b"host", b"supervisor")]
IN_TIME = {"timeout_s": 20.0, "connect_timeout_s": 20.0}
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Server:
    """Answers each request with the next of ``answers``, the last one for ever, and closes where it is told so."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.opened = 0
        self.asked: list[bytes] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.changed = asyncio.Condition()
        self._answers = list(answers)
        self._close = close
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @contextlib.asynccontextmanager
    async def serving(self, path):
        server = await asyncio.start_unix_server(self._serve, path)
        dialled = 0

        async def dial():
            nonlocal dialled
            dialled += 1
            return await asyncio.open_unix_connection(path)

        connections = Connections(dial)
        try:
            yield connections
        finally:
            connections.close()
            await self.until(lambda: self.opened == dialled)  # what is accepted later would never be closed
            server.close()
            self.may_answer.set()
            for writer in self._serving.values():
                writer.close()
            await asyncio.gather(*self._serving)

    async def until(self, condition):
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(condition)

    async def _tell(self):
        async with self.changed:
            self.changed.notify_all()

    async def _serve(self, reader, writer):
        self.opened += 1
        self._serving[asyncio.current_task()] = writer
        await self._tell()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"transfer-encoding: chunked" in head:
                    head += await reader.readuntil(b"0\r\n\r\n")
                self.asked.append(head)
                await self._tell()
                await self.may_answer.wait()
                writer.write(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
                if self._close:
                    writer.close()
                    return


async def get(connections, **timeouts):
    async with connections.request("GET", "/x", HOST, None, **{**IN_TIME, **timeouts}) as response:
        return response.status, await response.aread()


async def test_a_stream_whose_answer_was_read_is_used_again(tmp_path):
    server = Server(HELLO)
    async with server.serving(tmp_path / "s") as connections:
        assert [await get(connections) for _ in range(3)] == [(200, b"hello")] * 3
    assert server.opened == 1


async def test_a_stream_whose_answer_was_not_read_is_not_used_again(tmp_path):
    server = Server(HELLO)
    async with server.serving(tmp_path / "s") as connections:
        async with connections.request("GET", "/x", HOST, None, **IN_TIME) as response:
            assert response.headers == [(b"content-length", b"5")]
        assert await get(connections) == (200, b"hello")
    assert server.opened == 2


async def test_a_stream_that_the_other_side_closed_meanwhile_is_not_used_again(tmp_path):
    server = Server(HELLO, close=True)
    async with server.serving(tmp_path / "s") as connections:
        assert await get(connections) == (200, b"hello")
        [free] = connections._free
        async with asyncio.timeout(20):
            while free.is_usable:
                await asyncio.sleep(0.001)
        assert await get(connections) == (200, b"hello")
    assert server.opened == 2


async def test_a_body_comes_in_pieces_and_goes_in_pieces(tmp_path):
    server = Server(b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")

    async def pieces():
        yield b"some"
        yield b"thing"

    async with server.serving(tmp_path / "s") as connections:
        headers = [*HOST, (b"transfer-encoding", b"chunked")]
        async with connections.request("PUT", "/x", headers, pieces(), **IN_TIME) as response:
            assert (response.status, [piece async for piece in response.aiter_stream()]) == (201, [b"ab", b"cde"])
    assert b"some" in server.asked[0]
    assert b"thing" in server.asked[0]


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", b"HTTP/1.1 200"]
)
async def test_what_is_no_whole_answer_is_told_as_broken(tmp_path, answer):
    async with Server(answer, close=True).serving(tmp_path / "s") as connections:
        with pytest.raises(Broken):
            await get(connections)


async def test_silence_is_told_as_broken(tmp_path):
    server = Server(HELLO)
    server.may_answer.clear()
    async with server.serving(tmp_path / "s") as connections:
        with pytest.raises(Broken, match=r"no answer within 0\.05 s"):
            await get(connections, timeout_s=0.05)
        server.may_answer.set()
        assert await get(connections) == (200, b"hello")
    assert server.opened == 2


async def test_a_body_that_is_longer_than_was_said_is_told_as_broken(tmp_path):
    async def pieces():
        yield b"too long"

    async with Server(HELLO).serving(tmp_path / "s") as connections:
        with pytest.raises(Broken):
            async with connections.request("PUT", "/x", [*HOST, (b"content-length", b"3")], pieces(), **IN_TIME):
                pass


async def test_what_is_asked_beyond_the_most_streams_waits_for_one(tmp_path):
    server = Server(HELLO)
    server.may_answer.clear()
    async with server.serving(tmp_path / "s") as connections, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(get(connections)) for _ in range(MOST_STREAMS + 1)]
        await server.until(lambda: len(server.asked) == MOST_STREAMS)
        server.may_answer.set()
        assert [await task for task in asking] == [(200, b"hello")] * (MOST_STREAMS + 1)
    assert server.opened == MOST_STREAMS


async def test_closing_ends_what_is_still_being_read(tmp_path):
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    async with (
        server.serving(tmp_path / "s") as connections,
        connections.request("GET", "/x", HOST, None, **IN_TIME) as response,
    ):
        pieces = aiter(response.aiter_stream())
        assert await anext(pieces) == b"hello"
        connections.close()
        with pytest.raises(Broken):
            await anext(pieces)
