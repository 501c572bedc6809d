"""``sessions list`` shows status, age, agent, provider, cost and title, in the width that there is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentctl.cli.cells import cut, padded, width
from agentctl.model import Session, SessionSpec
from agentctl.ops.app import App
from tests.cli.running import agentctl


def add(number, **fields):
    name = f"work-on-something-{number}"
    at = time.time() - number * 3600
    spec = SessionSpec(agent="claude", provider="docker", user_agent=fields.pop("user_agent", None))
    with App.open() as app:
        app.store.add_session(
            Session(id=f"ses_{number:012}", name=name, spec=spec, status="new", created_at=at, updated_at=at, **fields)
        )


def test_all_that_matters_of_a_session_fits_80_columns(terminal):
    add(1, title="A title that goes on and on, much longer than any terminal is wide, to say nothing of a column")
    add(2, cost={"amount": 0.01234, "currency": "USD"}, user_agent="reviewer")
    add(3, cost={"amount": 0.0001, "currency": "USD"})
    screen = terminal("sessions", "list")
    assert screen.finish() == 0
    head, first, second, third = (line for line in screen.lines if line)
    assert head.split() == ["NAME", "AGENT", "STATUS", "PROVIDER", "ACTIVE", "COST", "TITLE"]
    assert max(map(len, screen.lines)) <= 80
    assert first.split()[:6] == ["work-on-something-1", "claude", "new", "docker", "1", "h"]
    assert first[head.index("COST") : head.index("TITLE")].strip() == ""  # unknown is not 0
    assert "A title" in first
    assert first.endswith("…")
    assert second.split()[1] == "reviewer"
    assert second.endswith(" 0.01 USD")
    assert third.endswith(" <0.01 USD")


def test_a_script_gets_every_column_and_a_terminal_none_without_a_value(terminal):
    add(1)
    header, row = (line.split("\t") for line in agentctl("sessions", "list").out.splitlines())
    assert header == ["NAME", "AGENT", "STATUS", "PROVIDER", "ACTIVE", "COST", "TITLE", "ID"]
    assert row == ["work-on-something-1", "claude", "new", "docker", "1 h ago", "", "", "ses_000000000001"]
    screen = terminal("sessions", "list")
    assert screen.finish() == 0
    assert screen.lines[0].split() == ["NAME", "AGENT", "STATUS", "PROVIDER", "ACTIVE"]


@pytest.mark.parametrize("columns", [80, 200])
def test_wide_characters_are_cut_where_the_column_ends(terminal, columns):
    long = "買い物かごの合計が間違っている 🎉 e\u0301 👩‍💻 " * 8
    add(1, title=long)
    add(2, title="短い", user_agent="校閲者")
    screen = terminal("sessions", "list", columns=columns)
    assert screen.finish() == 0
    head, *rows = (line for line in screen.raw.decode().splitlines() if line)
    assert columns - 1 <= max(map(width, rows)) <= columns
    assert rows[0].endswith("…")
    assert len({width(row[: row.index(title)]) for row, title in zip(rows, ("買い物", "短い"), strict=True)}) == 1
    assert all(width(row) <= columns for row in [head, *rows])


@given(st.text(st.sampled_from("aé中🎉\u0301\u200d👩 ")), st.integers(1, 12))
def test_what_is_cut_is_never_wider_than_it_may_be(text, columns):
    assert width(cut(text, columns)) <= columns
    assert width(padded(text, columns)) == columns
    assert cut(text, 100) == text
