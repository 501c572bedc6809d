"""The SDK, opened for one operation: with our own key and address, retried where that is safe, its errors as ours.

A client costs 50 ms, most of it for the system's certificates, and a command needs one again and again: it is kept for
a few seconds after its last use. Nothing has to be closed by hand: a client goes with its event loop at the latest. The
SDK is imported by the first one, which takes a second.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import field
from importlib import import_module
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from agentctl.errors import CredentialsMissing, ProviderUnavailable
from agentctl.frozen import frozen

T = TypeVar("T")
API_URL = "https://app.daytona.io/api"
ATTEMPTS = 4
"""Of a request that may be repeated."""

KEPT_S = 3.0
"""Less than any proxy leaves an idle connection open."""

CLEAR_S = 60.0
"""The longest that something is cleared away when everything ends."""

_NO_SDK = "Install it beside agentctl: `pip install 'agentctl[daytona]'`."
_READ_FROM_FILES = (
    "DAYTONA_TARGET",
    "DAYTONA_JWT_TOKEN",
    "DAYTONA_ORGANIZATION_ID",
    "DAYTONA_HAPPY_EYEBALLS_DELAY",
    "DAYTONA_USE_DEPRECATED_POLLING",
    "DAYTONA_OTEL_ENABLED",
    "DAYTONA_EXPERIMENTAL_OTEL_ENABLED",
)
"""What the SDK would take from ``.env`` of the current directory, which may be a stranger's repository."""


@frozen
class Account:
    """Whose sandboxes, and where. ``api_key`` is secret, and so is ``jwt_token``."""

    api_url: str
    api_key: str | None = field(default=None, repr=False)
    jwt_token: str | None = field(default=None, repr=False)
    organization_id: str | None = None
    target: str | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Account:
        """The one that the environment names. Raise ``CredentialsMissing``."""
        key, token = environ.get("DAYTONA_API_KEY"), environ.get("DAYTONA_JWT_TOKEN")
        organization = environ.get("DAYTONA_ORGANIZATION_ID")
        if not key and not (token and organization):
            raise CredentialsMissing(
                "There is no key for Daytona: DAYTONA_API_KEY is not set.",
                hint="Make one at https://app.daytona.io/dashboard/keys, then: export DAYTONA_API_KEY=…",
                details={"variables": ["DAYTONA_API_KEY"]},
            )
        return cls(
            api_url=api_url_of(environ),
            api_key=key or None,
            jwt_token=None if key else token,
            organization_id=organization or None,
            target=environ.get("DAYTONA_TARGET") or None,
        )


def api_url_of(environ: Mapping[str, str] = os.environ) -> str:
    return (environ.get("DAYTONA_API_URL") or API_URL).rstrip("/")


@asynccontextmanager
async def connected(account: Account) -> AsyncIterator[Any]:
    """An ``AsyncDaytona`` that asks how a change of state goes on, ten times a second, instead of being told: it would
    open a second connection for that, at once and whatever it is needed for."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if account not in clients:
        await asyncio.to_thread(_import_sdk)
    if account not in clients:
        clients[account] = _Kept(account, clients)
    kept = clients[account]
    with kept.used():
        yield kept.client


class _Kept:
    """A client in ``clients`` while it is used, and for a while after. Its task closes it, which the end of the loop
    cancels as it does every other."""

    def __init__(self, account: Account, clients: dict[Account, _Kept]) -> None:
        self.client = _client(account)
        self._users = 0
        self._used_at = time.monotonic()
        self._unused = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._keep(account, clients))

    @contextmanager
    def used(self) -> Iterator[None]:
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            self._used_at = time.monotonic()
            if not self._users:
                self._unused.set()

    async def _keep(self, account: Account, clients: dict[Account, _Kept]) -> None:
        try:
            while True:
                await self._unused.wait()
                rest_s = self._used_at + KEPT_S - time.monotonic()
                if not self._users and rest_s <= 0:
                    break
                await asyncio.sleep(max(rest_s, 0.0))
        finally:
            del clients[account]
            with suppress(TimeoutError):  # its users were cancelled too, and clear up with it
                async with asyncio.timeout(CLEAR_S if self._users else 0):
                    await self._unused.wait()
            await self.client.close()


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Account, _Kept]] = WeakKeyDictionary()


def _import_sdk() -> None:
    try:
        import_module("daytona").AsyncDaytona  # noqa: B018 - it is imported when it is asked for
    except ImportError as e:
        raise ProviderUnavailable(f"The daytona provider needs the package {e.name}.", hint=_NO_SDK) from e


def _client(account: Account) -> Any:
    import daytona as sdk

    with _nothing_from_files(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that were not read, and that asking now and then is old-fashioned
        return sdk.AsyncDaytona(
            sdk.DaytonaConfig(
                api_key=account.api_key,
                jwt_token=account.jwt_token,
                api_url=account.api_url,
                organization_id=account.organization_id,
                target=account.target,
                otel_enabled=False,
                use_deprecated_polling=True,
            )
        )


@contextmanager
def _nothing_from_files() -> Iterator[None]:
    """A variable that is set, be it to nothing, goes before a file. No other coroutine runs meanwhile."""
    blank = {name: os.environ.get(name) for name in _READ_FROM_FILES}
    os.environ.update(dict.fromkeys(blank, ""))
    try:
        yield
    finally:
        for name, value in blank.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def call(what: str, work: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
    """``await work()`` with our errors; ``what`` completes "Daytona could not …".

    One that was refused for its rate is repeated after the time that Daytona says, when that is short; with
    ``repeatable`` also one that may just have met a bad moment.
    """
    from agentctl.providers.daytona.errors import FOREIGN, LONGEST_PAUSE_S, is_passing, pause_of, translate

    attempt = 0
    while True:
        attempt += 1
        try:
            return await work()
        except FOREIGN as e:
            pause = pause_of(e)
            if pause is None and repeatable and is_passing(e):
                pause = 0.2 * 2**attempt
            if pause is None or pause > LONGEST_PAUSE_S or attempt >= ATTEMPTS:
                raise translate(e, what) from e
        await asyncio.sleep(pause * (1 + random.random() / 10))  # noqa: S311 - so that many do not come back at once
