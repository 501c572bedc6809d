"""The SDK as the provider uses it: imported when used, one client, every call bounded in time, only our own errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from agentctl.errors import ProviderUnavailable
from agentctl.providers.finish import settled

if TYPE_CHECKING:
    import modal

T = TypeVar("T")
APP = "agentctl"
CALL_S = 60.0
CONNECT_S = 15.0
"""The SDK itself takes 56 s to find out that nobody answers."""

BACKOFF_S = (1.0, 2.0, 4.0, 8.0)
"""Between tries of what a rate limit refused."""

_NO_SDK = "Install it beside agentctl: `pip install 'agentctl[modal]'`."


class Sdk:
    """One connection to Modal, with the token of the environment or of the SDK's own configuration."""

    def __init__(self) -> None:
        self._client: modal.Client | None = None
        self._app: modal.App | None = None
        self._opening = asyncio.Lock()
        self._is_answered = False

    async def call(
        self,
        what: str,
        work: Callable[[modal.Client], Awaitable[T]],
        *,
        timeout_s: float = CALL_S,
        to_its_end: bool = False,
    ) -> T:
        """``work(client)``; ``what`` completes "Modal could not …". What a rate limit refuses is tried again.

        With ``to_its_end`` a cancellation is raised when the work has ended, so that whoever clears up after it finds
        all that it made. Raise our errors only: ``CredentialsMissing``, ``CredentialsRejected``, ``QuotaExceeded``,
        ``ProviderUnavailable``, ``DeadlineExceeded``, ….
        """
        client = await self._connected()
        from agentctl.providers.modal.errors import FOREIGN, is_rate_limit, translate

        for pause_s in (*BACKOFF_S, None):
            try:
                async with self._first_contact(timeout_s):
                    return await (_unbroken(work(client), timeout_s) if to_its_end else work(client))
            except FOREIGN as e:
                if pause_s is None or not is_rate_limit(e):
                    raise translate(e, what) from e
                await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    @asynccontextmanager
    async def _first_contact(self, timeout_s: float) -> AsyncIterator[None]:
        """As long as nobody has answered yet, not even an error, he is not waited for long."""
        if self._is_answered:
            async with asyncio.timeout(timeout_s):
                yield
            return
        try:
            async with asyncio.timeout(min(timeout_s, CONNECT_S)):
                yield
        except TimeoutError as e:
            raise ProviderUnavailable(
                f"Modal did not answer within {CONNECT_S:g} s.",
                hint="See whether this machine has a network, and what MODAL_SERVER_URL says.",
            ) from e
        self._is_answered = True

    async def app(self) -> modal.App:
        """The app that all sandboxes belong to; made when it is not there."""
        if self._app is None:
            import_sdk()
            import modal

            self._app = await self.call(
                f"find the app {APP}", lambda client: modal.App.lookup.aio(APP, create_if_missing=True, client=client)
            )
        return self._app

    async def hello(self) -> None:
        """Return when Modal answers and takes the token; raise what ``call`` raises."""
        await self.call("answer", _hello)

    async def _connected(self) -> modal.Client:
        async with self._opening:
            if self._client is None:
                self._client = await _open()
            return self._client

    async def close(self) -> None:
        if self._client is not None:
            client, self._client, self._app = self._client, None, None
            with suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    await client.close.aio()


def import_sdk() -> None:
    """Raise ``ProviderUnavailable`` with the command that installs it."""
    try:
        import modal  # noqa: F401
    except ImportError as e:
        raise ProviderUnavailable(f"The modal provider needs the package {e.name}.", hint=_NO_SDK) from e


async def _open() -> modal.Client:
    import_sdk()
    import modal
    from modal.config import config

    from agentctl.providers.modal.errors import FOREIGN, missing_token, translate

    try:
        async with asyncio.timeout(CONNECT_S):
            token = config.get("token_id"), config.get("token_secret")
            if all(token):
                return await modal.Client.from_credentials.aio(*token)
            if config.get("oauth_refresh_token"):
                return await modal.Client.from_env.aio()
    except FOREIGN as e:
        raise translate(e, "connect") from e
    raise missing_token()


async def _hello(client: modal.Client) -> None:
    await client.hello.aio()  # type: ignore[no-untyped-call]


async def _unbroken(work: Awaitable[T], timeout_s: float) -> T:
    """``work`` to its end though we are cancelled, if that comes soon."""
    running = asyncio.ensure_future(asyncio.wait_for(work, timeout_s))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        patience = asyncio.get_running_loop().call_later(CONNECT_S, running.cancel)
        await settled(running)
        patience.cancel()
        raise
