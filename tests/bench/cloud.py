"""What agentctl adds to a create at Daytona and at Modal, against what their SDKs take for a bare sandbox, in one run.

Both clouds are emulated on this machine: their own part, half a minute in life, is next to nothing here, and what is
left is what the SDK and agentctl do. A create of ours returns when a supervisor listens; the SDK's when the sandbox
runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from agentctl import ids
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.base import SandboxSpec
from agentctl.providers.lookup import open_provider
from agentctl.supervisor_client import SupervisorClient
from agentctl.wire import Boot
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop
from tests.emulators import stand_in

OVERHEAD_MS = 150.0
IMAGE = "python:3.12"
Bare = Callable[[str], Awaitable[float]]


def rows(shop: Workshop) -> Iterator[Row]:
    if why := stand_in.available():
        print(f"clouds are not measured: {why}", file=sys.stderr)
        return
    yield from _daytona(shop)
    yield from _modal(shop)


def _daytona(shop: Workshop) -> Iterator[Row]:
    from tests.emulators.daytona import DaytonaEmulator

    with DaytonaEmulator(shop.directory / "daytona") as emulator:
        os.environ |= {"DAYTONA_API_URL": emulator.url, "DAYTONA_API_KEY": emulator.account()}

        async def bare(name: str) -> float:
            from agentctl.providers.daytona.client import Account, connected

            async with connected(Account.of(os.environ)) as daytona:
                import daytona as sdk

                began = time.perf_counter()
                sandbox = await daytona.create(sdk.CreateSandboxFromSnapshotParams(name=name))
                took = time.perf_counter() - began
                await sandbox.delete(wait=True)
                return took

        yield from _compared(shop, "daytona", None, bare)


def _modal(shop: Workshop) -> Iterator[Row]:
    from tests.emulators.modal import ModalEmulator
    from tests.emulators.modal.server import TOKEN_ID, TOKEN_SECRET

    with ModalEmulator(shop.directory / "modal") as emulator:
        os.environ |= emulator.environment()

        async def bare(name: str) -> float:
            import modal

            client = await modal.Client.from_credentials.aio(TOKEN_ID, TOKEN_SECRET)
            app = await modal.App.lookup.aio("bare", create_if_missing=True, client=client)
            image = modal.Image.from_registry(IMAGE)
            began = time.perf_counter()
            sandbox = await modal.Sandbox.create.aio("sleep", "60", app=app, image=image, name=name, client=client)
            took = time.perf_counter() - began
            await sandbox.terminate.aio(wait=True)
            await client.close.aio()
            return took

        yield from _compared(shop, "modal", IMAGE, bare)


def _compared(shop: Workshop, name: str, image: str | None, bare: Bare) -> Iterator[Row]:
    paths = StatePaths(shop.directory / f"state-{name}").ensure()
    with asyncio.Runner() as runner:
        provider = open_provider(name, paths)
        volume = runner.run(provider.volume_create("default"))

        async def ours() -> float:
            sandbox_id = ids.new_id("sbx")
            began = time.perf_counter()
            handle = await provider.create(_spec(sandbox_id, volume, image))
            took = time.perf_counter() - began
            await provider.remove(handle, at_once=True)
            return took * 1000

        async def answered() -> float:
            """A supervisor that listens imports the rest before it answers."""
            began = time.perf_counter()
            handle = await provider.create(_spec(ids.new_id("sbx"), volume, image))
            async with SupervisorClient(*await provider.endpoint(handle)) as client:
                await client.health()
                took = time.perf_counter() - began
            await provider.remove(handle, at_once=True)
            return took * 1000

        async def theirs() -> float:
            return await bare(ids.new_id("bare").replace("_", "-")) * 1000

        mine, its, answers = interleave(
            [lambda one=one: runner.run(one()) for one in (ours, theirs, answered)], shop.runs
        )
        runner.run(_closed(provider))
    yield compared(f"{name}: create to ready", mine, its, peer_name="the SDK's bare create")
    added = [one - other for one, other in zip(mine, its, strict=True)]
    yield compared(f"{name}: create to the first answer", answers, its, peer_name="the SDK's bare create")
    yield compared(f"{name}: added to a create", added, None, goal=OVERHEAD_MS)


def _spec(sandbox_id: str, volume: Volume, image: str | None) -> SandboxSpec:
    boot = Boot(sandbox_id=sandbox_id, token=ids.new_id("tok"), listen={}, log_root="", home="", tmp="")
    return SandboxSpec(
        sandbox_id=sandbox_id,
        session_id=sandbox_id,
        volume=volume,
        home=f"agents/{sandbox_id}/home",
        log=f"agents/{sandbox_id}/log",
        boot=boot,
        image=image,
    )


async def _closed(provider: Any) -> None:
    if provider.name == "modal":
        await provider.sdk.close()
