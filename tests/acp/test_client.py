"""The client's side: capabilities gate calls, values are matched and read back, and the schema accepts every frame."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentctl.acp import client as acp_client
from agentctl.acp.permissions import outcome
from agentctl.errors import (
    AgentExited,
    CredentialsMissing,
    DeadlineExceeded,
    ProtocolError,
    Unsupported,
    UsageError,
)
from tests.acp.support import TRACES, Running, ScriptedAgent

FULL = {
    "loadSession": True,
    "promptCapabilities": {"image": True, "embeddedContext": True},
    "mcpCapabilities": {"http": True, "sse": False},
    "sessionCapabilities": {"resume": {}, "close": {}, "list": None, "additionalDirectories": {}},
}


def select(option_id, category, current, *values):
    options = [{"value": value, "name": f"Name of {value}"} for value in values]
    return {
        "id": option_id,
        "name": option_id.title(),
        "category": category,
        "type": "select",
        "currentValue": current,
        "options": options,
    }


OPTIONS = [
    select("mode", "mode", "default", "default", "acceptEdits", "plan"),
    select("model", "model", "opus", "opus", "sonnet", "haiku"),
    select("effort", "thought_level", "low", "low", "high"),
    {"id": "web", "name": "Web", "type": "boolean", "currentValue": False},
]


def set_option(params, options=OPTIONS):
    """An honest agent: the whole list with the new value."""
    return {
        "configOptions": [
            {**option, "currentValue": params["value"]} if option["id"] == params["configId"] else option
            for option in options
        ]
    }


def scripted(capabilities=FULL, new=None, **answers):
    info = {"protocolVersion": 1, "agentCapabilities": capabilities, "agentInfo": {"name": "a", "version": "1"}}
    table = {
        "initialize": {
            **info,
            "authMethods": [{"id": "key", "name": "Key"}, {"id": "tty", "type": "terminal", "name": "T"}],
        },
        "session/new": {"sessionId": "s1", "configOptions": OPTIONS, **(new or {})},
        "session/set_config_option": set_option,
        **{method.replace("__", "/"): answer for method, answer in answers.items()},
    }
    return ScriptedAgent(table)


class Session:
    """``async with Session(agent) as client``: initialized, with a session."""

    def __init__(self, agent, opened=True):
        self.running = Running(agent.source, agent.sink)
        self.opened = opened

    async def __aenter__(self):
        connection, _ = await self.running.__aenter__()
        client = await acp_client.initialize(connection, agent="agent", version="0.1", timeout_s=5)
        if self.opened:
            await client.new_session("/w", timeout_s=5)
        return client

    async def __aexit__(self, *exc):
        await self.running.__aexit__(*exc)


# Initialize


async def test_initialize_offers_forms_and_booleans_but_no_files_or_terminals():
    agent = scripted()
    async with Running(agent.source, agent.sink) as (connection, _):
        client = await acp_client.initialize(connection, agent="a", version="9", client_meta={"x": 1}, timeout_s=5)
    [params] = agent.asked("initialize")
    assert params["clientCapabilities"] == {
        "fs": {"readTextFile": False, "writeTextFile": False},
        "terminal": False,
        "session": {"configOptions": {"boolean": {}}, "compaction": {}, "notices": {}},
        "elicitation": {"form": {}},
        "auth": {"terminal": False},
        "_meta": {"x": 1},
    }
    assert params["clientInfo"]["version"] == "9"
    assert client.agent_info == {"name": "a", "version": "1"}
    assert (client.can_load, client.can_resume, client.can_close) == (True, True, True)


@pytest.mark.parametrize("spoken", [2, "1", None])
async def test_another_protocol_version_is_refused(spoken):
    agent = scripted(initialize={"protocolVersion": spoken})
    with pytest.raises(ProtocolError, match="speaks ACP protocol version"):
        async with Session(agent):
            pass


async def test_an_agent_that_says_nothing_about_itself_can_nothing():
    agent = scripted(initialize={"protocolVersion": 1, "agentCapabilities": None})
    async with Session(agent) as client:
        assert (client.agent_info, client.capabilities, client.auth_methods) == ({}, {}, [])
        assert (client.can_load, client.can_resume, client.can_close) == (False, False, False)


async def test_an_agent_that_dies_or_hangs_in_the_handshake_is_told_apart():
    agent = scripted(initialize=lambda params: agent.source.feed_eof())
    with pytest.raises(AgentExited):
        async with Session(agent):
            pass
    agent = scripted(initialize=lambda params: None)
    async with Running(agent.source, agent.sink) as (connection, _):
        with pytest.raises(DeadlineExceeded, match="initialize"):
            await acp_client.initialize(connection, agent="a", version="1", timeout_s=0.01)


# Sessions


STDIO = {"name": "files", "command": "/bin/mcp", "args": [], "env": [{"name": "A", "value": "1"}]}


async def test_sessions_are_opened_with_all_that_was_asked():
    agent = scripted(session__load={}, session__resume={"modes": {"currentModeId": "m", "availableModes": []}})
    more = {"mcp_servers": [STDIO], "meta": {"m": 1}, "additional_directories": ["/b"], "timeout_s": 5}
    async with Session(agent, opened=False) as client:
        result = await client.new_session("/w", **more)
        assert (result["sessionId"], client.session_id) == ("s1", "s1")
        await client.load_session("s2", "/w", **more)
        assert client.session_id == "s2"
        await client.resume_session("s3", "/w", **more)
        assert client.config.modes == {"currentModeId": "m", "availableModes": []}
    expected = {"cwd": "/w", "mcpServers": [STDIO], "additionalDirectories": ["/b"], "_meta": {"m": 1}}
    assert agent.asked("session/new") == [expected]
    assert agent.asked("session/load") == [{"sessionId": "s2", **expected}]
    assert agent.asked("session/resume") == [{"sessionId": "s3", **expected}]


async def test_nothing_is_sent_that_was_not_offered():
    agent = scripted(capabilities={"sessionCapabilities": {"resume": None}})
    async with Session(agent) as client:
        sent = len(agent.received)
        http = {"type": "http", "name": "x", "url": "http://x", "headers": []}
        for refused in (
            client.load_session("s", "/w"),
            client.resume_session("s", "/w"),
            client.close_session(),
            client.new_session("/w", mcp_servers=[http]),
            client.new_session("/w", additional_directories=["/b"]),
            client.prompt([{"type": "image", "data": "", "mimeType": "image/png"}]),
            client.prompt([{"type": "audio", "data": "", "mimeType": "audio/wav"}]),
            client.prompt([{"type": "resource", "resource": {"uri": "a", "text": "b"}}]),
            client.authenticate("tty"),
        ):
            with pytest.raises(Unsupported, match="agent cannot"):
                await refused
        assert len(agent.received) == sent


async def test_a_session_without_an_id_is_a_broken_agent():
    agent = scripted(session__new={"modes": None})
    with pytest.raises(ProtocolError, match="without a sessionId"):
        async with Session(agent):
            pass


async def test_authentication_that_is_missing_says_so():
    agent = scripted(session__new={"error": {"code": -32000, "message": "Authentication required"}})
    with pytest.raises(CredentialsMissing) as caught:
        async with Session(agent):
            pass
    assert caught.value.details["code"] == -32000


async def test_prompt_cancel_authenticate_and_close_reach_the_agent():
    agent = scripted(session__prompt={"stopReason": "end_turn"}, authenticate={}, session__close={})
    blocks = [{"type": "text", "text": "hi"}, {"type": "image", "data": "aGk=", "mimeType": "image/png"}]
    async with Session(agent) as client:
        assert await client.prompt(blocks, timeout_s=5) == {"stopReason": "end_turn"}
        client.cancel()
        await client.authenticate("key", timeout_s=5)
        await client.close_session(timeout_s=5)
        with pytest.raises(UsageError, match="empty"):
            await client.prompt([])
        with pytest.raises(UsageError, match="no login method"):
            await client.authenticate("nope")
    assert agent.asked("session/prompt") == [{"sessionId": "s1", "prompt": blocks}]
    assert agent.asked("session/cancel") == [{"sessionId": "s1"}]
    assert agent.asked("authenticate") == [{"methodId": "key"}]


async def test_a_prompt_before_any_session_is_our_mistake():
    async with Session(scripted(), opened=False) as client:
        with pytest.raises(UsageError, match="no session yet"):
            client.cancel()


# Mode, model, thought level, options


@pytest.mark.parametrize(
    ("given", "sent"), [("plan", "plan"), ("PLAN", "plan"), ("acceptedits", "acceptEdits"), ("name of plan", "plan")]
)
async def test_a_value_is_matched_exactly_then_by_case_then_by_name(given, sent):
    agent = scripted()
    async with Session(agent) as client:
        assert await client.set_mode(given) == sent
        assert client.config.mode == sent
    assert agent.asked("session/set_config_option") == [{"sessionId": "s1", "configId": "mode", "value": sent}]


async def test_an_unknown_value_gets_the_nearest_names_and_nothing_is_sent():
    agent = scripted()
    async with Session(agent) as client:
        with pytest.raises(UsageError) as caught:
            await client.set_model("sonet")
        assert caught.value.message == "'sonet' is no value for Model of agent"
        assert caught.value.hint == "did you mean sonnet?"
        assert caught.value.details["choices"] == ["opus", "sonnet", "haiku"]
        with pytest.raises(UsageError) as caught:
            await client.set_thought_level("zzz")
        assert caught.value.hint == "choose one of low, high"
    assert agent.asked("session/set_config_option") == []


async def test_values_that_differ_only_in_case_must_be_given_exactly():
    options = [select("m", "model", "A", "A", "a", "b")]
    agent = scripted(new={"configOptions": options}, session__set_config_option=lambda p: set_option(p, options))
    async with Session(agent) as client:
        assert await client.set_model("a") == "a"
        assert await client.set_model("A") == "A"
        assert await client.set_model("B") == "b"


async def test_an_accepted_value_that_took_no_effect_is_not_called_set():
    agent = scripted(session__set_config_option={"configOptions": OPTIONS})
    async with Session(agent) as client:
        with pytest.raises(Unsupported, match="accepted 'high' for Effort, but 'low' is in effect") as caught:
            await client.set_thought_level("high")
        assert caught.value.details == {"option": "effort", "wanted": "high", "in_effect": "low"}


async def test_an_option_that_vanished_with_another_is_seen():
    agent = scripted(session__set_config_option=lambda p: {"configOptions": set_option(p)["configOptions"][:2]})
    async with Session(agent) as client:
        await client.set_model("haiku")
        with pytest.raises(Unsupported, match="agent cannot choose a thought level"):
            await client.set_thought_level("high")


async def test_options_by_id_take_words_and_booleans():
    agent = scripted()
    async with Session(agent) as client:
        assert await client.set_config_option("web", True) is True
        assert await client.set_config_option("WEB", "off") is False
        assert await client.set_config_option("effort", "high") == "high"
        with pytest.raises(UsageError, match="no option of agent"):
            await client.set_config_option("wbe", True)
        with pytest.raises(UsageError, match="no value for Web"):
            await client.set_config_option("web", "maybe")
    assert agent.asked("session/set_config_option")[0] == {
        "sessionId": "s1",
        "configId": "web",
        "value": True,
        "type": "boolean",
    }


async def test_grouped_values_are_values():
    grouped = {**OPTIONS[1], "options": [{"group": "g", "name": "G", "options": [{"value": "deep", "name": "Deep"}]}]}
    agent = scripted(new={"configOptions": [grouped]}, session__set_config_option={"configOptions": []})
    async with Session(agent) as client:
        with pytest.raises(Unsupported):
            await client.set_model("deep")
    assert agent.asked("session/set_config_option")[0]["value"] == "deep"


GEMINI = {
    "configOptions": None,
    "modes": {
        "currentModeId": "default",
        "availableModes": [{"id": "default", "name": "D"}, {"id": "yolo", "name": "Y"}],
    },
    "models": {
        "currentModelId": "auto",
        "availableModels": [{"modelId": "auto", "name": "A"}, {"modelId": "pro", "name": "P"}],
    },
}


async def test_without_options_modes_and_models_are_set_the_old_way():
    agent = scripted(new=GEMINI, session__set_mode={}, session__set_model={})
    async with Session(agent) as client:
        assert (client.config.mode, client.config.model) == ("default", "auto")
        assert await client.set_mode("YOLO") == "yolo"
        assert await client.set_model("pro") == "pro"
        assert (client.config.mode, client.config.model) == ("yolo", "pro")
        with pytest.raises(UsageError):
            await client.set_model("none")
        with pytest.raises(Unsupported):
            await client.set_thought_level("high")
    assert agent.asked("session/set_mode") == [{"sessionId": "s1", "modeId": "yolo"}]
    assert agent.asked("session/set_model") == [{"sessionId": "s1", "modelId": "pro"}]


async def test_modes_are_ignored_where_options_are():
    levels = {"currentModeId": "low", "availableModes": [{"id": "low", "name": "L"}, {"id": "plan", "name": "P"}]}
    agent = scripted(new={"configOptions": [OPTIONS[2]], "modes": levels})
    async with Session(agent) as client:
        assert client.config.mode is None
        with pytest.raises(Unsupported, match="agent cannot choose a mode"):
            await client.set_mode("plan")
    assert agent.asked("session/set_mode") == []


async def test_method_not_found_means_unsupported():
    missing = {"error": {"code": -32601, "message": "Method not found"}}
    agent = scripted(new={"configOptions": []}, session__set_model=missing)
    async with Session(agent) as client:
        with pytest.raises(Unsupported, match="agent does not support session/set_model"):
            await client.set_model("anything")
        with pytest.raises(Unsupported, match="agent cannot switch its mode"):
            await client.set_mode("anything")


async def test_a_raw_call_passes_anything():
    agent = ScriptedAgent({"_x/echo": lambda params: {"echo": params}})
    async with Running(agent.source, agent.sink) as (connection, _):
        client = acp_client.AgentClient(connection, "agent", {})
        assert await client.call("_x/echo", {"a": 1}, timeout_s=5) == {"echo": {"a": 1}}


# Requests of the agent


@pytest.mark.parametrize("method", ["fs/write_text_file", "terminal/create", "_vendor/ask"])
async def test_requests_we_do_not_serve_get_a_clean_error(method):
    agent = scripted()
    async with Running(agent.source, agent.sink) as (connection, recorder):
        agent.say({"id": "uuid", "method": method, "params": {}})
        while not recorder.heard:
            await asyncio.sleep(0)
        acp_client.refuse(connection, recorder.heard[0][1])
    assert agent.received[0]["error"]["code"] == -32601
    assert agent.received[0]["id"] == "uuid"


# The real answers


@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces lie beside the checkout")
@pytest.mark.parametrize(
    ("name", "mode", "model", "thought_level"),
    [
        ("claude", "default", "default", "default"),
        ("codex", "agent", "gpt-5.5", "medium"),
        ("codexzed", "read-only", "gpt-5.5", "medium"),
        ("opencode", "build", "mock/mock-1", "low"),
        ("gemini", "default", "auto", None),
        ("pi", None, "mock/mock-1", "medium"),
        ("amp", "default", "medium", None),
    ],
)
async def test_real_answers_are_understood(name, mode, model, thought_level):
    recorded = json.loads((TRACES / name / "responses.json").read_text())
    agent = ScriptedAgent({"initialize": recorded["initialize"], "session/new": recorded["session_new"]})
    async with Session(agent) as client:
        config = client.config
        assert (config.mode, config.model, config.thought_level) == (mode, model, thought_level)
        assert client.can_load == (name != "amp")
        assert client.can_resume == (name not in ("gemini", "pi", "amp"))


def test_the_outcome_of_a_permission_is_a_result():
    assert outcome("x") == {"outcome": {"outcome": "selected", "optionId": "x"}}
