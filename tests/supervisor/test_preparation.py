"""Before the agent of a new sandbox starts: files under HOME, then the user's commands, once."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agentctl.errors import SandboxError, UsageError
from agentctl.supervisor import preparation
from agentctl.supervisor.preparation import run_commands, write_files
from agentctl.supervisor.redaction import make_redactor


def file(path: str, text: str = "text", **more: Any) -> dict[str, Any]:
    return {"path": path, "data": base64.b64encode(text.encode()).decode(), **more}


def test_files_are_written_with_their_modes_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    write_files(tmp_path, [file("old", "new"), file("a/b/run.sh", "#!/bin/sh\n", mode=0o700)])
    assert (tmp_path / "old").read_text() == "new"
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o600
    assert os.access(tmp_path / "a/b/run.sh", os.X_OK)
    assert sorted(p.name for p in (tmp_path / "a/b").iterdir()) == ["run.sh"]


def test_what_was_put_before_is_not_put_over_what_became_of_it(tmp_path: Path) -> None:
    write_files(tmp_path, [file("login", "one")])
    (tmp_path / "login").write_text("renewed")
    write_files(tmp_path, [file("login", "one")])
    assert (tmp_path / "login").read_text() == "renewed"
    write_files(tmp_path, [file("login", "two")])
    assert (tmp_path / "login").read_text() == "two"
    (tmp_path / "login").unlink()
    write_files(tmp_path, [file("login", "two")])
    assert (tmp_path / "login").read_text() == "two"


def test_what_is_no_base64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base64"):
        write_files(tmp_path, [{"path": "a", "data": "ä"}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", "", ".", "a\0b", "link/out"])
def test_a_path_that_leaves_home_is_refused(tmp_path: Path, path: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError):
        write_files(home, [file(path)])
    assert not (tmp_path / "out").exists()


async def commands(tmp: Path, *given: str, **more: Any) -> None:
    env = {"PATH": os.environ["PATH"], **more.pop("env", {})}
    await run_commands(given, env=env, cwd=str(tmp), tmp=tmp, redact=more.pop("redact", None))


async def test_commands_run_in_order_once_in_a_sandbox(tmp_path: Path) -> None:
    for _ in range(2):
        await commands(tmp_path, "echo one >> said", "echo $WORD >> said", env={"WORD": "two"})
    assert (tmp_path / "said").read_text() == "one\ntwo\n"


async def test_other_commands_run_in_a_sandbox_that_has_run_some(tmp_path: Path) -> None:
    await commands(tmp_path, "echo one >> said")
    await commands(tmp_path, "echo two >> said")
    assert (tmp_path / "said").read_text() == "one\ntwo\n"


async def test_a_failing_command_is_told_with_the_end_of_its_output_and_tried_again(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(SandboxError, match="exit code 3") as told:
            await commands(
                tmp_path, "echo once >> said", "echo sesame-open; exit 3", redact=lambda b: b.replace(b"sesame", b"*")
            )
        assert told.value.details["output"] == "*-open\n"
    assert (tmp_path / "said").read_text() == "once\nonce\n"


async def test_no_part_of_a_secret_is_left_where_the_output_is_cut(tmp_path: Path) -> None:
    rest = preparation.TAIL_BYTES - 5
    with pytest.raises(SandboxError) as told:
        await commands(
            tmp_path, f"printf sesame-open; head -c {rest} /dev/zero; exit 1", redact=make_redactor(["sesame-open"])
        )
    assert "open" not in told.value.details["output"]
    assert told.value.details["output"].startswith("cted]\0")


async def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="cannot be run in"):
        await commands(tmp_path / "none", "true")


async def test_a_command_that_does_not_end_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "COMMAND_LIMIT_S", 1.5)
    with pytest.raises(SandboxError, match=r"did not end within 1\.5 s"):
        await commands(tmp_path, "sleep 60 & echo $! > pid; wait")
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline


async def test_a_background_process_of_a_command_does_not_hold_the_start_up(tmp_path: Path) -> None:
    begun = time.monotonic()
    await commands(tmp_path, "sleep 100 & echo $! > pid")
    assert time.monotonic() - begun < 60
    os.kill(int((tmp_path / "pid").read_text()), 9)
