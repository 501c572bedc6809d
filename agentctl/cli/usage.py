"""Typer's own complaints in our words: what was wrong, and where to look."""

from __future__ import annotations

from typing import Any

from typer._click import exceptions as typer_errors

from agentctl.errors import AgentctlError, UsageError


def as_usage_error(e: Exception) -> AgentctlError | None:
    """The ``UsageError`` for an error of the parser; None for anything else."""
    if not isinstance(e, typer_errors.ClickException):
        return None
    if isinstance(e, typer_errors.UsageError) and e.ctx is not None:
        return UsageError(_message(e), hint=_hint(e, e.ctx.command_path), details=_details(e))
    return UsageError(e.format_message())


def _message(e: typer_errors.UsageError) -> str:
    if isinstance(e, typer_errors.NoSuchOption):
        near = f" Did you mean {e.possibilities[0]}?" if e.possibilities else ""
        return f"There is no option {e.option_name}.{near}"
    return e.format_message()


def _details(e: typer_errors.UsageError) -> dict[str, Any]:
    """What ``next_command.py`` makes the mended command of."""
    if isinstance(e, typer_errors.NoSuchOption):
        return {"option": e.option_name, "near": list(e.possibilities or ())}
    return {"quote": True} if _is_unquoted(e) else {}


def _is_unquoted(e: typer_errors.UsageError) -> bool:
    command = e.ctx.command_path.split()[-1] if e.ctx else ""
    return "unexpected extra argument" in e.message and command in ("run", "send-message", "send-message-stream")


def _hint(e: typer_errors.UsageError, command: str) -> str:
    if _is_unquoted(e):
        return f"Put a message of several words in quotes. See {command} --help"
    return f"See {command} --help"
