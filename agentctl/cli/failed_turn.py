"""A stream that fails before its turn exists still ends with a result line."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from agentctl.cli.output import Output, write_json
from agentctl.errors import AgentctlError


class result_line_on_error:  # reads as what it does: with result_line_on_error(...)
    """Under ``--json`` streams, an ``AgentctlError`` becomes the result line and ``exit_code``; else it passes."""

    def __init__(self, out: Output, session: str | None, *, streams: bool) -> None:
        self._active = out.json and streams
        self._session = session
        self.exit_code = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> bool:
        if not self._active or not isinstance(e, AgentctlError):
            return False
        self.exit_code = e.exit_code
        write_json(_failed_line(self._session, e))
        return True


def _failed_line(session: str | None, error: AgentctlError) -> dict[str, Any]:
    from agentctl.ops.result import Result

    cut_off = error.details.get("interrupted") or []
    result = Result(turn_id="", outcome="failed", error=error.to_json(), interrupted=cut_off)
    return {**result.to_json("", session or ""), "session_id": None, "session": session, "turn_id": None}
