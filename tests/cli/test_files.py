"""``agentctl sessions files`` and ``agentctl cp`` as a script and a person use them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import agentctl, until
from tests.cli.terminal import agentctl as command_line


def fs(*args, **how):
    return agentctl("sessions", "files", *args, **how)


@pytest.fixture
def work(project):
    """A session that works in ``project``; its agent has never run."""
    done = agentctl("sessions", "create", "work", "--agent", "mock", "--no-provision", "--cwd", str(project))
    assert done.code == 0, done
    return "work"


@pytest.mark.slow
def test_a_file_is_put_listed_shown_moved_edited_and_removed(work, project, tmp_path):
    (tmp_path / "note.md").write_text("Hello\n")
    put = fs("put", work, "note.md", cwd=tmp_path)
    assert (put.code, put.out) == (0, f"{project}/note.md\n")
    listed = fs("ls", work)
    assert listed.out.splitlines()[0].split("\t") == ["MODE", "SIZE", "MODIFIED", "NAME"]
    assert listed.out.splitlines()[1].split("\t")[1::2] == ["6", "note.md"]
    assert fs("ls", work, "--json").data[0]["path"] == f"{project}/note.md"
    assert fs("cat", work, "note.md").out == "Hello\n"
    assert fs("cat", work, "note.md", "--json").data["content"] == "Hello\n"
    assert fs("edit", work, "note.md", "--old", "Hello", "--new", "Bye").code == 0
    assert fs("edit", work, "note.md", "--old", "Hello", "--new", "Bye").code == 2
    assert fs("mkdir", work, "docs/old").out == f"{project}/docs/old\n"
    assert fs("mv", work, "note.md", "docs").out == f"{project}/docs/note.md\n"
    assert fs("stat", work, "docs/note.md", "--json").data["size"] == 4
    assert fs("pull", work, "docs/note.md", cwd=tmp_path).code == 0
    assert (tmp_path / "note.md").read_text() == "Bye\n"
    refused = fs("rm", work, "docs")
    assert refused.code == 10
    assert "not empty" in refused.err
    assert fs("rm", work, "docs", "-r", "--json").data == {"removed": [f"{project}/docs"]}
    assert os.listdir(project) == []


@pytest.mark.slow
def test_a_binary_goes_through_stdin_and_stdout_byte_for_byte(work, project):
    data = bytes(range(256)) * 10_000
    put = subprocess.run(
        command_line("sessions", "files", "put", work, "-", "blob"), input=data, capture_output=True, timeout=60
    )
    assert put.returncode == 0, put
    assert (project / "blob").read_bytes() == data
    cat = subprocess.run(command_line("sessions", "files", "cat", work, "blob"), capture_output=True, timeout=60)
    assert cat.stdout == data


@pytest.mark.slow
def test_errors_say_what_is_wrong_with_which_path(work, project):
    missing = fs("cat", work, "nothing.txt")
    assert (missing.code, missing.out) == (4, "")
    assert f"{project}/nothing.txt" in missing.err
    assert fs("ls", work, "nothing", "--json").envelope["error"]["code"] == "path_not_found"
    (project / "d").mkdir()
    assert fs("cat", work, "d").code == 2
    assert fs("edit", work, "x", "--old", "a").code == 2
    assert fs("put", work, "-").code == 2
    assert agentctl("cp", "work:d", "x").code == 2
    assert agentctl("cp", "nobody:d", "x").code == 4
    assert agentctl("sessions", "create", "--agent", "mock", "--no-provision", "--root", "/no/such").code == 2


@pytest.mark.slow
def test_a_file_on_a_terminal_cannot_drive_it(work, project, terminal):
    (project / "evil").write_bytes(b"before\x1b]0;owned\x07\x1b[31mred\xff\n")
    shown = terminal("sessions", "files", "cat", work, "evil")
    assert shown.finish() == 0
    assert "beforered\ufffd" in shown.text
    assert b"owned" not in shown.raw


@pytest.mark.slow
def test_a_tree_is_copied_in_and_out(work, project, tmp_path):
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/x").write_text("x")
    done = agentctl("cp", "-r", "src", "work:", "--json", cwd=tmp_path)
    assert done.data["target"] == f"{project}/src"
    assert agentctl("cp", "-r", "work:src", "back", cwd=tmp_path).out == f"{tmp_path}/back\n"
    assert (tmp_path / "back/sub/x").read_text() == "x"


@pytest.mark.slow
def test_names_that_are_no_utf_8_are_listed_shown_and_removed(work, project):
    name = b"caf\xe9"
    (project / os.fsdecode(name)).write_text("x")
    listed = fs("ls", work, "--json")
    assert listed.data[0]["rawPath"].endswith("/caf%E9")
    argv = [os.fsencode(word) for word in command_line("sessions", "files", "rm", work)]
    assert subprocess.run([*argv, name], capture_output=True, timeout=60).returncode == 0
    assert os.listdir(project) == []


@pytest.mark.slow
def test_what_is_typed_is_put(work, project, terminal):
    typed = terminal("sessions", "files", "put", work, "-", "x")
    typed.send("hello\n")
    typed.send("\x04")
    assert typed.finish() == 0
    assert (project / "x").read_text() == "hello\n"


def is_being_written(directory) -> bool:
    """Whether some process has a file open in it."""
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(f"{directory}/"):
                return True
    return False


@pytest.mark.slow
def test_an_interrupted_put_leaves_nothing(work, project):
    process = subprocess.Popen(
        command_line("sessions", "files", "put", work, "-", "x"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"x" * 3_000_000)
    process.stdin.flush()
    until(lambda: is_being_written(project))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stdin.close()
    assert process.stdout is not None
    process.stdout.close()
    assert os.listdir(project) == []
