"""The client's side of ACP v1: capabilities first, then calls; nothing is sent that the agent did not offer.

Source: the ACP schema v1 (initialize, session setup, prompt turn, session config options). JSON-RPC errors leave here
as errors of our own tree (``faults.to_error``) with the raw code, message and data in ``details``.
"""

from __future__ import annotations

from typing import Any

from agentctl.acp.connection import METHOD_NOT_FOUND, Connection, RpcError
from agentctl.acp.faults import to_error
from agentctl.acp.objects import object_of
from agentctl.acp.session_config import SessionConfig, choices_of, match_choice
from agentctl.errors import ProtocolError, Unsupported, UsageError

Json = dict[str, Any]
PROTOCOL_VERSION = 1
_BLOCK_CAPABILITY = {"image": "image", "audio": "audio", "resource": "embeddedContext"}


def client_capabilities(meta: Json | None = None) -> Json:
    """What we offer an agent: neither files nor terminals (it has the sandbox's own), forms, notices, booleans."""
    capabilities: Json = {
        "fs": {"readTextFile": False, "writeTextFile": False},
        "terminal": False,
        "session": {"configOptions": {"boolean": {}}, "compaction": {}, "notices": {}},
        "elicitation": {"form": {}},
        "auth": {"terminal": False},
    }
    return {**capabilities, "_meta": meta} if meta else capabilities


async def initialize(
    connection: Connection,
    *,
    agent: str,
    version: str,
    client_meta: Json | None = None,
    timeout_s: float = 60,
) -> AgentClient:
    """Shake hands. ``agent`` is the name used in messages, ``client_meta`` becomes ``clientCapabilities._meta``.

    Raises ``ProtocolError`` when the agent speaks another protocol version, and what ``AgentClient.call`` raises.
    """
    params = {
        "protocolVersion": PROTOCOL_VERSION,
        "clientInfo": {"name": "agentctl", "title": "agentctl", "version": version},
        "clientCapabilities": client_capabilities(client_meta),
    }
    client = AgentClient(connection, agent, {})
    client.info = await client.call("initialize", params, timeout_s=timeout_s)
    spoken = client.info.get("protocolVersion")
    if spoken != PROTOCOL_VERSION:
        raise ProtocolError(
            f"{agent} speaks ACP protocol version {spoken!r}; agentctl speaks {PROTOCOL_VERSION}",
            hint="install a version of the agent that speaks ACP 1",
            details={"protocolVersion": spoken},
        )
    return client


def refuse(connection: Connection, frame: Json) -> None:
    """Answer an agent's request that we do not serve (``fs/*``, ``terminal/*``, unknown) with -32601."""
    method = frame["method"]
    connection.respond_error(frame["id"], METHOD_NOT_FOUND, f"Method not found: {method}", {"method": method})


