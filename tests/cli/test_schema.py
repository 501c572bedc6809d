"""``agentctl schema``, and that every command's ``--json`` is what its schema says: no field more, none less."""

from __future__ import annotations

import json
import os
import re
import subprocess
from inspect import signature
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agentctl import events, schemas
from agentctl.paths import StatePaths
from agentctl.schemas import events as event_schemas
from tests import schemas as told
from tests.agents.conftest import NODE, PI
from tests.agents.registry import Registry
from tests.cli.running import Agentctl, agentctl
from tests.docker.support import clear, installation

pytestmark = pytest.mark.slow

NO_DATA = {"sessions-shell", "sandboxes-shell"}
"""What goes on a terminal, and answers with an error or nothing."""

KEY = {"ANTHROPIC_API_KEY": f"sk-ant-api03-{'a' * 90}"}
MANY_KNOBS = (
    '@think=2 @chunks=3 @plan @tool=execute @late-tool=read @diff @write!=a.txt @sh!="echo hi" @terminal=3 @unknown'
    " @stderr=3 @garbage @garbage=utf8 @fs @wrong-session @image @mcp @split @usage=7 @cost=0.2 hello"
)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Runs a command with --json in the one state directory of this module and holds it to its schema."""
    root = tmp_path_factory.mktemp("schema")
    project = root / "project"
    project.mkdir()
    (project / "main.py").write_text("one\ntwo\n")
    (project / "data.txt").write_text("data")
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *who, *words], cwd=project, check=True)
    environ = {
        k: v for k, v in os.environ.items() if not re.search(r"^AGENTCTL_|_(API_KEY|AUTH_TOKEN|OAUTH_TOKEN)$", k)
    }
    own = {"AGENTCTL_STATE_DIR": f"{root}/state", "HOME": str(root), "DOCKER_HOST": "unix:///nonexistent/sock"}
    run = Agentctl({**environ, **own}, project)
    yield Played(run, project)
    for noun in ("sessions", "sandboxes"):
        if ids := [one["id"] for one in run(noun, "list", "--json").data]:
            done = run(noun, "delete", "--yes", *ids)
            assert done.code == 0, done


@pytest.fixture
def play(played, request):
    played.tests.add(request.node.name)
    return played


class Played:
    """``tests`` are those that ran here, ``refused`` the commands that were run, ``answered`` those that went well."""

    def __init__(self, run, project: Path) -> None:
        self._run = run
        self.project = project
        self.tests: set[str] = set()
        self.refused: set[str] = set()
        self.answered: set[str] = set()

    def __call__(self, *args: str, code: int = 0, **how):
        at = args.index("--") if "--" in args else len(args)
        done = self._run(*args[:at], "--json", *args[at:], **how)
        assert done.code == code, f"{args}\n{done}"
        self.refused.add(told.schema_of(args))
        self.answered.update(told.check_output(args, done.out))
        return done


def test_settings_and_upkeep_answer_as_their_schemas_say(play):
    for words in (
        ("help",),
        ("help", "json"),
        ("help", "sessions", "get"),
        ("schema",),
        ("schema", "event"),
        ("doctor",),
        ("cleanup-orphans",),
    ):
        play(*words)
    play("config", "set", "permissions", "allow")
    play("config", "set", "timeout", "20m")
    play("config", "get", "timeout")
    play("config", "show")
    for key in ("permissions", "timeout"):
        play("config", "unset", key)
    file = play.project / "agentctl.toml"
    file.write_text('agent = "mock"\npermissions = "allow"\n')
    for verb in ("path", "trust", "path", "untrust"):
        play("config", verb)
    file.unlink()
    play("config", "path")
    play("config", "get", "nothing", code=2)


def test_agents_and_credentials_answer_as_their_schemas_say(play):
    for how in ({}, {"env": KEY}):
        play("credentials", "extract", **how)
        play("credentials", "extract-env", **how)
        play("credentials", "status", **how)
    play("credentials", "extract", "--provider", "anthropic", "--reveal", env=KEY)
    play("agents", "create", "mine", "--from", "mock", "--mode", "code", "--mcp-server", "a=npx a")
    play("agents", "update", "mine", "--system-prompt", "Be brief.")
    play("agents", "list")
    for name in ("claude", "mock", "mine"):
        play("agents", "get", name)
    play("agents", "delete", "mine")
    play("agents", "probe", "mock")
    play("agents", "install", "mock", code=2)
    with Registry({**PI, **NODE}) as registry:
        cache = str(play.project.parent / "npm-cache")
        play("agents", "install", "pi", env={"AGENTCTL_REGISTRY": registry.url, "npm_config_cache": cache})
    play("agents", "uninstall", "pi")
    play("agents", "uninstall", "claude")


def test_volumes_and_workspaces_answer_as_their_schemas_say(play):
    play("volumes", "create", "v")
    play("volumes", "put", "v", "data.txt")
    play("volumes", "put", "v", ".", "tree", "-r")
    for words in (("ls",), ("cat", "data.txt"), ("pull", "data.txt", "copy.txt"), ("mkdir", "d"), ("stat", "data.txt")):
        play("volumes", words[0], "v", *words[1:])
    play("volumes", "mv", "v", "data.txt", "d/data.txt")
    play("volumes", "rm", "v", "-r", "d")
    play("volumes", "list")
    play("volumes", "get", "v")
    play("volumes", "create", "v", code=10)
    for verb in ("create", "get", "list", "delete"):
        play("workspaces", verb, *(["w"] if verb != "list" else []), *(["--yes"] if verb == "delete" else []))
    play("volumes", "delete", "v", "--yes")
    for cloud in ("daytona", "modal"):
        play("volumes", "list", "--provider", cloud, code=6)


def test_a_session_and_all_its_events_are_as_their_schemas_say(play):
    play("run", "--agent", "mock", "Hello")
    play(
        "sessions",
        "create",
        "work",
        "--agent",
        "mock",
        "--label",
        "a=b",
        "--env",
        "A=1",
        "--secret",
        "B",
        env={"B": "s"},
    )
    play("sessions", "create", "work", "--agent", "mock", code=10)
    play("sessions", "update", "work", "--title", "T")
    play("sessions", "resume", "work")
    play("sessions", "send-message-stream", "work", "-p", "allow", MANY_KNOBS)
    play("sessions", "send-message-stream", "work", "-p", "deny", "@diff", code=5)
    play("sessions", "send-message", "work", "Hello")
    play("sessions", "send-message", "work", "@permission", "--no-wait")
    play("sessions", "wait", "work", "--for", "request")
    play("sessions", "send-message", "work", "@elicit", "--no-wait", "--queue")
    for verb in ("get", "list", "requests"):
        play("sessions", verb, *(["work"] if verb == "get" else []))
    play("sessions", "answer", "work", "--reply", "once")
    play("sessions", "wait", "work", "--for", "request")
    play("sessions", "requests")
    play("sessions", "answer", "work", "--content", '{"name": "x"}')
    play("sessions", "wait", "work", "--for", "turn-ended")
    play("sessions", "send-message", "work", "@hang", "--no-wait")
    play("sessions", "wait", "work", "--timeout", "0.1", code=3)
    play("sessions", "cancel", "work")
    play("sessions", "cancel", "work")
    for text, code in (("@crash", 7), ("@stop=refusal", 9), ("@error=-32000", 6), ("@tool @usage=null @late=2", 0)):
        play("sessions", "send-message", "work", text, code=code)
    for words in (("model", "mock-fast"), ("mode", "plan"), ("thought-level", "high"), ("option", "model", "mock")):
        play("sessions", f"set-{words[0]}", "work", *words[1:])
    play("sessions", "call", "work", "session/list")
    play("sessions", "call", "work", "mock/unknown", code=2)
    play("sessions", "get", "work")
    play("sessions", "release", "work")
    play("sessions", "events", "work", "--include-raw")
    play("sessions", "transcript", "work")
    play("sessions", "transcript", "work", "--format", "jsonl")
    play("sessions", "usage", "--by", "day")
    for by in ("session", "turn", "agent", "provider", "day"):
        play("sessions", "usage", "--by", by)
    play("sessions", "get", "work")


def test_commands_and_files_in_a_session_answer_as_their_schemas_say(play):
    play("sessions", "create", "files", "--agent", "mock")
    play("sessions", "exec", "files", "--", "sh", "-c", "echo hi")
    play("sessions", "exec", "files", "-d", "-i", "--exec-id", "bg", "--", "cat")
    play("sessions", "processes", "list", "files")
    play("sessions", "processes", "input", "files", "bg", "hello")
    for verb in ("get", "cancel", "get", "logs"):
        play("sessions", "processes", verb, "files", "bg")
    play("sessions", "shell", "files", code=2)
    inside = ("sessions", "files")
    play(*inside, "mkdir", "files", "d")
    play(*inside, "put", "files", "data.txt", "d/x.txt")
    (play.project / "link").symlink_to("data.txt")
    play(*inside, "ls", "files")
    play(*inside, "cat", "files", "d/x.txt")
    play(*inside, "pull", "files", "d/x.txt", "out.txt")
    play(*inside, "edit", "files", "d/x.txt", "--old", "data", "--new", "D")
    play(*inside, "stat", "files", "d/x.txt")
    play(*inside, "mv", "files", "d/x.txt", "d/y.txt")
    play(*inside, "rm", "files", "-r", "d")
    play(*inside, "cat", "files", "d", code=4)
    play("cp", "data.txt", "files:cp.txt")
    play("cp", "files:cp.txt", "back.txt")
    play("sessions", "clone-repo", "files", str(play.project))
    play("sessions", "diff", "files", code=2)
    play("sessions", "delete", "--yes", "files")


def test_what_a_session_did_to_its_project_is_told_as_its_schema_says(play):
    play("sessions", "create", "tree", "--agent", "mock", "--project", ".", "--project-mode", "worktree", "-p", "allow")
    play("sessions", "send-message", "tree", '@sh!="echo 1 > new; echo x >> main.py"')
    play("sessions", "get", "tree")
    play("sessions", "diff", "tree")
    play("sessions", "diff", "tree", "--stat")
    play("sessions", "pull", "tree", "--patch", "x.patch")
    play("sessions", "pull", "tree", "--to", str(play.project.parent / "to"))
    play("sessions", "pull", "tree", "--merge")


def test_sandboxes_answer_as_their_schemas_say(play):
    play("sandboxes", "create", "--id", "box", "--ttl", "8h")
    play("sandboxes", "list")
    play("sandboxes", "get", "box")
    play("sandboxes", "exec", "box", "--", "true")
    play("sandboxes", "exec", "box", "-d", "--exec-id", "z", "--", "echo", "hi")
    play("sandboxes", "logs", "box")
    play("sandboxes", "logs", "box", "--exec", "z", "--follow")
    play("sandboxes", "logs", "box", "--network", code=2)
    for verb in ("pause", "resume", "shell"):
        play("sandboxes", verb, "box", code=2)
    for verb in ("stop", "get", "restart"):
        play("sandboxes", verb, "box")
    play("sandboxes", "events", "box")
    play("sandboxes", "delete", "box", "--yes")
    play("sandboxes", "build-runtime", code=8)


def test_sandboxes_in_an_engine_answer_as_their_schemas_say(play, docker_engine, docker_api, docker_image):
    here = {"DOCKER_HOST": docker_engine.host, "AGENTCTL_PROVIDER": "docker", "AGENTCTL_IMAGE": docker_image}
    tag = f"agentctl-test-runtime:{os.getpid()}-s"
    try:
        play("sandboxes", "create", "--id", "held", env=here)
        for verb in ("pause", "get", "resume", "get"):
            play("sandboxes", verb, "held", env=here)
        play("sandboxes", "delete", "held", "--yes", env=here)
        bases = ("--build-arg", f"BASE={docker_image}", "--build-arg", f"NODE={docker_image}")
        play("sandboxes", "build-runtime", *bases, "--tag", tag, env=here)
    finally:
        own = installation(StatePaths(play.project.parent / "state"))
        clear(docker_api, own)
        for about in docker_api.images(filters={"label": f"agentctl.installation={own}"}):
            docker_api.remove_image(about["Id"], force=True)


def test_what_fails_before_it_begins_is_told_as_its_schema_says(play):
    play("sessions", "get", "nope", code=4)
    play("sessions", "nope", code=2)
    play("run", "--agent", "nope", "x", code=4)
    play("sessions", "send-message-stream", "nope", "x", code=4)
    play("run", "--provider", "docker", "--agent", "mock", "x", code=8)
    play("run", "--agent", "mock", "--detach", "Hello")


def test_every_command_has_a_schema_was_run_and_answered(played, request):
    for name, test in [*globals().items()]:
        if name.startswith("test_") and "play" in signature(test).parameters and name not in played.tests:
            test(played, *map(request.getfixturevalue, [*signature(test).parameters][1:]))  # it ran in another process
    everything = {"-".join(words) for words in told.all_commands()}
    published = set(schemas.names()) - {"envelope", "error", "event", "result"}
    assert everything - published == NO_DATA, "agentctl/schemas says nothing of them"
    variants = {"run-detach", "sandboxes-logs-exec", "sessions-transcript-jsonl"}
    assert published - everything == variants, "there are no such commands"
    assert everything - played.refused == set(), "none of the tests above runs them"
    assert published == played.answered, "none of the tests above has them succeed"


def test_every_schema_is_one_by_the_standard_and_tolerates_fields_to_come():
    everything = [schemas.schema(name) for name in schemas.names()]
    definitions = {name: schema for one in everything for name, schema in one.pop("$defs").items()}
    Draft202012Validator.check_schema({"anyOf": everything, "$defs": definitions})
    event = {"sequence": 1, "event_id": "evt_1", "time": "", "session_id": "", "native_session_id": None}
    event |= {"turn_id": None, "source": "agent", "synthetic": False, "type": "to.come", "data": {"new": 1}, "new": 1}
    Draft202012Validator(schemas.schema("event")).validate(event)
    broken = Draft202012Validator(schemas.schema("event")).iter_errors({**event, "type": "log.gap"})
    assert [error.message for error in broken] == ["'from' is a required property", "'to' is a required property"]


def test_the_schema_of_events_has_those_that_are_documented():
    documented = set(re.findall(r"^([a-z]+(?:\.[a-z_]+)?) +``", events.__doc__ or "", re.MULTILINE))
    of_others = {name for name in event_schemas.EVENTS if name.startswith(("sandbox.", "log."))}
    assert documented == set(event_schemas.EVENTS) - of_others
    for name in of_others:
        assert re.search(rf"``(\w+\.)?{name.partition('.')[2]}``", events.__doc__ or ""), name


def test_a_schema_is_printed_by_name():
    assert agentctl("schema").out.splitlines() == schemas.names()
    printed = json.loads(agentctl("schema", "sessions-get").out)
    assert printed == schemas.schema("sessions-get")
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    wrong = agentctl("schema", "session-get")
    assert (wrong.code, "sessions-get" in wrong.err) == (4, True), wrong
