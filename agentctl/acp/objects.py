"""What agents send is not always what ACP says: an object where one belongs."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def object_of(value: Any) -> Json:
    """The value, or an empty object in the place of anything else."""
    return value if isinstance(value, dict) else {}