class AgentClient:
    """One initialized agent process and the one session in it.

    Every call raises ``Unsupported`` (nothing was sent) when the agent has not advertised it, ``AgentExited``,
    ``DeadlineExceeded``, or what ``faults.to_error`` makes of the agent's JSON-RPC error.
    """

    def __init__(self, connection: Connection, agent: str, info: Json) -> None:
        self.connection = connection
        self.agent = agent
        self.info = info
        """The whole initialize result."""
        self.config = SessionConfig()
        """Modes, models, config options and title; give it to the session's ``Translator``."""
        self.session_id: str | None = None

    @property
    def agent_info(self) -> Json:
        """``{"name", "version", "title"?}``, ``{}`` when the agent does not say."""
        return object_of(self.info.get("agentInfo"))

    @property
    def capabilities(self) -> Json:
        """The ``agentCapabilities`` object."""
        return object_of(self.info.get("agentCapabilities"))

    @property
    def auth_methods(self) -> list[Json]:
        """The advertised ``authMethods``."""
        methods = self.info.get("authMethods")
        return [m for m in methods if isinstance(m, dict)] if isinstance(methods, list) else []

    @property
    def can_load(self) -> bool:
        return self.capabilities.get("loadSession") is True

    @property
    def can_resume(self) -> bool:
        return self._session_capability("resume")

    @property
    def can_close(self) -> bool:
        return self._session_capability("close")

    async def call(self, method: str, params: Json, *, timeout_s: float | None = 120) -> Json:
        """One raw request, gated by nothing; its JSON-RPC error is mapped to our tree."""
        try:
            return await self.connection.request(method, params, timeout_s)
        except RpcError as e:
            raise to_error(e, method=method, agent=self.agent) from e

    async def new_session(
        self,
        cwd: str,
        *,
        mcp_servers: list[Json] | None = None,
        meta: Json | None = None,
        additional_directories: list[str] | None = None,
        timeout_s: float = 120,
    ) -> Json:
        """``session/new``; sets ``session_id`` and ``config``, returns the raw result. ``cwd`` must be absolute."""
        setup = self._setup(cwd, mcp_servers, meta, additional_directories)
        return await self._open("session/new", setup, timeout_s)

    async def load_session(
        self,
        session_id: str,
        cwd: str,
        *,
        mcp_servers: list[Json] | None = None,
        meta: Json | None = None,
        additional_directories: list[str] | None = None,
        timeout_s: float = 120,
    ) -> Json:
        """``session/load``: the history arrives as updates (see ``Translator.begin_replay``). Returns the result."""
        self._require(self.can_load, "load a session")
        setup = self._setup(cwd, mcp_servers, meta, additional_directories)
        return await self._open("session/load", {"sessionId": session_id, **setup}, timeout_s)

    async def resume_session(
        self,
        session_id: str,
        cwd: str,
        *,
        mcp_servers: list[Json] | None = None,
        meta: Json | None = None,
        additional_directories: list[str] | None = None,
        timeout_s: float = 120,
    ) -> Json:
        """``session/resume``: the agent goes on with a stored session and replays nothing. Returns the result."""
        self._require(self.can_resume, "resume a session")
        setup = self._setup(cwd, mcp_servers, meta, additional_directories)
        return await self._open("session/resume", {"sessionId": session_id, **setup}, timeout_s)

    def check_prompt(self, blocks: list[Json]) -> None:
        """Raise ``UsageError`` for an empty prompt, ``Unsupported`` for a block kind the agent does not take."""
        if not blocks:
            raise UsageError("the message is empty")
        taken = object_of(self.capabilities.get("promptCapabilities"))
        for block in blocks:
            needed = _BLOCK_CAPABILITY.get(block.get("type", ""))
            self._require(needed is None or taken.get(needed) is True, f"take {block.get('type')} attachments")

    async def prompt(self, blocks: list[Json], *, timeout_s: float | None = None) -> Json:
        """``session/prompt`` → ``{"stopReason", …}``, after ``check_prompt``."""
        self.check_prompt(blocks)
        params = {"sessionId": self._session(), "prompt": blocks}
        return await self.call("session/prompt", params, timeout_s=timeout_s)

    def cancel(self) -> None:
        """``session/cancel``: the prompt still answers, with ``cancelled``. Harmless when idle."""
        self.connection.notify("session/cancel", {"sessionId": self._session()})

    async def set_mode(self, value: str, *, timeout_s: float = 30) -> str:
        """Choose the mode (config option of category ``mode``, else ``session/set_mode``); returns the value in effect.

        Raises ``UsageError`` with the nearest names for an unknown value, and ``Unsupported`` when the agent has no
        such choice, or says afterwards that another value is in effect.
        """
        if self.config.options:
            return await self._set_category("mode", value, timeout_s)
        self._require(self.config.modes is not None, "switch its mode")
        chosen = match_choice(value, _names(self.config.modes, "availableModes", "id"), f"mode of {self.agent}")
        params = {"sessionId": self._session(), "modeId": chosen}
        await self.call("session/set_mode", params, timeout_s=timeout_s)
        self.config.take_mode(chosen)
        return chosen

    async def set_model(self, value: str, *, timeout_s: float = 30) -> str:
        """Choose the model (category ``model``, else ``session/set_model``); raises as ``set_mode`` does."""
        if self.config.options:
            return await self._set_category("model", value, timeout_s)
        names = _names(self.config.models, "availableModels", "modelId")
        chosen = match_choice(value, names, f"model of {self.agent}") if names else value
        params = {"sessionId": self._session(), "modelId": chosen}
        await self.call("session/set_model", params, timeout_s=timeout_s)
        self.config.take_model(chosen)
        return chosen

    async def set_thought_level(self, value: str, *, timeout_s: float = 30) -> str:
        """Choose the thought level (category ``thought_level`` only); raises as ``set_mode`` does."""
        return await self._set_category("thought_level", value, timeout_s)

    async def set_config_option(self, option_id: str, value: str | bool, *, timeout_s: float = 30) -> str | bool:
        """Set one config option by its id and read the value back; raises as ``set_mode`` does.

        A boolean option takes ``True``, ``False`` or the words true, false, on, off.
        """
        option = self.config.option_by_id(option_id)
        if option is None:
            ids = {o["id"]: o["id"] for o in self.config.options}
            chosen = match_choice(option_id, ids, f"option of {self.agent}")
            option = next(o for o in self.config.options if o["id"] == chosen)
        return await self._set_option(option, value, timeout_s)

    async def authenticate(self, method_id: str, *, timeout_s: float = 60) -> None:
        """``authenticate`` with an advertised method; one of type ``terminal`` needs a person, so it is refused."""
        methods = {m["id"]: m for m in self.auth_methods if isinstance(m.get("id"), str)}
        chosen = match_choice(method_id, {m: m for m in methods}, f"login method of {self.agent}")
        self._require(methods[chosen].get("type") != "terminal", f"log in by {chosen} without a terminal")
        await self.call("authenticate", {"methodId": chosen}, timeout_s=timeout_s)

    async def close_session(self, *, timeout_s: float = 10) -> None:
        """``session/close``: the agent cancels and frees the session."""
        self._require(self.can_close, "close a session")
        await self.call("session/close", {"sessionId": self._session()}, timeout_s=timeout_s)

    async def _set_category(self, category: str, value: str, timeout_s: float) -> str:
        option = self.config.option(category)
        if option is None:
            raise self._unsupported(f"choose a {category.replace('_', ' ')}")
        return str(await self._set_option(option, value, timeout_s))

    async def _set_option(self, option: Json, value: str | bool, timeout_s: float) -> str | bool:
        """Send only what is offered, then believe only what the agent answers: pi takes levels that stay off."""
        chosen = _choice(option, value, self.agent)
        params: Json = {"sessionId": self._session(), "configId": option["id"], "value": chosen}
        if isinstance(chosen, bool):
            params["type"] = "boolean"
        result = await self.call("session/set_config_option", params, timeout_s=timeout_s)
        self.config.take_result(result)
        now = (self.config.option_by_id(option["id"]) or {}).get("currentValue")
        if isinstance(result.get("configOptions"), list) and now != chosen:
            name = option.get("name", option["id"])
            raise Unsupported(
                f"{self.agent} accepted {chosen!r} for {name}, but {now!r} is in effect",
                hint="the current model may not offer it",
                details={"option": option["id"], "wanted": chosen, "in_effect": now},
            )
        return chosen

    def _setup(self, cwd: str, servers: list[Json] | None, meta: Json | None, more: list[str] | None) -> Json:
        offered = object_of(self.capabilities.get("mcpCapabilities"))
        for server in servers or []:
            kind = server.get("type", "stdio")
            self._require(kind == "stdio" or offered.get(kind) is True, f"use MCP servers over {kind}")
        self._require(not more or self._session_capability("additionalDirectories"), "work in additional directories")
        params: Json = {"cwd": cwd, "mcpServers": servers or []}
        if more:
            params["additionalDirectories"] = more
        return {**params, "_meta": meta} if meta else params

    async def _open(self, method: str, params: Json, timeout_s: float) -> Json:
        """What opens a session tells its id and how it is set up; an id that we named is not told again."""
        result = await self.call(method, params, timeout_s=timeout_s)
        session_id = params.get("sessionId", result.get("sessionId"))
        if not isinstance(session_id, str):
            raise ProtocolError(f"{self.agent} answered {method} without a sessionId", details={"result": result})
        self.session_id = session_id
        self.config.take_result(result)
        return result

    def _session(self) -> str:
        if self.session_id is None:
            raise UsageError(f"{self.agent} has no session yet")
        return self.session_id

    def _session_capability(self, name: str) -> bool:
        """Presence of an object means supported; null or absent means not."""
        return isinstance(object_of(self.capabilities.get("sessionCapabilities")).get(name), dict)

    def _require(self, supported: bool, what: str) -> None:
        if not supported:
            raise self._unsupported(what)

    def _unsupported(self, what: str) -> Unsupported:
        return Unsupported(f"{self.agent} cannot {what}", hint=f"see what it can do: agentctl agents get {self.agent}")


def _choice(option: Json, value: str | bool, agent: str) -> str | bool:
    name = f"value for {option.get('name', option['id'])} of {agent}"
    if option.get("type") == "boolean":
        words = {"true": True, "on": True, "false": False, "off": False}
        return value if isinstance(value, bool) else words[match_choice(value, {w: w for w in words}, name)]
    if isinstance(value, bool):
        value = "on" if value else "off"
    return match_choice(value, choices_of(option), name)


def _names(state: Json | None, list_key: str, id_key: str) -> dict[str, str]:
    entries = object_of(state).get(list_key)
    return {
        e[id_key]: str(e.get("name", e[id_key]))
        for e in (entries if isinstance(entries, list) else [])
        if isinstance(e, dict) and isinstance(e.get(id_key), str)
    }
