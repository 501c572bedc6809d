"""``agentctl agents`` as a script uses it. Installing is tested where it is made."""

from tests.cli.running import agentctl


def agents(*args, **how):
    return agentctl("agents", *args, **how)


def test_the_agents_are_listed():
    lines = [line.split("\t") for line in agents("list").out.splitlines()]
    assert lines[0] == ["NAME", "TITLE", "STATUS", "VERSION", "CREDENTIALS"]
    assert ["mock", "Mock agent", "built in", "", "not needed"] in lines
    assert {"claude", "codex", "opencode"} <= {row["name"] for row in agents("list", "--json").data}
    assert "mock" in agents("list", "-q").out.split()


def test_an_agent_is_shown_by_name_or_alias():
    shown = agents("get", "claude")
    assert shown.code == 0, shown
    assert shown.out.splitlines()[0].split() == ["name", "claude"]
    assert agents("get", "claude", "--json").data["name"] == "claude"


def test_an_unknown_agent_is_exit_4_with_the_nearest():
    for verb in ("get", "install", "uninstall", "probe"):
        done = agents(verb, "clade")
        assert done.code == 4, done
        assert "claude" in done.err


def test_uninstalling_what_is_not_installed_succeeds():
    done = agents("uninstall", "codex")
    assert done.code == 0, done
    assert agents("uninstall", "codex", "--json").data["removed"] == []


def test_a_probe_prints_what_an_agent_can_do():
    done = agents("probe", "mock")
    assert done.code == 0, done
    assert agents("probe", "mock", "--json").data


def test_an_agent_that_is_not_installed_is_exit_7_with_the_install_command(monkeypatch):
    done = agentctl("run", "--agent", "claude", "Hello", env={"ANTHROPIC_API_KEY": "x"})
    assert done.code == 7, done
    assert "agentctl agents install claude" in done.err
