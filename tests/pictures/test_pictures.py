"""The pictures in README show what agentctl shows."""

from __future__ import annotations

import re

import pytest

from tests.pictures import __main__ as pictures


@pytest.mark.slow
def test_the_pictures_of_a_turn_are_not_stale():
    assert pictures.stale(pictures.of_a_turn()) == [], pictures.COMMAND


def test_pictures_are_small_and_load_nothing():
    found = sorted(pictures.MEDIA.glob("*.svg"))
    assert [path.stem for path in found] == ["live", "permission", "sessions"]
    for path in found:
        text = path.read_text(encoding="utf-8")
        assert len(text) < 60_000
        assert set(re.findall(r"https?://[^\s\"<]+", text)) == {
            "https://www.textualize.io",
            "http://www.w3.org/2000/svg",
        }
        assert "url(" not in text.replace("url(#", "")
