"""What every op needs, opened on first use: paths, configuration, the store, the providers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from agentctl import ids
from agentctl.ops.report import Progress, unwatched
from agentctl.paths import StatePaths, default_state_dir

if TYPE_CHECKING:
    import asyncio

    from agentctl.config import Config
    from agentctl.providers.base import Provider
    from agentctl.providers.prespawn import Prespawned
    from agentctl.store.base import Store


class App:
    """One command's context. Use as a context manager; nothing is opened before it is needed."""

    hear_warnings: ClassVar[list[Callable[[str], None]]] = []
    """Who is told what is not as it should be; the command line adds itself."""

    flags: ClassVar[dict[str, str]] = {}
    """Settings that options of agentctl itself gave to this command."""

    def __init__(self, paths: StatePaths, environ: Mapping[str, str]) -> None:
        self.paths = paths
        self.environ = environ
        self.prespawned: Prespawned | None = None
        self.progress: Progress = unwatched
        """Is told how pulls, builds and installs that a sandbox needs go on."""
        self.given_secrets: dict[str, str] = {}
        """Values that the user gave to this command; they go before those that a session's secrets are kept as."""
        self.unasked_volumes: set[tuple[str, str]] = set()
        """Volumes (provider, name) that this command made because something needed one: nothing was in them before."""
        self._providers: dict[str, Provider] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    @classmethod
    def open(cls, environ: Mapping[str, str] = os.environ) -> Self:
        return cls(StatePaths(default_state_dir()), environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.prespawned is not None:
            self.prespawned.discard()
        if "store" in self.__dict__:
            self.store.close()

    @cached_property
    def config(self) -> Config:
        from agentctl.config import Config

        try:
            here = Path.cwd()
        except FileNotFoundError:  # somebody deleted it
            here = None
        config = Config.load(self.environ, self.flags, here)
        for warning in config.warnings:
            self.warn(warning)
        return config

    def warn(self, text: str) -> None:
        """Tell the user what is not as it should be; the command goes on."""
        for hear in self.hear_warnings:
            hear(text)

    @cached_property
    def store(self) -> Store:
        from agentctl.store.lookup import open_store

        return open_store(self.paths.ensure(), self.config.database_url)

    @cached_property
    def place(self) -> str:
        """Where this state directory's volumes lie, for the other machines that share the store; ``""`` when it is not
        shared."""
        if self.config.database_url is None:
            return ""
        from agentctl.store.place import place_of, this_machine

        place = place_of(self.paths)
        self.store.meta(_machine_key(place), f"{this_machine()} ({self.paths.root})")
        return place

    def machine_of(self, place: str) -> str:
        """The machine and the state directory that were at ``place`` when it was first used, to be told to users."""
        return self.store.meta(_machine_key(place), "another machine")

    @cached_property
    def origin(self) -> str:
        """The configured origin, else a random one that this state directory keeps."""
        return self.config.origin or self.store.meta("origin", ids.new_id("org"))

    @property
    def user_home(self) -> Path:
        return Path(self.environ.get("HOME") or "~").expanduser()

    def lock(self, session_id: str) -> asyncio.Lock:
        """One bringer-up or taker-down of a session at a time in this process; the lease is for the others."""
        import asyncio

        return self._locks.setdefault(session_id, asyncio.Lock())

    def provider(self, name: str) -> Provider:
        """The provider of that name, made once. Raise ``ProviderNotFound`` with the nearest names."""
        if name not in self._providers:
            from agentctl.providers.lookup import open_provider

            self._providers[name] = open_provider(name, self.paths.ensure())
        return self._providers[name]

    def prespawned_for(self, provider: Provider) -> str | None:
        """Hand a supervisor that was started ahead of time to its provider: the id of the sandbox it is for."""
        from agentctl.providers.unix_local import UnixLocalProvider

        if self.prespawned is None or not isinstance(provider, UnixLocalProvider):
            return None
        spawned, self.prespawned = self.prespawned, None
        provider.use(spawned)
        return spawned.sandbox_id


def _machine_key(place: str) -> str:
    return f"machine of {place}"
