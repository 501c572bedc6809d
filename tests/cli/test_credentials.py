"""``agentctl credentials``: what a script, a shell and a person get."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.cli.running import agentctl, cpu_s
from tests.credentials.support import AGO, claude_login, put

KEY = "sk-ant-api03-a-key-of-a-user"
OPENCODE = ".local/share/opencode/auth.json"


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "user-home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return home


def credentials(*args, **env):
    return agentctl("credentials", *args, env=env)


def test_extract_prints_what_there_is_without_values(home):
    put(home, OPENCODE, {"openrouter": {"type": "api", "key": "sk-or-v1-a-key-of-a-router"}})
    done = credentials("extract", ANTHROPIC_API_KEY=KEY)
    assert done.code == 0
    told = json.loads(done.out)
    assert set(told) == {"anthropic", "openai", "other"}
    assert told["openai"] is None
    assert told["anthropic"] == {
        "provider": "anthropic",
        "source": "environment",
        "auth_type": "api_key",
        "api_key": "sk-a...user",
        "redacted": True,
        "place": "ANTHROPIC_API_KEY",
        "variables": ["ANTHROPIC_API_KEY", "CLAUDE_API_KEY"],
        "expires_at": None,
    }
    assert told["other"]["openrouter"]["source"] == "opencode"
    assert KEY not in done.out + done.err
    assert credentials("extract", "--json", ANTHROPIC_API_KEY=KEY).data == told
    assert json.loads(credentials("extract", "--reveal", ANTHROPIC_API_KEY=KEY).out)["anthropic"]["api_key"] == KEY


def test_one_credential_is_shown_cut_short_and_revealed_bare(home):
    for choice in (("--agent", "claude"), ("-a", "claude-code"), ("--provider", "anthropic"), ("-a", "deepagents")):
        done = credentials("extract", *choice, ANTHROPIC_API_KEY=KEY)
        assert json.loads(done.out)["provider"] == "anthropic", done
        assert KEY not in done.out
    assert credentials("extract", "--agent", "claude", "--reveal", ANTHROPIC_API_KEY=KEY).out == KEY + "\n"


def test_the_agents_know_their_providers(home):
    env = {"OPENAI_API_KEY": "o" * 20, "AMP_API_KEY": "a" * 20, "GEMINI_API_KEY": "g" * 20, "ANTHROPIC_API_KEY": KEY}
    wanted = {"codex": "openai", "amp": "amp", "gemini": "google", "opencode": "openai", "qwen-code": "openai"}
    for agent, provider in wanted.items():
        assert json.loads(credentials("extract", "-a", agent, **env).out)["provider"] == provider
    assert json.loads(credentials("extract", "-a", "opencode", ANTHROPIC_API_KEY=KEY).out)["provider"] == "anthropic"


def test_opencode_takes_the_single_other_provider_and_asks_among_several(home):
    put(home, OPENCODE, {"openrouter": {"type": "api", "key": "k" * 20}})
    assert json.loads(credentials("extract", "-a", "opencode").out)["provider"] == "openrouter"
    put(home, OPENCODE, {"openrouter": {"type": "api", "key": "k" * 20}, "groq": {"type": "api", "key": "q" * 20}})
    several = credentials("extract", "-a", "opencode")
    assert (several.code, "groq, openrouter" in several.err, "--provider" in several.err) == (2, True, True)


def test_nothing_found_for_an_agent_is_exit_6_with_the_way_out(home):
    done = credentials("extract", "--agent", "claude")
    assert (done.code, done.out) == (6, "")
    assert "ANTHROPIC_API_KEY" in done.err
    claude_login(home, expires_at=AGO * 1000)
    expired = credentials("extract", "--agent", "claude", "--json")
    assert expired.code == 6
    assert "expired" in expired.envelope["error"]["message"]
    assert "`claude`" in expired.envelope["error"]["hint"]
    assert credentials("extract", "--provider", "openrouter").code == 6
    assert credentials("extract", "--agent", "no-such-agent").code == 4


def test_without_oauth_only_keys_count(home):
    claude_login(home)
    assert credentials("extract", "-a", "claude").code == 0
    assert credentials("extract", "-a", "claude", "--no-oauth").code == 6
    assert "OAUTH" not in credentials("extract-env", "--no-oauth").out


def test_another_home_is_looked_through(home, tmp_path):
    put(tmp_path / "other", ".claude.json", {"primaryApiKey": KEY})
    assert credentials("extract", "-a", "claude", "-r", "--home-dir", str(tmp_path / "other")).out == KEY + "\n"
    missing = credentials("extract", "--home-dir", str(tmp_path / "nowhere"))
    assert (missing.code, "--home-dir" in missing.err) == (2, True)


def test_a_shell_gets_every_variable_quoted_and_under_its_right_name(home):
    claude_login(home, "sk-ant-oat01-token")
    entries = {
        "openrouter": {"type": "api", "key": "it's"},
        "my-gate": {"type": "api", "key": "$(touch ran)"},
        "302.ai": {"type": "api", "key": "never"},
        "copilot": {"type": "oauth", "access": "gho_x"},
        "nul": {"type": "api", "key": "a\0b"},
        "half": {"type": "api", "key": "\ud800"},
    }
    put(home, OPENCODE, entries)
    done = credentials("extract-env", "--export", CODEX_API_KEY="sk-o")
    assert done.code == 0
    assert done.out.splitlines() == [
        "export CLAUDE_CODE_OAUTH_TOKEN='sk-ant-oat01-token'",
        "export MY_GATE_API_KEY='$(touch ran)'",
        "export OPENAI_API_KEY='sk-o'",
        "export CODEX_API_KEY='sk-o'",
        "export OPENROUTER_API_KEY='it'\\''s'",
    ]
    assert all(name in done.err for name in ("302.AI_API_KEY", "copilot", "nul", "half"))
    assert "never" not in done.err
    assert credentials("extract-env", CODEX_API_KEY="sk-o").out.startswith("CLAUDE_CODE_OAUTH_TOKEN=")
    assert credentials("extract-env", "--json", CODEX_API_KEY="sk-o").data["variables"][0] == "CLAUDE_CODE_OAUTH_TOKEN"
    assert "sk-o" not in credentials("extract-env", "--json", CODEX_API_KEY="sk-o").out


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", 'eval "$({})"; printenv OPENROUTER_API_KEY'),
        ("zsh", 'eval "$({} --shell zsh)"; printenv OPENROUTER_API_KEY'),
        ("dash", 'eval "$({})"; printenv OPENROUTER_API_KEY'),
        ("fish", "{} --shell fish | source; printenv OPENROUTER_API_KEY"),
    ],
)
def test_the_line_of_the_manual_works_in_a_real_shell(home, tmp_path, shell, line):
    value = b'it\'s "$(touch ran)" \\ `touch ran`\n; touch ran\n\xff\xc3\xa4'
    command = line.format(f"{sys.executable} -m agentctl.cli credentials extract-env --export")
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "dash": [], "fish": ["--no-config"]}[shell]
    environ = {**os.environb, b"OPENROUTER_API_KEY": value, b"PYTHONPATH": os.getcwd().encode()}
    done = subprocess.run(
        [shell, *quiet, "-c", command], cwd=home, env=environ, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, value + b"\n", b"")
    assert not (home / "ran").exists()


def test_nothing_found_sets_nothing_and_is_no_failure(home):
    done = credentials("extract-env", "--export")
    assert (done.code, done.out) == (0, "")
    assert "credentials status" in done.err
    assert credentials("extract-env", "--export", "--quiet").err == ""


def test_a_damaged_file_is_told_on_stderr_and_the_rest_goes_on(home):
    file = put(home, ".codex/auth.json", "{broken")
    done = credentials("extract-env", ANTHROPIC_API_KEY=KEY)
    assert (done.code, f"{file} was skipped" in done.err) == (0, True)
    assert done.out.startswith("ANTHROPIC_API_KEY='sk-ant")


def test_an_unknown_shell_is_refused(home):
    done = credentials("extract-env", "--shell", "csh")
    assert (done.code, "bash, zsh, fish" in done.err) == (2, True)


def test_status_says_where_and_what_to_do_and_never_what(home):
    put(home, ".codex/auth.json", {"tokens": {"access_token": "a-chatgpt-access-token"}})
    claude_login(home, "sk-ant-oat01-old-token", expires_at=AGO * 1000)
    done = credentials("status", "--json", GROQ_API_KEY="gsk-a-key-for-groq")
    assert done.code == 0
    providers = {row["provider"]: row for row in done.data["providers"]}
    assert providers["anthropic"]["expired"] is True
    assert (providers["openai"]["auth_type"], providers["openai"]["source"]) == ("oauth", "codex")
    assert providers["groq"]["place"] == "GROQ_API_KEY"
    agents = {row["agent"]: row for row in done.data["agents"]}
    assert (agents["codex"]["ready"], agents["codex"]["kind"]) == (True, "file")
    assert (agents["claude"]["ready"], agents["claude"]["found"]) == (False, False)
    assert "expired" in agents["claude"]["note"]
    assert "ANTHROPIC_API_KEY" in agents["claude"]["fix"]
    assert agents["claude"]["missing"]
    assert (agents["mock"]["ready"], agents["mock"]["required"]) == (True, False)
    assert agents["opencode"]["found"] is True
    shown = credentials("status", GROQ_API_KEY="gsk-a-key-for-groq")
    assert shown.code == 0
    for secret in ("a-chatgpt-access-token", "old-token", "gsk-a-key"):
        assert secret not in done.out + done.err + shown.out + shown.err
    assert "codex" in credentials("status", "-q").out.split()


def test_what_is_said_for_codex_is_what_codex_takes(home):
    put(home, ".codex/auth.json", {"tokens": {"access_token": ""}})
    [codex] = [row for row in credentials("status", "--json").data["agents"] if row["agent"] == "codex"]
    assert (codex["found"], "holds no login" in codex["note"]) == (False, True)


def test_extract_env_is_fast_enough_for_every_new_shell(home):
    """It imports no event loop, no database, no HTTP and no recipes."""
    code = "import sys; from agentctl.cli.entry import run; run(['credentials', 'extract-env']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"asyncio", "sqlite3", "sqlite_utils", "h11", "rich", "tomllib", "agentctl.agents.recipes"}
    assert not heavy & set(done.stdout.split())

    asked = cpu_s(sys.executable, "-m", "agentctl.cli", "credentials", "extract-env", "-q")
    assert asked < 3 * cpu_s(sys.executable, "-c", "import typer")
