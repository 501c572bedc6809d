"""The mock agent as a user and a client meet it. Every frame is valid by the official models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .mock_client import PROGRAM, MockClient, Refused, choose


@pytest.fixture
def client(tmp_path):
    with MockClient(tmp_path) as mock:
        mock.open(tmp_path)
        yield mock


@pytest.fixture
def another(tmp_path):
    """Another agent process with the same HOME."""
    with MockClient(tmp_path) as mock:
        mock.initialize()
        yield mock


def test_it_answers_kindly_in_several_chunks_after_a_thought(client):
    result = client.prompt("Hello you great big world")
    assert client.text() == "mock: Hello you great big world"
    assert len(client.of("agent_message_chunk")) > 3
    assert client.text("agent_thought_chunk")
    assert result["stopReason"] == "end_turn"
    usage = client.of("usage_update")[0]
    assert result["usage"]["totalTokens"] == usage["used"] > 0
    assert client.of("session_info_update") == [
        {"sessionUpdate": "session_info_update", "title": "Hello you great big world"}
    ]


def test_help_shows_every_word(client):
    assert "@permission" in client.say("/help")
    assert "@ignore-cancel" in client.text()


def test_an_at_sign_in_ordinary_text_is_text(client):
    assert client.say("mail me@example.org or @john @ home") == "mock: mail me@example.org or @john @ home"


def test_it_starts_fast_and_sends_fast(client):
    client.prompt("@chunks=2000 @size=40")
    fields = Path(f"/proc/{client.process.pid}/stat").read_text().rpartition(")")[2].split()
    spent_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert spent_s < 1
    chunks = [update["content"]["text"] for update in client.of("agent_message_chunk")]
    assert [int(chunk.split()[0]) for chunk in chunks] == list(range(2000))
    assert {len(chunk) for chunk in chunks} == {40}


def test_its_start_imports_nothing_slow():
    program = f"""
import runpy, sys
sys.argv = ["mock", "--exit-at-start=0"]
try: runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
except SystemExit: pass
print(*sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "argparse", "dataclasses", "inspect", "logging", "subprocess", "uuid", "shlex"}


def test_main_can_be_imported_and_called(tmp_path):
    program = "import sys; from agentctl.supervisor.mock.agent import main; sys.exit(main(['--exit-at-start=5']))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 5


# Sessions


def test_what_it_offers_is_what_it_has(another):
    offered = another.initialize()
    assert offered["protocolVersion"] == 1
    assert offered["agentInfo"]["name"] == "mock"
    assert offered["agentCapabilities"]["loadSession"] is True
    assert offered["agentCapabilities"]["promptCapabilities"]["image"] is True
    assert set(offered["agentCapabilities"]["sessionCapabilities"]) == {"list", "resume", "close", "delete"}


def test_a_newer_protocol_is_answered_with_ours(tmp_path):
    with MockClient(tmp_path) as mock:
        assert mock.request("initialize", protocolVersion=99)["protocolVersion"] == 1


def test_commands_are_told_after_the_session_is_open(client):
    assert client.of("available_commands_update")[0]["availableCommands"][0]["name"] == "help"


def test_load_replays_the_conversation_and_the_agent_remembers(client, another, tmp_path):
    client.prompt("the word is swordfish")
    client.prompt("second")
    another.session_id = client.session_id
    loaded = another.request("session/load", sessionId=client.session_id, cwd=str(tmp_path), mcpServers=[])
    assert loaded["modes"]["currentModeId"] == "default"
    assert another.text("user_message_chunk") == "the word is swordfishsecond"
    assert another.text() == "mock: the word is swordfishmock: second"
    assert another.say("@recall") == "recall: the word is swordfish (2 messages)"


