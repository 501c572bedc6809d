"""A database URL, taken apart so that nothing but the server's place is ever said of it."""

from __future__ import annotations

from typing import Any

from psycopg import ProgrammingError, conninfo, pq

from agentctl.errors import UsageError

_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "agentctl",
}
"""What holds where the URL says nothing: a server that vanished is noticed within seconds, not hours."""


class Target:
    """Where to connect. As text it is the database's name and the server's address: never the user or a password.

    Raise ``UsageError``, without the URL's text, when it cannot be understood. libpq reads an unescaped ``@``, ``/`` or
    ``:`` of a password as the end of it, and would show the rest in its errors: such a URL is refused.
    """

    def __init__(self, url: str) -> None:
        try:
            given = conninfo.conninfo_to_dict(url)
        except (ProgrammingError, UnicodeError):
            raise _unreadable() from None
        if any("@" in str(given.get(key, "")) for key in ("host", "port", "dbname")):
            raise _unreadable()
        if not str(given.get("port", "")).replace(",", "").isdigit() and given.get("port"):
            raise _unreadable()
        self.parameters: dict[str, Any] = {**_DEFAULTS, **given, "client_encoding": "utf8"}
        host, port = given.get("host") or "this machine", given.get("port") or "5432"
        self._text = f"The database {given.get('dbname') or given.get('user') or 'of this user'!r} at {host}:{port}"

    def __str__(self) -> str:
        return self._text

    def ping(self) -> pq.Ping:
        """Whether a server answers there: it needs no user for that."""
        return pq.Ping(pq.PGconn.ping(conninfo.make_conninfo(**self.parameters).encode()))

    def without_password(self, text: str) -> str:
        """``text`` with the password cut out, should a driver have repeated it."""
        password = self.parameters.get("password")
        return text.replace(str(password), "***") if password else text


def _unreadable() -> UsageError:
    return UsageError(
        "The database URL cannot be understood; it is not shown, since it may hold a password.",
        hint="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and %40 %3A %2F %25 for `@ : / %` in the password.",
    )
