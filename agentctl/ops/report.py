"""How an op tells what it is doing: one short sentence a step, for a person who waits."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]


Progress = Callable[[str, int | None, int | None], None]
"""How a long step goes on: its name, how much is done, and of how much, where known. An empty name: no more."""


def unwatched(step: str, done: int | None, whole: int | None) -> None:
    """A ``Progress`` that nobody watches."""


def silent(step: str) -> None:
    """A ``Report`` that nobody reads."""