def test_resume_replays_nothing_and_the_agent_remembers(client, another, tmp_path):
    client.prompt("the word is swordfish")
    client.request("session/set_config_option", sessionId=client.session_id, configId="model", value="mock-fast")
    another.session_id = client.session_id
    resumed = another.request("session/resume", sessionId=client.session_id, cwd=str(tmp_path))
    assert another.text("user_message_chunk") == another.text() == ""
    model = next(option for option in resumed["configOptions"] if option["id"] == "model")
    assert model["currentValue"] == "mock-fast"
    assert another.say("@recall") == "recall: the word is swordfish (1 messages)"


def test_a_new_session_recalls_nothing(client):
    assert client.say("@recall") == "recall: nothing (0 messages)"


@pytest.mark.parametrize("method", ["session/load", "session/resume"])
def test_an_unknown_session_is_not_found(another, method):
    with pytest.raises(Refused) as raised:
        another.request(method, sessionId="mock-gone", cwd="/", mcpServers=[])
    assert raised.value.code == -32002


def test_sessions_are_listed_by_directory_latest_first(client, another, tmp_path):
    client.prompt("named by its first words")
    other = another.request("session/new", cwd="/", mcpServers=[])["sessionId"]
    listed = another.request("session/list")["sessions"]
    assert [session["sessionId"] for session in listed] == [other, client.session_id]
    listed = another.request("session/list", cwd=str(tmp_path))["sessions"]
    assert [session["title"] for session in listed] == ["named by its first words"]


def test_a_closed_session_takes_no_prompt_until_it_is_loaded_again(client, tmp_path):
    client.prompt("one")
    client.request("session/close", sessionId=client.session_id)
    with pytest.raises(Refused) as raised:
        client.prompt("two")
    assert raised.value.code == -32002
    client.request("session/resume", sessionId=client.session_id, cwd=str(tmp_path))
    assert client.say("@recall") == "recall: one (1 messages)"


def test_a_deleted_session_is_gone_and_deleting_it_again_succeeds(client):
    for _ in range(2):
        client.request("session/delete", sessionId=client.session_id)
    assert client.request("session/list")["sessions"] == []


def test_histories_are_private(client, tmp_path):
    client.prompt("one")
    directory = tmp_path / ".mock-agent"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]


# Settings


def test_mode_and_the_mode_option_are_one(client):
    client.request("session/set_mode", sessionId=client.session_id, modeId="plan")
    assert client.of("current_mode_update") == [{"sessionUpdate": "current_mode_update", "currentModeId": "plan"}]
    options = client.of("config_option_update")[0]["configOptions"]
    assert {option["id"]: option["currentValue"] for option in options} == {
        "mode": "plan", "model": "mock", "thought_level": "medium",
    }  # fmt: skip
    assert [option["category"] for option in options] == ["mode", "model", "thought_level"]
    options = client.request(
        "session/set_config_option", sessionId=client.session_id, configId="mode", value="default"
    )["configOptions"]
    assert options[0]["currentValue"] == "default"
    assert client.of("current_mode_update")[-1]["currentModeId"] == "default"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("session/set_mode", {"modeId": "yolo"}),
        ("session/set_config_option", {"configId": "model", "value": "gpt"}),
        ("session/set_config_option", {"configId": "colour", "value": "red"}),
        ("session/new", {"cwd": "relative", "mcpServers": []}),
        ("session/new", {"cwd": "/"}),
        ("session/prompt", {"prompt": "text"}),
        ("initialize", {}),
    ],
)
def test_bad_parameters_are_refused(client, method, params):
    with pytest.raises(Refused) as raised:
        client.request(method, sessionId=client.session_id, **params)
    assert raised.value.code == -32602


def test_unknown_requests_are_refused_and_unknown_notifications_ignored(client):
    client.notify("_vendor/news")
    with pytest.raises(Refused) as raised:
        client.request("session/fork", sessionId=client.session_id)
    assert raised.value.code == -32601


def test_nonsense_on_its_stdin_is_answered_and_survived(client):
    client.process.stdin.write(b"nonsense\n[]\n\n")
    client.process.stdin.flush()
    assert [client.receive()["error"]["code"] for _ in range(2)] == [-32700, -32600]
    assert client.say("still there?") == "mock: still there?"


