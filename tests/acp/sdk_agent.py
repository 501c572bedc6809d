"""An agent written on the official Python SDK, run as a process of its own by ``test_sdk_peer``."""

from __future__ import annotations

import asyncio
import sys

import acp  # noqa: TID251 the official SDK is our test peer
from acp import helpers, schema  # noqa: TID251

OPTIONS = [
    schema.PermissionOption(option_id="y", name="Yes", kind="allow_once"),
    schema.PermissionOption(option_id="n", name="No", kind="reject_once"),
]


class SdkAgent(acp.Agent):
    def __init__(self):
        self.cancelled = asyncio.Event()
        self.mode = "code"

    def on_connect(self, conn):
        self.client = conn

    async def initialize(self, protocol_version, client_capabilities=None, client_info=None, **kwargs):
        print("noise on stderr", file=sys.stderr)
        return schema.InitializeResponse(
            protocol_version=1,
            agent_capabilities=schema.AgentCapabilities(load_session=True),
            agent_info=schema.Implementation(name="sdk", version="1"),
        )

    async def new_session(self, cwd, mcp_servers=None, **kwargs):
        modes = [schema.SessionMode(id="code", name="Code"), schema.SessionMode(id="plan", name="Plan")]
        state = schema.SessionModeState(current_mode_id=self.mode, available_modes=modes)
        return schema.NewSessionResponse(session_id="sdk-1", modes=state)

    async def load_session(self, cwd, session_id, mcp_servers=None, **kwargs):
        await self.say(acp.update_user_message_text("earlier"), session_id)
        await self.say(acp.update_agent_message_text("answer"), session_id)
        return schema.LoadSessionResponse()

    async def set_session_mode(self, session_id, mode_id, **kwargs):
        self.mode = mode_id
        await self.say(helpers.update_current_mode(mode_id), session_id)
        return schema.SetSessionModeResponse()

    async def prompt(self, prompt, session_id, **kwargs):
        text = prompt[0].text
        await self.say(acp.update_agent_thought_text("thinking"), session_id)
        if text == "wait":
            await self.say(acp.start_tool_call("t0", "sleep", kind="execute", status="in_progress"), session_id)
            await self.cancelled.wait()
            return schema.PromptResponse(stop_reason="cancelled")
        if text == "fail":
            raise acp.RequestError(-32000, "Authentication required", {"errorKind": "authentication_failed"})
        await self.say(acp.start_tool_call("t1", "touch x", kind="execute", status="pending"), session_id)
        call = schema.ToolCallUpdate(tool_call_id="t1", title="touch x", raw_input={"command": "touch x"})
        answer = await self.client.request_permission(options=OPTIONS, session_id=session_id, tool_call=call)
        chosen = getattr(answer.outcome, "option_id", None)
        status = "completed" if chosen == "y" else "failed"
        await self.say(acp.update_tool_call("t1", status=status, raw_output=f"chose {chosen}"), session_id)
        await self.say(acp.update_plan([acp.plan_entry("done", status="completed")]), session_id)
        await self.say(acp.update_agent_message_text("all done"), session_id)
        return schema.PromptResponse(stop_reason="end_turn")

    async def cancel(self, session_id, **kwargs):
        self.cancelled.set()

    async def say(self, update, session_id):
        await self.client.session_update(session_id, update)


if __name__ == "__main__":
    asyncio.run(acp.run_agent(SdkAgent()))
