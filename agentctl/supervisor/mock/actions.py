"""What the mock agent can be told to do in a turn: text, thoughts, plans, tools, permissions, questions, facts."""

from __future__ import annotations

import json
import os

from agentctl.supervisor.mock import faults
from agentctl.supervisor.mock.knobs import decimal, whole
from agentctl.supervisor.mock.turn import Over, Turn
from agentctl.supervisor.mock.wire import line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Json = dict[str, Any]
    Action = Callable[[Turn, str, bool], None]

OPTION_SETS: dict[str, list[tuple[str, str, str]]] = {
    # id, kind, name: as the real agents have them
    "mock": [
        ("allow-once", "allow_once", "Allow"),
        ("allow-always", "allow_always", "Always allow"),
        ("reject-once", "reject_once", "Reject"),
    ],
    "codex": [
        ("allow_once", "allow_once", "Yes, proceed"),
        ("accept_execpolicy_amendment", "allow_always", "Yes, and do not ask again for such commands"),
        ("cancel", "reject_once", "No, and say what to do differently"),
    ],
    "opencode": [
        ("once", "allow_once", "Allow once"),
        ("always", "allow_always", "Always allow"),
        ("reject", "reject_once", "Reject"),
    ],
    "gemini": [
        ("proceed_once", "allow_once", "Allow once"),
        ("proceed_always_server", "allow_always", "Always allow this server"),
        ("proceed_always_tool", "allow_always", "Always allow this tool"),
        ("cancel", "reject_once", "No"),
    ],
    "minimal": [("yes", "allow_once", "Yes"), ("no", "reject_once", "No")],
    "allow-only": [("yes", "allow_once", "Yes")],
}

_FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name", "minLength": 1},
        "color": {"type": "string", "title": "Color", "enum": ["red", "green", "blue"], "default": "green"},
        "count": {"type": "integer", "title": "Count", "minimum": 1, "maximum": 9},
        "sure": {"type": "boolean", "title": "Sure", "default": True},
    },
    "required": ["name"],
}


def chunks(turn: Turn, value: str, bang: bool) -> None:
    """Numbered text, so that a loss is seen; the fast way when nothing else was asked."""
    count, size = whole(value, 5), turn.knobs.number("size", 16)
    empty = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "?"}}
    params = {"sessionId": turn.session.id, "update": empty}
    head, _, tail = line_of({"jsonrpc": "2.0", "method": "session/update", "params": params}).rpartition(b"?")
    slow = turn.knobs.has("delay") or turn.knobs.has("batch")
    for number in range(count):
        text = f"{number:06d} ".ljust(size, "x")
        turn.said.append(text)
        line = b"%b%b%b" % (head, text.encode(), tail)
        if slow:
            turn.queue(line)
            turn.pause()
        else:
            turn.wire.queue(line)
            if number % 64 == 0:
                turn.check()
    turn.wire.flush()


def say(turn: Turn, value: str, bang: bool) -> None:
    turn.say(value)


def echo(turn: Turn, value: str, bang: bool) -> None:
    turn.say(turn.prompt)


def think(turn: Turn, value: str, bang: bool) -> None:
    for number in range(whole(value, 1)):
        turn.think(f"thought {number + 1} ")
        turn.pause()


def plan(turn: Turn, value: str, bang: bool) -> None:
    for status in ("pending", "completed"):
        entries = [{"content": f"Step {n}", "priority": "medium", "status": status} for n in (1, 2, 3)]
        turn.update("plan", entries=entries)
        turn.pause()


def tool(turn: Turn, value: str, bang: bool) -> None:
    call_id = start_call(turn, value or "read", f"Look at {value or 'read'}")
    turn.pause()
    end_call(turn, call_id, "done")


def open_tool(turn: Turn, value: str, bang: bool) -> None:
    start_call(turn, value or "execute", "A tool that never ends")


def late_tool(turn: Turn, value: str, bang: bool) -> None:
    call_id = start_call(turn, value or "execute", "A tool that ends late")
    turn.afterwards.append(lambda: end_call(turn, call_id, "done at last"))


