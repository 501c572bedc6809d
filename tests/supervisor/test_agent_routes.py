"""``/v1/agents``: the agents of a sandbox, in the peer's shapes."""

from __future__ import annotations

import json

from tests.supervisor.raw_client import RawClient, text_of
from tests.supervisor.support import mock_recipe, supervisor


async def get(client, path, method="GET"):
    answer = await client.call(method, path)
    return answer.status, json.loads(answer.content)


async def test_the_agents_are_listed_and_what_they_can_is_known_once_one_runs(tmp_path):
    needy = mock_recipe(name="needy", credentials=("SOME_KEY",))
    async with supervisor(tmp_path, mock_recipe(), needy) as running, running.client() as ours:
        client = RawClient(running)
        try:
            status, body = await get(client, "/v1/agents")
            assert status == 200
            assert [(a["id"], a["credentialsAvailable"]) for a in body["agents"]] == [("mock", True), ("needy", False)]
            await ours.create_session("ses_x", {"agent": "mock", "cwd": str(tmp_path / "project")}, timeout_s=20)
            status, mock = await get(client, "/v1/agents/mock")
            assert mock["installed"] is True
            assert mock["capabilities"]["images"] is True
            assert (await get(client, "/v1/agents/nonesuch"))[0] == 400
            assert (await get(client, "/v1/agents/mock/install", "POST"))[1]["already_installed"] is True
        finally:
            await client.close()


async def test_a_raw_server_knows_the_agent_that_came_after_the_sandbox(tmp_path):
    recipe = mock_recipe()
    launch = {"recipe": recipe.to_json(), "agentEnv": {}, "secrets": ["sesame-open-1"], "fencing": 0}
    async with supervisor(tmp_path) as running, running.client() as ours:
        body = {"agent": "mock", "cwd": str(tmp_path / "project"), "launch": launch}
        await ours.create_session("ses_x", body, timeout_s=20)
        client = RawClient(running)
        try:
            client.listen()
            session = await client.open_session(tmp_path / "project")
            await client.prompt(7, session, "@say=sesame-open-1 @say=a-sesa @say=me-op @say=en-1-z @say=ses")
            await client.answer(7)
            assert "sesame" not in json.dumps(client.seen)
            assert text_of(client.seen) == "[redacted]a-[redacted]-zses"
        finally:
            await client.close()
