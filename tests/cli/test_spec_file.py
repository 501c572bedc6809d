"""``--spec FILE``: strict, with lines; what the command line adds to it; what ``--print-config`` shows."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
import yaml

from agentctl.cli.compute_options import ComputeOptions
from agentctl.cli.options import SpecOptions, TurnOptions
from agentctl.cli.output import Output
from agentctl.cli.project_options import ProjectOptions
from agentctl.cli.sandbox_options import PlaceOptions
from agentctl.cli.setup_options import SetupOptions
from agentctl.cli.spec_file import Alone, merged
from agentctl.cli.spec_keys import KEYS
from agentctl.errors import UsageError
from tests.cli.running import agentctl


class Options:
    """The options of one command."""

    def __init__(self, **given):
        self.spec = SpecOptions(**{k: v for k, v in given.items() if k in SpecOptions.__annotations__})
        self.setup = SetupOptions(**{k: v for k, v in given.items() if k in SetupOptions.__annotations__})
        self.turn = TurnOptions(**{k: v for k, v in given.items() if k in TurnOptions.__annotations__})
        self.alone = Alone(file=given.get("file"))
        self.machine = ComputeOptions(**{k: v for k, v in given.items() if k in ComputeOptions.__annotations__})
        self.all = (self.spec, self.setup, self.machine, self.turn, self.alone)


@pytest.fixture
def read(tmp_path):
    """Fill options from a spec of this text."""

    def fill(text, **given):
        path = tmp_path / "spec.yaml"
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        options = Options(**given)
        assert merged(path, "sessions create", options.all, Output(), print_config=False) is False
        return options

    return fill


@pytest.fixture
def refused(read):
    """The error of such a spec: its message without the directory, and its hint."""

    def fail(text):
        with pytest.raises(UsageError) as raised:
            read(text)
        message = raised.value.message
        return message[message.index("spec.yaml") :], raised.value.hint or ""

    return fail


def test_every_key_of_a_session_reaches_its_option(read, tmp_path):
    options = read("""
        agent: mock
        model: fast
        cwd: work
        root: /srv
        env: {STAGE: test, FROM_HERE: }
        env_files: [a.env]
        labels: {team: web}
        permissions: deny
        policy: rules.yaml
        timeouts: {turn: 10m, stall: 0, start: 90}
        idle_timeout: 1h30m
        secrets: [API_KEY, OTHER=@k.txt, {name: THIRD, file: /etc/k}]
        skills: [skills/review, "https://host/x.git#main"]
        system_prompt: "@prompt.md"
        pre_start: [npm ci]
        clones: ["https://host/a.git#dev=src", {url: "https://host/b.git", path: b}]
        files: [auth.json=auth.json, {target: .config/x, source: ~/x}]
    """)
    assert (options.spec.agent, options.spec.model) == ("mock", "fast")
    assert (options.spec.cwd, options.spec.root) == (str(tmp_path / "work"), "/srv")
    assert options.spec.env == ["STAGE=test", "FROM_HERE"]
    assert options.spec.env_file == [tmp_path / "a.env"]
    assert options.spec.label == ["team=web"]
    assert (options.turn.permissions, options.spec.policy) == ("deny", tmp_path / "rules.yaml")
    assert (options.turn.timeout, options.turn.stall_timeout, options.spec.start_timeout) == (600.0, 0.0, 90.0)
    assert options.spec.idle_timeout == 5400.0
    assert options.setup.secret == ["API_KEY", f"OTHER=@{tmp_path}/k.txt", "THIRD=@/etc/k"]
    assert options.setup.skill == [str(tmp_path / "skills/review"), "https://host/x.git#main"]
    assert options.setup.system_prompt == f"@{tmp_path}/prompt.md"
    assert options.setup.pre_start == ["npm ci"]
    assert options.spec.clone == ["https://host/a.git#dev=src", "https://host/b.git=b"]
    assert options.alone.file[0] == f"auth.json={tmp_path}/auth.json"
    assert options.alone.file[1].startswith(".config/x=/")


def test_on_the_command_line_scalars_replace_maps_merge_and_lists_append(read):
    spec = """
        agent: mock
        model: slow
        env: {A: file, B: file}
        pre_start: [one]
        mcp_servers: ["fs=mcp-fs /tmp"]
    """
    options = read(spec, model="fast", env=["B=here", "C=here"], pre_start=["two"], mcp_server=["web=https://host/mcp"])
    assert (options.spec.agent, options.spec.model) == ("mock", "fast")
    assert dict(pair.split("=") for pair in options.spec.env) == {"A": "file", "B": "here", "C": "here"}
    assert options.setup.pre_start == ["one", "two"]
    assert options.spec.mcp_server == ["fs=mcp-fs /tmp", "web=https://host/mcp"]


def test_mcp_servers_are_a_list_or_a_mapping(read):
    options = read("""
        mcp_servers:
          fs: {command: mcp-fs, args: [--root, /tmp], env: {TOKEN: "${TOKEN}"}}
          web: {url: "https://host/mcp"}
    """)
    fs, web = map(json.loads, options.spec.mcp_server)
    assert fs == {"name": "fs", "command": "mcp-fs", "args": ["--root", "/tmp"], "env": {"TOKEN": "${TOKEN}"}}
    assert web == {"name": "web", "url": "https://host/mcp"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("agent: mock\nmodell: x\n", "spec.yaml:2: there is no key 'modell'", "Did you mean 'model'?"),
        ("agent: mock\n\nenv-files: []\n", "spec.yaml:3: there is no key 'env-files'", "'env_files'"),
        ("ttl: 8h\n", "spec.yaml:1: there is no key 'ttl' in the spec of 'sessions create'", "Keys are"),
        ("agent: a\nmodel: x\nagent: b\n", "spec.yaml:3: 'agent' is there twice", "Line 1"),
        ("env:\n  A: x\n  A: y\n", "spec.yaml:3: 'A' is there twice", "Line 2"),
        ("agent: mock\nmode: no\n", "mode has to be a text, but YAML reads no as true or false", '"no"'),
        ("labels:\n  country: no\n", "spec.yaml:2: labels.country has to be a text", '"no"'),
        ("labels: {version: 1.10}\n", "YAML reads 1.10 as a number", '"1.10"'),
        ("env: {PORT: 8080}\n", "env.PORT has to be a text, but YAML reads 8080 as a number", '"8080"'),
        ("labels: {at: 2026-01-02}\n", "YAML reads 2026-01-02 as a date", '"2026-01-02"'),
        ("env: {yes: x}\n", "YAML reads yes as true or false", '"yes"'),
        ("model:\n", "spec.yaml:1: model has no value", "leave the line out"),
        ("model: [a]\n", "model has to be a text, not a list", ""),
        ("env: [A=x]\n", "env has to be a mapping, not a list", "key: value"),
        ("pre_start: npm ci\n", "pre_start has to be a list, not a text", "- "),
        ("pre_start:\n  - ok\n  - 7\n", "spec.yaml:3: an entry of pre_start has to be a text", '"7"'),
        ("timeout: 1:30\n", "timeout has to be a number, not 1:30", ""),
        ("timeout: 010\n", "timeout has to be a number, not 010", ""),
        ("timeout: soon\n", "spec.yaml:1: 'soon' is not a time", "30s"),
        ("timeout: 5m\ntimeouts: {turn: 6m}\n", "spec.yaml:2: timeouts.turn and timeout are the same", ""),
        ("timeouts: {trun: 6m}\n", "there is no key 'trun' in timeouts", "'turn'"),
        ("permissions: alow\n", "spec.yaml:1: permissions cannot be 'alow'", "allow"),
        ("secret_ephemeral: yes\n", "secret_ephemeral has to be true or false, not yes", ""),
        ("secrets: [API_KEY=hunter2]\n", "says where a secret is, never what it is", "API_KEY=@FILE"),
        ("secrets: [{name: K, value: x}]\n", "there is no key 'value'", "file, name"),
        ("mcp_servers: [{name: x}]\n", "needs a name, and either a command or a url", ""),
        ("mcp_servers:\n  - nonsense\n", "spec.yaml:2: --mcp-server 'nonsense' is not understood", ""),
        ("files: [x]\n", "is not TARGET=SOURCE", ""),
        ("clones: [{branch: x}]\n", "has no 'url'", ""),
        ("- agent\n", "spec.yaml:1: the spec of 'sessions create' has to be a mapping, not a list", ""),
        ("", "spec.yaml:1: the file is empty", ""),
        ("# nothing\n", "spec.yaml:1: the file is empty", ""),
        ("agent: mock\nmodel: 'x\n", "spec.yaml:3: this is not YAML", ""),
        ("agent: mock\n\tmodel: x\n", "spec.yaml:2: this is not YAML", ""),
        ("agent: a\n---\nagent: b\n", "this is not YAML", ""),
        ("agent: !!python/object:os.system x\n", "agent has to be a text", ""),
        ("agent: &a [*a]\n", "agent has to be a text", ""),
        ("<<: {agent: x}\n", "a key of the spec of 'sessions create' has to be a text", ""),
        ("mcp_servers: {x: {command: c, env: &e {a: *e}}}\n", "nested too deep", ""),
        ("agent: " + "[" * 5000, "this is not YAML", ""),
        (b"agent: \xff\n", "spec.yaml is not text in UTF-8", ""),
        ("# " + "x" * 1024 * 1024, "spec.yaml is larger than", ""),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_what_would_be_right(refused, text, message, hint):
    told, helped = refused(text)
    assert message in told
    assert hint in helped


def test_a_small_file_that_repeats_itself_without_end_is_refused_at_once(refused):
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 10)]
    bomb = "mcp_servers: {s: {command: c, env: {" + ", ".join(lines) + "}}}\n"
    assert "more than 100000 values" in refused(bomb)[0]


def test_a_secret_that_was_written_into_the_file_is_not_repeated(refused):
    told, helped = refused("secrets: [API_KEY=hunter2]\n")
    assert "hunter2" not in told + helped


SERVICES = """
    services:
      db:
        image: postgres:16
        required: false
        env: {POSTGRES_PASSWORD: x}
        command: [postgres, -c, fsync=off]
        healthcheck: {test: [CMD, pg_isready], interval: 2s, timeout: 1, retries: 5, start_period: 0}
        post_start: [createdb app]
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {db: {required: true}}\n", "services.db has no 'image'"),
        ("services: {db: {image: x, requird: true}}\n", "there is no key 'requird' in services.db"),
        ("services: {db: {image: x, required: yes}}\n", "services.db.required has to be true or false, not yes"),
        ("services: {My_Db: {image: x}}\n", "'My_Db' cannot name a service"),
        ("services: {db: {image: x, healthcheck: {interval: 2s}}}\n", "services.db.healthcheck has no 'test'"),
        ("services: {db: {image: x, healthcheck: {test: y, retries: 1.5}}}\n", "has to be a whole number"),
        ("services: {db: {image: x, healthcheck: {test: y, interval: soon}}}\n", "'soon' is not a time"),
    ],
)
def test_services_are_checked_in_full(refused, text, message):
    told, _ = refused(text)
    assert message in told


