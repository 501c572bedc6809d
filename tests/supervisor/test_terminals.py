"""Terminals over a real websocket: several viewers, resize, scroll-back, reconnect, the end."""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import asynccontextmanager

import pytest
from wsproto import ConnectionType, WSConnection, events

from agentctl import errors
from agentctl.supervisor.exec.terminal_routes import SCROLL_BACK_BYTES
from agentctl.supervisor_client.terminals import Said, Shown, attached
from tests.supervisor.raw_client import RawClient
from tests.supervisor.support import TOKEN
from tests.supervisor.test_user_processes import alive, dead, processes, shell


@pytest.fixture
async def ours(tmp_path):
    async with processes(tmp_path) as found:
        yield found


class Screen:
    """Reads one connection on: ``until`` a text was shown, or to the end."""

    def __init__(self, terminal) -> None:
        self.terminal = terminal
        self.data = b""
        self.after = 0
        self.said = []
        self._messages = terminal.messages()

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(30):
            while text not in self.data:
                self._take(await anext(self._messages))

    async def end(self):
        """The exit frame."""
        async with asyncio.timeout(30):
            async for message in self._messages:
                self._take(message)
        assert self.said[-1]["type"] == "exit"
        return self.said[-1]

    def _take(self, message) -> None:
        if isinstance(message, Shown):
            self.data += message.data
            self.after = message.sequence
        else:
            assert isinstance(message, Said)
            self.said.append(message.frame)


@asynccontextmanager
async def screen(ours, process_id, **how):
    async with attached(ours._transport, process_id, **how) as terminal:
        yield Screen(terminal)


async def on_terminal(ours, script, **more):
    return (await ours.create(shell(script, tty=True, **more)))["id"]


async def test_a_process_on_a_terminal_has_one_and_ends_with_its_code(ours):
    name = await on_terminal(ours, "tty; test -t 0 && test -t 1 && test -t 2; echo $?; echo $TERM; exit 6", rows=33)
    async with screen(ours, name) as view:
        ended = await view.end()
    assert view.said[0] == {"type": "ready", "processId": name}
    assert re.fullmatch(rb"/dev/\S+\r\n0\r\nxterm-256color\r\n", view.data)
    assert ended["exitCode"] == 6
    assert (await ours.get(name))["exitCode"] == 6


async def test_the_size_is_set_at_first_and_changed_by_a_frame_and_by_a_request(ours):
    script = "stty size; trap 'stty size' WINCH; while :; do sleep 0.02; done"
    name = await on_terminal(ours, script, rows=33, cols=101)
    async with screen(ours, name) as view:
        await view.until(b"33 101\r\n")
        await view.terminal.resize(40, 120)
        await view.until(b"40 120\r\n")
        await ours.resize(name, 10, 20)
        await view.until(b"10 20\r\n")
        for bad in ({"rows": 0, "cols": 5}, {"rows": 5}, {"rows": 99999, "cols": 5}):
            with pytest.raises(errors.UsageError):
                await ours._transport.request("POST", f"/v1/processes/{name}/terminal/resize", bad)


async def test_keys_arrive_and_ctrl_c_interrupts(ours):
    name = await on_terminal(ours, "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done")
    async with screen(ours, name) as view:
        await view.until(b"ready")
        await view.terminal.type(b"\x03")
        assert (await view.end())["exitCode"] == 9
    assert b"caught" in view.data


async def test_a_second_viewer_sees_what_was_shown_and_both_see_what_comes(ours):
    name = await on_terminal(ours, "echo early; read x; echo got $x; sleep 60")
    async with screen(ours, name) as one:
        await one.until(b"early")
        async with screen(ours, name) as two:
            await two.until(b"early")
            await two.terminal.type(b"hello\n")
            for view in (one, two):
                await view.until(b"got hello")
        assert alive((await ours.get(name))["pid"])
    async with screen(ours, name) as three:
        await three.until(b"got hello")
        assert three.data == one.data


async def test_a_viewer_that_comes_back_goes_on_where_it_was(ours):
    name = await on_terminal(ours, "echo one; read x; echo two; sleep 60")
    async with screen(ours, name) as view:
        await view.until(b"one")
        after, before = view.after, view.data
    await ours.write(name, b"\n")
    async with screen(ours, name, since=after) as view:
        await view.until(b"two")
        assert b"one" not in view.data
    async with screen(ours, name) as whole:
        await whole.until(b"two")
        assert whole.data == before + view.data


async def test_scroll_back_is_bounded_and_said_to_be_cut(ours):
    name = await on_terminal(ours, "seq 1 100000; echo end; sleep 60")
    async with screen(ours, name) as view:
        await view.until(b"end\r\n")
    async with screen(ours, name) as late:
        await late.until(b"end\r\n")
        assert late.said[1]["type"] == "truncated"
        assert len(late.data) <= SCROLL_BACK_BYTES
        assert late.data.endswith(b"100000\r\nend\r\n")


async def test_an_ended_process_still_shows_its_last_screen(ours):
    name = await on_terminal(ours, "echo last words; exit 3")
    async with screen(ours, name) as view:
        await view.end()
    async with screen(ours, name) as late:
        assert (await late.end())["exitCode"] == 3
        assert late.data == view.data == b"last words\r\n"


async def test_a_killed_process_says_its_signal(ours):
    name = await on_terminal(ours, "echo up; sleep 60")
    async with screen(ours, name) as view:
        await view.until(b"up")
        await ours.kill(name)
        ended = await view.end()
    assert ended["signal"] == 9
    assert "exitCode" not in ended


