"""How agents come into sandboxes: as archives that are unpacked there, unless the snapshot has them already.

A volume would be no place for them: files on it cannot be executed. What the first sandbox of a session needs is sent
with its supervisor; into one that lives it is sent at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shlex
import tarfile
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from agentctl.agents.platform import name_of as platform_name
from agentctl.compute import Compute
from agentctl.errors import NotFound, SandboxError, SandboxNotFound, UsageError
from agentctl.frozen import frozen
from agentctl.paths import StatePaths, state_errors
from agentctl.providers.base import Machine, Progress, RuntimeBuild, RuntimeImage, SandboxSpec
from agentctl.providers.daytona import boot as booting
from agentctl.providers.daytona import create as creation
from agentctl.providers.daytona import place, request
from agentctl.providers.daytona.bundle import bundle_of
from agentctl.providers.daytona.client import Account, call, connected
from agentctl.providers.daytona.place import AGENTS
from agentctl.providers.daytona.volumes import DaytonaVolumes
from agentctl.providers.finish import finished
from agentctl.providers.trees import make_private_directory

Json = dict[str, Any]
PLATFORM = "linux-x64"
"""Of Daytona's machines. An image of another libc is found out when its supervisor is to start."""

UNPACK_S = 240
SNAPSHOT_S = 1800.0
BASE = "python:3.12"
"""What a runtime snapshot stands on when no other image is named."""


@frozen
class DaytonaMachine(Machine):
    """``lives_in`` is Daytona's id of the sandbox that it is, if there is one."""

    lives_in: str | None = None


