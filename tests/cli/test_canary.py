"""A secret that an agent tells in every way it can is nowhere to be found afterwards: not in what commands print, not
in the state directory, not among the processes, and not in pieces."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.cli.running import agentctl

pytestmark = pytest.mark.slow

AGENT = Path(__file__).with_name("leaky_agent.py")
KEY_LINES = [f"{n}Ab/+cd0123456789Ef{n}Gh0123456789ij" for n in range(4)]
CANARIES = {
    "FROM_ENV": 'canary"env/0a1b2c3d4e5f',
    "FROM_FILE": "\n".join(["-----BEGIN CANARY KEY-----", *KEY_LINES, "-----END CANARY KEY-----"]),
    "FROM_STDIN": "canary-stdin-9f8e7d6c5b4a-é",
    "FROM_ENV_FILE": "canary-envfile-001122334455",
    "MCP_TOKEN": "canary-header-66778899aabb",
}
NEEDLES = [*(value for name, value in CANARIES.items() if name != "FROM_FILE"), *KEY_LINES]


class Told:
    """Runs commands and looks at all that they print."""

    def __init__(self, tmp_path: Path) -> None:
        self.state = Path(os.environ["AGENTCTL_STATE_DIR"])
        self.key = tmp_path / "key"
        self.key.write_text(CANARIES["FROM_FILE"] + "\n")
        (tmp_path / "env").write_text(f"FROM_ENV_FILE={CANARIES['FROM_ENV_FILE']}\n")
        self.environment = {name: CANARIES[name] for name in ("FROM_ENV", "MCP_TOKEN")}
        server = {"name": "web", "url": "http://127.0.0.1:1/mcp", "headers": {"Authorization": "Bearer ${MCP_TOKEN}"}}
        self.program = f"{sys.executable} {AGENT} FROM_ENV FROM_FILE FROM_ENV_FILE"
        self.options = [
            *("--permissions", "allow", "--secret", "FROM_ENV", "--secret", f"FROM_FILE=@{self.key}"),
            *("--env-file", str(tmp_path / "env"), "--mcp-server", json.dumps(server)),
        ]

    def run(self, *args, stdin=None, code=0):
        done = agentctl(*args, stdin=stdin, env=self.environment)
        assert done.code == code, done
        no_needle(done.out.encode() + done.err.encode(), args)
        return done

    def create(self, *more):
        given = ("--agent-command", f"{self.program} FROM_STDIN", "--secret", "FROM_STDIN=-", *self.options, *more)
        return self.run("sessions", "create", "work", *given, stdin=CANARIES["FROM_STDIN"] + "\n")

    def look_everywhere(self) -> None:
        """In every command that tells of the session, in every file of ours, in every process's command line."""
        self.run("sessions", "get", "work", "--json")
        self.run("sessions", "get", "work")
        self.run("sessions", "list", "--json")
        self.run("sessions", "list")
        self.run("sessions", "transcript", "work")
        self.run("sessions", "transcript", "work", "--json")
        self.run("sessions", "requests", "--json")
        self.run("sessions", "events", "work")
        no_secret_in_pieces(self.run("sessions", "events", "work", "--json").events)
        no_secret_in_pieces(self.run("sessions", "events", "work", "--include-raw", "--json").events)
        for path in self.state.rglob("*"):
            kept = path.is_relative_to(self.state / "secrets") or "home" in path.relative_to(self.state).parts
            if path.is_file() and not kept and not path.is_symlink():
                no_needle(path.read_bytes(), path)
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                no_needle(process.read_bytes(), process)
            except OSError:
                continue


def no_needle(data: bytes, where: object) -> None:
    for needle in NEEDLES:
        for form in (needle, json.dumps(needle)[1:-1], json.dumps(needle, ensure_ascii=False)[1:-1]):
            assert form.encode() not in data, where


def no_secret_in_pieces(events) -> None:
    """Also when the pieces of one item, or the texts of its frames, are put together again."""
    together: dict[str, str] = {}
    for event in events:
        if event["type"] == "item.delta":
            item = event["data"]["item_id"]
            together[item] = together.get(item, "") + event["data"]["delta"]
        frame = event["raw"] if isinstance(event.get("raw"), dict) else {}
        update = frame.get("params", {}).get("update", {})
        text = update["content"].get("text") if isinstance(update.get("content"), dict) else None
        piece = text or ((update.get("_meta") or {}).get("terminal_output_delta") or {}).get("data")
        if piece:
            kind = f"frames of {update['sessionUpdate']} {update.get('toolCallId')}"
            together[kind] = together.get(kind, "") + piece
    assert any("[redacted]" in text for text in together.values()), "the agent told nothing, so this proves nothing"
    for where, text in together.items():
        no_needle(text.encode(), where)


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path)


def test_no_secret_is_told_by_a_session_that_is_brought_up_sleeps_and_comes_back(told):
    told.create("--json")
    told.run("sessions", "stream", "work", "tell me")
    no_secret_in_pieces(told.run("sessions", "stream", "work", "tell me", "--json").events)
    told.run("sessions", "send", "work", "tell me", "--json")
    told.run("sessions", "release", "work")
    told.look_everywhere()
    told.run("sessions", "send", "work", "tell me again")
    told.look_everywhere()


def test_no_secret_is_told_by_errors(told):
    told.create()
    for extra in ([], ["--json"]):
        told.run("sessions", "send", "work", "fail", *extra, code=7)
        told.run("sessions", "call", "work", "no/such", *extra, code=7)
        told.run("sessions", "stream", "work", "crash", *extra, code=7)
    told.look_everywhere()


def test_no_secret_is_told_where_the_sandbox_was_there_before_the_agent(told):
    told.create("--no-provision")
    shown = told.run("sessions", "exec", "work", "--", "sh", "-c", "cat $0", str(told.key))
    assert "[redacted]" in shown.out
    told.run("sessions", "stream", "work", "tell me")
    told.look_everywhere()


def test_a_value_that_is_kept_is_for_its_owner_only_and_one_that_is_not_is_nowhere(told):
    told.create("--secret-ephemeral")
    told.run("sessions", "send", "work", "tell me")
    told.look_everywhere()
    assert not (told.state / "secrets").exists()
    told.run("sessions", "delete", "work", "--yes")
    told.create()
    [kept] = (told.state / "secrets").iterdir()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert json.loads(kept.read_text()) == {"FROM_STDIN": CANARIES["FROM_STDIN"]}
    told.run("sessions", "delete", "work", "--yes")
    assert list((told.state / "secrets").iterdir()) == []


def test_no_secret_is_told_by_a_throw_away_run(told):
    options = ("--agent-command", told.program, *told.options)
    no_secret_in_pieces(told.run("run", *options, "tell me", "--json").events)
    told.run("run", *options, "tell me")
    told.run("run", *options, "fail", code=7)
