"""The mock agent's requests: handshake, sessions, settings in the reading thread; each turn in a thread of its own."""

from __future__ import annotations

import os
import signal
import threading
import time

from agentctl import __version__
from agentctl.supervisor.mock.faults import hold_pipes, noise
from agentctl.supervisor.mock.knobs import Flags, Knobs
from agentctl.supervisor.mock.sessions import CONFIG, Session, SessionStore
from agentctl.supervisor.mock.turn import Turn, prompt_text
from agentctl.supervisor.mock.wire import Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Json = dict[str, Any]

PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
AUTH_REQUIRED, NOT_FOUND, REQUEST_CANCELLED = -32000, -32002, -32800
_COMMANDS = [{"name": "help", "description": "Show what the mock agent can be told to do"}]


class Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class MockServer:
    """Serves one client on stdin and stdout."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._wire = Wire()
        self._store = SessionStore(state_dir(flags))
        self._turns: dict[str, Turn] = {}
        self._client: Json = {}
        self._authenticated = not flags.has("auth-required")
        self._ignore_eof = False
        self._after: list[Callable[[], None]] = []
        self._methods: dict[str, Callable[[Json], Any]] = {
            "initialize": self._initialize,
            "authenticate": self._authenticate,
            "session/new": self._new,
            "session/set_mode": self._set_mode,
            "session/set_config_option": self._set_config_option,
            "session/close": self._close,
            "session/delete": self._delete,
            **({} if flags.has("no-load") else {"session/load": self._load}),
            **({} if flags.has("no-resume") else {"session/resume": self._resume}),
            **({} if flags.has("no-list") else {"session/list": self._list}),
        }

    def serve(self) -> int:
        """Answer until stdin ends; the process's exit code."""
        self._obey_now(Knobs("", self._flags.defaults))
        noise(self._flags.number("noise", 0))
        if self._flags.has("hold-pipes"):
            hold_pipes(3600)
        if self._flags.has("exit-at-start"):
            return self._flags.number("exit-at-start", 1)
        if self._flags.has("banner"):
            self._wire.send_bytes(b"Welcome to the mock agent!\n")
        for frame in self._wire.frames():
            if not self._flags.has("never-respond"):
                self._take(frame)
        while self._ignore_eof:
            time.sleep(3600)
        return 0

    def _take(self, frame: Any) -> None:
        if not isinstance(frame, dict):
            code = PARSE_ERROR if frame is None else INVALID_REQUEST
            self._wire.error(None, code, "This line is no JSON-RPC frame.")
        elif "method" not in frame:
            self._wire.deliver(frame)
        elif "id" in frame:
            self._request(frame["id"], str(frame["method"]), frame.get("params") or {})
        else:
            self._notification(str(frame["method"]), frame.get("params") or {})

    def _request(self, request_id: Any, method: str, params: Json) -> None:
        try:
            if method == "session/prompt":
                self._prompt(request_id, params)
            elif method == "initialize" and self._flags.has("early-request"):
                threading.Thread(target=self._ask_first, args=(request_id, params), daemon=True).start()
            elif method in self._methods:
                self._wire.result(request_id, self._methods[method](params))
                for step in self._after:
                    step()
            else:
                raise Refused(NO_METHOD, f"The mock agent has no method {method}.")
        except Refused as e:
            self._wire.error(request_id, e.code, e.message)
        finally:
            self._after.clear()

    def _notification(self, method: str, params: Json) -> None:
        if method == "session/cancel":
            turn = self._turns.get(str(params.get("sessionId")))
            if turn is not None:
                turn.cancel()
        elif method == "$/cancel_request":
            for turn in list(self._turns.values()):
                if turn.request_id == params.get("requestId"):
                    turn.cancel(REQUEST_CANCELLED)

    # Handshake

    def _initialize(self, params: Json) -> Json:
        if not isinstance(params.get("protocolVersion"), int):
            raise Refused(INVALID_PARAMS, "protocolVersion must be an integer.")
        flags = self._flags
        time.sleep(flags.seconds("init-delay"))
        self._client = params.get("clientCapabilities") or {}
        offered = [name for name in ("list", "resume") if not flags.has(f"no-{name}")]
        return {
            "protocolVersion": flags.number("protocol", 1),
            "agentInfo": {"name": "mock", "title": "Mock agent", "version": __version__},
            "agentCapabilities": {
                "loadSession": not flags.has("no-load"),
                "promptCapabilities": {"image": not flags.has("no-image"), "audio": False, "embeddedContext": True},
                "mcpCapabilities": {"http": True, "sse": True},
                "sessionCapabilities": {name: {} for name in (*offered, "close", "delete")},
            },
            "authMethods": [{"id": "mock-login", "name": "Mock login", "description": "Always succeeds"}]
            if flags.has("auth-required")
            else [],
        }

    def _ask_first(self, request_id: Any, params: Json) -> None:
        """Initialize is answered when the client has answered; the answer goes along."""
        early = self._wire.request(self._flags.text("early-request"), {"sessionId": "none-yet", "options": []})
        early.came.wait()
        answer = self._initialize(params)
        answer["agentInfo"]["_meta"] = {"earlyAnswer": early.result()}
        self._wire.result(request_id, answer)

    def _authenticate(self, params: Json) -> Json:
        if params.get("methodId") != "mock-login" or not self._flags.has("auth-required"):
            raise Refused(INVALID_PARAMS, f"There is no authentication method {params.get('methodId')}.")
        self._authenticated = True
        return {}

    # Sessions

    def _new(self, params: Json) -> Json:
        time.sleep(self._flags.seconds("new-delay"))
        self._check_place(params, servers_required=True)
        session = self._store.create(self._flags.text("session-id"), params["cwd"])
        return {"sessionId": session.id, **self._opened(session, params)}

    def _load(self, params: Json) -> Json | None:
        session = self._stored(params, "load-error")
        if self._flags.has("load-forgets"):
            session.forget(self._flags.text("load-forgets"))
        if self._flags.has("replay-late"):
            self._after.append(lambda: self._replay(session))
        else:
            self._replay(session)
        opened = self._opened(session, params)
        return None if self._flags.has("load-null") else opened

    def _resume(self, params: Json) -> Json:
        session = self._stored(params, "resume-error")
        if self._flags.has("resume-replays"):
            self._replay(session)
        return self._opened(session, params)

    def _stored(self, params: Json, error_flag: str) -> Session:
        self._check_place(params, servers_required=error_flag == "load-error")
        if self._flags.has(error_flag):
            raise Refused(self._flags.number(error_flag, -32603), "The mock agent fails as it was told.")
        session = self._store.load(str(params.get("sessionId")))
        if session is None:
            raise Refused(NOT_FOUND, f"There is no session {params.get('sessionId')}.")
        session.cwd = params["cwd"]
        return session

    def _check_place(self, params: Json, *, servers_required: bool) -> None:
        if not self._authenticated:
            raise Refused(AUTH_REQUIRED, "Authentication required.")
        cwd, servers = params.get("cwd"), params.get("mcpServers", None if servers_required else [])
        if not isinstance(cwd, str) or not os.path.isabs(cwd):
            raise Refused(INVALID_PARAMS, "cwd must be an absolute path.")
        if not isinstance(servers, list):
            raise Refused(INVALID_PARAMS, "mcpServers must be a list.")

    def _opened(self, session: Session, params: Json) -> Json:
        session.mcp_servers = params.get("mcpServers") or []
        self._after.append(lambda: self._update(session, "available_commands_update", availableCommands=_COMMANDS))
        modes = not self._flags.has("no-permission-modes")
        options = {"configOptions": session.config_options(modes=modes)}
        return {"modes": session.modes(), **options} if modes else options

    def _replay(self, session: Session) -> None:
        for role, text in session.history:
            kind = "user_message_chunk" if role == "user" else "agent_message_chunk"
            self._update(session, kind, content={"type": "text", "text": text})

    def _list(self, params: Json) -> Json:
        return {"sessions": self._store.listed(params.get("cwd"))}

    def _close(self, params: Json) -> Json:
        session = self._session(params)
        turn = self._turns.get(session.id)
        if turn is not None:
            turn.cancel()
        self._store.open.pop(session.id, None)
        return {}

    def _delete(self, params: Json) -> Json:
        self._store.delete(str(params.get("sessionId")))
        return {}

    def _session(self, params: Json) -> Session:
        session = self._store.open.get(str(params.get("sessionId")))
        if session is None:
            raise Refused(NOT_FOUND, f"There is no open session {params.get('sessionId')}.")
        return session

    # Settings

    def _set_mode(self, params: Json) -> Json:
        self._set(params, "mode", params.get("modeId"))
        return {}

    def _set_config_option(self, params: Json) -> Json:
        session = self._set(params, str(params.get("configId")), params.get("value"))
        return {"configOptions": session.config_options(modes=not self._flags.has("no-permission-modes"))}

    def _set(self, params: Json, key: str, value: Any) -> Session:
        session = self._session(params)
        absent = key == "mode" and self._flags.has("no-permission-modes")
        if key not in CONFIG or absent:
            raise Refused(INVALID_PARAMS, f"There is no option {key}.")
        if value not in CONFIG[key][2]:
            raise Refused(INVALID_PARAMS, f"{key} can be {', '.join(CONFIG[key][2])}, not {value}.")
        session.config[key] = value
        session.save_facts()
        if key == "mode":
            self._update(session, "current_mode_update", currentModeId=value)
        options = session.config_options(modes=not self._flags.has("no-permission-modes"))
        self._update(session, "config_option_update", configOptions=options)
        return session

    # Turns

    def _prompt(self, request_id: Any, params: Json) -> None:
        session = self._session(params)
        blocks = params.get("prompt")
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise Refused(INVALID_PARAMS, "prompt must be a list of content blocks.")
        if session.id in self._turns:
            raise Refused(INVALID_REQUEST, "A prompt of this session is still running.")
        if self._flags.has("no-image") and any(block.get("type") == "image" for block in blocks):
            raise Refused(INVALID_PARAMS, "The mock agent takes no images.")
        knobs = Knobs(prompt_text(blocks), self._flags.defaults)
        self._obey_now(knobs)
        turn = self._turns[session.id] = Turn(self._wire, session, request_id, blocks, knobs, self._client)
        threading.Thread(target=self._play, args=(turn,), daemon=True).start()

    def _play(self, turn: Turn) -> None:
        turn.play(on_answer=lambda: self._turns.pop(turn.session.id, None))

    def _obey_now(self, knobs: Knobs) -> None:
        names = {name for name, _, _ in knobs.actions}
        self._ignore_eof = self._ignore_eof or "ignore-eof" in names
        if "ignore-term" in names:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _update(self, session: Session, variant: str, /, **fields: Any) -> None:
        self._wire.notify("session/update", {"sessionId": session.id, "update": {"sessionUpdate": variant, **fields}})


def state_dir(flags: Flags) -> str:
    home = os.environ.get("HOME") or os.path.expanduser("~")
    return flags.text("state-dir") or os.path.join(home, ".mock-agent")
