"""An agent of the official SDK, in a process of its own, driven through our connection, client and translator."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from agentctl import events
from agentctl.acp import client as acp_client
from agentctl.acp.connection import Connection
from agentctl.acp.permissions import choose_option, outcome
from agentctl.acp.translate import Translator
from agentctl.errors import AgentExited, CredentialsRejected
from tests.acp.support import Balance, Recorder, judge

pytestmark = pytest.mark.slow  # the SDK alone takes half a second to import


class Owner(Recorder):
    """What a session does with a connection, in short."""

    def __init__(self, want):
        super().__init__()
        self.want = want
        self.translator = Translator()
        self.balance = Balance()
        self.drafts = []
        self.started = asyncio.Event()

    def take(self, drafts):
        self.drafts += self.balance.take(drafts)

    def notification(self, frame, line):
        self.take(self.translator.notification(frame, line))
        if frame["params"]["update"]["sessionUpdate"] == "tool_call":
            self.started.set()

    def request(self, frame, line):
        self.take(self.translator.permission(frame["params"], line))
        option = choose_option(frame["params"]["options"], self.want)
        self.connection.respond(frame["id"], outcome(option))

    def response(self, method, frame, line):
        if method == "session/prompt":
            self.take(self.translator.end_turn(frame.get("result", {}).get("stopReason") == "cancelled"))

    def sent(self, frame):
        judge(frame)

    def completed(self, kind):
        return [item for item in self.balance.completed.values() if item["kind"] == kind]


class Peer:
    """``async with Peer(want) as (client, owner)``: the agent runs, is initialized, and is gone afterwards."""

    def __init__(self, want="once"):
        self.want = want

    async def __aenter__(self):
        script = Path(__file__).with_name("sdk_agent.py")
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
        )
        self.owner = Owner(self.want)
        self.owner.process = self.process
        self.owner.connection = Connection(self.process.stdout, self.process.stdin, self.owner)
        self.reading = asyncio.create_task(self.owner.connection.run())
        client = await acp_client.initialize(self.owner.connection, agent="sdk", version="0", timeout_s=20)
        return client, self.owner

    async def __aexit__(self, *_):
        self.owner.connection.close()
        await asyncio.wait_for(self.reading, 5)
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


HELLO = [{"type": "text", "text": "hello"}]


@pytest.mark.parametrize(
    ("want", "status", "said"), [("once", "completed", "chose y"), ("reject", "failed", "chose n")]
)
async def test_a_turn_with_a_permission(want, status, said):
    async with Peer(want) as (client, owner):
        await client.new_session("/tmp")
        assert await client.prompt(HELLO, timeout_s=20) == {"stopReason": "end_turn"}
    assert not owner.balance.open
    assert [events.text_of(item) for item in owner.completed("message")] == ["all done"]
    assert [events.text_of(item) for item in owner.completed("reasoning")] == ["thinking"]
    [call], [result] = owner.completed("tool_call"), owner.completed("tool_result")
    assert (call["status"], call["tool"]["raw_input"]) == (status, {"command": "touch x"})
    assert result["content"][0]["output"] == said
    assert owner.completed("plan")[0]["status"] == "completed"


async def test_a_cancelled_turn_ends_cancelled_and_closes_its_tool():
    async with Peer() as (client, owner):
        await client.new_session("/tmp")
        prompt = asyncio.create_task(client.prompt([{"type": "text", "text": "wait"}], timeout_s=20))
        await asyncio.wait_for(owner.started.wait(), 20)
        client.cancel()
        assert await prompt == {"stopReason": "cancelled"}
    assert owner.completed("tool_call")[0]["status"] == "failed"


async def test_modes_errors_load_and_a_killed_agent():
    async with Peer() as (client, owner):
        await client.new_session("/tmp")
        assert await client.set_mode("Plan") == "plan"
        with pytest.raises(CredentialsRejected):
            await client.prompt([{"type": "text", "text": "fail"}], timeout_s=20)
        owner.translator.begin_replay()
        await client.load_session("sdk-1", "/tmp")
        owner.take(owner.translator.end_replay())
        replayed = [d.data["item"] for d in owner.drafts if d.data.get("replayed") and d.type == "item.completed"]
        assert [events.text_of(item) for item in replayed] == ["earlier", "answer"]
        prompt = asyncio.create_task(client.prompt([{"type": "text", "text": "wait"}]))
        await asyncio.wait_for(owner.started.wait(), 20)
        owner.process.kill()
        with pytest.raises(AgentExited):
            await asyncio.wait_for(prompt, 10)