async def test_nothing_foreign_is_in_the_stream_and_what_a_grandchild_holds_is_hung_up(ours):
    name = await on_terminal(ours, "sleep 60 & echo $!; exit 0")
    async with screen(ours, name) as view:
        assert (await view.end())["exitCode"] == 0
    assert re.fullmatch(rb"\d+\r\n", view.data)
    async with screen(ours, name) as late:
        await late.end()
        assert late.data == view.data


async def test_a_slow_viewer_misses_nothing_of_a_flood(ours):
    name = await on_terminal(ours, "seq 1 200000")
    async with screen(ours, name) as view:
        await asyncio.sleep(0.3)
        await view.end()
    assert view.data == b"".join(b"%d\r\n" % n for n in range(1, 200_001))


async def test_a_terminal_that_nobody_views_is_hung_up_when_that_was_asked_for(ours):
    name = await on_terminal(ours, "echo up; sleep 60", unattendedMs=1000)
    pid = (await ours.get(name))["pid"]
    async with screen(ours, name) as view:
        await view.until(b"up")
        await asyncio.sleep(1.3)
        assert alive(pid)
    await dead(pid)


async def test_a_process_without_a_terminal_an_unknown_one_and_a_wrong_token_are_refused_before_the_upgrade(ours):
    plain = await ours.create(shell("sleep 60"))
    with pytest.raises(errors.Conflict, match="no terminal"):
        async with attached(ours._transport, plain["id"]):
            pass
    with pytest.raises(errors.Conflict, match="no terminal"):
        await ours.resize(plain["id"], 10, 10)
    with pytest.raises(errors.ProcessNotFound):
        async with attached(ours._transport, "nix"):
            pass
    async with ours.running.client("wrong") as stranger:
        with pytest.raises(errors.TokenInvalid):
            async with attached(stranger, plain["id"]):
                pass
    raw = RawClient(ours.running)
    assert (await raw.call("GET", f"/v1/processes/{plain['id']}/terminal/ws")).status == 400
    await raw.close()


# as a browser does it: the token in the query, plain frames


class Browser:
    def __init__(self, reader, writer) -> None:
        self.reader, self.writer = reader, writer
        self.connection = WSConnection(ConnectionType.CLIENT)
        self.inbox = []

    @classmethod
    async def connect(cls, ours, name, token=TOKEN):
        self = cls(*await asyncio.open_unix_connection(ours.running.socket))
        target = f"/v1/processes/{name}/terminal/ws?access_token={token}"
        self.send(events.Request(host="supervisor", target=target))
        self.answer = await self.next()
        return self

    def send(self, event) -> None:
        self.writer.write(self.connection.send(event))

    async def next(self):
        async with asyncio.timeout(30):
            while not self.inbox:
                data = await self.reader.read(65536)
                self.connection.receive_data(data or None)
                self.inbox += self.connection.events()
        return self.inbox.pop(0)

    async def frame(self):
        event = await self.next()
        assert isinstance(event, events.TextMessage), event
        return json.loads(event.data)


async def test_a_browser_speaks_the_peers_frames(ours):
    name = await on_terminal(ours, "read x; echo got $x; exit 2")
    browser = await Browser.connect(ours, name)
    assert await browser.frame() == {"type": "ready", "processId": name}
    for bad in ("no json", "[]", '{"type":"nonsense"}', '{"type":"input"}', '{"type":"resize","rows":-1,"cols":3}'):
        browser.send(events.Message(data=bad))
        assert (await browser.frame())["type"] == "error", bad
    browser.send(events.Message(data=b"binary"))
    assert "Binary" in (await browser.frame())["message"]
    browser.send(events.Message(data=json.dumps({"type": "input", "data": "hi\n"})))
    shown = b""
    while isinstance(event := await browser.next(), events.BytesMessage):
        shown += event.data
    assert shown == b"hi\r\ngot hi\r\n"
    assert json.loads(event.data)["exitCode"] == 2
    close = await browser.next()
    assert isinstance(close, events.CloseConnection)
    assert (close.code, close.reason) == (1000, "exit 2")
    browser.writer.close()


async def test_closing_leaves_the_process_running_and_a_wrong_token_in_the_query_is_refused(ours):
    name = await on_terminal(ours, "sleep 60")
    browser = await Browser.connect(ours, name)
    browser.send(events.Message(data='{"type":"close"}'))
    while not isinstance(await browser.next(), events.CloseConnection):
        pass
    browser.writer.close()
    assert alive((await ours.get(name))["pid"])
    refused = await Browser.connect(ours, name, token="wrong")
    assert isinstance(refused.answer, events.RejectConnection)
    assert refused.answer.status_code == 401
    refused.writer.close()


async def test_the_end_of_the_supervisor_ends_the_terminal_and_its_viewers(tmp_path):
    async with processes(tmp_path) as ours:
        name = await on_terminal(ours, "echo up; sleep 60")
        pid = (await ours.get(name))["pid"]
        async with screen(ours, name) as view:
            await view.until(b"up")
            ours.running.process.terminate()
            with pytest.raises((errors.SupervisorUnreachable, StopAsyncIteration)):
                await view.until(b"what is never shown")
        await dead(pid)


async def test_an_upgrade_of_another_route_is_refused(ours):
    reader, writer = await asyncio.open_unix_connection(ours.running.socket)
    key = os.urandom(16).hex()[:22] + "=="
    writer.write(
        f"GET /v1/health HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\nx-agentctl-token: {TOKEN}\r\n\r\n".encode()
    )
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] in (b"403", b"404")
    writer.close()
