"""Sessions in a shared database: chosen by flag, variable or file, and its password shown to nobody."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentctl.cli.crash import report_crash
from tests.cli.running import agentctl

VARIABLE = "AGENTCTL_DATABASE_URL"


@pytest.fixture
def url(postgres):
    name = postgres.database().removeprefix("postgresql:///").partition("?")[0]
    return postgres.tcp_url(name)


def state():
    return Path(os.environ["AGENTCTL_STATE_DIR"])


def names(*args, **how):
    done = agentctl("sessions", "list", *args, "--json", **how)
    assert done.code == 0, done
    return [row["name"] for row in done.data]


def test_flag_variable_and_file_name_the_database(url, tmp_path):
    made = agentctl("sessions", "create", "work", "--agent", "mock", "--no-provision", "--database-url", url)
    assert (made.code, made.out) == (0, "work\n"), made
    assert not (state() / "agentctl.db").exists()
    config = tmp_path / "config.toml"
    config.write_text(f"database_url = {json.dumps(url)}\n")
    assert names(f"--database-url={url}") == ["work"]
    assert names(env={VARIABLE: url}) == ["work"]
    assert names(env={"AGENTCTL_CONFIG": str(config)}) == ["work"]
    assert names() == []


def test_the_applications_own_database_url_is_left_alone(url):
    assert names(env={"DATABASE_URL": url}) == []
    assert (state() / "agentctl.db").exists()
    assert names(env={VARIABLE: url}) == []


def test_a_message_that_mentions_the_option_is_a_message():
    done = agentctl("run", "--agent", "mock", "--", "--database-url")
    assert (done.code, done.out) == (0, "mock: --database-url\n"), done


@pytest.mark.slow
def test_the_password_is_nowhere_but_in_the_command(postgres, url):
    secrets = [postgres.password, postgres.tcp_url().partition("@")[0].rpartition(":")[2]]
    said = [agentctl("sessions", "create", "work", "--agent", "mock", env={VARIABLE: url})]
    said += [agentctl("sessions", *args, "work", "--json", env={VARIABLE: url}) for args in (["get"], ["events"])]
    said.append(agentctl("sessions", "send", "work", "@env", env={VARIABLE: url}))
    [labels] = (state() / "run").glob("*/labels.json")
    pid = json.loads(labels.read_text())["handle"]["pid"]
    seen = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")]
    seen += [path.read_bytes() for path in state().rglob("*") if path.is_file() and not path.is_symlink()]
    said.append(agentctl("sessions", "delete", "--yes", "work", env={VARIABLE: url}))
    assert [done.code for done in said] == [0] * 5, said
    said.append(agentctl("sessions", "list", env={VARIABLE: url.replace("@", "x@")}))
    assert said[-1].code == 8
    for secret in secrets:
        assert not any(secret in done.out + done.err for done in said)
        assert not any(secret.encode() in data for data in seen)


def test_a_crash_report_keeps_no_part_of_the_url():
    path = report_crash(ValueError("boom"), ["--database-url", "postgresql://u:hunter2@db/x", "sessions", "list"])
    assert "hunter2" not in path.read_text()


def test_a_database_that_does_not_answer_is_exit_8_with_what_helps():
    done = agentctl("sessions", "list", "--json", env={VARIABLE: "postgresql://u:hunter2@127.0.0.1:1/x"})
    assert done.code == 8
    error = done.envelope["error"]
    assert (error["code"], error["retryable"]) == ("state_unavailable", True)
    assert "127.0.0.1:1" in error["message"]
    assert "Check that the server runs" in error["hint"]


@pytest.mark.parametrize("url", ["mysql://u:hunter2@db/x", "hunter2", "postgresql://u:hunter2@db:port/x"])
def test_a_url_that_is_none_is_a_usage_error_that_does_not_repeat_it(url):
    done = agentctl("--database-url", url, "sessions", "list")
    assert done.code == 2
    assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in done.err
    assert "hunter2" not in done.err


def test_the_help_says_that_the_variable_is_the_better_place():
    assert "AGENTCTL_DATABASE_URL" in agentctl("--help").out


def test_without_a_url_no_driver_is_imported():
    done = agentctl("sessions", "list", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.code == 0
    assert "agentctl.store.sqlite" in done.err
    assert "psycopg" not in done.err
