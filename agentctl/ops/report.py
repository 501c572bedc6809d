"""How an op tells what it is doing: one short sentence a step, for a person who waits."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]


def silent(step: str) -> None:
    """A ``Report`` that nobody reads."""