class DaytonaAgents(DaytonaVolumes):
    """The part of ``ImageProvider`` that is more than ``Provider``."""

    def __init__(self, paths: StatePaths) -> None:
        super().__init__(paths)
        self.wanted: dict[str, Path] = {}
        """What a sandbox that is made next has to have: key → directory of this host."""

    async def check_image(self, image: str | None, compute: Compute) -> str | None:
        return image

    async def machine(self, spec_image: str | None, compute: Compute, progress: Progress) -> Machine:
        named = compute.dockerfile or spec_image or request.snapshot_of(None) or "Daytona's default snapshot"
        return DaytonaMachine(image=named, platform=PLATFORM)

    async def machine_of(self, handle: Json) -> Machine:
        try:
            async with connected(self.account(handle["api_url"])) as daytona:
                sandbox = await call("look for the sandbox", lambda: daytona.get(handle["daytona"]))
        except NotFound:
            raise SandboxNotFound(f"Sandbox {handle['sandbox']} is gone.") from None
        return DaytonaMachine(image=f"the image of {handle['sandbox']}", platform=PLATFORM, lives_in=sandbox.id)

    async def bring(self, machine: Machine, directory: Path, key: str, progress: Progress) -> str:
        if isinstance(machine, DaytonaMachine) and machine.lives_in is not None:
            async with connected(Account.of(os.environ)) as daytona:
                sandbox = await call("look for the sandbox", lambda: daytona.get(machine.lives_in))
                await self._send(sandbox, {key: directory}, progress)
        else:
            self.wanted[key] = directory
        return f"{AGENTS}/{key}"

    async def send_wanted(self, sandbox: Any, spec: SandboxSpec, facts: booting.Facts) -> None:
        """The agents of the spec's recipes. Raise ``UsageError`` for a sandbox in which they would not run."""
        told = json.dumps([recipe.to_json() for recipe in spec.boot.recipes.values()])
        wanted = {key: directory for key, directory in self.wanted.items() if f"{AGENTS}/{key}" in told}
        there = platform_name("linux", facts.machine, musl=facts.libc == "musl")
        if wanted and there != PLATFORM:
            raise UsageError(
                f"The sandbox is a {there} machine, and its agents were made for {PLATFORM}.",
                hint="Name an image or snapshot that is made with glibc.",
            )
        await self._send(sandbox, wanted, spec.progress)

    async def build_runtime(self, build: RuntimeBuild, progress: Progress) -> RuntimeImage:
        """A snapshot of a sandbox that has the supervisor, and the agents that sessions of this state directory have
        been sent so far; its name goes into DAYTONA_SNAPSHOT."""
        if build.ca_bundle is not None:
            raise UsageError("A daytona snapshot is built at Daytona, which needs no --ca-bundle.")
        agents = _sent_before(self.paths)
        known = hashlib.sha256("\n".join(sorted(agents)).encode() + (await _bundle_key(self.paths)).encode())
        name = build.tag or f"agentctl-runtime-{known.hexdigest()[:12]}"
        async with connected(Account.of(os.environ)) as daytona:
            if not build.afresh and await _is_there(daytona, name):
                return RuntimeImage(tag=name, id=None, changed=False)
            params = self._builder(build.arguments.get("BASE", BASE))
            sandbox = await creation.made(daytona, params, timeout_s=creation.BUILD_S)
            try:
                await booting.install(sandbox, self.paths)
                await self._send(sandbox, agents, progress)
                progress(f"Making the snapshot {name}", None, None)
                what = f"make the snapshot {name}"
                await call(what, lambda: sandbox.create_snapshot(name, timeout=SNAPSHOT_S), repeatable=False)
            finally:
                await finished(creation.deleted(sandbox))
        return RuntimeImage(tag=name, id=None, changed=True)

    async def _send(self, sandbox: Any, wanted: dict[str, Path], progress: Progress) -> None:
        """Have them unpacked in a started sandbox, those that it lacks: each whole under its name, or not there."""
        import daytona as sdk

        for key, directory in wanted.items():
            target = f"{AGENTS}/{key}"
            lacks = f"[ ! -d {shlex.quote(target)} ] && mkdir -p {shlex.quote(str(PurePosixPath(target).parent))}"
            if (await booting.run(sandbox, "look for the agent", lacks, 30))[0] != 0:
                continue
            progress(f"Sending {key.partition('-')[0]} to Daytona", None, None)
            archive = await asyncio.to_thread(_archive, self.paths, directory, key)
            files = [sdk.FileUpload(source=str(archive), destination=f"{target}.tgz")]
            await call("send the agent", partial(sandbox.fs.upload_files, files))
            new, there = shlex.quote(f"{target}.new"), shlex.quote(target)
            unpack = f"mkdir -p {new} && tar -xzf {there}.tgz -C {new} && rm {there}.tgz && mv {new} {there}"
            code, said = await booting.run(sandbox, "unpack the agent", f"rm -rf {new} && {unpack}", UNPACK_S)
            if code != 0:
                raise SandboxError(f"The agent {key} could not be unpacked in the sandbox: {said.strip()[-300:]}")

    def _builder(self, base: str) -> Any:
        import daytona as sdk

        labels = {**place.own_labels(self.installation, secrets.token_hex(8)), place.ROLE: "builder"}
        name = f"agentctl-build-{secrets.token_hex(6)}"
        return sdk.CreateSandboxFromImageParams(
            image=base, name=name, labels=labels, auto_stop_interval=60, auto_delete_interval=0, ttl_minutes=120
        )


def _archive(paths: StatePaths, directory: Path, key: str) -> Path:
    target = paths.daytona / "agents" / f"{key}.tgz"
    with state_errors(target):
        if not target.exists():
            make_private_directory(target.parent)
            new = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                with tarfile.open(new, "w:gz", compresslevel=1) as tar:
                    tar.add(directory, arcname=".")
                new.rename(target)
            finally:
                new.unlink(missing_ok=True)
    return target


def _sent_before(paths: StatePaths) -> dict[str, Path]:
    """Key → a directory that need not be there any more: its archive is."""
    root = paths.daytona / "agents"
    return {str(p.relative_to(root).with_suffix("")): p for p in sorted(root.rglob("*.tgz"))}


async def _bundle_key(paths: StatePaths) -> str:
    return (await bundle_of(paths)).key


async def _is_there(daytona: Any, name: str) -> bool:
    try:
        await call("look for the snapshot", lambda: daytona.snapshot.get(name))
    except NotFound:
        return False
    return True
