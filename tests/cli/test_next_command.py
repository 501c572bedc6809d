"""An error ends with the command that helps: the user's own, mended, with all its options."""

from __future__ import annotations

import pytest

from agentctl.cli.next_command import TELLING, next_command
from agentctl.errors import UsageError
from tests.cli.running import agentctl


def _next(line, **details):
    return next_command(UsageError("no", details=details), line.split())


def test_a_wrong_word_is_replaced_wherever_it_stands():
    near = {"near": ["my-work", "my-word"]}
    assert _next("sessions get my-wrk --json", session="my-wrk", **near) == "agentctl sessions get my-work --json"
    assert _next("run hi --session=my-wrk", session="my-wrk", **near) == "agentctl run hi --session=my-work"
    assert _next("run --agnet=mock hi", option="--agnet", near=["--agent"]) == "agentctl run --agent=mock hi"
    assert _next("config get provder", place="config", key="provder", near=["provider"]) == (
        "agentctl config get provider"
    )


def test_what_was_missing_is_added_before_the_command_of_an_exec():
    assert _next("sessions exec x -- rm a", add=["--yes"]) == "agentctl sessions exec x --yes -- rm a"
    assert (
        _next("run hi", first="agentctl agents install claude") == "agentctl agents install claude && agentctl run hi"
    )


def test_a_message_of_several_words_is_put_in_quotes():
    assert _next("run --agent mock fix it now", quote=True) == "agentctl run --agent mock 'fix it now'"
    assert _next("sessions send work fix it -q", quote=True) == "agentctl sessions send work 'fix it' -q"


@pytest.mark.parametrize("option", sorted(TELLING))
def test_a_command_line_that_may_hold_a_secret_is_not_repeated(option):
    assert _next(f"run hi {option} K=x", add=["--yes"]) is None
    assert _next(f"run hi {option}=x", add=["--yes"]) is None


def test_what_cannot_be_mended_or_must_not_be_guessed_is_not_offered():
    assert _next("sessions get x", session="y", near=["z"]) is None
    assert _next("sessions delete my-wrk --yes", session="my-wrk", near=["my-work"]) is None
    assert _next("run hi") is None
    assert _next("run " + "x" * 400, add=["--yes"]) is None


@pytest.mark.slow
def test_what_a_new_user_meets_first_names_the_next_command(session, tmp_path):
    bare = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": str(tmp_path)}
    for args, code, told in (
        (("run", "fix it"), 6, "agentctl run 'fix it' --agent mock"),
        (("run", "hi", "--agent", "claude"), 7, "agentctl agents install claude && agentctl run hi --agent claude"),
        (("run", "hi", "--agent", "claud"), 4, "agentctl run hi --agent claude"),
        (("run", "fix", "it", "--agent", "mock"), 2, "agentctl run 'fix it' --agent mock"),
        (("run", "hi", "--agent", "mock", "--provider", "dokcer"), 4, "--provider docker"),
        (("run", "hi", "--permissions", "alow"), 2, "agentctl run hi --permissions allow"),
        (("sessions", "get", "wrk"), 4, "agentctl sessions get work"),
        (("sessions", "delete", "work"), 2, "agentctl sessions delete work --yes"),
        (("volumes", "get", "defualt"), 4, "agentctl volumes list"),
        (("agents", "get", "mokc"), 4, "agentctl agents get mock"),
        (("schema", "sesions-get"), 4, "Did you mean sessions-get"),
        (("help", "exit-code"), 2, "Did you mean 'exit-codes'"),
    ):
        done = agentctl(*args, env=bare)
        assert done.code == code, done
        assert told in done.err, done
        assert len([line for line in done.err.splitlines() if line.startswith(("error: ", "hint: "))]) == 2, done
    told = agentctl("sessions", "get", "wrk", "--json").envelope["error"]
    assert told["details"]["try"] == "agentctl sessions get work --json"
