"""JSON-RPC errors of agents → our error tree, by code and data, never by message text.

Agents agree on little: -32603 with a kind in ``data`` (claude, codexzed), the HTTP status of the model's server as a
positive code (gemini), -32000 for every failed authentication. What was said goes into ``details`` untouched.
"""

from __future__ import annotations

from typing import Any

from agentctl.acp.connection import METHOD_NOT_FOUND, REQUEST_CANCELLED, RpcError
from agentctl.errors import (
    AgentctlError,
    AgentError,
    CredentialsMissing,
    CredentialsRejected,
    NotFound,
    ProtocolError,
    RateLimited,
    SessionBusy,
    Unsupported,
    UsageError,
)

_BY_CODE = {
    METHOD_NOT_FOUND: "method_not_found",
    REQUEST_CANCELLED: "cancelled",
    -32000: "auth",
    -32002: "not_found",
    -32602: "invalid_params",
    -32600: "protocol",
    -32700: "protocol",
}
_BY_HTTP_STATUS = {401: "auth", 403: "auth", 404: "model_not_found", 429: "rate_limit"}
_BY_WORD = {
    "authentication_failed": "auth",
    "unauthorized": "auth",
    "billing_error": "auth",
    "rate_limit": "rate_limit",
    "usage_limit_exceeded": "rate_limit",
    "model_not_found": "model_not_found",
    "server_error": "server_error",
    "server_overloaded": "server_error",
    "thread_active_writer": "busy",
}
_WORD_KEYS = ("errorKind", "codex_error_info", "codexErrorInfo", "reason")
_STATUS_KEYS = ("http_status_code", "httpStatusCode", "statusCode", "status")

_CREDENTIALS = "What there is for it, and from where: agentctl credentials status"

_KINDS: dict[str, tuple[type[AgentctlError], str, str | None]] = {
    "auth": (CredentialsRejected, "{agent} was refused by its model provider", _CREDENTIALS),
    "rate_limit": (RateLimited, "{agent} hit a rate or usage limit of its model provider", "Wait, then send it again."),
    "model_not_found": (NotFound, "{agent} found no such model at its provider", "Choose another with --model."),
    "not_found": (NotFound, "{agent} does not know what {method} asked for", None),
    "method_not_found": (Unsupported, "{agent} does not support {method}", None),
    "invalid_params": (UsageError, "{agent} did not accept the values of {method}", None),
    "busy": (SessionBusy, "another process has this session of {agent} open", "End the other process first."),
    "cancelled": (AgentError, "{agent} cancelled {method}", None),
    "protocol": (ProtocolError, "{agent} did not understand {method}", None),
    "server_error": (AgentError, "the model provider of {agent} failed", "Send it again later."),
    "unknown": (AgentError, "{agent} failed in {method}", None),
}


def to_error(error: RpcError, *, method: str, agent: str) -> AgentctlError:
    """The error of our tree that says the same.

    ``details`` is ``{"code", "message", "data", "method", "kind"}``: the agent's own words, what was asked, and one of
    auth, rate_limit, model_not_found, not_found, method_not_found, invalid_params, busy, cancelled, protocol,
    server_error, unknown. Asked for authentication before any prompt, credentials are missing; after, rejected.
    """
    kind = _kind(error)
    cls, text, hint = _KINDS[kind]
    if kind == "auth" and method != "session/prompt":
        cls, text, hint = CredentialsMissing, "{agent} wants to be authenticated first", _CREDENTIALS
    message = text.format(agent=agent, method=method)
    details = {
        "code": error.code,
        "message": error.message,
        "data": error.data,
        "method": method,
        "kind": kind,
    }
    return cls(f"{message}: {error.message}" if error.message else message, hint=hint, details=details)


def _kind(error: RpcError) -> str:
    if isinstance(error.data, dict):
        found = _kind_of_data(error.data)
        if found:
            return found
    if error.code > 0:
        return _kind_of_status(error.code)
    return _BY_CODE.get(error.code, "unknown")


def _kind_of_data(data: dict[str, Any]) -> str | None:
    """Claude: ``errorKind``; codex: ``codex_error_info``, a word or ``{word: {"http_status_code": n}}``."""
    for key in _WORD_KEYS:
        value = data.get(key)
        if isinstance(value, str) and _snake(value) in _BY_WORD:
            return _BY_WORD[_snake(value)]
        if isinstance(value, dict):
            for word, inner in value.items():
                status = next((inner[k] for k in _STATUS_KEYS if k in inner), None) if isinstance(inner, dict) else None
                if isinstance(status, int):
                    return _kind_of_status(status)
                if _snake(word) in _BY_WORD:
                    return _BY_WORD[_snake(word)]
    return None


def _kind_of_status(status: int) -> str:
    return _BY_HTTP_STATUS.get(status, "server_error" if status >= 500 else "unknown")


def _snake(word: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in word).lstrip("_")
