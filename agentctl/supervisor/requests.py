"""Requests: permissions and questions of the agent that wait for an answer, from a policy, a person or a clock.

A request belongs to the turn it came in. It is answered exactly once: by the policy at once, by a person through
``reply``, by the clock when nobody came, or with ``cancelled`` when its turn is ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from agentctl import errors
from agentctl.acp import permissions
from agentctl.events import Draft

Json = dict[str, Any]
By = Literal["user", "policy", "timeout", "cancel", "agent"]
Reply = Literal["once", "always", "reject"]
REPLIES: tuple[Reply, ...] = ("once", "always", "reject")

_STATUS: dict[Reply, str] = {"once": "accept", "always": "accept_for_session", "reject": "reject"}


@dataclass(eq=False, repr=False, kw_only=True)  # what it has not need not be compiled at every start
class Pending:
    """An open request. ``rpc_id`` is the agent's; ``data`` that of its ``*.requested`` event."""

    id: str
    rpc_id: Any
    kind: Literal["permission", "question"]
    data: Json
    options: list[Json]
    timer: asyncio.TimerHandle | None = None


class Terms(NamedTuple):
    """Under which terms requests are answered now. ``wait_s`` None waits as long as the turn may last."""

    mode: str
    policy: Json
    wait_s: float | None
    cwd: str