def printed(path, *args, command=("sessions", "create"), **how):
    done = agentctl(*command, "--spec", str(path), "--print-config", *args, **how)
    assert done.code == 0, done
    return done.out


def test_what_print_config_prints_is_a_spec_that_gives_the_same_again_and_nothing_is_made(tmp_path, rows):
    path = tmp_path / "spec.yaml"
    text = """
        agent: mock
        cwd: .
        env: {A: "1", HERE: }
        labels: {team: web}
        timeouts: {idle: 0}
        secrets: [API_KEY]
        mcp_servers: {fs: {command: mcp-fs}}
        skills: [skills]
    """
    path.write_text(textwrap.dedent(text) + textwrap.dedent(SERVICES))
    out = printed(path, "--env", "A=2", "--secret", f"K=@{tmp_path}/k", env={"API_KEY": "canary-1f2e"})
    config = yaml.safe_load(out)
    assert config["env"] == {"A": "2", "HERE": None}
    assert config["secrets"] == ["API_KEY", f"K=@{tmp_path}/k"]
    assert config["idle_timeout"] == 0
    assert config["services"]["db"]["healthcheck"]["interval"] == 2.0
    assert "canary" not in out
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert printed(again) == out
    assert agentctl("sessions", "list", "--json").data == []


def test_print_config_without_a_spec_shows_the_options_of_the_command_line():
    done = agentctl("run", "--agent", "mock", "--permissions", "deny", "--print-config", "--json")
    assert (done.code, done.data) == (0, {"agent": "mock", "permissions": "deny"})


