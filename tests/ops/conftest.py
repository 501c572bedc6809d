"""An application on a state directory of its own, whose sessions end with the test."""

from __future__ import annotations

import pytest

from agentctl.ops import session_end
from agentctl.ops.app import App


@pytest.fixture
async def app():
    with App.open() as opened:
        yield opened
        for session in opened.store.sessions(limit=None):
            await session_end.delete(opened, session.id)