# What a prompt can ask for


def test_facts_about_its_world(tmp_path):
    servers = [
        {"name": "files", "command": "/bin/true", "args": [], "env": []},
        {"type": "http", "name": "web", "url": "http://127.0.0.1:1/", "headers": []},
    ]
    with MockClient(tmp_path, env={"KEY": "sk-secret-value"}) as client:
        client.open(tmp_path, mcpServers=servers)
        assert client.say("@mcp") == "mcp: files (stdio), web (http)"
        assert client.say("@cwd") == f"cwd: {tmp_path}"
        assert client.say("@env=KEY @env=NONE") == "env KEY: set (15 characters)\nenv NONE: not set"
        assert client.say("@env!=KEY") == "env KEY: sk-secret-value"
        assert client.say("@echo exactly  this") == "@echo exactly  this"


def test_images_are_described(client):
    image = {"type": "image", "mimeType": "image/png", "data": "aGVsbG8="}
    assert client.say("@image", image, image) == "image: image/png 5 bytes\nimage: image/png 5 bytes"
    assert client.say("@image") == "image: none"
    assert "[image]" in client.say("look", image)


def test_plan_thoughts_tools_and_terminal_output_in_meta(client):
    client.prompt("@think=2 @plan @tool=search @open-tool @terminal=3 @say=done")
    assert client.text("agent_thought_chunk") == "thought 1 thought 2 "
    assert [update["entries"][0]["status"] for update in client.of("plan")] == ["pending", "completed"]
    search, never, terminal = client.of("tool_call")
    assert (search["kind"], never["kind"], terminal["kind"]) == ("search", "execute", "execute")
    ended = [update["toolCallId"] for update in client.of("tool_call_update") if update.get("status") == "completed"]
    assert ended == [search["toolCallId"], terminal["toolCallId"]]
    meta = {key: value for update in client.of("tool_call_update") for key, value in update.get("_meta", {}).items()}
    assert meta["terminal_output_delta"]["data"] == "mock-terminal\n"
    assert meta["terminal_exit"]["exit_code"] == 3
    assert client.text() == "done"


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ("", "allow_once", "permission: allow-once"),
        ("@options=codex", "allow_always", "permission: accept_execpolicy_amendment"),
        ("@options=codex", "reject_once", "permission: cancel"),
        ("@options=opencode", "allow_always", "permission: always"),
    ],
)
def test_it_asks_for_a_permission_and_says_which_option_it_got(client, options, kind, said):
    client.answers["session/request_permission"] = choose(kind)
    assert client.say(f"@permission=fetch {options}") == said
    assert client.requests[0]["params"]["toolCall"]["kind"] == "fetch"
    status = client.of("tool_call_update")[-1]["status"]
    assert status == ("failed" if kind.startswith("reject") else "completed")


@pytest.mark.parametrize(
    ("how", "stop_reason"), [("continue", "end_turn"), ("cancelled", "cancelled"), ("end", "end_turn")]
)
def test_a_rejection_does_what_the_agents_do(client, how, stop_reason):
    client.answers["session/request_permission"] = choose("reject_once")
    assert client.prompt(f"@permission @say=after @on-reject={how}")["stopReason"] == stop_reason
    assert client.text().endswith("after") == (how == "continue")


def test_a_client_that_cannot_answer_is_said(client):
    client.answers["session/request_permission"] = {"error": {"code": -32601, "message": "no"}}
    assert client.say("@permission") == "permission: error -32601"


def test_a_diff_is_shown_and_nothing_written(client, tmp_path):
    client.answers["session/request_permission"] = choose("allow_once")
    client.prompt("@diff")
    (content,) = client.of("tool_call")[0]["content"]
    assert content == {
        "type": "diff", "path": str(tmp_path / "mock.txt"), "oldText": "old line\n", "newText": "new line\n",
    }  # fmt: skip
    assert not (tmp_path / "mock.txt").exists()


