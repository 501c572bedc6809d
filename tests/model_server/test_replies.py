"""The scripted model server itself: its four APIs, its markers, its log. No agent takes part."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.model_server import ModelServer, mcp_probe

Json = dict[str, Any]

SHELL_SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


def anthropic_body(texts: list[str], results: int = 0) -> Json:
    messages: list[Json] = [{"role": "user", "content": text} for text in texts]
    for number in range(results):
        block = {"type": "tool_result", "tool_use_id": f"t{number}", "content": f"out{number}"}
        messages.append({"role": "user", "content": [block]})
    tools = [{"name": "Bash", "input_schema": SHELL_SCHEMA}]
    return {"model": "m", "stream": True, "messages": messages, "tools": tools}


def responses_body(texts: list[str], results: int = 0) -> Json:
    items: list[Json] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]} for text in texts
    ]
    items += [{"type": "function_call_output", "call_id": "c", "output": f"out{number}"} for number in range(results)]
    tools = [{"type": "function", "name": "exec_command", "parameters": SHELL_SCHEMA}]
    return {"model": "m", "stream": True, "input": items, "tools": tools}


def chat_body(texts: list[str], results: int = 0) -> Json:
    messages: list[Json] = [{"role": "user", "content": text} for text in texts]
    messages += [{"role": "tool", "tool_call_id": "c", "content": f"out{number}"} for number in range(results)]
    tools = [{"type": "function", "function": {"name": "bash", "parameters": SHELL_SCHEMA}}]
    return {"model": "m", "stream": True, "messages": messages, "tools": tools}


def gemini_body(texts: list[str], results: int = 0) -> Json:
    contents: list[Json] = [{"role": "user", "parts": [{"text": text}]} for text in texts]
    for number in range(results):
        part = {"functionResponse": {"name": "run_shell_command", "response": {"output": f"out{number}"}}}
        contents.append({"role": "user", "parts": [part]})
    declared = [{"name": "run_shell_command", "parametersJsonSchema": SHELL_SCHEMA}]
    return {"contents": contents, "tools": [{"functionDeclarations": declared}]}


APIS: dict[str, tuple[str, Callable[..., Json]]] = {
    "anthropic": ("/v1/messages?beta=true", anthropic_body),
    "responses": ("/v1/responses", responses_body),
    "chat": ("/v1/chat/completions", chat_body),
    "gemini": ("/v1beta/models/m:streamGenerateContent?alt=sse", gemini_body),
}


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


class Client:
    """One kept-alive connection that speaks one API."""

    def __init__(self, server: ModelServer, api: str) -> None:
        self._path, self._body = APIS[api]
        self.connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)

    def post(self, *texts: str, results: int = 0) -> http.client.HTTPResponse:
        body = json.dumps(self._body(list(texts), results))
        self.connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        return self.connection.getresponse()

    def answer(self, *texts: str, results: int = 0) -> str:
        response = self.post(*texts, results=results)
        assert response.status == 200
        return response.read().decode()


@pytest.fixture(params=list(APIS))
def client(request: pytest.FixtureRequest, model_server: ModelServer) -> Iterator[Client]:
    client = Client(model_server, request.param)
    yield client
    client.connection.close()


@pytest.fixture
def anthropic(model_server: ModelServer) -> Iterator[Client]:
    client = Client(model_server, "anthropic")
    yield client
    client.connection.close()


def words(stream: str) -> str:
    """All text and tool input of an Anthropic stream."""
    frames = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    deltas = [frame["delta"] for frame in frames if frame["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") + delta.get("partial_json", "") for delta in deltas)


def test_text_is_streamed_and_the_connection_is_kept(client: Client) -> None:
    assert "chunk0" in client.answer("[[slow:1,0]]")
    assert "chunk1" in client.answer("[[think:hm]] [[slow:2,0.01]]")


def test_a_tool_marker_calls_the_offered_shell(client: Client) -> None:
    stream = client.answer("[[shell:echo hi]]").replace("\\", "")
    assert '"command": "echo hi"' in stream


def test_after_a_tool_result_the_script_goes_on(client: Client) -> None:
    stream = client.answer("[[shell:one]] [[shell:two]]", results=1).replace("\\", "")
    assert '"command": "two"' in stream
    assert "T<<ou" in stream, "a delta of RESULT<<out0>>"


def test_an_http_error_has_the_apis_own_shape(client: Client) -> None:
    response = client.post("[[error:429]]")
    assert response.status == 429
    assert json.loads(response.read())["error"]["message"] == "scripted error 429"


def test_an_error_can_end_after_some_requests_of_the_same_message(client: Client) -> None:
    statuses = []
    for _ in range(3):
        response = client.post("[[error_times:529,2]] [[say:fine]]")
        statuses.append(response.status)
        response.read()
    assert statuses == [529, 529, 200]


def test_a_dropped_stream_ends_without_its_last_chunk(client: Client) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        client.post("[[say:partial]] [[drop]]").read()


def test_an_error_can_come_inside_the_stream(client: Client) -> None:
    assert "scripted stream error" in client.answer("[[say:partial]] [[stream_error]]")


def test_refusal_and_a_full_output_end_the_answer_in_the_apis_words(client: Client) -> None:
    assert any(word in client.answer("[[refuse]]") for word in ('"refusal"', "content_filter", "SAFETY"))
    full = client.answer("[[max_tokens]]")
    assert any(word in full for word in ('"max_tokens"', "max_output_tokens", "length", "MAX_TOKENS"))


def test_token_counts_are_what_the_script_says(client: Client) -> None:
    answer = client.answer("[[tokens:1234,567]]")
    assert "1234" in answer
    assert "567" in answer


def test_a_hanging_answer_does_not_keep_the_server_from_ending() -> None:
    with ModelServer() as server:
        client = Client(server, "anthropic")
        assert client.post("[[say:before]] [[hang]]").readline() == b"event: message_start\n"
    client.connection.close()


def test_recall_quotes_the_first_message_and_counts(anthropic: Client) -> None:
    assert words(anthropic.answer("KIWI [[say:ok]]", "second", "[[recall]]")) == "RECALL<<KIWI [[say:ok]]>> users=3"


def test_a_message_without_a_marker_is_echoed(anthropic: Client) -> None:
    assert words(anthropic.answer("just words")) == "just words"


def test_what_agents_wrap_around_a_prompt_is_no_message(anthropic: Client) -> None:
    wrapped = "<system-reminder>[[say:wrong]]</system-reminder>"
    assert words(anthropic.answer(wrapped, "first", f"{wrapped}[[recall]]")) == "RECALL<<first>> users=2"


def test_an_unoffered_tool_is_called_only_on_demand(anthropic: Client) -> None:
    assert words(anthropic.answer('[[call:shout {"text":"x"}]]')).startswith("NO TOOL<<call:shout")
    assert '"name": "mcp__probe__shout"' in anthropic.answer('[[mcp:probe.shout {"text":"x"}]]')
    assert '"name": "anything"' in anthropic.answer('[[call_unlisted:anything {"text":"x"}]]')


def test_a_demanded_schema_is_answered_and_not_logged_as_a_turn(model_server: ModelServer) -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    body = anthropic_body(["[[say:hi]]"]) | {"stream": False, "output_config": {"format": {"schema": schema}}}
    connection = http.client.HTTPConnection(model_server.url.removeprefix("http://"), timeout=10)
    connection.request("POST", "/v1/messages", json.dumps(body))
    message = json.loads(connection.getresponse().read())
    connection.close()
    assert json.loads(message["content"][0]["text"]) == {"title": "Scripted title"}
    assert [request.side for request in model_server.requests] == ["title"]
    assert model_server.turns() == []


def test_a_test_can_wait_for_a_request(model_server: ModelServer, anthropic: Client) -> None:
    sender = threading.Timer(0.05, anthropic.answer, ["[[say:late]]"])
    sender.start()
    request = model_server.wait_for("late", timeout_s=5)
    sender.join()
    assert request.headers["content-type"] == "application/json"
    assert request.body["model"] == "m"
    with pytest.raises(TimeoutError, match="no request matched"):
        model_server.wait_for("never", timeout_s=0.01)


def test_the_mcp_probe_tells_how_it_was_started() -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "shout", "arguments": {"text": "a"}}}
    command = [sys.executable, mcp_probe.__file__, "--flag"]
    answer = subprocess.run(command, input=json.dumps(call) + "\n", text=True, capture_output=True, check=True, cwd="/")
    found = json.loads(json.loads(answer.stdout)["result"]["content"][0]["text"])
    assert found == {"shouted": "A", "PROBE_TOKEN": None, "cwd": "/", "argv": ["--flag"]}
