"""``agentctl help``."""

from __future__ import annotations

import pytest

from agentctl.config import READERS
from agentctl.providers.lookup import PROVIDERS
from tests.cli.running import agentctl


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("exit-codes", ["0", "11", "143", "session_busy"]),
        ("env", [f"AGENTCTL_{key.upper()}" for key in READERS]),
        ("json", ['"agentctl": 1', '"type": "result"']),
        ("config", ["database_url", "agentctl.toml", "presets"]),
        ("permissions", ["accept-edits", "--policy"]),
        ("providers", list(PROVIDERS)),
    ],
)
def test_a_topic_says_what_the_code_knows(topic, words):
    done = agentctl("help", topic)
    assert done.code == 0, done
    assert [word for word in words if word not in done.out] == []
    assert topic in agentctl("help").out
    assert max(len(line) for line in done.out.splitlines()) <= 120


def test_a_commands_words_give_its_help_and_others_the_nearest():
    assert agentctl("help", "sessions", "create").out == agentctl("sessions", "create", "--help").out
    done = agentctl("help", "exit-code")
    assert done.code == 2
    assert "Did you mean 'exit-codes'?" in done.err
