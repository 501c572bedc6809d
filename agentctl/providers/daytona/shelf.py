"""Into a volume with no session's sandbox: through one that exists for a moment, has all of the volume and no network.

Daytona ends and deletes it by itself when whoever made it dies: after five idle minutes, and within the hour.
"""

from __future__ import annotations

import io
import secrets
import shlex
import tarfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agentctl import ids
from agentctl.errors import SandboxError
from agentctl.providers.daytona import boot as booting
from agentctl.providers.daytona.client import call
from agentctl.providers.daytona.create import SNAPSHOT_S, deleted, made
from agentctl.providers.daytona.place import ROLE, WHOLE, name_of, own_labels
from agentctl.providers.daytona.request import snapshot_of
from agentctl.providers.finish import finished
from agentctl.providers.trees import unpack_plain

Json = dict[str, Any]
IDLE_MIN, TTL_MIN = 5, 60
WORK_S = 280
"""Daytona cuts one command off at five minutes."""

_ARCHIVE = "/tmp/agentctl-reading-{}.tgz"  # noqa: S108 - of a sandbox of our own


@asynccontextmanager
async def shelf(daytona: Any, volume_id: str, installation: str) -> AsyncIterator[Any]:
    """An ``AsyncSandbox`` that has the volume at ``WHOLE``, for as long as the block lasts."""
    sandbox = await made(daytona, _params(volume_id, installation), timeout_s=SNAPSHOT_S)
    try:
        yield sandbox
    finally:
        await finished(deleted(sandbox))


def _params(volume_id: str, installation: str) -> Any:
    import daytona as sdk

    return sdk.CreateSandboxFromSnapshotParams(
        name=name_of(ids.new_id("fil")),
        snapshot=snapshot_of(None),
        labels={**own_labels(installation, secrets.token_hex(8)), ROLE: "shelf"},
        volumes=[sdk.VolumeMount(volume_id=volume_id, mount_path=WHOLE)],
        auto_stop_interval=IDLE_MIN,
        auto_delete_interval=0,
        ttl_minutes=TTL_MIN,
        network_block_all=True,
    )


async def fetch(sandbox: Any, directory: str, target: Path, *, lives_on: bool = False) -> None:
    """Copy the files of a directory of the sandbox to ``target``, which stays missing when that is. ``lives_on``:
    nothing else of it may stay in the sandbox."""
    place, packed = shlex.quote(directory), _ARCHIVE.format(secrets.token_hex(6))
    # tar fails when something changes while it reads, as a log does that a supervisor keeps right now.
    pack = f"tar -C {place} -czf {packed} . && echo packed"
    script = f"[ -d {place} ] || exit 0; {pack} || {{ sleep 1; {pack}; }} || {{ sleep 1; {pack}; }}"
    code, said = await booting.run(sandbox, "read from the volume", script, WORK_S)
    if code != 0:
        raise SandboxError(f"{directory} could not be read from the volume: {said.strip()[-300:]}")
    if "packed" not in said:
        return
    archive = await call("read from the volume", lambda: sandbox.fs.download_file(packed))
    if lives_on:
        await booting.run(sandbox, "clear up after reading", f"rm -f {packed}", WORK_S)
    try:
        unpack_plain(io.BytesIO(archive), target)
    except (tarfile.TarError, EOFError, zlib.error) as e:
        raise SandboxError(f"What Daytona sent of {directory} is no archive: {e}", hint="Try again.") from e


async def delete_tree(sandbox: Any, relative: str) -> None:
    """Delete what is at ``relative``; a missing one is fine, and no symbolic link is followed."""
    place = shlex.quote(f"{WHOLE}/{relative}")
    script = f"rm -rf {place} 2>/dev/null || {{ chmod -R u+rwx {place} && rm -rf {place}; }}"
    code, said = await booting.run(sandbox, "delete from the volume", script, WORK_S)
    if code != 0:
        raise SandboxError(f"{relative} could not be deleted from the volume: {said.strip()[-300:]}")
