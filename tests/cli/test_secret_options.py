"""``--secret``: a value is never an argument."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from agentctl.cli.secrets import secrets_given
from agentctl.errors import UsageError


class Piped(io.StringIO):
    def isatty(self) -> bool:
        return False


def test_a_name_alone_takes_its_value_from_the_environment() -> None:
    assert secrets_given(["KEY"], {"KEY": "v"}) == (({"name": "KEY", "from": "env"},), {})


def test_a_file_is_named_by_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("v\n")
    given = secrets_given([f"KEY=@{tmp_path}/k"], {})
    assert given.sources == ({"name": "KEY", "from": "file", "path": str(tmp_path / "k")},)


@pytest.mark.parametrize(("ephemeral", "kept"), [(False, "stored"), (True, "asked")])
def test_stdin_brings_one_value(monkeypatch: pytest.MonkeyPatch, ephemeral: bool, kept: str) -> None:
    monkeypatch.setattr("sys.stdin", Piped("the value\n"))
    given = secrets_given(["KEY=-"], {}, ephemeral=ephemeral)
    assert given == (({"name": "KEY", "from": kept},), {"KEY": "the value"})


@pytest.mark.parametrize("option", ["KEY=visible", "1KEY", "", "KEY=@/no/such/file", "KEY", "KEY="])
def test_anything_else_is_refused_without_saying_the_value(option: str) -> None:
    with pytest.raises(UsageError) as told:
        secrets_given([option], {})
    assert "visible" not in told.value.message + (told.value.hint or "")


def test_two_values_cannot_share_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Piped("v"))
    with pytest.raises(UsageError, match="Only one"):
        secrets_given(["A=-", "B=-"], {})
