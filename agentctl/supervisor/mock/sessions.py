"""The mock agent's sessions: what they were told, how they are set, and the file that outlives the process."""

from __future__ import annotations

import json
import os
import time
from binascii import hexlify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

MODES = {"default": "Default", "plan": "Plan"}
CONFIG: dict[str, tuple[str, str, dict[str, str]]] = {
    # id (also the category): name, default, values
    "mode": ("Mode", "default", MODES),
    "model": ("Model", "mock", {"mock": "Mock", "mock-fast": "Mock Fast"}),
    "thought_level": ("Thought level", "medium", {"low": "Low", "medium": "Medium", "high": "High"}),
}


class Session:
    """One conversation. ``history`` holds ``("user"|"agent", text)`` in order."""

    def __init__(self, path: str, session_id: str, cwd: str) -> None:
        self._path = path
        self.id = session_id
        self.cwd = cwd
        self.title: str | None = None
        self.updated_at = _now()
        self.mcp_servers: list[Json] = []
        self.config = {key: default for key, (_, default, _) in CONFIG.items()}
        self.history: list[tuple[str, str]] = []
        self.used = 0
        self.calls = 0

    def user_messages(self) -> list[str]:
        return [text for role, text in self.history if role == "user"]

    def next_call_id(self) -> str:
        self.calls += 1
        return f"call_{self.calls}"

    def remember(self, role: str, text: str) -> None:
        self.history.append((role, text))
        self._append({"role": role, "text": text})

    def forget(self, what: str) -> None:
        """Forget everything, or with ``last`` what was said last and after it; the file remembers."""
        users = [index for index, (role, _) in enumerate(self.history) if role == "user"]
        self.history = self.history[: users[-1]] if what == "last" and users else []

    def save_facts(self) -> None:
        """Write what may have changed: title, settings, counters."""
        self.updated_at = _now()
        names = ("cwd", "title", "updated_at", "config", "used", "calls")
        self._append({"facts": {name: getattr(self, name) for name in names}})

    def _append(self, entry: Json) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(entry).encode() + b"\n")
        finally:
            os.close(fd)

    def read(self) -> None:
        with open(self._path, "rb") as file:
            for line in file:
                entry = json.loads(line)
                if "facts" in entry:
                    self.__dict__.update(entry["facts"])
                else:
                    self.history.append((entry["role"], entry["text"]))

    def modes(self) -> Json:
        return {
            "currentModeId": self.config["mode"],
            "availableModes": [{"id": key, "name": name} for key, name in MODES.items()],
        }

    def config_options(self, *, modes: bool) -> list[Json]:
        return [
            {
                "id": key,
                "name": name,
                "category": key,
                "type": "select",
                "currentValue": self.config[key],
                "options": [{"value": value, "name": title} for value, title in values.items()],
            }
            for key, (name, _, values) in CONFIG.items()
            if modes or key != "mode"
        ]

    def info(self) -> Json:
        return {"sessionId": self.id, "cwd": self.cwd, "title": self.title, "updatedAt": self.updated_at}


class SessionStore:
    """The open sessions, and those on disk: one file of JSON lines each."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.open: dict[str, Session] = {}

    def create(self, session_id: str, cwd: str) -> Session:
        session_id = session_id or "mock-" + hexlify(os.urandom(8)).decode()
        session = self.open[session_id] = Session(self._path(session_id), session_id, cwd)
        session.save_facts()
        return session

    def load(self, session_id: str) -> Session | None:
        """The session as it was last written, now open; None when there is none."""
        session = self._read(session_id)
        if session is not None:
            self.open[session_id] = session
        return session

    def delete(self, session_id: str) -> None:
        self.open.pop(session_id, None)
        if os.path.exists(self._path(session_id)):
            os.unlink(self._path(session_id))

    def listed(self, cwd: str | None) -> list[Json]:
        """All sessions of a directory, the latest first."""
        names = os.listdir(self._directory) if os.path.isdir(self._directory) else []
        found = [self._read(name.removesuffix(".jsonl")) for name in names if name.endswith(".jsonl")]
        infos = [session.info() for session in found if session and (cwd is None or session.cwd == cwd)]
        return sorted(infos, key=lambda info: str(info["updatedAt"]), reverse=True)

    def _read(self, session_id: str) -> Session | None:
        path = self._path(session_id)
        if not os.path.exists(path):
            return None
        session = Session(path, session_id, "")
        session.read()
        return session

    def _path(self, session_id: str) -> str:
        return os.path.join(self._directory, os.path.basename(session_id) + ".jsonl")


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1_000_000) % 1_000_000:06d}Z"
