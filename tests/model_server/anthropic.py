"""Anthropic Messages: ``POST /v1/messages``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from tests.model_server.conversation import Conversation, Json, Tool, flat_text
from tests.model_server.script import Pause, Reply, Words
from tests.model_server.tools import Call

_STOP_REASONS = {"tool": "tool_use", "refusal": "refusal", "max_tokens": "max_tokens"}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def read(_path: str, body: Json) -> Conversation:
    output = body.get("output_config", {})
    conversation = Conversation(
        model=body["model"],
        system=flat_text(body.get("system", "")),
        tools=[Tool(tool["name"], tool.get("input_schema", {})) for tool in body.get("tools", ())],
        schema=output.get("format", {}).get("schema"),
        effort=output.get("effort"),
        streaming=bool(body.get("stream")),
    )
    for number, message in enumerate(body["messages"]):
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            _add_block(conversation, message["role"], block, number)
    return conversation


def _add_block(conversation: Conversation, role: str, block: Json, number: int) -> None:
    if block["type"] == "tool_result":
        conversation.add("result", flat_text(block.get("content")), number)
    elif block["type"] == "text" and role in ("user", "assistant"):
        conversation.add("user" if role == "user" else "assistant", block["text"], number)


def stream(reply: Reply, conversation: Conversation) -> Iterator[bytes | Pause]:
    message = _message(reply, conversation.model) | {"content": [], "stop_reason": None}
    yield _frame("message_start", message=message)
    yield _frame("ping")
    for index, part in enumerate(reply.parts):
        yield from _block(index, part)
    if reply.ending == "stream_error":
        yield _frame("error", **error(529, "scripted stream error"))
    if reply.cut_short:
        return
    delta = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
    yield _frame("message_delta", delta=delta, usage={"output_tokens": reply.output_tokens})
    yield _frame("message_stop")


def _block(index: int, part: Words | Call) -> Iterator[bytes | Pause]:
    empty, kind = _empty_block(part)
    yield _frame("content_block_start", index=index, content_block=empty)
    deltas = part.paced() if isinstance(part, Words) else iter((part.text,))
    for delta in deltas:
        if isinstance(delta, Pause):
            yield delta
        else:
            field = {"text_delta": "text", "thinking_delta": "thinking"}.get(kind, "partial_json")
            yield _frame("content_block_delta", index=index, delta={"type": kind, field: delta})
    if kind == "thinking_delta":
        signature = {"type": "signature_delta", "signature": "scripted"}
        yield _frame("content_block_delta", index=index, delta=signature)
    yield _frame("content_block_stop", index=index)


def _empty_block(part: Words | Call) -> tuple[Json, str]:
    if isinstance(part, Call):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}, "input_json_delta"
    if part.kind == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta"
    return {"type": "text", "text": ""}, "text_delta"


def whole(reply: Reply, conversation: Conversation) -> Json:
    return _message(reply, conversation.model)


def _message(reply: Reply, model: str) -> Json:
    usage = {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens}
    return {
        "id": f"msg_{uuid.uuid4().hex[:20]}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [_whole_block(part) for part in reply.parts],
        "stop_reason": _stop_reason(reply),
        "stop_sequence": None,
        "usage": usage | {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }


def _whole_block(part: Words | Call) -> Json:
    block, _ = _empty_block(part)
    if isinstance(part, Call):
        return block | {"input": part.arguments}
    return block | {("thinking" if part.kind == "thinking" else "text"): part.text}


def _stop_reason(reply: Reply) -> str:
    return _STOP_REASONS.get(reply.ending, "end_turn")


def error(status: int, message: str) -> Json:
    return {"type": "error", "error": {"type": _ERROR_TYPES.get(status, "api_error"), "message": message}}


def _frame(event: str, **data: object) -> bytes:
    return f"event: {event}\ndata: {json.dumps({'type': event, **data})}\n\n".encode()
