"""OpenAI Responses: ``POST /v1/responses``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator

from tests.model_server.chat import error as error
from tests.model_server.conversation import Conversation, Json, Tool, flat_text
from tests.model_server.script import Pause, Reply, Words
from tests.model_server.tools import Call


def read(_path: str, body: Json) -> Conversation:
    written = body["input"]
    items = [{"type": "message", "role": "user", "content": written}] if isinstance(written, str) else written
    deferred = [tool for item in items if item.get("type") == "additional_tools" for tool in item.get("tools", ())]
    conversation = Conversation(
        model=body["model"],
        system=body.get("instructions") or "",
        tools=list(_tools([*body.get("tools", ()), *deferred])),
        schema=body.get("text", {}).get("format", {}).get("schema"),
        effort=(body.get("reasoning") or {}).get("effort"),
        streaming=bool(body.get("stream")),
    )
    for number, item in enumerate(items):
        if item.get("type", "message") == "message" and item["role"] in ("user", "assistant"):
            _add_message(conversation, item, number)
        elif item.get("type") in ("function_call_output", "custom_tool_call_output"):
            conversation.add("result", flat_text(item["output"]), number)
    return conversation


def _tools(tools: Iterable[Json], namespace: str = "") -> Iterator[Tool]:
    for tool in tools:
        if tool["type"] == "namespace":
            # Codex's own tools sit in a namespace "functions", which their calls do not name.
            yield from _tools(tool["tools"], "" if tool["name"] == "functions" else tool["name"])
        elif tool["type"] in ("function", "custom"):
            yield Tool(tool["name"], tool.get("parameters", {}), namespace, tool["type"] == "custom")


def _add_message(conversation: Conversation, item: Json, number: int) -> None:
    parts = item["content"] if isinstance(item["content"], list) else [{"text": item["content"]}]
    for part in parts:
        if "text" in part:
            conversation.add("user" if item["role"] == "user" else "assistant", part["text"], number)


class _Numbered:
    """Frames with the running ``sequence_number`` that every event of this API carries."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, event: str, **data: object) -> bytes:
        frame = {"type": event, "sequence_number": self._next, **data}
        self._next += 1
        return f"event: {event}\ndata: {json.dumps(frame)}\n\n".encode()


def stream(reply: Reply, conversation: Conversation) -> Iterator[bytes | Pause]:
    frame = _Numbered()
    base = {"id": _id("resp"), "object": "response", "model": conversation.model}
    started = base | {"status": "in_progress", "output": []}
    yield frame("response.created", response=started)
    yield frame("response.in_progress", response=started)
    items = [_item(part) for part in reply.parts]
    for index, (part, item) in enumerate(zip(reply.parts, items, strict=True)):
        yield frame("response.output_item.added", output_index=index, item=_unfilled(item))
        yield from _deltas(frame, index, part, item)
        yield frame("response.output_item.done", output_index=index, item=item)
    if reply.ending == "refusal":
        items.append(_refusal())
        yield frame("response.output_item.added", output_index=len(reply.parts), item=_unfilled(items[-1]))
        yield frame("response.output_item.done", output_index=len(reply.parts), item=items[-1])
    if reply.ending == "stream_error":
        failure = {"code": "server_error", "message": "scripted stream error"}
        yield frame("response.failed", response=base | {"status": "failed", "error": failure, "output": items})
    if reply.cut_short:
        return
    finished = base | _conclusion(reply, items)
    yield frame(f"response.{finished['status']}", response=finished)


def _deltas(frame: _Numbered, index: int, part: Words | Call, item: Json) -> Iterator[bytes | Pause]:
    at = {"item_id": item["id"], "output_index": index}
    if isinstance(part, Call):
        name, key = _CALL_EVENTS[item["type"]]
        yield frame(f"response.{name}.delta", **at, delta=part.text)
        yield frame(f"response.{name}.done", **at, **{key: part.text})
        return
    opened, delta, closed, where = _WORD_EVENTS[part.kind]
    at |= {where: 0}
    empty = {"type": "output_text" if part.kind == "text" else "summary_text", "text": ""}
    yield frame(f"response.{opened}.added", **at, part=empty)
    for words in part.paced():
        yield words if isinstance(words, Pause) else frame(f"response.{delta}.delta", **at, delta=words)
    yield frame(f"response.{delta}.done", **at, text=part.text)
    yield frame(f"response.{closed}.done", **at, part=empty | {"text": part.text})


_CALL_EVENTS = {
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
}
_WORD_EVENTS = {
    "text": ("content_part", "output_text", "content_part", "content_index"),
    "thinking": ("reasoning_summary_part", "reasoning_summary_text", "reasoning_summary_part", "summary_index"),
}


def _item(part: Words | Call) -> Json:
    if isinstance(part, Call):
        return _call_item(part)
    if part.kind == "thinking":
        summary = [{"type": "summary_text", "text": part.text}]
        return {"id": _id("rs"), "type": "reasoning", "summary": summary, "encrypted_content": "scripted"}
    content = [{"type": "output_text", "text": part.text, "annotations": []}]
    return {"id": _id("msg"), "type": "message", "role": "assistant", "status": "completed", "content": content}


def _refusal() -> Json:
    content = [{"type": "refusal", "refusal": "scripted refusal"}]
    return {"id": _id("msg"), "type": "message", "role": "assistant", "status": "completed", "content": content}


def _call_item(call: Call) -> Json:
    namespace, name = call.namespace, call.name
    if not namespace and name.startswith("mcp__"):
        namespace, _, name = name.rpartition("__")
    item = {"call_id": call.id, "name": name, "status": "completed"} | ({"namespace": namespace} if namespace else {})
    if call.freeform:
        return {"id": _id("ctc"), "type": "custom_tool_call", "input": call.text} | item
    return {"id": _id("fc"), "type": "function_call", "arguments": call.text} | item


def _unfilled(item: Json) -> Json:
    """The item as it is announced: nothing in it yet."""
    empty = {"content": [], "summary": [], "arguments": "", "input": ""}
    filled = item | {key: value for key, value in empty.items() if key in item}
    filled.pop("encrypted_content", None)
    return filled | ({"status": "in_progress"} if "status" in item else {})


def whole(reply: Reply, conversation: Conversation) -> Json:
    base = {"id": _id("resp"), "object": "response", "model": conversation.model}
    items = [_item(part) for part in reply.parts] + ([_refusal()] if reply.ending == "refusal" else [])
    return base | _conclusion(reply, items)


def _conclusion(reply: Reply, items: list[Json]) -> Json:
    usage = {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }
    if reply.ending == "max_tokens":
        details = {"reason": "max_output_tokens"}
        return {"status": "incomplete", "incomplete_details": details, "output": items, "usage": usage}
    return {"status": "completed", "output": items, "usage": usage}


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:20]}"