@pytest.mark.slow
def test_a_session_and_a_sandbox_are_made_from_specs(tmp_path):
    session = tmp_path / "session.yaml"
    session.write_text("agent: mock\nlabels: {team: web}\nenv: {STAGE: spec}\n")
    done = agentctl("sessions", "create", "work", "--spec", str(session), "--no-provision", "--json", cwd=tmp_path)
    assert (done.data["labels"], done.data["env"]) == ({"team": "web"}, ["STAGE"])
    ran = agentctl("run", "--spec", str(session), "@env=STAGE", cwd=tmp_path)
    assert (ran.code, "STAGE: set (4" in ran.out) == (0, True), ran
    sandbox = tmp_path / "sandbox.yaml"
    sandbox.write_text("labels: {team: web}\nttl: 1h\nenv: {STAGE: box}\ncwd: .\n")
    try:
        made = agentctl("sandboxes", "create", "--id", "box", "--spec", str(sandbox), "--label", "x=y", "--json")
        assert (made.data["labels"], made.data["ttl_s"]) == ({"team": "web", "x": "y"}, 3600.0)
        assert made.data["cwd"] == str(tmp_path)
        assert agentctl("sandboxes", "exec", "box", "--", "sh", "-c", "echo $STAGE").out == "box\n"
    finally:
        assert agentctl("sandboxes", "delete", "box", "--yes").code == 0


def test_a_spec_comes_on_stdin_and_a_missing_one_is_an_error(tmp_path):
    done = agentctl("sessions", "create", "--spec", "-", "--print-config", "--json", stdin="agent: mock\n")
    assert done.data == {"agent": "mock"}
    bad = agentctl("sessions", "create", "--spec", "-", stdin="agnt: mock\n")
    assert (bad.code, "stdin:1: there is no key 'agnt'" in bad.err) == (2, True), bad
    gone = agentctl("sessions", "create", "--spec", str(tmp_path / "nonesuch"))
    assert (gone.code, "Cannot read --spec" in gone.err) == (2, True), gone


def test_every_key_belongs_to_an_option_of_some_command():
    bundles = (SpecOptions, SetupOptions, ComputeOptions, TurnOptions, PlaceOptions, ProjectOptions)
    options = {"file"}.union(*(bundle.__annotations__ for bundle in bundles))
    assert {name for name, key in KEYS.items() if key.option not in options} == set()


def test_yaml_is_imported_only_for_a_spec():
    code = (
        "import agentctl.cli.run, agentctl.cli.sessions, agentctl.cli.sandboxes, sys; sys.exit('yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
