"""``agentctl volumes`` and ``agentctl workspaces`` as a script and a person use them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import agentctl, until
from tests.cli.terminal import agentctl as command_line

pytestmark = pytest.mark.slow


def volumes(*args, **how):
    return agentctl("volumes", *args, **how)


def workspaces(*args, **how):
    return agentctl("workspaces", *args, **how)


def place(name):
    """Where a volume of this host lies."""
    return Path(os.environ["AGENTCTL_STATE_DIR"]) / "volumes" / name


@pytest.fixture
def models():
    """A volume of that name."""
    done = volumes("create", "models")
    assert (done.code, done.out) == (0, "models\n"), done
    return "models"


def test_a_volume_is_created_listed_shown_and_deleted(models):
    assert volumes("create", "models").code == 10
    assert volumes("create", "models", "--if-not-exists", "--json").data["status"] == "ready"
    rows = [line.split("\t") for line in volumes("list").out.splitlines()]
    assert rows[0] == ["NAME", "PROVIDER", "STATUS", "USED BY", "CREATED"]
    assert rows[1][:4] == ["models", "unix_local", "ready", ""]
    assert volumes("list", "--provider", "unix_local", "-q").out == "models\n"
    assert f"path      {place('models')}\n" in volumes("get", "models").out
    assert volumes("delete", "models", "--yes", "--json").data == {"deleted": ["models"], "sessions": []}
    assert not place("models").exists()
    empty = volumes("list")
    assert (empty.code, empty.out) == (0, "")
    assert "agentctl volumes create" in empty.err


def test_files_go_in_are_shown_moved_and_removed(models, tmp_path):
    (tmp_path / "note.md").write_text("Hello\n")
    assert volumes("put", models, "note.md", cwd=tmp_path).out == "note.md\n"
    assert volumes("put", models, "note.md", "/docs", cwd=tmp_path).out == "docs\n"
    assert volumes("rm", models, "docs").out == "docs\n"
    assert volumes("mkdir", models, "docs/old").out == "docs/old\n"
    assert volumes("mv", models, "note.md", "docs").out == "docs/note.md\n"
    assert volumes("ls", models, "docs").out.splitlines()[1].split("\t")[1::2] == ["6", "note.md"]
    assert volumes("ls", models, "docs", "-q").out == "note.md\nold\n"
    assert volumes("ls", models, "--json").data[0]["path"] == "docs"
    assert volumes("cat", models, "docs/note.md").out == "Hello\n"
    assert volumes("cat", models, "docs/note.md", "--json").data["content"] == "Hello\n"
    assert volumes("stat", models, "/docs/note.md", "--json").data["path"] == "docs/note.md"
    assert volumes("pull", models, "docs/note.md", "back.md", cwd=tmp_path).out == f"{tmp_path}/back.md\n"
    assert volumes("pull", models, "docs", "tree", cwd=tmp_path).code == 2
    assert volumes("pull", models, "docs", "tree", "-r", cwd=tmp_path).code == 0
    assert (tmp_path / "tree/note.md").read_text() == "Hello\n"
    assert volumes("put", models, "tree", "-r", cwd=tmp_path).out == "tree\n"
    assert volumes("rm", models, "docs").code == 10
    assert volumes("rm", models, "docs", "tree", "-r", "--json").data == {"removed": ["docs", "tree"]}
    assert list(place(models).iterdir()) == []


def test_a_binary_goes_through_stdin_and_stdout_byte_for_byte(models):
    data = bytes(range(256)) * 10_000
    put = subprocess.run(
        command_line("volumes", "put", models, "-", "blob"), input=data, capture_output=True, timeout=60
    )
    assert (put.returncode, put.stdout) == (0, b"blob\n"), put
    assert (place(models) / "blob").read_bytes() == data
    cat = subprocess.run(command_line("volumes", "cat", models, "blob"), capture_output=True, timeout=60)
    assert cat.stdout == data


def test_errors_say_what_is_wrong(models, tmp_path):
    (place(models) / "way").symlink_to(tmp_path)
    for args, code, said in [
        (("ls", models, "way"), 2, "outside of"),
        (("cat", models, "../../agentctl.db"), 2, "leaves"),
        (("put", models, "/etc/hostname", "way/x"), 2, "outside of"),
        (("cat", models, "/etc/passwd"), 4, "There is no"),
        (("ls", "model"), 4, "Did you mean models?"),
        (("put", "model", "/etc/hostname"), 4, "There is no volume model"),
        (("get", "nothing", "--provider", "nowhere"), 4, "nowhere"),
        (("create", "../x"), 2, "cannot name a volume"),
        (("put", models, "-"), 2, "PATH"),
        (("pull", models, "x", "-"), 2, "volumes cat"),
        (("delete", models), 2, "--yes"),
    ]:
        done = volumes(*args, stdin="" if "-" in args else None)
        assert (done.code, done.out) == (code, ""), done
        assert said in done.err
    refused = volumes("ls", models, "way", "--json")
    assert refused.envelope["error"]["code"] == "invalid_request"
    assert os.listdir(tmp_path / "state/volumes") == ["models"]


def test_a_used_volume_is_kept_unless_it_is_forced_and_then_says_who_loses(session):
    assert agentctl("sessions", "send", session, "Hello").code == 0
    refused = volumes("delete", "default", "--yes")
    assert (refused.code, refused.out) == (10, "")
    assert f"session {session}" in refused.err
    assert volumes("delete", "default", "--yes", "--json").envelope["error"]["details"]["sessions"] == [session]
    assert place("default").exists()
    forced = volumes("delete", "default", "--yes", "--force")
    assert (forced.code, forced.out) == (0, "default\n")
    assert f"Without HOME and memory now: {session}" in forced.err
    assert "Hello" in agentctl("sessions", "transcript", session).out
    assert agentctl("sessions", "send", session, "Again").code == 11
    assert agentctl("sessions", "send", session, "Again", "--on-lost", "new").code == 0


def test_a_person_is_asked_before_anything_is_deleted(models, session, terminal):
    assert agentctl("sessions", "update", session, "--name", "precious").code == 0
    asked = terminal("volumes", "delete", models)
    asked.wait_for("Delete models with all data? [y/N]")
    asked.send("n\r")
    assert asked.finish() == 1
    assert "Nothing was deleted" in asked.text
    assert volumes("create", "default").code == 0
    told = terminal("volumes", "delete", "default", "--force", columns=200)
    told.wait_for("It takes HOME and memory from precious. [y/N]")
    told.send("\x03")
    assert told.finish() == 130
    assert place("default").exists()
    agreed = terminal("volumes", "delete", models)
    agreed.wait_for("[y/N]")
    agreed.send("y\r")
    assert agreed.finish() == 0
    assert not place(models).exists()


def test_a_file_on_a_terminal_cannot_drive_it(models, terminal):
    (place(models) / "evil").write_bytes(b"before\x1b]0;owned\x07\x1b[31mred\n")
    shown = terminal("volumes", "cat", models, "evil")
    assert shown.finish() == 0
    assert "beforered" in shown.text
    assert b"owned" not in shown.raw


def test_a_large_file_from_stdin_tells_how_far_it_is(models):
    """With no terminal there is a line only now and then; on one the line is redrawn, and gone at the end."""
    import pexpect

    child = pexpect.spawn(
        "/bin/sh", ["-c", "(head -c 3000000 /dev/zero; sleep 0.7; head -c 3000000 /dev/zero) | " + _shell(models)],
        timeout=60, encoding="utf-8",
    )  # fmt: skip
    child.expect(r"Copied \d\.\d MB")
    child.expect("Wrote 6000000 bytes")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def _shell(volume):
    return " ".join(command_line("volumes", "put", volume, "-", "blob"))


def test_an_interrupted_put_leaves_nothing(models):
    writer = subprocess.Popen(command_line("volumes", "put", models, "-", "new/blob"), stdin=subprocess.PIPE)
    writer.stdin.write(bytes(3_000_000))
    writer.stdin.flush()
    until(lambda: (place(models) / "new").exists())
    writer.send_signal(signal.SIGINT)
    assert writer.wait(timeout=60) == 130
    writer.stdin.close()
    assert list((place(models) / "new").iterdir()) == []


def test_workspaces_are_created_listed_shown_and_deleted():
    assert workspaces("create", "shared").out == "shared\n"
    assert workspaces("create", "shared").code == 10
    assert workspaces("create", "Bad").code == 2
    made = agentctl("sessions", "create", "work", "--agent", "mock", "--no-provision", "--workspace", "shared")
    assert made.code == 0
    rows = [line.split("\t") for line in workspaces("list").out.splitlines()]
    assert rows == [
        ["NAME", "VOLUME", "PROVIDER", "STATUS", "USED BY"],
        ["shared", "default", "unix_local", "ready", "work"],
    ]
    assert "work" in workspaces("get", "shared").out
    assert workspaces("get", "shared", "--json").data["sessions"][0]["name"] == "work"
    assert workspaces("get", "share").code == 4
    assert workspaces("list", "--volume", "none").code == 4
    assert workspaces("delete", "shared").code == 10
    assert workspaces("delete", "shared", "--force").code == 2
    forced = workspaces("delete", "shared", "--force", "--yes", "--json")
    assert forced.data == {"deleted": ["shared"], "sessions": ["work"]}
    assert workspaces("get", "shared", "--json").data["status"] == "planned"
    assert volumes("get", "default").code == 0


def test_a_session_may_not_be_given_a_workspace_outside_of_its_volume():
    for name in ("../../etc", "a/b", "A", ""):
        done = agentctl("sessions", "create", "work", "--agent", "mock", "--workspace", name)
        assert done.code == 2, done
    assert agentctl("sessions", "list", "-q").out == ""
