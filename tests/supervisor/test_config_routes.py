"""``/v1/config/mcp`` and ``/v1/config/skills``: what is put there reaches the agents that are started after it."""

from __future__ import annotations

import contextlib
import json

import pytest

from tests.supervisor.raw_client import RawClient, text_of
from tests.supervisor.support import mock_recipe, supervisor

LOCAL = {"type": "local", "command": ["npx", "-y", "tool"], "env": {"A": "1"}}
REMOTE = {"type": "remote", "url": "https://host/mcp", "bearerTokenEnvVar": "TOKEN"}


@contextlib.asynccontextmanager
async def configured(tmp_path, **boot):
    """A supervisor, and a raw client that knows where the config routes are."""
    async with supervisor(tmp_path, mock_recipe(skills=".agents/skills"), **boot) as running:
        client = RawClient(running)
        try:
            yield running, client
        finally:
            await client.close()


def path(kind, directory, name="tool"):
    return f"/v1/config/{kind}?directory={directory}&{'mcpName' if kind == 'mcp' else 'skillName'}={name}"


async def put(client, kind, directory, config, name="tool", expect=204):
    answer = await client.call("PUT", path(kind, directory, name), body=config, content_type="application/json")
    assert answer.status == expect, answer.content
    return answer


def skill(directory, name):
    (directory / name).mkdir(parents=True)
    (directory / name / "SKILL.md").write_text(f"---\nname: {name}\n---\n")
    return directory


async def said(running, text, **fields):
    """What the mock agent answers in a new session of ours."""
    async with running.client() as client:
        body = {"agent": "mock", "cwd": str(running.root / "project"), **fields}
        await client.create_session("ses_x", body, timeout_s=20)
        await client.send("ses_x", {"message": text})
        parts = []
        async for batch in client.stream("ses_x", 0):
            parts += [e.data["delta"] for e in batch if e.type == "item.delta"]
            if batch[-1].type == "turn.ended":
                return "".join(parts)
    raise AssertionError("the turn did not end")


async def test_an_entry_is_put_got_and_deleted(tmp_path):
    async with configured(tmp_path) as (_, client):
        await put(client, "mcp", "/src", LOCAL)
        assert json.loads((await client.call("GET", path("mcp", "/src"))).content) == LOCAL
        assert (await client.call("GET", path("mcp", "/other"))).status == 404
        for _ in range(2):
            assert (await client.call("DELETE", path("mcp", "/src"))).status == 204
        assert (await client.call("GET", path("mcp", "/src"))).status == 404


async def test_mcp_servers_reach_a_session_of_ours_beside_its_own(tmp_path):
    async with configured(tmp_path) as (running, client):
        await put(client, "mcp", tmp_path / "project", LOCAL)
        await put(client, "mcp", tmp_path / "project", REMOTE, "web")
        await put(client, "mcp", "/elsewhere", LOCAL, "other")
        own = [{"name": "own", "command": "x", "args": [], "env": []}]
        text = await said(running, "@mcp", mcpServers=own, env={"TOKEN": "value-of-token"})
    assert text == "mcp: own (stdio), tool (stdio), web (http)"


async def test_a_variable_that_a_server_needs_and_nobody_set_is_told(tmp_path):
    async with configured(tmp_path) as (running, client), running.client() as ours:
        await put(client, "mcp", tmp_path / "project", REMOTE)
        with pytest.raises(Exception, match="TOKEN") as told:
            await ours.create_session("ses_x", {"agent": "mock", "cwd": str(tmp_path / "project")}, timeout_s=20)
        assert told.value.code == "credentials_missing"


async def test_mcp_servers_reach_a_raw_session(tmp_path):
    async with configured(tmp_path) as (_, client):
        await put(client, "mcp", tmp_path / "project", LOCAL)
        client.listen()
        session_id = await client.open_session(tmp_path / "project")
        await client.prompt(7, session_id, "@mcp")
        await client.answer(7)
        assert text_of(client.seen) == "mcp: tool (stdio)"