def test_a_file_is_really_written_after_a_permission_and_only_then(client, tmp_path):
    client.answers["session/request_permission"] = choose("reject_once")
    client.prompt("@write=dir/a.txt note")
    assert not (tmp_path / "dir").exists()
    client.answers["session/request_permission"] = choose("allow_once")
    assert client.say("@write=dir/a.txt note").endswith(f"write: {tmp_path}/dir/a.txt")
    assert (tmp_path / "dir/a.txt").read_text() == "written by the mock agent: note\n"
    client.prompt("@write!=dir/a.txt again")
    assert client.requests == []
    assert client.of("tool_call")[0]["content"][0]["oldText"] == "written by the mock agent: note\n"


def test_a_command_is_really_run(client, tmp_path):
    client.answers["session/request_permission"] = choose("allow_once")
    assert client.say('@sh="pwd; exit 3"').endswith(f"sh: exit 3\n{tmp_path}\n")
    assert client.of("tool_call_update")[-1]["rawOutput"] == {"output": f"{tmp_path}\n", "exit_code": 3}
    assert client.say("@sh!=true") == "sh: exit 0\n"


def test_a_question_is_asked_where_the_client_offers_forms(client, tmp_path):
    assert client.say("@elicit") == "elicit: not offered by the client"
    with MockClient(tmp_path, capabilities={"elicitation": {"form": {}}}) as offering:
        offering.open()
        offering.answers["elicitation/create"] = {"action": "accept", "content": {"name": "Ada"}}
        assert offering.say("@elicit") == 'elicit: accept {"name": "Ada"}'
        offering.answers["elicitation/create"] = {"action": "decline"}
        assert offering.say("@elicit") == "elicit: decline"


def test_it_asks_for_files_and_says_what_came_back(client):
    client.answers["fs/read_text_file"] = {"error": {"code": -32601, "message": "no"}}
    assert client.say("@fs") == "fs: error -32601"


def test_usage_cost_and_stop_reason_are_as_told(client):
    result = client.prompt("@usage=1000 @cost=0.25 @stop=max_tokens hello")
    assert (result["stopReason"], result["usage"]["totalTokens"]) == ("max_tokens", 1000)
    assert client.of("usage_update")[0]["cost"] == {"amount": 0.25, "currency": "USD"}
    assert "usage" not in client.prompt("@usage=none hello")
    assert client.prompt("@usage=null hello")["usage"] is None
    assert client.text() == "mock: hello"


def test_flags_hold_for_every_prompt(tmp_path):
    with MockClient(tmp_path, "--chunks=3", env={"MOCK_AGENT_FLAGS": "--stop=refusal --usage=7"}) as client:
        client.open()
        for _ in range(2):
            assert client.prompt("x") == {
                "stopReason": "refusal", "usage": {"totalTokens": 7, "inputTokens": 0, "outputTokens": 13},
            }  # fmt: skip
            assert len(client.of("agent_message_chunk")) == 3


def test_two_sessions_run_at_once_and_one_prompt_each(client):
    first = client.session_id
    hanging = client.begin_prompt("@hang")
    with pytest.raises(Refused) as raised:
        client.prompt("too early")
    assert raised.value.code == -32600
    client.session_id = client.request("session/new", cwd="/", mcpServers=[])["sessionId"]
    assert client.say("meanwhile") == "mock: meanwhile"
    client.notify("session/cancel", sessionId=first)
    assert client.finish(hanging, "session/prompt")["stopReason"] == "cancelled"


def test_a_prompt_can_come_the_moment_the_last_one_was_answered(client):
    for _ in range(50):
        assert client.prompt("@chunks=0")["stopReason"] == "end_turn"


def test_it_ends_with_stdin(client):
    client.process.stdin.close()
    assert client.process.wait(5) == 0


def test_odd_text_survives_the_way_there_and_back(client):
    text = 'tab\t newline\n quote" back\\slash \ud83d\ude42 grüße \ud800'
    assert client.say(f"@echo {text}") == json.loads(json.dumps(f"@echo {text}"))
    assert os.path.exists(client.home)
