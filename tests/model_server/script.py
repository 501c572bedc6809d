"""The markers of a prompt, and the reply they make.

=========================  ============================================================================================
``say:TEXT``               text in several deltas             ``think:TEXT``  the same as thinking
``slow:N,S``               N text chunks, S seconds apart     ``tokens:IN,OUT``  report this usage
``shell:COMMAND``          the agent's shell tool             ``shell_escalated:COMMAND``  asking to leave its sandbox
``write:PATH|TEXT``        its file writer                    ``edit:PATH|OLD|NEW``, ``read:PATH``
``call:NAME {JSON}``       an offered tool by its name's end  ``call_unlisted:NAME {JSON}``  whether offered or not
``mcp:SERVER.TOOL {JSON}`` an MCP tool, listed or deferred    ``context``  answer what the agent sent, as JSON
``recall``                 answer the first user message      ``previous``  answer the one before the last
``error:CODE``             HTTP error, always                 ``error_times:CODE,K``  only for the first K requests
``stream_error``           200, then an error event           ``drop``  close the socket in mid-stream
``hang``                   send what came before, then wait   ``refuse``, ``max_tokens``  end the answer that way
=========================  ============================================================================================

An argument ends at the first ``]]``. Tool markers run one per request: as many are skipped as there are tool results
after the last user message, and the last result is quoted as ``RESULT<<…>>``. So one prompt drives a whole turn and the
server keeps no state. A message without a marker is echoed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.model_server.conversation import Conversation, Json
from tests.model_server.tools import TOOL_MARKERS, Call, dummy, tool_call

MARKER = re.compile(r"\[\[([a-z_]+)(?::(.*?))?\]\]", re.DOTALL)

Ending = Literal["done", "tool", "refusal", "max_tokens", "hang", "drop", "stream_error"]


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait between two frames of a stream."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Words:
    """Text or thinking, in the deltas it is streamed in."""

    kind: Literal["text", "thinking"]
    deltas: tuple[str, ...]
    pause_s: float = 0

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    def paced(self) -> Iterator[str | Pause]:
        for number, delta in enumerate(self.deltas):
            if number and self.pause_s:
                yield Pause(self.pause_s)
            yield delta


@dataclass(slots=True)
class Reply:
    """What to answer: parts in order, then an ending; or an HTTP error and nothing else."""

    parts: list[Words | Call] = field(default_factory=list)
    ending: Ending = "done"
    error: int | None = None
    input_tokens: int = 100
    output_tokens: int = 20
    side: str | None = None

    @property
    def cut_short(self) -> bool:
        """The stream ends before its closing frames."""
        return self.ending in ("hang", "drop", "stream_error")


@dataclass(frozen=True, slots=True)
class Step:
    marker: str
    argument: str


def steps_of(prompt: str) -> list[Step]:
    return [Step(found[1], (found[2] or "").strip()) for found in MARKER.finditer(prompt)]


def say(text: str, kind: Literal["text", "thinking"] = "text") -> Words:
    size = max(1, -(-len(text) // 3))
    return Words(kind, tuple(text[start : start + size] for start in range(0, len(text), size)))


def reply_to(conversation: Conversation, failed_before: Callable[[], int]) -> Reply:
    """Play the conversation's script. ``failed_before`` tells how often this message failed, and adds one."""
    side = side_answer(conversation)
    if side is not None:
        return side
    prompt = conversation.prompt(MARKER)
    steps = steps_of(prompt)
    results = conversation.results()
    reply = Reply()
    if results:
        reply.parts.append(say(f"RESULT<<{results[-1].strip()}>>"))
    elif not steps:
        reply.parts.append(say(prompt))
    for step in _still_to_play(steps, len(results)):
        _play(step, reply, conversation, failed_before)
        if reply.error is not None or reply.ending != "done":
            break
    return reply


def _still_to_play(steps: list[Step], results: int) -> list[Step]:
    if not results:
        return steps
    tools = [number for number, step in enumerate(steps) if step.marker in TOOL_MARKERS]
    return steps[tools[results - 1] + 1 :] if results <= len(tools) else []


def _play(step: Step, reply: Reply, conversation: Conversation, failed_before: Callable[[], int]) -> None:
    if step.marker in TOOL_MARKERS:
        call = tool_call(step.marker, step.argument, conversation.tools)
        if call is None:
            reply.parts.append(say(f"NO TOOL<<{step.marker}:{step.argument}>> {_tool_names(conversation)}"))
        else:
            reply.parts.append(call)
            reply.ending = "tool"
    elif step.marker in _ENDINGS:
        reply.ending = _ENDINGS[step.marker]
    elif step.marker in ("error", "error_times"):
        code, _, times = step.argument.partition(",")
        if not times or failed_before() < int(times):
            reply.error = int(code)
    elif step.marker == "tokens":
        reply.input_tokens, reply.output_tokens = (int(number) for number in step.argument.split(","))
    else:
        reply.parts.append(_words(step, conversation))


_ENDINGS: dict[str, Ending] = {
    "hang": "hang",
    "drop": "drop",
    "stream_error": "stream_error",
    "refuse": "refusal",
    "max_tokens": "max_tokens",
}


def _words(step: Step, conversation: Conversation) -> Words:
    users = conversation.users
    match step.marker:
        case "say":
            return say(step.argument)
        case "think":
            return say(step.argument, "thinking")
        case "slow":
            count, pause_s = step.argument.split(",")
            return Words("text", tuple(f"chunk{number} " for number in range(int(count))), float(pause_s))
        case "recall":
            return say(f"RECALL<<{users[0]}>> users={len(users)}")
        case "previous":
            return say(f"PREVIOUS<<{users[-2] if len(users) > 1 else ''}>>")
        case "context":
            return say(f"CONTEXT<<{json.dumps(_context(conversation))}>>")
    return say(f"UNKNOWN MARKER<<{step.marker}>>")


def _context(conversation: Conversation) -> Json:
    return {
        "model": conversation.model,
        "effort": conversation.effort,
        "tools": _tool_names(conversation),
        "users": len(conversation.users),
        "system": conversation.system,
    }


def _tool_names(conversation: Conversation) -> list[str]:
    return [f"{tool.namespace}.{tool.name}" if tool.namespace else tool.name for tool in conversation.tools]


def side_answer(conversation: Conversation) -> Reply | None:
    """The calls an agent makes beside the turn: titles, reviews of a command, routers, suggestions."""
    if conversation.schema is not None:
        properties = conversation.schema.get("properties", {})
        kind = next((kind for key, kind in _SIDE_SCHEMAS.items() if key in properties), "structured")
        answer = dummy(conversation.schema) | {key: value for key, value in _SIDE_VALUES.items() if key in properties}
        return Reply(parts=[say(json.dumps(answer))], side=kind)
    if not conversation.tools and "title generator" in conversation.system.lower():
        return Reply(parts=[say("Scripted title")], side="title")
    if conversation.users and conversation.users[-1].startswith("[SUGGESTION MODE"):
        return Reply(parts=[say("")], side="suggestion")
    return None


_SIDE_SCHEMAS = {"title": "title", "outcome": "review", "complexity_score": "router"}
_SIDE_VALUES = {
    "title": "Scripted title",
    "outcome": "allow",
    "risk_level": "low",
    "user_authorization": "high",
    "rationale": "scripted",
}
