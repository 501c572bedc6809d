"""``@last``: the session that was used or created last, wherever a session is named."""

from __future__ import annotations

from agentctl.ops.app import App
from tests.cli.running import agentctl


def name_of_last():
    with App.open() as app:
        return app.store.session("@last").name


def test_without_a_session_the_last_one_is_a_clear_error_and_nothing_is_made(rows):
    for command in (("sessions", "get", "@last"), ("run", "--session", "@last", "--agent", "mock", "Hello")):
        done = agentctl(*command)
        assert done.code == 4, done
        assert "There is no session yet." in done.err
        assert "agentctl sessions create" in done.err
    assert rows("select count(*) from sessions") == [(0,)]


def test_the_last_session_is_the_one_that_somebody_used_not_one_that_was_looked_at(tmp_path):
    for name in ("first", "second"):
        made = agentctl("sessions", "create", name, "--agent", "mock", "--no-provision", cwd=tmp_path)
        assert made.code == 0, made
    assert name_of_last() == "second"
    assert agentctl("sessions", "send", "first", "Hello").code == 0  # and brings it up
    assert agentctl("run", "--agent", "mock", "Thrown away").code == 0
    assert agentctl("sessions", "list").code == 0
    assert name_of_last() == "first"
    said = agentctl("run", "--session", "@last", "--json", "Again")
    assert said.code == 0, said
    assert agentctl("sessions", "exec", "@last", "--", "echo", "in", "it").out == "in it\n"
    (tmp_path / "notes.txt").write_text("of mine")
    copied = agentctl("cp", str(tmp_path / "notes.txt"), "@last:copy.txt")
    assert copied.code == 0, copied
    assert (tmp_path / "copy.txt").read_text() == "of mine"
    assert agentctl("sessions", "update", "second", "--title", "My favourite").code == 0
    assert name_of_last() == "second"
    sent = agentctl("sessions", "send", "first", "--no-wait", "In the background")
    assert sent.code == 0, sent
    waited = agentctl("sessions", "wait", "@last", "--for", "turn-ended", "--turn", sent.out.strip())
    assert waited.code == 0, waited
