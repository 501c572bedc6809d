"""Which store a state directory uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentctl.errors import Unsupported

if TYPE_CHECKING:
    from agentctl.paths import StatePaths
    from agentctl.store.base import Store


def open_store(paths: StatePaths, database_url: str | None = None) -> Store:
    """Open the store of ``paths``; ``database_url`` names a shared database instead.

    Raise ``Unsupported`` for a kind of database that no store speaks, and what the store's opening raises.
    """
    if database_url is not None:
        # The rest of the URL may hold a password.
        scheme = database_url.partition(":")[0]
        raise Unsupported(
            f"No store speaks {scheme!r} databases.", hint="Leave the database URL out to use the state directory."
        )
    from agentctl.store.sqlite import SqliteStore

    return SqliteStore(paths.database)
