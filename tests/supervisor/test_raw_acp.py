"""The raw ACP routes of a real supervisor process with the real mock agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.supervisor import http
from agentctl.supervisor.log.session_log import SessionLog
from agentctl.supervisor.processes import ProcessIdentity, marked
from agentctl.supervisor.raw.servers import RawServers
from agentctl.wire import Boot, Recipe
from tests.supervisor.raw_client import INITIALIZE, RawClient, text_of
from tests.supervisor.support import TOKEN, mock_recipe, supervisor


@contextlib.asynccontextmanager
async def connected(root, *flags, listening=True, recipes=(), stop_grace_s=1, **boot):
    """A supervisor and a client of its server ``s1``, which listens."""
    async with supervisor(root, mock_recipe(*flags, stop_grace_s=stop_grace_s), *recipes, **boot) as running:
        client = RawClient(running)
        if listening:
            client.listen()
        try:
            yield running, client
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def another(running, *args, **listen):
    """One more client that listens."""
    client = RawClient(running, *args)
    client.listen(**listen)
    try:
        yield client
    finally:
        await client.close()


def echo_recipe(program: str, name: str = "echo") -> Recipe:
    """An agent in a few lines of Python: ``say(text)`` writes a line, ``lines`` are those of stdin, as JSON."""
    frame = (
        "import json, os, sys, time\n"
        "def say(text): sys.stdout.buffer.write(text.encode() + b'\\n'); sys.stdout.flush()\n"
        "lines = (json.loads(line) for line in sys.stdin)\n"
    )
    return mock_recipe(name=name, argv=(sys.executable, "-IS", "-c", frame + program))


@contextlib.asynccontextmanager
async def scripted(root, program):
    """A client of such an agent."""
    async with (
        connected(root, recipes=(echo_recipe(program),)) as (running, _),
        another(running, "s2", "echo") as client,
    ):
        yield client


async def pid_of(running, name="mock/agent.py") -> ProcessIdentity:
    """The one agent of the sandbox."""
    found = marked(running.sandbox_id)
    mine = [p for p in found if name in Path(f"/proc/{p.pid}/cmdline").read_text()]
    assert len(mine) == 1
    return mine[0]


def numbers_in(envelopes) -> list[int]:
    """What ``@chunks`` counted."""
    return [int(digits) for digits in re.findall(r"\d{6}", text_of(envelopes))]


# A conversation


async def test_a_conversation_is_202_to_every_post_and_all_answers_on_the_stream(tmp_path):
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "hello there")
        answer = await client.answer(7)
        assert answer["result"]["stopReason"] == "end_turn"
        assert text_of(client.seen) == "mock: hello there"
        assert [e.number for e in client.seen] == list(range(1, len(client.seen) + 1))


async def test_updates_come_in_the_agent_s_order_and_before_the_answer(tmp_path):
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@chunks=320")
        await client.answer(7)
        place = next(i for i, e in enumerate(client.seen) if e.get("id") == 7)
        assert numbers_in(client.seen[:place]) == list(range(320))
        assert text_of(client.seen[place:]) == ""


async def test_a_stream_opened_before_the_first_post_is_held_until_the_agent_is_there(tmp_path):
    async with connected(tmp_path, listening=False) as (_, client):
        client.listen()
        await asyncio.sleep(0.3)
        assert not client.stream_ended.is_set()
        answer = await client.request(1, "initialize", INITIALIZE)
        assert answer["result"]["agentInfo"]["name"] == "mock"


async def test_a_stream_opened_late_tells_everything_from_the_start(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "hello")
        await client.answer(7)
        async with another(running) as late:
            await late.answer(7)
            assert [e.bytes for e in late.seen] == [e.bytes for e in client.seen]


async def test_two_first_posts_at_once_start_one_agent(tmp_path):
    async with connected(tmp_path, "--init-delay=0.05") as (running, client):
        frames = [{"jsonrpc": "2.0", "id": n, "method": "initialize", "params": INITIALIZE} for n in range(6)]
        await asyncio.gather(*(client.post(frame) for frame in frames))
        await pid_of(running)
        assert sorted([(await client.until(lambda e: "result" in e))["id"] for _ in range(6)]) == list(range(6))


async def test_live_servers_are_listed_by_name_with_their_agent_and_age(tmp_path):
    async with connected(tmp_path) as (running, _):
        before = int(time.time() * 1000)
        for name in ("zeta", "alpha"):
            async with another(running, name) as client:
                await client.request(1, "initialize", INITIALIZE)
        async with another(running, "zeta") as client:
            listed = json.loads((await client.call("GET", "/v1/acp")).content)["servers"]
            assert [(s["serverId"], s["agent"]) for s in listed] == [("alpha", "mock"), ("zeta", "mock")]
            assert all(before <= s["createdAtMs"] <= time.time() * 1000 for s in listed)
            await client.call("DELETE")
            listed = json.loads((await client.call("GET", "/v1/acp")).content)["servers"]
            assert [s["serverId"] for s in listed] == ["alpha"]


async def test_the_agent_runs_at_home_or_where_the_first_post_says(tmp_path):
    (tmp_path / "home").mkdir()
    say_place = "for f in lines: say(json.dumps({'id': f['id'], 'result': [os.getcwd(), sorted(os.environ)]}))"
    async with connected(tmp_path, recipes=(echo_recipe(say_place),)) as (running, _):
        async with another(running, "a", "echo") as client:
            place, names = (await client.request(1, "where"))["result"]
            assert place == str(tmp_path / "home")
            assert {"HOME", "PATH", "AGENTCTL_SANDBOX_ID"} <= set(names)
        async with another(running, "b", f"echo&cwd={tmp_path}") as client:
            assert (await client.request(1, "where"))["result"][0] == str(tmp_path)


# Frames


async def test_what_the_agent_says_keeps_its_bytes_and_an_answer_all_but_its_id(tmp_path):
    notice = '{"zeta":1.50,"method":"x/said","params":{"b":1e2,"a":"\\u00e9 é"},"jsonrpc":"2.0","more":[null]}'
    program = (
        f"for f in lines:\n    say({notice!r})\n    say(json.dumps({{'z': 1, 'id': f['id'], 'result': f, 'a': 2}}))"
    )
    async with scripted(tmp_path, program) as client:
        sent = {"zz": [1], "method": "m", "id": "mine", "params": {"b": 1, "a": {"é": None}}, "aa": {}}
        await client.post(sent)
        answer = await client.answer("mine")
        assert client.seen[0].bytes == notice.encode()
        assert list(answer) == ["z", "id", "result", "a"]
        assert list(answer["result"]) == ["zz", "method", "id", "params", "aa"]
        assert {**answer["result"], "id": "mine"} == sent


async def test_a_notification_and_an_answer_of_a_client_are_passed_with_all_fields(tmp_path):
    program = (
        "say(json.dumps({'id': 'q-1', 'method': 'ask'}))\n"
        "for f in lines: say(json.dumps({'method': 'heard', 'params': f}))"
    )
    async with scripted(tmp_path, program) as client:
        sent = {"more": 1, "method": "said", "jsonrpc": "2.0"}
        await client.post(sent)
        await client.said("ask")
        assert (await client.said("heard"))["params"] == sent
        answer = {"id": "q-1", "result": None, "_meta": {"x": 1}}
        await client.post(answer)
        assert list((await client.said("heard"))["params"].items()) == list(answer.items())
        await client.post(answer)  # the second one is dropped
        await client.post({"method": "last"})
        assert (await client.said("heard"))["params"] == {"method": "last"}


async def test_lines_that_no_client_could_parse_become_ones_that_it_can(tmp_path):
    program = (
        "for f in lines:\n"
        '    say(\'{"method":"a",\\r"params":{"t":\\t1}}\\r\')\n'
        '    say(\'{"method":"b","params":{"n":NaN,"i":[-Infinity]}}\')\n'
    )
    async with scripted(tmp_path, program) as client:
        await client.post({"method": "go"})
        assert (await client.said("a"))["params"] == {"t": 1}
        assert (await client.said("b"))["params"] == {"n": None, "i": [None]}


IDS = [0, -1, "text", "7", 7.5, None]


async def test_an_answer_has_its_request_s_own_id_and_type(tmp_path):
    async with connected(tmp_path, "--string-id") as (_, client):
        for request_id in IDS:
            answer = await client.request(request_id, "initialize", INITIALIZE)
            assert (answer["id"], type(answer["id"])) == (request_id, type(request_id))


async def test_two_open_requests_with_one_id_are_both_answered(tmp_path):
    async with connected(tmp_path) as (running, client):
        first = await client.open_session(tmp_path)
        async with another(running) as other:
            second = (await other.request("n", "session/new", {"cwd": str(tmp_path), "mcpServers": []}))["result"]
            await client.prompt(1, first, "@sleep=0.2 @say=one")
            await other.prompt(1, second["sessionId"], "@sleep=0.1 @say=two")
            for _ in range(2):
                assert (await other.answer(1))["result"]["stopReason"] == "end_turn"


async def test_cancelling_a_request_reaches_the_request_that_the_client_meant(tmp_path):
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt("p", session, "@hang")
        await client.post({"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": "other"}})
        await client.post({"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": "p", "_meta": {}}})
        assert (await client.answer("p"))["error"]["code"] == -32800


async def test_the_first_answer_to_an_agent_s_request_wins(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@permission @sleep=0.1")
        asked = await client.said("session/request_permission")
        options = {o["kind"]: o["optionId"] for o in asked["params"]["options"]}
        async with another(running) as other:
            asked_too = await other.said("session/request_permission")
            assert asked_too.bytes == asked.bytes
            for kind, who in (("allow_once", other), ("reject_once", client)):
                chosen = {"outcome": {"outcome": "selected", "optionId": options[kind]}}
                await who.post({"jsonrpc": "2.0", "id": asked["id"], "result": chosen})
        await client.answer(7)
        assert options["allow_once"] in text_of(client.seen)
        assert options["reject_once"] not in text_of(client.seen)


async def test_an_answer_that_nobody_asked_for_starts_nothing_and_goes_nowhere(tmp_path):
    async with connected(tmp_path) as (running, client):
        await client.post({"jsonrpc": "2.0", "id": 0, "result": {}})
        await client.post({"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": 0}})
        assert marked(running.sandbox_id) == []
        await client.open_session(tmp_path)
        await client.post({"jsonrpc": "2.0", "id": 99, "result": {}})
        assert "error" not in await client.request(1, "session/list")


async def test_a_line_that_is_no_frame_is_told_and_ends_nothing(tmp_path):
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        for number, kind in enumerate(("text", "utf8", "array", "number")):
            await client.prompt(number, session, f"@garbage={kind} @say=on")
            told = await client.said("_adapter/invalid_stdout")
            assert told["params"]["error"], kind
            assert told["params"]["raw"], kind
            assert (await client.answer(number))["result"]["stopReason"] == "end_turn"


async def test_an_answer_to_nothing_is_told_as_such_and_answers_nobody(tmp_path):
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@wrong-id")
        told = await client.said("_adapter/invalid_stdout")
        assert json.loads(told["params"]["raw"])["id"] == "nobody-asked"


async def test_a_line_of_many_megabytes_goes_both_ways(tmp_path):
    size = 5 * 1024 * 1024
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, f"@bigline={size} {'x' * size}")
        await client.answer(7)
        assert len(text_of(client.seen)) >= size


# Nothing is lost


@pytest.mark.slow
async def test_a_slow_reader_gets_every_one_of_fifty_thousand_updates(tmp_path):
    async with connected(tmp_path, listening=False) as (running, client):
        async with another(running) as quick:
            session = await quick.open_session(tmp_path)
            client.listen(pause_s=0.002)
            await quick.prompt(7, session, "@chunks=50000 @batch")
            await client.answer(7, timeout_s=60)
        assert [e.number for e in client.seen] == list(range(1, len(client.seen) + 1))
        assert numbers_in(client.seen) == list(range(50000))


async def test_a_stream_resumes_after_the_last_event_id(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@chunks=50")
        await client.answer(7)
        async with another(running, last_event_id=20) as later:
            await later.answer(7)
            assert [e.bytes for e in later.seen] == [e.bytes for e in client.seen[20:]]
        async with another(running, query="?offset=20") as later:
            await later.answer(7)
            assert later.seen[0].number == 21


async def test_readers_that_come_and_go_in_a_burst_miss_and_repeat_nothing(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@chunks=5000")
        numbers = []
        while not any(e.get("id") == 7 for e in client.seen) or numbers[-1] < len(client.seen):
            async with another(running, last_event_id=numbers[-1] if numbers else 0) as reader:
                await reader.until(lambda e: True)
                numbers += [e.number for e in reader.seen]
        assert numbers == list(range(1, len(client.seen) + 1))


async def test_a_killed_supervisor_s_stream_is_resumed_from_the_next_one(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "hello")
        await client.answer(7)
        before = list(client.seen)
        running.process.kill()
        await running.process.wait()
        for left in marked(running.sandbox_id):
            left.signal(signal.SIGKILL)
    async with connected(tmp_path, listening=False) as (running, _), another(running, last_event_id=3) as later:
        await later.answer(7)
        assert [e.bytes for e in later.seen] == [e.bytes for e in before[3:]]
        assert json.loads((await later.call("GET", "/v1/acp")).content) == {"servers": []}
        await later.post({"id": 8, "method": "initialize", "params": INITIALIZE}, agent=None)
        answer = await later.answer(8)
        assert answer.number == len(before) + 1


async def test_what_the_log_says_of_itself_is_told_on_the_stream(tmp_path):
    async with connected(tmp_path) as (_, client):
        await client.open_session(tmp_path)
        await client.call("DELETE")
    segment = next((tmp_path / "log/acp/s1").glob("*.jsonl"))
    with segment.open("ab") as file:
        file.write(b'{"sequence":99')
    async with connected(tmp_path) as (_, client):
        await client.open_session(tmp_path)
        told = next(e for e in client.seen if e.get("method") == "_adapter/log")
        assert told["params"]["type"] == "log.torn"


async def test_a_quiet_stream_is_kept_alive_by_comments(tmp_path):
    with SessionLog(tmp_path / "log", "s1") as log:
        chunks = http.with_heartbeats(log.follow(0), lambda page: b"page", every_s=0.01)
        assert await anext(chunks) == b": heartbeat\n\n"
        assert await anext(chunks) == b": heartbeat\n\n"
        await chunks.aclose()
    assert http.HEARTBEAT_S == 15


async def test_a_secret_in_a_frame_is_neither_shown_nor_written(tmp_path):
    async with connected(tmp_path, secrets=("canary-secret-1",)) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@echo canary-secret-1")
        await client.answer(7)
        assert b"canary-secret-1" not in b"".join(e.bytes for e in client.seen)
    assert b"canary-secret-1" not in b"".join(p.read_bytes() for p in (tmp_path / "log").rglob("*") if p.is_file())


# The end of an agent


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        ("@stderr=3 @crash=300", {"success": False, "code": None, "signal": 9}),
        ("@chunks=300 @exit=7", {"success": False, "code": 7}),
        ("@chunks=300 @exit=0", {"success": True, "code": 0}),
    ],
)
async def test_a_death_is_told_after_the_last_line_and_answers_every_open_request(tmp_path, words, ending):
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, words)
        told = await client.said("_adapter/agent_exited")
        assert numbers_in(client.seen[: client._at]) == list(range(300))
        stderr = told["params"].pop("stderr")
        assert told["params"] == ending
        assert stderr.rstrip().endswith("as told")
        answer = await client.answer(7)
        assert answer["error"]["code"] == -32603
        assert answer["error"]["data"]["code"] == "agent_process_exited"
        assert answer["error"]["data"]["exitCode"] == ending["code"]
        assert answer["error"]["data"]["stderr"] == stderr
        assert "session/prompt" in answer["error"]["message"]


async def test_after_a_crash_the_next_post_starts_the_agent_again_on_the_same_stream(tmp_path):
    async with connected(tmp_path) as (_, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@crash")
        await client.answer(7)
        assert json.loads((await client.call("GET", "/v1/acp")).content) == {"servers": []}
        session = await client.open_session(tmp_path)
        await client.prompt(8, session, "@say=again")
        assert (await client.answer(8))["result"]["stopReason"] == "end_turn"
        assert [e.number for e in client.seen] == list(range(1, len(client.seen) + 1))


async def test_posts_at_the_moment_of_a_crash_are_all_answered(tmp_path):
    async with connected(tmp_path) as (running, client):
        await client.open_session(tmp_path)
        agent = await pid_of(running)
        agent.signal(signal.SIGKILL)
        frames = [{"jsonrpc": "2.0", "id": n, "method": "session/list", "params": {}} for n in range(20)]
        await asyncio.gather(*(client.post(frame) for frame in frames))
        left = set(range(20))
        while left:
            left.discard((await client.until(lambda e: e.get("id") in left))["id"])


async def test_an_agent_that_closes_its_stdout_is_ended_and_its_request_answered(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@close-stdout")
        await client.said("_adapter/agent_exited")
        await client.answer(7)
        assert await gone(running)


async def test_what_a_dead_agent_left_in_its_pipe_comes_before_the_news_of_its_death(tmp_path):
    program = 'os.write(1, b\'{"method":"n"}\\n\' * 60000); os._exit(3)'
    async with scripted(tmp_path, f"for f in lines: {program}") as client:
        await client.post({"method": "go"})
        told = await client.said("_adapter/agent_exited")
        assert told.number == 60001


async def test_a_grandchild_that_holds_the_pipe_delays_no_news_of_a_death(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@grandchild @exit=3")
        assert (await client.said("_adapter/agent_exited"))["params"]["code"] == 3
        await client.answer(7)
        assert await gone(running)


async def test_a_new_agent_starts_only_when_the_end_of_the_old_one_is_told_and_complete(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        old = await pid_of(running)
        await client.prompt(7, session, "@grandchild @exit=3")
        async with asyncio.timeout(20):
            while old.is_alive():
                await asyncio.sleep(0.005)
        await client.request(8, "initialize", INITIALIZE)
        methods = [e.get("method", e.get("id")) for e in client.seen]
        assert methods[-3:] == ["_adapter/agent_exited", 7, 8]
        assert marked(running.sandbox_id) == [await pid_of(running)]


async def counted(running, number) -> None:
    """Wait until so many processes of the sandbox are seen: in the middle of its exec one has no environment yet."""
    async with asyncio.timeout(20):
        while len(marked(running.sandbox_id)) != number:
            await asyncio.sleep(0.005)


async def gone(running, within_s=20.0) -> bool:
    """No process of the sandbox is left, after a while."""
    end = time.monotonic() + within_s
    while marked(running.sandbox_id) and time.monotonic() < end:
        await asyncio.sleep(0.02)
    return marked(running.sandbox_id) == []


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (mock_recipe("--exit-at-start=3", name="broken"), "exited with code 3"),
        (mock_recipe(name="broken", argv=("/no/such/agent",)), "/no/such/agent"),
        (mock_recipe(name="broken", files={"project/x": "", "project/x/y": ""}), "project/x"),
    ],
)
async def test_a_failed_start_is_202_and_an_error_on_the_stream_each_time(tmp_path, recipe, says):
    async with connected(tmp_path, recipes=(recipe,)) as (running, _), another(running, "s2", "broken") as client:
        for number in (1, 2):
            answer = await client.request(number, "initialize", INITIALIZE)
            assert says in answer["error"]["message"]
        await client.post({"jsonrpc": "2.0", "method": "session/cancel", "params": {}})
        await client.said("_adapter/agent_exited")
        assert json.loads((await client.call("GET", "/v1/acp")).content) == {"servers": []}


# The end of a server


async def test_delete_is_204_at_once_ends_the_stream_and_the_agent_and_can_be_repeated(tmp_path):
    async with connected(tmp_path, stop_grace_s=100) as (running, client):
        await client.open_session(tmp_path)
        async with asyncio.timeout(30):
            assert (await client.call("DELETE")).status == 204
        assert marked(running.sandbox_id) == []
        async with asyncio.timeout(20):
            await client.stream_ended.wait()
        assert (await client.call("DELETE")).status == 204
        assert (await client.call("DELETE", "/v1/acp/never-was")).status == 204
        assert not (tmp_path / "log/acp/never-was").exists()


@pytest.mark.slow
async def test_deleting_a_stubborn_agent_kills_its_whole_tree_within_the_grace(tmp_path):
    async with connected(tmp_path, "--ignore-eof", "--ignore-term") as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@grandchild @hang")
        await client.until(lambda e: "grandchild" in text_of([e]))
        await counted(running, 2)
        began = time.monotonic()
        assert (await client.call("DELETE")).status == 204
        assert time.monotonic() - began < 20
        assert marked(running.sandbox_id) == []
        assert (await client.answer(7))["error"]["data"]["signal"] == 9


async def test_a_deleted_name_begins_anew_with_fresh_numbers_and_any_agent(tmp_path):
    program = "for f in lines: say(json.dumps({'id': f['id'], 'result': 'new'}))"
    async with connected(tmp_path, recipes=(echo_recipe(program),)) as (running, client):
        old = await client.request(1, "initialize", INITIALIZE)
        await client.call("DELETE")
        async with another(running, "s1", "echo") as fresh:
            answer = await fresh.request(1, "initialize")
            assert answer["result"] == "new"
            assert len(fresh.seen) == 1
            assert answer.number > old.number
        async with another(running, "s1", last_event_id=old.number) as resumed:
            assert (await resumed.answer(1))["result"] == "new"
            assert resumed.seen[0]["method"] == "_adapter/agent_exited"


@pytest.mark.slow
async def test_a_post_during_a_delete_waits_and_gets_a_new_agent(tmp_path):
    async with connected(tmp_path, "--ignore-eof") as (running, client):
        await client.open_session(tmp_path)
        old = await pid_of(running)
        deleting = asyncio.create_task(client.call("DELETE"))
        async with asyncio.timeout(20):
            while json.loads((await client.call("GET", "/v1/acp")).content)["servers"]:
                await asyncio.sleep(0.01)
        async with another(running) as fresh:
            await fresh.request(1, "initialize", INITIALIZE)
        assert (await deleting).status == 204
        assert await pid_of(running) != old


async def test_leaving_answers_open_requests_and_ends_streams_and_agents(tmp_path):
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@grandchild @hang")
        await client.until(lambda e: "grandchild" in text_of([e]))
        running.process.send_signal(signal.SIGTERM)
        await client.answer(7)
        async with asyncio.timeout(30):
            await client.stream_ended.wait()
            assert await running.process.wait() == 0
        assert marked(running.sandbox_id) == []


@pytest.mark.slow
async def test_an_open_request_is_activity_and_a_quiet_agent_or_reader_is_not(tmp_path):
    async with connected(tmp_path, idle_timeout_s=1) as (running, client):
        session = await client.open_session(tmp_path)
        await client.prompt(7, session, "@sleep=1.6 @say=done")
        assert (await client.answer(7))["result"]["stopReason"] == "end_turn"
        async with asyncio.timeout(30):
            await client.stream_ended.wait()
            await running.process.wait()


# Bad input

POST_HEADERS = {"content_type": "application/json"}
FRAME = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}


WRONG = [
    ("POST", "/v1/acp/new", FRAME, POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/new?agent=nobody", FRAME, POST_HEADERS, 400, "unsupported_agent"),
    ("POST", "/v1/acp/s1?agent=echo", FRAME, POST_HEADERS, 409, "conflict"),
    ("POST", "/v1/acp/new?agent=mock&cwd=here", FRAME, POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/s1", FRAME, {"content_type": "text/plain"}, 415, "unsupported_media_type"),
    ("POST", "/v1/acp/s1", FRAME, {}, 415, "unsupported_media_type"),
    ("POST", "/v1/acp/s1", FRAME, {**POST_HEADERS, "accept": "text/html"}, 406, "not_acceptable"),
    ("POST", "/v1/acp/s1", FRAME, {**POST_HEADERS, "accept": "application/json;q=0"}, 406, "not_acceptable"),
    ("POST", "/v1/acp/s1", b"{nonsense", POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/s1", b"\xff\xfe{", POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/s1", b"[1]", POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/s1", b"", POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/s1", {"jsonrpc": "2.0"}, POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/s1", {"id": 1, "method": 3}, POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/%2e%2e?agent=mock", FRAME, POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/a%20b?agent=mock", FRAME, POST_HEADERS, 400, "invalid_request"),
    ("POST", f"/v1/acp/{'x' * 200}?agent=mock", FRAME, POST_HEADERS, 400, "invalid_request"),
    ("POST", "/v1/acp/a%2fb?agent=mock", FRAME, POST_HEADERS, 404, "not_found"),
    ("GET", "/v1/acp/.hidden", None, {}, 400, "invalid_request"),
    ("GET", "/v1/acp/s1", None, {"last_event_id": "x"}, 400, "invalid_request"),
    ("GET", "/v1/acp/s1", None, {"last_event_id": "-1"}, 400, "invalid_request"),
    ("GET", "/v1/acp/s1", None, {"last_event_id": "9" * 5000}, 400, "invalid_request"),
    ("GET", "/v1/acp/s1", None, {"last_event_id": "4711"}, 400, "invalid_request"),
    ("GET", "/v1/acp/s1?offset=x", None, {}, 400, "invalid_request"),
    ("GET", "/v1/acp/s1", None, {"accept": "application/json"}, 406, "not_acceptable"),
    ("DELETE", "/v1/acp/a%20b", None, {}, 400, "invalid_request"),
    ("PUT", "/v1/acp/s1", None, {}, 405, "invalid_request"),
    ("GET", "/v1/acp", None, {"authorization": "Bearer wrong"}, 401, "token_invalid"),
    ("POST", "/v1/acp/s1", FRAME, {**POST_HEADERS, "authorization": ""}, 401, "token_invalid"),
]


async def test_every_error_is_problem_json_and_changes_nothing(tmp_path):
    async with connected(tmp_path, recipes=(echo_recipe("pass"),)) as (_, client):
        await client.request(1, "initialize", INITIALIZE)
        for method, path, body, headers, status, code in WRONG:
            response = await client.call(method, path, body=body, **headers)
            assert response.status == status, (path, body, headers, response.content)
            assert (b"content-type", b"application/problem+json") in response.headers
            assert json.loads(response.content)["type"] == f"urn:sandbox-agent:error:{code}"
            assert TOKEN.encode() not in response.content
            assert [p.name for p in (tmp_path / "log/acp").iterdir()] == ["s1"]


@pytest.mark.parametrize("accept", ["", "*/*", "text/*", "text/html, text/event-stream;q=0.5", "TEXT/EVENT-STREAM"])
def test_what_an_accept_header_allows(accept):
    http.require_accept(_request(accept), "text/event-stream")


@pytest.mark.parametrize("accept", ["text/html", "application/*", "text/event-stream; q=0"])
def test_what_an_accept_header_refuses(accept):
    with pytest.raises(http.NotAcceptable):
        http.require_accept(_request(accept), "text/event-stream")


def _request(accept):
    from starlette.requests import Request

    return Request({"type": "http", "headers": [(b"accept", accept.encode())] if accept else []})


async def test_listening_to_a_name_that_nobody_ever_uses_ends_as_not_found(tmp_path):
    servers = RawServers(_boot(tmp_path), bootstrap_wait_s=0.05)
    with pytest.raises(errors.SessionNotFound, match="nobody"):
        await servers.awaited("nobody")
    await servers.close()


async def test_listeners_that_wait_for_a_server_are_let_go_at_the_end(tmp_path):
    servers = RawServers(_boot(tmp_path), bootstrap_wait_s=60)
    waiting = asyncio.create_task(servers.awaited("nobody"))
    await asyncio.sleep(0)
    await servers.close()
    async with asyncio.timeout(20):
        with pytest.raises(errors.SessionNotFound):
            await waiting
    with pytest.raises(errors.SandboxError):
        await servers.open("late", "mock", None)


async def test_a_log_that_cannot_be_written_ends_the_agent_and_is_told(tmp_path):
    """A segment that may not grow stands for a full disk."""
    async with connected(tmp_path) as (running, client):
        session = await client.open_session(tmp_path)
        import resource

        limit = sum(p.stat().st_size for p in (tmp_path / "log/acp/s1").glob("*.jsonl")) + 4096
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        await client.prompt(7, session, "@chunks=2000 @hang")
        async with asyncio.timeout(20):
            await client.stream_ended.wait()
        assert await gone(running)
        response = await client.post(FRAME, expect=507)
        assert json.loads(response.content)["type"].endswith("disk_full")
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (await client.call("DELETE")).status == 204
        async with another(running) as fresh:
            await fresh.request(1, "initialize", INITIALIZE)


def _boot(root):
    return Boot(
        sandbox_id="sbx_x",
        token=TOKEN,
        listen={},
        log_root=str(root),
        home=str(root),
        tmp=str(root),
        recipes={"mock": mock_recipe()},
    )
