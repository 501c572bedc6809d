"""``agentctl config``, and what a project's file may and may not say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentctl.config import READERS
from agentctl.config_files import HARMLESS
from tests.cli.running import agentctl

IMAGE_AND_MORE = 'agent = "mock"\nimage = "a"\npermissions = "allow"\n[presets.quick]\nmodel = "small"\n'


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("AGENTCTL_CONFIG", raising=False)
    return tmp_path / "config" / "agentctl"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project" / "src").mkdir(parents=True)
    (tmp_path / "project" / "agentctl.toml").write_text(IMAGE_AND_MORE)
    return tmp_path / "project"


def settings(cwd: Path) -> dict[str, tuple[object, str]]:
    done = agentctl("config", "show", "--json", cwd=cwd)
    return {about["key"]: (about["value"], about["origin"]) for about in done.data}


def test_a_setting_is_written_shown_and_taken_out_and_the_rest_of_the_file_stays(home, tmp_path):
    home.mkdir(parents=True)
    kept = '# mine\nmodel = "m"  # why\n\n[presets.a]\nmodel = "b"\n'
    (home / "config.toml").write_text(kept)
    assert agentctl("config", "set", "provider", "docker").code == 0
    assert agentctl("config", "set", "agent", 'it"s \\ ü', cwd=tmp_path).code == 0
    assert agentctl("config", "get", "agent", cwd=tmp_path).out == 'it"s \\ ü\n'
    assert agentctl("config", "get", "provider", "--origin", cwd=tmp_path).out == f"docker\t{home}/config.toml:4\n"
    for key in ("provider", "agent"):
        assert agentctl("config", "unset", key).code == 0
    assert (home / "config.toml").read_text() == kept
    assert (home / "config.toml").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("set", "provder", "docker"), 2, "Did you mean 'provider'"),
        (("set", "permissions", "maybe"), 2, "permissions cannot be"),
        (("set", "provider", "doker"), 4, "Did you mean docker"),
        (("set", "timeout", "soon"), 2, "timeout cannot be"),
        (("get", "nonsense"), 2, "no setting"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(home, args, code, told):
    done = agentctl("config", *args)
    assert done.code == code
    assert told in done.err
    assert not home.exists()


def test_a_database_url_comes_by_stdin_and_is_never_shown(home):
    url = "postgresql://me:geheim@127.0.0.1:1/db"
    assert agentctl("config", "set", "database_url", "-", stdin=url + "\n").code == 0
    assert url in (home / "config.toml").read_text()
    done = agentctl("config", "show", "--json")
    assert "geheim" not in done.out + done.err
    assert "geheim" not in agentctl("config", "get", "database_url").out


def test_a_project_chooses_what_is_harmless_and_the_rest_is_ignored_with_a_warning(home, project):
    done = agentctl("config", "get", "permissions", cwd=project / "src")
    assert done.out == "ask\n"
    assert "permissions, presets.quick ignored" in done.err
    assert "agentctl config trust" in done.err
    assert settings(project / "src")["agent"] == ("mock", f"{project}/agentctl.toml:1")


def test_trust_holds_for_the_content_that_was_seen(home, project):
    path = project / "agentctl.toml"
    assert agentctl("config", "trust", cwd=project / "src").out == IMAGE_AND_MORE
    assert settings(project)["permissions"] == ("allow", f"{path}:3")
    assert json.loads(agentctl("config", "path", "--json", cwd=project).out)["data"]["trusted"] is True
    path.write_text(IMAGE_AND_MORE + '[presets.bad]\nmodel = "x"\n')
    assert settings(project)["permissions"] == ("ask", "default")
    path.write_text(IMAGE_AND_MORE)
    assert agentctl("config", "untrust", cwd=project).code == 0
    assert settings(project)["permissions"] == ("ask", "default")


def test_variables_go_before_the_project_which_goes_before_the_user(home, project, monkeypatch):
    assert agentctl("config", "set", "agent", "users").code == 0
    told = agentctl("config", "set", "agent", "users", cwd=project).err
    assert "goes before it: agent is mock" in told
    assert settings(project)["agent"][0] == "mock"
    monkeypatch.setenv("AGENTCTL_AGENT", "codex")
    assert settings(project)["agent"] == ("codex", "AGENTCTL_AGENT")


def test_every_layer_is_told_as_the_origin_of_what_it_sets(home, project, monkeypatch):
    home.mkdir(parents=True)
    (home / "config.toml").write_text('model = "users"\nagent = "users"\ntimeout = "5m"\n')
    monkeypatch.setenv("AGENTCTL_MODE", "plan")
    done = agentctl("config", "show", "--origin", "--database-url", "postgresql://me:geheim@h/d", cwd=project)
    rows = dict(line.split("\t", 1) for line in done.out.splitlines())
    assert rows["provider"] == "unix_local\tdefault"
    assert rows["model"] == f"users\t{home}/config.toml:1"
    assert rows["agent"] == f"mock\t{project}/agentctl.toml:1"
    assert rows["mode"] == "plan\tAGENTCTL_MODE"
    assert rows["database_url"].endswith("\tflag")
    assert "geheim" not in done.out + done.err
    made = agentctl("sessions", "create", "--no-provision", "--mode", "code", "--json", cwd=project).data
    assert (made["mode"], made["model"], made["agent"]) == ("code", "users", "mock")


def test_all_that_could_do_harm_is_ignored_in_a_project_that_is_not_trusted(home, project):
    harmful = {key: "deny" if key == "permissions" else "5m" for key in READERS if key not in HARMLESS}
    (project / "agentctl.toml").write_text("".join(f'{key} = "{value}"\n' for key, value in harmful.items()))
    done = agentctl("config", "show", "--json", cwd=project)
    assert f"{', '.join(harmful)} ignored" in done.err
    assert {about["origin"] for about in done.data} == {"default"}


def test_a_misspelt_key_of_a_project_is_an_error_with_its_line(home, project):
    (project / "agentctl.toml").write_text('agent = "mock"\nmodle = "x"\n')
    done = agentctl("config", "show", cwd=project)
    assert done.code == 2
    assert f"{project}/agentctl.toml:2: there is no setting 'modle'" in done.err


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_strangers_file_above_is_nobodys(home, project):
    os.chown(project / "agentctl.toml", 1234, 1234)
    assert settings(project)["agent"] == (None, "default")


def test_no_project_and_a_directory_that_is_gone(home, tmp_path):
    assert agentctl("config", "trust", cwd=tmp_path).code == 4
    assert agentctl("config", "path", cwd=tmp_path).out == f"{home}/config.toml\n"


def test_a_message_is_answered_by_the_projects_agent(home, project):
    done = agentctl("run", "hello", cwd=project)
    assert (done.code, done.out.strip()) == (0, "mock: hello"), done