def permission(turn: Turn, value: str, bang: bool) -> None:
    call_id = start_call(turn, value or "execute", "mock command", {"command": "mock command"}, status="pending")
    if may(turn, call_id, value or "execute", "mock command"):
        end_call(turn, call_id, "done")


def diff(turn: Turn, value: str, bang: bool) -> None:
    path = os.path.join(turn.session.cwd, value or "mock.txt")
    call_id = start_edit(turn, path, "old line\n", "new line\n")
    if may(turn, call_id, "edit", f"Edit {path}"):
        end_call(turn, call_id)


def write(turn: Turn, value: str, bang: bool) -> None:
    path = os.path.join(turn.session.cwd, value or "mock.txt")
    new = f"written by the mock agent: {turn.knobs.text}\n"
    old = None
    if os.path.exists(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            old = file.read()
    call_id = start_edit(turn, path, old, new)
    if not bang and not may(turn, call_id, "edit", f"Edit {path}"):
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(new)
    except OSError as e:
        end_call(turn, call_id, f"{e.strerror}", status="failed")
        turn.tell(f"write: {e.strerror}")
    else:
        end_call(turn, call_id)
        turn.tell(f"write: {path}")


def shell(turn: Turn, value: str, bang: bool) -> None:
    from agentctl.supervisor.mock.shell import run

    call_id = start_call(turn, "execute", value, {"command": value}, status="pending")
    if not bang and not may(turn, call_id, "execute", value):
        return
    turn.update("tool_call_update", toolCallId=call_id, status="in_progress")
    exit_code, output = run(value, turn.session.cwd, turn.cancelled)
    end_call(turn, call_id, output, raw_output={"output": output, "exit_code": exit_code})
    turn.check()
    turn.tell(f"sh: exit {exit_code}\n{output}")


def terminal(turn: Turn, value: str, bang: bool) -> None:
    """As codex does: the content only names a terminal that was never created, the output is in ``_meta``."""
    call_id = turn.session.next_call_id()
    turn.update(
        "tool_call",
        toolCallId=call_id,
        title="echo mock-terminal",
        kind="execute",
        status="in_progress",
        content=[{"type": "terminal", "terminalId": call_id}],
        rawInput={"command": "echo mock-terminal", "cwd": turn.session.cwd},
        _meta={"terminal_info": {"cwd": turn.session.cwd, "terminal_id": call_id}},
    )
    output = {"terminal_output_delta": {"data": "mock-terminal\n", "terminal_id": call_id}}
    turn.update("tool_call_update", toolCallId=call_id, _meta=output)
    ended = {"terminal_exit": {"exit_code": whole(value, 0), "signal": None, "terminal_id": call_id}}
    turn.update("tool_call_update", toolCallId=call_id, status="completed", _meta=ended)


def elicit(turn: Turn, value: str, bang: bool) -> None:
    offered = (turn.client.get("elicitation") or {}).get("form") is not None
    if not offered and not bang:
        turn.tell("elicit: not offered by the client")
        return
    question = {"mode": "form", "message": value or "The mock agent has a question.", "requestedSchema": _FORM}
    turn.tell(f"elicit: {_answered(turn.ask('elicitation/create', question))}")


def read_client_file(turn: Turn, value: str, bang: bool) -> None:
    path = os.path.join(turn.session.cwd, value or "README.md")
    turn.tell(f"fs: {_answered(turn.ask('fs/read_text_file', {'path': path}))}")


def call(turn: Turn, value: str, bang: bool) -> None:
    turn.tell(f"call: {_answered(turn.ask(value, {}))}")


def recall(turn: Turn, value: str, bang: bool) -> None:
    before = turn.session.user_messages()[:-1]
    turn.tell(f"recall: {before[0] if before else 'nothing'} ({len(before)} messages)")


def context(turn: Turn, value: str, bang: bool) -> None:
    for role, text in turn.session.history[:-1]:
        turn.tell(f"{role}: {text}")


def environment(turn: Turn, value: str, bang: bool) -> None:
    found = os.environ.get(value)
    if found is None:
        turn.tell(f"env {value}: not set")
    else:
        turn.tell(f"env {value}: {found}" if bang else f"env {value}: set ({len(found)} characters)")


def mcp(turn: Turn, value: str, bang: bool) -> None:
    servers = [f"{server.get('name')} ({server.get('type', 'stdio')})" for server in turn.session.mcp_servers]
    turn.tell(f"mcp: {', '.join(servers) or 'none'}")


def cwd(turn: Turn, value: str, bang: bool) -> None:
    turn.tell(f"cwd: {turn.session.cwd}")


def image(turn: Turn, value: str, bang: bool) -> None:
    for block in turn.blocks:
        if block.get("type") == "image":
            data = str(block.get("data", ""))
            turn.tell(f"image: {block.get('mimeType')} {len(data) * 3 // 4 - data.count('=')} bytes")
    if not any(block.get("type") == "image" for block in turn.blocks):
        turn.tell("image: none")


def sleep(turn: Turn, value: str, bang: bool) -> None:
    turn.pause(decimal(value, 1))


# What tools share


def start_call(turn: Turn, kind: str, title: str, raw_input: Json | None = None, status: str = "in_progress") -> str:
    call_id = turn.session.next_call_id()
    turn.update(
        "tool_call", toolCallId=call_id, title=title, kind=kind, status=status, content=[], rawInput=raw_input or {}
    )
    return call_id


def start_edit(turn: Turn, path: str, old: str | None, new: str) -> str:
    call_id = turn.session.next_call_id()
    turn.update(
        "tool_call",
        toolCallId=call_id,
        title=f"Edit {path}",
        kind="edit",
        status="pending",
        content=[{"type": "diff", "path": path, "oldText": old, "newText": new}],
        locations=[{"path": path}],
        rawInput={"path": path, "content": new},
    )
    return call_id


def end_call(
    turn: Turn, call_id: str, text: str = "", *, status: str = "completed", raw_output: Json | None = None
) -> None:
    fields: Json = {"toolCallId": call_id, "status": status}
    if text:
        fields["content"] = [{"type": "content", "content": {"type": "text", "text": text}}]
    if raw_output is not None:
        fields["rawOutput"] = raw_output
    turn.update("tool_call_update", **fields)


def may(turn: Turn, call_id: str, kind: str, title: str) -> bool:
    """Ask, say which option it was, and end the call when it was none that allows."""
    option_set = OPTION_SETS.get(turn.knobs.settings.get("options", ""), OPTION_SETS["mock"])
    options = [{"optionId": key, "kind": option_kind, "name": name} for key, option_kind, name in option_set]
    tool_call = {"toolCallId": call_id, "title": title, "kind": kind, "status": "pending"}
    result = turn.ask("session/request_permission", {"toolCall": tool_call, "options": options})
    chosen = (result.get("outcome") or {}).get("optionId")
    turn.tell(f"permission: {chosen or _answered(result)}")
    if any(key == chosen and option_kind.startswith("allow") for key, option_kind, _ in option_set):
        return True
    end_call(turn, call_id, "rejected", status="failed")
    how = turn.knobs.settings.get("on-reject", "continue")
    if how != "continue":
        raise Over("cancelled" if how == "cancelled" else "end_turn")
    return False


def _answered(result: Json) -> str:
    if "error" in result:
        return f"error {result['error'].get('code')}"
    if "outcome" in result:
        return str(result["outcome"].get("outcome"))
    content = result.get("content")
    return " ".join([str(result.get("action", "ok")), *([json.dumps(content)] if content else [])])


ACTION_TABLE: dict[str, Action] = {
    "chunks": chunks,
    "say": say,
    "echo": echo,
    "think": think,
    "plan": plan,
    "tool": tool,
    "open-tool": open_tool,
    "late-tool": late_tool,
    "permission": permission,
    "diff": diff,
    "write": write,
    "sh": shell,
    "terminal": terminal,
    "elicit": elicit,
    "fs": read_client_file,
    "call": call,
    "recall": recall,
    "context": context,
    "env": environment,
    "mcp": mcp,
    "cwd": cwd,
    "image": image,
    "sleep": sleep,
    **faults.FAULT_TABLE,
}
