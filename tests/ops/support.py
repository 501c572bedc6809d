"""What tests of living sessions say and ask."""

from __future__ import annotations

import asyncio

from agentctl.model import SessionSpec
from agentctl.ops import turns


def spec(tmp_path, **fields) -> SessionSpec:
    return SessionSpec(**{"agent": "mock", "cwd": str(tmp_path), **fields})


async def say(app, ref, text, **fields):
    """Send a message, read its turn to the end, return its result."""
    async with asyncio.timeout(60), turns.open_turn(app, ref, turns.Message(text=text, **fields)) as turn:
        async for _ in turn:
            pass
    return turn.result


def supervisor_pid(app, session) -> int:
    return app.store.sandbox(app.store.session(session.id).sandbox_id).handle["pid"]
