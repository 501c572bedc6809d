"""Gemini: ``POST /v1beta/models/<model>:generateContent`` and ``:streamGenerateContent``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.model_server.conversation import Conversation, Json, Tool, flat_text
from tests.model_server.script import Pause, Reply, Words
from tests.model_server.tools import Call

_FINISH_REASONS = {"refusal": "SAFETY", "max_tokens": "MAX_TOKENS"}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def read(path: str, body: Json) -> Conversation:
    config = body.get("generationConfig", {})
    declared = [function for tool in body.get("tools", ()) for function in tool.get("functionDeclarations", ())]
    conversation = Conversation(
        model=path.rpartition("/")[2].partition(":")[0],
        system=flat_text(body.get("systemInstruction", {}).get("parts", "")),
        tools=[Tool(f["name"], f.get("parametersJsonSchema") or f.get("parameters", {})) for f in declared],
        schema=config.get("responseJsonSchema") or config.get("responseSchema"),
        effort=config.get("thinkingConfig", {}).get("thinkingLevel"),
        streaming=":streamGenerateContent" in path,
    )
    for number, content in enumerate(body["contents"]):
        for part in content["parts"]:
            _add_part(conversation, content.get("role", "user"), part, number)
    return conversation


def _add_part(conversation: Conversation, role: str, part: Json, number: int) -> None:
    if "functionResponse" in part:
        conversation.add("result", flat_text(part["functionResponse"]["response"], ("output", "error")), number)
    elif "text" in part and not part.get("thought"):
        conversation.add("user" if role == "user" else "assistant", part["text"], number)


def stream(reply: Reply, conversation: Conversation) -> Iterator[bytes | Pause]:
    for part in reply.parts:
        if isinstance(part, Call) or part.kind == "thinking":
            # A thought is whole, since the CLI wants a heading in each.
            yield _data(_answer(reply, conversation, [_part(part)]))
            continue
        for words in part.paced():
            single = words if isinstance(words, Pause) else Words(part.kind, (words,))
            yield single if isinstance(single, Pause) else _data(_answer(reply, conversation, [_part(single)]))
    if reply.ending == "stream_error":
        yield _data(error(503, "scripted stream error"))
    if not reply.cut_short:
        yield _data(_answer(reply, conversation, [{"text": ""}], _finish_reason(reply)))


def whole(reply: Reply, conversation: Conversation) -> Json:
    return _answer(reply, conversation, [_part(part) for part in reply.parts], _finish_reason(reply))


def error(status: int, message: str) -> Json:
    return {"error": {"code": status, "message": message, "status": _STATUSES.get(status, "INTERNAL")}}


def _answer(reply: Reply, conversation: Conversation, parts: list[Json], finish_reason: str | None = None) -> Json:
    candidate: Json = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish_reason:
        candidate["finishReason"] = finish_reason
    usage = {
        "promptTokenCount": reply.input_tokens,
        "candidatesTokenCount": reply.output_tokens,
        "totalTokenCount": reply.input_tokens + reply.output_tokens,
    }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": conversation.model}


def _part(part: Words | Call) -> Json:
    if isinstance(part, Call):
        return {"functionCall": {"name": part.name, "args": part.arguments}}
    if part.kind == "thinking":
        return {"text": f"**Thinking** {part.text}", "thought": True}
    return {"text": part.text}


def _finish_reason(reply: Reply) -> str:
    return _FINISH_REASONS.get(reply.ending, "STOP")


def _data(data: Json) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