async def test_skills_are_installed_where_the_agent_looks_for_sessions_and_raw_clients(tmp_path):
    source = skill(tmp_path / "skills", "zebra")
    skill(tmp_path / "skills", "okapi")
    config = {"sources": [{"type": "local", "source": str(source), "skills": ["zebra"]}]}
    installed = tmp_path / "home" / ".agents" / "skills"
    async with configured(tmp_path) as (running, client):
        await put(client, "skills", tmp_path / "project", config)
        await said(running, "hello")
        assert [p.name for p in installed.iterdir()] == ["zebra"]
        await put(client, "skills", tmp_path, {"sources": [{"type": "local", "source": str(source)}]})
        client.listen()
        await client.open_session(tmp_path)
        assert sorted(p.name for p in installed.iterdir()) == ["okapi", "zebra"]


async def test_what_was_put_survives_the_supervisor(tmp_path):
    async with configured(tmp_path) as (_, client):
        await put(client, "mcp", tmp_path / "project", LOCAL)
    async with configured(tmp_path) as (running, client):
        assert json.loads((await client.call("GET", path("mcp", tmp_path / "project"))).content) == LOCAL
        assert await said(running, "@mcp") == "mcp: tool (stdio)"


async def test_a_skill_whose_repository_is_not_there_fails_the_start_and_says_so(tmp_path):
    async with configured(tmp_path) as (running, client), running.client() as ours:
        missing = {"sources": [{"type": "git", "source": f"file://{tmp_path}/none"}]}
        await put(client, "skills", tmp_path / "project", missing)
        with pytest.raises(Exception, match="could not fetch"):
            await ours.create_session("ses_x", {"agent": "mock", "cwd": str(tmp_path / "project")}, timeout_s=20)


NONSENSE = [
    ("mcp", {}),
    ("mcp", {"type": "remote", "url": "https://host", "transport": "udp"}),
    ("mcp", {"type": "local", "command": "npx 'unbalanced"}),
    ("mcp", {"type": "local", "command": [1]}),
    ("mcp", {"type": "local", "command": "x", "args": "y"}),
    ("mcp", {"type": "local", "command": "x", "env": {"A": {}}}),
    ("mcp", {"type": "remote", "url": "https://host", "bearerTokenEnvVar": 1}),
    ("mcp", b"[1]"),
    ("mcp", b"{"),
    ("skills", {}),
    ("skills", {"sources": [1]}),
    ("skills", {"sources": [{"type": "local", "source": 1}]}),
    ("skills", {"sources": [{"type": "git", "source": "ext::sh -c true"}]}),
    ("skills", {"sources": [{"type": "git", "source": "https://user:password@host/x"}]}),
    ("skills", {"sources": [{"type": "github", "source": "no-owner"}]}),
    ("skills", {"sources": [{"type": "local", "source": "/x", "skills": "y"}]}),
]


async def test_what_makes_no_sense_is_400_and_changes_nothing(tmp_path):
    async with configured(tmp_path) as (_, client):
        for kind, config in NONSENSE:
            answer = await put(client, kind, "/src", config, expect=400)
            assert json.loads(answer.content)["type"].endswith("invalid_request"), config
            assert (await client.call("GET", path(kind, "/src"))).status == 404, config


INCOMPLETE = ["", "?directory=/src", "?mcpName=x", "?directory=src&mcpName=x"]


async def test_a_query_without_directory_or_name_is_400(tmp_path):
    async with configured(tmp_path) as (_, client):
        for query in INCOMPLETE:
            assert (await client.call("GET", "/v1/config/mcp" + query)).status == 400, query


async def test_secrets_are_cut_out_of_what_the_routes_answer(tmp_path):
    async with configured(tmp_path, secrets=("sesame-open-1",)) as (running, client), running.client() as ours:
        body = {"agent": "mock", "cwd": str(tmp_path / "project"), "permissionMode": "ask"}
        await ours.create_session("ses_x", body, timeout_s=20)
        await ours.send("ses_x", {"message": '@sh="echo sesame-open-1"'})
        async for batch in ours.stream("ses_x", 0):
            if any(e.type == "permission.requested" for e in batch):
                break
        snapshot = await ours.snapshot("ses_x")
        assert snapshot["requests"][0]["action"] == "echo [redacted]"
        assert "sesame" not in json.dumps(snapshot)
        answer = await client.call("GET", "/v1/agents/sesame-open-1")
        assert answer.status == 400
        assert "[redacted]" in json.loads(answer.content)["detail"]
        assert int(dict(answer.headers)[b"content-length"]) == len(answer.content)
