"""The daytona provider on Daytona itself: only with ``--live daytona``, and a key of one's own in
``AGENTCTL_LIVE_DAYTONA_KEY``. What it makes costs money for a minute or two, and is deleted in the end."""

from __future__ import annotations

import os

import pytest

from agentctl import ids
from agentctl.providers.base import SandboxSpec
from agentctl.providers.lookup import open_provider
from agentctl.supervisor_client import SupervisorClient
from tests.contract.conftest import boot_of

KEY = "AGENTCTL_LIVE_DAYTONA_KEY"
GIVEN = os.environ.get(KEY)
"""Read before the environment is cleaned for each test."""


@pytest.fixture
def live(request, paths, monkeypatch):
    if "daytona" not in request.config.getoption("--live"):
        pytest.skip("NOT RUN on the real Daytona: that takes --live daytona")
    if not GIVEN:
        pytest.skip(f"NOT RUN on the real Daytona: --live daytona was given, but {KEY} is not set")
    monkeypatch.setenv("DAYTONA_API_KEY", GIVEN)
    return open_provider("daytona", paths)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_sandbox_is_made_reached_found_and_deleted(live):
    await live.check()
    volume = await live.volume_create("live-test")
    sandbox_id = ids.new_id("sbx")
    spec = SandboxSpec(
        sandbox_id=sandbox_id,
        session_id="ses_1",
        volume=volume,
        home="agents/ses_1/home",
        log="agents/ses_1/log",
        boot=boot_of(sandbox_id),
        labels={"origin": "live-test"},
    )
    handle = await live.create(spec)
    try:
        endpoint, token = await live.endpoint(handle)
        async with SupervisorClient(endpoint, token) as client:
            assert (await client.health())["sandbox_id"] == sandbox_id
        assert (await live.inspect(handle)).status == "running"
        assert sandbox_id in [found.sandbox_id async for found in live.find_by_labels({"origin": "live-test"})]
    finally:
        await live.remove(handle)
        await live.session_remove(volume, "ses_1")
        await live.volume_remove(volume)
    assert (await live.inspect(handle)).status == "missing"
