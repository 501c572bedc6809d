"""What comes along into a session's sandbox, and what becomes of it when the session comes back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import agentctl

pytestmark = pytest.mark.slow


def create(*options, code=0, **how):
    done = agentctl("sessions", "create", "work", "--agent", "mock", "--permissions", "allow", *options, **how)
    assert done.code == code, done
    return done


def say(text, *, code=0, **how):
    done = agentctl("sessions", "send", "work", text, **how)
    assert done.code == code, done
    return done


def shell(command, **how):
    """The output of a command that the agent runs."""
    return say(f'@sh!="{command}"', **how).out.partition("sh: exit 0\n")[2]


def sessions(verb, *args, code=0, **how):
    done = agentctl("sessions", verb, "work", *args, **how)
    assert done.code == code, done
    return done


def nothing_is_left():
    assert agentctl("sessions", "list", "--json").data == []


# secrets


def length_of(name, **how):
    return say(f"@env={name}", **how).out.strip()


def test_a_variable_s_value_is_looked_up_anew_when_the_session_comes_back():
    create("--secret", "KEY", env={"KEY": "first-value"})
    assert length_of("KEY") == "env KEY: set (11 characters)"
    sessions("release")
    missing = say("hello", code=6)
    assert "KEY is not set" in missing.err
    assert "agentctl sessions resume work --secret KEY=-" in missing.err
    assert length_of("KEY", env={"KEY": "a-second-value"}) == "env KEY: set (14 characters)"
    sessions("release")
    sessions("resume", "--secret", "KEY=-", stdin="given-at-last\n")
    assert length_of("KEY") == "env KEY: set (13 characters)"


def test_a_file_s_value_is_read_anew_when_the_session_comes_back(tmp_path):
    key = tmp_path / "key"
    key.write_text("first-value\n")
    create("--secret", f"KEY=@{key}")
    key.write_text("a-second-value")
    sessions("release")
    assert length_of("KEY") == "env KEY: set (14 characters)"
    sessions("release")
    key.unlink()
    missing = say("hello", code=6)
    assert str(key) in missing.err
    assert "agentctl sessions resume work --secret KEY=-" in missing.err


def test_a_value_from_stdin_is_kept_for_the_next_sandbox_and_can_be_changed():
    create("--secret", "KEY=-", stdin="first-value\n")
    sessions("release")
    assert length_of("KEY") == "env KEY: set (11 characters)"
    sessions("release")
    sessions("resume", "--secret", "KEY=-", stdin="a-second-value")
    sessions("release")
    assert length_of("KEY") == "env KEY: set (14 characters)"


def test_an_ephemeral_value_is_asked_for_when_the_session_comes_back():
    create("--secret", "KEY=-", "--secret-ephemeral", stdin="first-value\n")
    assert length_of("KEY") == "env KEY: set (11 characters)"
    sessions("release")
    asked = say("hello", code=6)
    assert "agentctl sessions resume work --secret KEY=-" in asked.err
    command = agentctl("sessions", "exec", "work", "--", "sh", "-c", "echo ${KEY-none}")
    assert command.out == "none\n", command
    sessions("resume", "--secret", "KEY=-", stdin="a-second-value\n")
    assert length_of("KEY") == "env KEY: set (14 characters)"
    command = agentctl("sessions", "exec", "work", "--", "sh", "-c", "echo ${#KEY} $KEY")
    assert command.out == "14 [redacted]\n", command


def test_a_value_that_changed_since_the_sandbox_began_is_redacted_in_what_commands_print():
    create("--secret", "KEY", env={"KEY": "first-value"})
    shown = sessions("exec", "--", "printenv", "KEY", env={"KEY": "a-second-value"})
    assert shown.out == "[redacted]\n"


def test_a_secret_that_a_session_does_not_have_is_exit_2():
    create("--secret", "KEY", env={"KEY": "first-value"})
    refused = sessions("resume", "--secret", "OTHER=-", stdin="value-of-other", code=2)
    assert "It has: KEY" in refused.err
    assert agentctl("run", "--session", "work", "--secret", "OTHER", "hi", env={"OTHER": "value"}).code == 2


def test_a_run_in_a_session_that_is_there_may_bring_a_secret_anew():
    create("--secret", "KEY", env={"KEY": "first-value"})
    sessions("release")
    done = agentctl("run", "--session", "work", "--secret", "KEY", "@env=KEY", env={"KEY": "a-second-value"})
    assert "set (14 characters)" in done.out, done


def test_a_short_secret_is_told_not_to_be_redacted():
    done = create("--secret", "PIN", "--no-provision", env={"PIN": "1234"})
    assert "PIN has fewer than 8 characters: it will not be redacted." in done.err
    assert "1234" not in done.err


def test_a_kept_file_that_cannot_be_read_is_told_with_its_place(tmp_path):
    create("--secret", "KEY=-", "--no-provision", stdin="first-value\n")
    [kept] = (tmp_path / "state" / "secrets").iterdir()
    kept.unlink()
    assert "resume work --secret KEY=-" in say("hello", code=6).err
    kept.write_text("{ not json")
    assert str(kept) in say("hello", code=1).err


# commands before the start


def test_commands_before_the_start_run_once_in_a_sandbox_and_again_in_the_next(tmp_path):
    count = tmp_path / "count"
    create("--pre-start", f'echo "$GREETING" >> {count}', "--env", "GREETING=hello")
    say("@exit=3", code=7)  # the agent dies, its sandbox lives
    say("hello")
    assert count.read_text() == "hello\n"
    sessions("release")
    say("hello")
    assert count.read_text() == "hello\n" * 2


def test_a_command_that_fails_is_exit_8_with_its_last_words_and_leaves_no_session():
    command = ("--pre-start", "echo one; echo the key is $KEY >&2; exit 3", "--secret", "KEY")
    told = create(*command, code=8, env={"KEY": "first-value"})
    assert "exit code 3" in told.err
    assert "one\nthe key is [redacted]\n" in told.err
    nothing_is_left()
    told = create(*command, "--json", code=8, env={"KEY": "first-value"})
    assert told.envelope["error"]["details"]["output"] == "one\nthe key is [redacted]\n"
    nothing_is_left()


# files


def test_files_are_put_into_the_agent_s_home_and_their_changes_arrive(tmp_path):
    source = tmp_path / "tool.json"
    source.write_text("first")
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    create("--file", f".config/tool/deep.json={source}", "--file", f"~/bin/run={script}")
    assert shell("cat ~/.config/tool/deep.json; ~/bin/run") == "firstran\n"
    sessions("release")
    source.write_text("second")
    assert shell("cat ~/.config/tool/deep.json") == "second\n"


def test_what_the_agent_made_of_a_file_stays_until_the_user_s_own_changes(tmp_path):
    login = tmp_path / "auth.json"
    login.write_text("login-1")
    create("--file", f".codex/auth.json={login}")
    shell("echo renewed > ~/.codex/auth.json")
    sessions("release")
    assert shell("cat ~/.codex/auth.json") == "renewed\n"
    sessions("release")
    login.write_text("login-2")
    assert shell("cat ~/.codex/auth.json") == "login-2\n"


@pytest.mark.parametrize("target", ["../out", "/etc/out", "a/../../out", "~", ""])
def test_a_place_outside_of_the_home_is_refused(target, tmp_path):
    (tmp_path / "f").write_text("x")
    create("--file", f"{target}={tmp_path / 'f'}", code=2)
    nothing_is_left()


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "nonesuch" in create("--file", f"a={tmp_path}/nonesuch", code=2).err
    assert "not understood" in create("--file", "nonesense", code=2).err


def test_a_source_that_is_gone_when_the_session_comes_back_is_told(tmp_path):
    source = tmp_path / "f"
    source.write_text("x")
    create("--file", f"f={source}")
    sessions("release")
    source.unlink()
    assert str(source) in say("hello", code=2).err


# skills and instructions


def skill(directory: Path, name: str, body: str = "Body") -> Path:
    (directory / name / "scripts").mkdir(parents=True)
    (directory / name / "SKILL.md").write_text(f"---\nname: {name}\ndescription: what it does\n---\n{body}\n")
    (directory / name / "scripts" / "run.sh").write_text("#!/bin/sh\n")
    return directory / name


def repository(directory: Path) -> Path:
    for command in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "x"], ["branch", "stable"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=directory, check=True)
    return directory


def test_a_skill_of_a_directory_is_put_where_the_agent_looks(tmp_path):
    source = skill(tmp_path, "zebra")
    create("--skill", str(source))
    assert shell("cd ~/.agents/skills; ls -R; tail -1 zebra/SKILL.md").endswith("run.sh\nBody\n")
    sessions("release")
    (source / "SKILL.md").write_text("Newer\n")
    assert shell("cat ~/.agents/skills/zebra/SKILL.md") == "Newer\n"


def test_the_skills_of_a_repository_stay_when_it_is_out_of_reach_later(tmp_path):
    many = tmp_path / "many"
    skill(many / "skills", "one")
    skill(many / "skills", "two")
    remote = repository(many)
    create("--skill", f"file://{remote}#stable")
    assert shell("ls ~/.agents/skills") == "one\ntwo\n"
    sessions("release")
    remote.rename(tmp_path / "gone")
    done = say('@sh!="ls ~/.agents/skills"')
    assert done.out.endswith("one\ntwo\n")
    assert "stays as it was fetched last" in done.err


def test_a_repository_that_was_never_reached_is_exit_8_and_leaves_no_session(tmp_path):
    assert "could not fetch" in create("--skill", f"file://{tmp_path}/none", code=8).err
    nothing_is_left()


def test_a_branch_that_is_not_there_is_told(tmp_path):
    remote = repository(skill(tmp_path, "zebra"))
    assert "nonesuch" in create("--skill", f"file://{remote}#nonesuch", code=8).err


@pytest.mark.parametrize("source", ["/no/such/directory", ".", "https://user:hidden@host/skill", "ext::sh -c true"])
def test_what_is_no_skill_is_refused(source, tmp_path):
    done = create("--skill", source, code=2, cwd=tmp_path)
    assert "hidden" not in done.err
    nothing_is_left()


def test_instructions_come_as_text_or_from_a_file(tmp_path):
    (tmp_path / "prompt.md").write_text("Speak French.\n")
    create("--system-prompt", f"@{tmp_path / 'prompt.md'}")
    assert shell("cat ~/AGENTS.md") == "Speak French.\n"
    assert create("--system-prompt", "@/no/such/file", code=2)


@pytest.mark.parametrize("option", [("--skill", "."), ("--system-prompt", "Hello")])
def test_an_agent_of_which_nobody_knows_where_it_looks_is_refused_at_once(option, tmp_path):
    skill(tmp_path, "zebra")
    given = ("--agent-command", "some-agent", *option, "--no-provision")
    done = agentctl("sessions", "create", "work", *given, cwd=tmp_path / "zebra")
    assert done.code == 2, done
    assert "Nobody has measured" in done.err
    nothing_is_left()


# MCP servers


def config(path: Path, data) -> str:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


LOCAL = {"command": "npx", "args": ["-y", "tool"], "env": {"TOKEN": "${TOKEN:-none}"}}


@pytest.mark.parametrize("key", ["mcpServers", "servers"])
def test_mcp_servers_come_from_the_files_of_claude_and_vs_code(key, tmp_path):
    servers = {
        "local": {"type": "stdio", **LOCAL},
        "web": {"type": "http", "url": "https://host/mcp", "headers": {"X": "${env:X_TOKEN}"}},
        "off": {**LOCAL, "disabled": True},
        "mine": LOCAL,
    }
    file = config(tmp_path / "mcp.json", {key: servers, "inputs": []})
    options = ("--mcp-config", file, "--mcp-server", "mine=https://mine/mcp")
    create(*options, env={"X_TOKEN": "value-of-x"})
    assert say("@mcp").out == "mcp: local (stdio), web (http), mine (http)\n"
    shown = agentctl("sessions", "get", "work", "--json")
    assert shown.data["mcp_servers"] == ["local", "web", "mine"]
    assert "value-of-x" not in shown.out


def test_a_variable_of_an_mcp_server_that_is_not_set_is_exit_6(tmp_path):
    server = {"url": "https://host/mcp", "headers": {"Authorization": "Bearer ${NO_SUCH_TOKEN}"}}
    done = create("--mcp-config", config(tmp_path / "m", {"mcpServers": {"web": server}}), code=6)
    assert "NO_SUCH_TOKEN" in done.err
    nothing_is_left()


def test_a_variable_of_an_mcp_server_may_be_a_secret(tmp_path):
    server = {"url": "https://host/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}
    create(
        "--mcp-config", config(tmp_path / "m", {"mcpServers": {"web": server}}), "--secret", "TOKEN=-", stdin="value-1"
    )
    assert say("@mcp").out == "mcp: web (http)\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{ not json", "is not JSON"),
        ({"other": {}}, "has no servers"),
        ({"mcpServers": {"x": "npx tool"}}, "has no servers"),
        ({"mcpServers": {"x": {"type": "websocket", "url": "wss://host"}}}, "unknown transport 'websocket'"),
        ({"mcpServers": {"x": {"url": "ftp://host"}}}, "http:// or https://"),
        ({"mcpServers": {"x": {}}}, "neither a command nor a url"),
        ({"mcpServers": {"x": {"command": "npx", "args": "-y"}}}, "args"),
        ({"mcpServers": {"x": {"command": "npx", "env": {"A": {}}}}}, "env"),
        ({"servers": {"x": {"command": "npx", "env": {"A": "${input:key}"}}}}, "${input:key}"),
    ],
)
def test_an_mcp_file_that_makes_no_sense_is_refused(data, says, tmp_path):
    file = config(tmp_path / "mcp.json", data)
    done = create("--mcp-config", file, code=2)
    assert says in done.err
    assert file in done.err
    nothing_is_left()
