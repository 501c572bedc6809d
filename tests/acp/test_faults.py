"""Errors of real agents, in words of our own tree."""

from __future__ import annotations

import pytest

from agentctl import errors
from agentctl.acp.connection import RpcError
from agentctl.acp.faults import to_error


@pytest.mark.parametrize(
    ("code", "data", "method", "cls", "kind"),
    [
        # claude
        (-32000, None, "session/prompt", errors.CredentialsRejected, "auth"),
        (-32603, {"errorKind": "authentication_failed"}, "session/prompt", errors.CredentialsRejected, "auth"),
        (-32603, {"errorKind": "rate_limit"}, "session/prompt", errors.RateLimited, "rate_limit"),
        (-32603, {"errorKind": "model_not_found"}, "session/prompt", errors.NotFound, "model_not_found"),
        (-32603, {"errorKind": "server_error"}, "session/prompt", errors.AgentError, "server_error"),
        (-32603, {"errorKind": "unknown"}, "session/prompt", errors.AgentError, "unknown"),
        (-32002, None, "session/load", errors.NotFound, "not_found"),
        # codex
        (-32000, None, "session/new", errors.CredentialsMissing, "auth"),
        (-32600, {"reason": "thread_active_writer"}, "session/load", errors.SessionBusy, "busy"),
        # codexzed
        (-32603, {"message": "x", "codex_error_info": "other"}, "session/prompt", errors.AgentError, "unknown"),
        (-32603, {"codex_error_info": "usage_limit_exceeded"}, "session/prompt", errors.RateLimited, "rate_limit"),
        (-32603, {"codexErrorInfo": "usageLimitExceeded"}, "session/prompt", errors.RateLimited, "rate_limit"),
        (-32603, {"codex_error_info": {"http_connection_failed": {"http_status_code": 401}}}, "session/prompt",
         errors.CredentialsRejected, "auth"),
        # gemini
        (401, None, "session/prompt", errors.CredentialsRejected, "auth"),
        (403, None, "session/prompt", errors.CredentialsRejected, "auth"),
        (404, None, "session/prompt", errors.NotFound, "model_not_found"),
        (429, None, "session/prompt", errors.RateLimited, "rate_limit"),
        (500, None, "session/prompt", errors.AgentError, "server_error"),
        (400, None, "session/prompt", errors.AgentError, "unknown"),
        # everyone
        (-32601, None, "session/set_model", errors.Unsupported, "method_not_found"),
        (-32602, None, "session/set_mode", errors.UsageError, "invalid_params"),
        (-32700, None, "session/prompt", errors.ProtocolError, "protocol"),
        (-32800, None, "session/prompt", errors.AgentError, "cancelled"),
        (-32603, "text", "session/prompt", errors.AgentError, "unknown"),
        (-32603, {"errorKind": ["odd"], "reason": {"odd": None}}, "session/prompt", errors.AgentError, "unknown"),
        (-1, None, "session/prompt", errors.AgentError, "unknown"),
    ],
)  # fmt: skip
def test_code_and_data_decide_and_the_words_of_the_agent_stay(code, data, method, cls, kind):
    error = to_error(RpcError(code, "what it said", data), method=method, agent="claude")
    assert type(error) is cls
    assert error.details == {"code": code, "message": "what it said", "data": data, "method": method, "kind": kind}
    assert "claude" in error.message
    assert error.message.endswith(": what it said")


def test_only_a_rate_limit_is_worth_a_retry():
    assert to_error(RpcError(429, ""), method="session/prompt", agent="a").retryable
    assert not to_error(RpcError(-32000, ""), method="session/prompt", agent="a").retryable
