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
    if database_url is None:
        from agentctl.store.sqlite import SqliteStore

        return SqliteStore(paths.database)
    if not database_url.startswith(("postgresql://", "postgres://")):
        raise Unsupported(
            # The URL may hold a password, at whatever place.
            "The database URL is not one of Postgres.",
            hint="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or leave it out to use the state directory.",
        )
    return _shared(paths, database_url)


def _shared(paths: StatePaths, database_url: str) -> Store:
    from agentctl.store.place import place_of

    try:
        from agentctl.store.postgres import PostgresStore
    except ImportError as e:
        raise Unsupported(
            "The Postgres driver is not installed.", hint="Install it: pip install 'agentctl[postgres]'."
        ) from e
    return PostgresStore(database_url, lambda: place_of(paths))
