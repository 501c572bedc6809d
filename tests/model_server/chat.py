"""OpenAI Chat Completions: ``POST /v1/chat/completions``."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator

from tests.model_server.conversation import Conversation, Json, Tool, flat_text
from tests.model_server.script import Pause, Reply, Words
from tests.model_server.tools import Call

_FINISH_REASONS = {"tool": "tool_calls", "refusal": "content_filter", "max_tokens": "length"}
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def read(_path: str, body: Json) -> Conversation:
    messages = body["messages"]
    functions = [tool["function"] for tool in body.get("tools") or () if tool["type"] == "function"]
    conversation = Conversation(
        model=body["model"],
        system="\n".join(flat_text(m["content"]) for m in messages if m["role"] in ("system", "developer")),
        tools=[Tool(function["name"], function.get("parameters", {})) for function in functions],
        schema=body.get("response_format", {}).get("json_schema", {}).get("schema"),
        effort=body.get("reasoning_effort"),
        streaming=bool(body.get("stream")),
    )
    for number, message in enumerate(messages):
        role = {"user": "user", "assistant": "assistant", "tool": "result"}.get(message["role"])
        content = message.get("content") or ""
        for part in content if role == "user" and isinstance(content, list) else [content]:
            if role is not None:
                conversation.add(role, flat_text(part), number)
    return conversation


def stream(reply: Reply, conversation: Conversation) -> Iterator[bytes | Pause]:
    base = _base(conversation, "chat.completion.chunk")
    yield _chunk(base, {"role": "assistant", "content": ""})
    calls = 0
    for part in reply.parts:
        if isinstance(part, Call):
            yield _chunk(base, {"tool_calls": [{"index": calls, **_call(part)}]})
            calls += 1
            continue
        key = "content" if part.kind == "text" else "reasoning_content"
        for words in part.paced():
            yield words if isinstance(words, Pause) else _chunk(base, {key: words})
    if reply.ending == "stream_error":
        yield _data(error(500, "scripted stream error"))
    if reply.cut_short:
        return
    yield _chunk(base, {}, _finish_reason(reply))
    yield _data(base | {"choices": [], "usage": _usage(reply)})
    yield b"data: [DONE]\n\n"


def whole(reply: Reply, conversation: Conversation) -> Json:
    words = [part for part in reply.parts if isinstance(part, Words)]
    message: Json = {"role": "assistant", "content": "".join(part.text for part in words if part.kind == "text")}
    if thinking := "".join(part.text for part in words if part.kind == "thinking"):
        message["reasoning_content"] = thinking
    if calls := [_call(part) for part in reply.parts if isinstance(part, Call)]:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(reply)}
    return _base(conversation, "chat.completion") | {"choices": [choice], "usage": _usage(reply)}


def error(status: int, message: str) -> Json:
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "code": str(status)}}


def _base(conversation: Conversation, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex[:20]}",
        "object": kind,
        "created": int(time.time()),
        "model": conversation.model,
    }


def _chunk(base: Json, delta: Json, finish_reason: str | None = None) -> bytes:
    return _data(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


def _call(call: Call) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}


def _finish_reason(reply: Reply) -> str:
    return _FINISH_REASONS.get(reply.ending, "stop")


def _usage(reply: Reply) -> Json:
    total = reply.input_tokens + reply.output_tokens
    return {"prompt_tokens": reply.input_tokens, "completion_tokens": reply.output_tokens, "total_tokens": total}


def _data(data: Json) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
