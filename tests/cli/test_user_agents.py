"""Agents of the user's own: made from built-in ones, used by name like those."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from agentctl.cli.complete import complete
from tests.cli.running import agentctl
from tests.cli.terminal import agentctl as command_line

SERVER = json.dumps({"name": "web", "url": "https://host/mcp", "headers": {"Authorization": "Bearer token-in-clear"}})


def agents(*args, code=0, **how):
    done = agentctl("agents", *args, **how)
    assert done.code == code, done
    return done


def made(name="reviewer", *options):
    return agents("create", name, "--from", "mock", *options)


def test_an_agent_is_made_shown_listed_changed_and_deleted(tmp_path):
    (tmp_path / "review.md").write_text("Be strict.")
    made("reviewer", "--mode", "plan", "--mcp-server", SERVER, "--system-prompt", f"@{tmp_path / 'review.md'}")
    shown = agents("get", "reviewer", "--json")
    assert (shown.data["from"], shown.data["mode"], shown.data["system_prompt"]) == ("mock", "plan", "Be strict.")
    assert "token-in-clear" not in shown.out
    assert agents("get", "reviewer").out.startswith("name")
    [row] = [a for a in agents("list", "--json").data if not a["builtin"]]
    assert (row["name"], row["from"], row["status"]) == ("reviewer", "mock", "built in")
    agents("update", "reviewer", "--mode", "code", "--unset", "system-prompt")
    changed = agents("get", "reviewer", "--json").data
    assert (changed["mode"], changed["system_prompt"]) == ("code", None)
    agents("delete", "reviewer")
    agents("get", "reviewer", code=4)
    agents("delete", "reviewer", code=4)


def test_a_taken_name_is_exit_10():
    made("mine")
    for name in ("mine", "mock", "claude", "codex-acp"):
        agents("create", name, "--from", "mock", code=10)


def test_of_two_that_make_the_same_agent_at_once_one_is_told():
    program = command_line("agents", "create", "mine", "--from", "mock")
    both = [subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert sorted(one.wait(60) for one in both) == [0, 10]


@pytest.mark.parametrize("verb", [("update", "claude", "--mode", "x"), ("delete", "claude")])
def test_a_built_in_agent_is_not_changed(verb):
    assert "agents create NAME --from claude" in agents(*verb, code=2).err


def test_bad_names_bases_and_settings_are_told():
    agents("create", "No/Name", "--from", "mock", code=2)
    assert "claude" in agents("create", "mine", "--from", "clade", code=4).err
    assert "Nobody has measured" in agents("create", "mine", "--from", "goose", "--system-prompt", "Hi", code=2).err
    made("mine")
    agents("update", "mine", code=2)
    agents("update", "mine", "--unset", "colour", code=2)
    agents("update", "nonesuch", "--mode", "x", code=4)


def test_an_agent_made_from_one_of_one_s_own_is_a_copy():
    made("first", "--mode", "plan")
    agents("create", "second", "--from", "first", "--model", "small")
    agents("update", "first", "--mode", "code")
    second = agents("get", "second", "--json").data
    assert (second["from"], second["mode"], second["model"]) == ("mock", "plan", "small")


def test_a_session_gets_what_its_agent_says_unless_it_says_so_itself(tmp_path):
    (tmp_path / "SKILL.md").write_text("---\nname: x\n---\n")
    options = ("--mcp-server", "a=tool one", "--mcp-server", "b=tool two", "--system-prompt", "Be strict.")
    made("reviewer", "--skill", str(tmp_path), *options)
    created = agentctl("sessions", "create", "--agent", "reviewer", "--mcp-server", "b=other", "--json")
    assert created.data["name"].startswith("reviewer-")
    assert (created.data["agent"], created.data["user_agent"]) == ("mock", "reviewer")
    assert created.data["skills"] == [str(tmp_path)]
    said = agentctl("sessions", "send", created.data["name"], '@sh!="cat ~/AGENTS.md" @mcp').out
    assert said.endswith("Be strict.\nmcp: a (stdio), b (stdio)\n")


def test_a_session_keeps_what_it_was_made_with():
    made("reviewer", "--system-prompt", "Be strict.")
    agentctl("sessions", "create", "work", "--agent", "reviewer")
    agents("update", "reviewer", "--system-prompt", "Be kind.")
    agents("delete", "reviewer")
    agentctl("sessions", "release", "work")
    assert agentctl("sessions", "send", "work", '@sh!="cat ~/AGENTS.md"').out.endswith("Be strict.\n")


def test_a_run_takes_an_agent_of_one_s_own():
    made("reviewer", "--mcp-server", "a=tool one")
    done = agentctl("run", "--agent", "reviewer", "@mcp")
    assert (done.code, done.out) == (0, "mcp: a (stdio)\n")
    kept = agentctl("run", "--agent", "reviewer", "--session", "work", "hello")
    assert kept.code == 0, kept
    assert agentctl("run", "--agent", "reviewer", "--session", "work", "hello").code == 0
    assert agentctl("run", "--agent", "claude", "--session", "work", "hello").code == 10


def test_what_the_agent_says_goes_before_the_configuration():
    made("reviewer", "--model", "of-the-agent")
    create = ("sessions", "create", "--agent", "reviewer", "--no-provision", "--json")
    configured = {"AGENTCTL_MODEL": "of-the-configuration"}
    assert agentctl(*create, env=configured).data["model"] == "of-the-agent"
    assert agentctl(*create, "--model", "mine", env=configured).data["model"] == "mine"


def test_an_agent_of_one_s_own_is_probed():
    made("reviewer", "--mcp-server", "a=tool one")
    assert agents("probe", "reviewer", "--json").data["name"] == "reviewer"


def test_the_shell_completes_the_names_of_both():
    made("my-reviewer")
    assert [name for name, _ in complete(["run", "--agent", "m"])[1]] == ["mistral-vibe", "mock", "my-reviewer"]
    assert complete(["agents", "update", "m"])[1] == [("my-reviewer", "made from mock")]


def test_a_run_of_a_built_in_agent_looks_for_none_of_the_user_s_own(tmp_path):
    program = (
        "import sys; from agentctl.store.sql import SqlStore; SqlStore.user_agent = None\n"
        "from agentctl.cli.entry import run\n"
        "code = run(['run', '--agent', 'mock', 'hello'])\n"
        "late = ('home_files', 'skill_sources', 'mcp', 'envfile')\n"
        "print(code, [name for name in late if f'agentctl.ops.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "mock: hello\n0 []\n", done
