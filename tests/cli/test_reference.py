"""Man pages, completions and the README's list are written by the code, and a stale copy is found."""

import os
import subprocess
import sys

import pytest

from agentctl.cli import reference
from agentctl.cli.main import RootGroup

README = f"# A\n\n{reference.BEGIN}\nold\n{reference.END}\n\nrest\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "README.md").write_text(README)
    assert reference.main([str(tmp_path)]) == 0
    return tmp_path


def test_everything_is_written(root):
    pages = sorted(p.name for p in (root / "man").iterdir())
    assert pages == sorted(["agentctl.1", *(f"agentctl-{name}.1" for name in RootGroup.table)])
    assert (root / "agentctl" / "cli" / "command_table.py").exists()
    assert sorted(p.name for p in (root / "completions").iterdir()) == [
        "agentctl.bash",
        "agentctl.fish",
        "agentctl.zsh",
    ]
    readme = (root / "README.md").read_text()
    assert "| `agentctl sessions send-message SESSION [TEXT]` | Send a message" in readme
    assert readme.startswith("# A\n")
    assert readme.endswith("\n\nrest\n")
    assert "\nold\n" not in readme


def test_a_fresh_copy_passes_and_a_stale_one_names_the_command_that_mends_it(root, capsys):
    assert reference.main(["--check", str(root)]) == 0
    (root / "man" / "agentctl.1").write_text("old")
    assert reference.main(["--check", str(root)]) == 1
    err = capsys.readouterr().err
    assert "man/agentctl.1" in err
    assert reference.MEND in err
    assert (root / "man" / "agentctl.1").read_text() == "old"


def test_the_copies_in_this_repository_are_fresh():
    assert reference.main(["--check"]) == 0


def test_what_is_written_does_not_depend_on_the_terminal(root):
    odd = {**os.environ, "COLUMNS": "40", "FORCE_COLOR": "1", "AGENTCTL_PROVIDER": "docker", "TERM": "dumb"}
    check = [sys.executable, "-m", "agentctl.cli.reference", "--check", str(root)]
    assert subprocess.run(check, env=odd, check=False).returncode == 0