class RequestDesk:
    """Keeps the open requests of one session.

    ``respond(rpc_id, result)`` answers the agent, ``emit(draft)`` writes an event, ``denied(entry)``
    counts a rejection for the turn, ``changed()`` says that the number of open requests changed.
    """

    def __init__(
        self,
        *,
        respond: Callable[[Any, Json], None],
        emit: Callable[[Draft], None],
        denied: Callable[[Json], None],
        changed: Callable[[], None],
    ) -> None:
        self._respond = respond
        self._emit = emit
        self._denied = denied
        self._changed = changed
        self._open: dict[str, Pending] = {}
        self._resolved: set[str] = set()

    @property
    def pending(self) -> list[Json]:
        """The ``data`` of every open request, oldest first."""
        return [p.data for p in self._open.values()]

    def unanswered(self) -> list[Json]:
        """What nobody answered, as entries of a turn's ``denied`` list."""
        return [_denial(p, "timeout") for p in self._open.values()]

    def permission(
        self, request_id: str, rpc_id: Any, call: Json, options: list[Json], item_id: str | None, terms: Terms
    ) -> None:
        """The agent asks whether it may run a tool; ``call`` is the ACP tool call, merged from all that was said."""
        decision = permissions.decide(terms.mode, terms.policy, call, options, cwd=terms.cwd)
        data: Json = {
            "permission_id": request_id,
            "action": str(call.get("title") or call.get("kind") or "use a tool"),
            "status": "requested",
            "metadata": {"tool_call": call, "item_id": item_id, "options": options, "expires_at": None},
        }
        pending = Pending(id=request_id, rpc_id=rpc_id, kind="permission", data=data, options=options)
        if decision.effect == "ask":
            self._wait(pending, "permission.requested", terms.wait_s)
            return
        self._emit(Draft("permission.requested", data, "agent"))
        self._settle(pending, "once" if decision.effect == "allow" else "reject", "policy", rule=decision.rule)

    def question(self, request_id: str, rpc_id: Any, params: Json, terms: Terms) -> None:
        """The agent asks a person for input (ACP elicitation)."""
        data: Json = {
            "question_id": request_id,
            "prompt": str(params.get("message") or ""),
            "options": [],
            "status": "requested",
            "metadata": {
                "schema": params.get("requestedSchema"),
                "mode": params.get("mode") or "form",
                "url": params.get("url"),
                "expires_at": None,
            },
        }
        pending = Pending(id=request_id, rpc_id=rpc_id, kind="question", data=data, options=[])
        self._wait(pending, "question.requested", terms.wait_s)

    def _wait(self, pending: Pending, event: str, wait_s: float | None) -> None:
        if wait_s is not None:
            pending.data["metadata"]["expires_at"] = round(time.time() + wait_s, 3)
            loop = asyncio.get_running_loop()
            pending.timer = loop.call_later(wait_s, self._expire, pending.id)
        self._open[pending.id] = pending
        self._emit(Draft(event, pending.data, "agent"))
        self._changed()

    def reply_permission(self, request_id: str, reply: str | None, option_id: str | None) -> None:
        """A person's answer. Raise ``RequestNotFound``, ``RequestResolved`` or ``UsageError``."""
        pending = self._take(request_id, "permission")
        if option_id is not None:
            chosen = next((o for o in pending.options if o.get("optionId") == option_id), None)
            if chosen is None:
                offered = ", ".join(str(o.get("optionId")) for o in pending.options)
                raise errors.UsageError(f"Request {request_id} has no option {option_id!r}. It offers: {offered}")
            self._close(pending)
            self._settle(pending, _reply_of(chosen), "user", option_id=option_id)
            return
        if reply not in REPLIES:
            raise errors.UsageError(f"A reply is one of {', '.join(REPLIES)}, not {reply!r}.")
        self._close(pending)
        self._settle(pending, reply, "user")

    def reply_question(self, request_id: str, content: Json | None, by: By = "user") -> None:
        """A person's answer, or None to decline. Raise ``RequestNotFound`` or ``RequestResolved``."""
        pending = self._take(request_id, "question")
        self._close(pending)
        self._respond(
            pending.rpc_id, {"action": "decline"} if content is None else {"action": "accept", "content": content}
        )
        self._question_resolved(pending, content, by)

    def cancel_all(self) -> None:
        """The turn is being ended: answer every open request with ``cancelled``."""
        for pending in list(self._open.values()):
            self._close(pending)
            if pending.kind == "permission":
                self._respond(pending.rpc_id, {"outcome": {"outcome": "cancelled"}})
                self._permission_resolved(pending, "reject", "cancel", {})
            else:
                self._respond(pending.rpc_id, {"action": "cancel"})
                self._question_resolved(pending, None, "cancel")

    def drop_all(self) -> None:
        """The agent is gone: nobody waits for these answers any more."""
        for pending in list(self._open.values()):
            self._close(pending)
            if pending.kind == "permission":
                self._permission_resolved(pending, "reject", "agent", {})
            else:
                self._question_resolved(pending, None, "agent")

    def withdrawn(self, rpc_id: Any) -> Pending | None:
        """The agent took its request back (``$/cancel_request``): close it and return it for its error answer."""
        pending = next((p for p in self._open.values() if p.rpc_id == rpc_id), None)
        if pending is not None:
            self._close(pending)
            if pending.kind == "permission":
                self._permission_resolved(pending, "reject", "agent", {})
            else:
                self._question_resolved(pending, None, "agent")
        return pending

    def _take(self, request_id: str, kind: str) -> Pending:
        pending = self._open.get(request_id)
        if pending is not None and pending.kind == kind:
            return pending
        if request_id in self._resolved:
            raise errors.RequestResolved(f"Request {request_id} has been answered already.")
        raise errors.RequestNotFound(f"No {kind} {request_id} is waiting for an answer.")

    def _close(self, pending: Pending) -> None:
        if pending.timer is not None:
            pending.timer.cancel()
        self._open.pop(pending.id, None)
        self._resolved.add(pending.id)
        self._changed()

    def _expire(self, request_id: str) -> None:
        pending = self._open.get(request_id)
        if pending is None:
            return
        self._close(pending)
        if pending.kind == "permission":
            self._settle(pending, "reject", "timeout")
            return
        self._respond(pending.rpc_id, {"action": "cancel"})
        self._question_resolved(pending, None, "timeout")
        self._denied(_denial(pending, "timeout"))

    def _settle(
        self, pending: Pending, reply: Reply, by: By, *, option_id: str | None = None, rule: str | None = None
    ) -> None:
        """Answer a permission; where no option of the wanted kind is offered the answer is ``cancelled``."""
        chosen = option_id or permissions.choose_option(pending.options, reply)
        outcome = {"outcome": "selected", "optionId": chosen} if chosen else {"outcome": "cancelled"}
        if chosen is None and reply != "reject":
            reply = "reject"
        self._respond(pending.rpc_id, {"outcome": outcome})
        self._permission_resolved(pending, reply, by, {"option_id": chosen, "rule": rule})
        if reply == "reject":
            self._denied(_denial(pending, by))

    def _permission_resolved(self, pending: Pending, reply: Reply, by: By, extra: Json) -> None:
        data = {
            "permission_id": pending.id,
            "action": pending.data["action"],
            "status": _STATUS[reply],
            "metadata": {"by": by, **extra},
        }
        self._emit(Draft("permission.resolved", data, "daemon", synthetic=True))

    def _question_resolved(self, pending: Pending, content: Json | None, by: By) -> None:
        data = {
            "question_id": pending.id,
            "prompt": pending.data["prompt"],
            "status": "rejected" if content is None else "answered",
            "response": content,
            "metadata": {"by": by},
        }
        self._emit(Draft("question.resolved", data, "daemon", synthetic=True))


def _denial(pending: Pending, by: By) -> Json:
    action = pending.data["action"] if pending.kind == "permission" else pending.data["prompt"]
    return {"permission_id": pending.id, "action": action, "by": by}


def _reply_of(option: Json) -> Reply:
    kind = str(option.get("kind") or "")
    if kind.startswith("reject"):
        return "reject"
    return "always" if kind == "allow_always" else "once"
