"""Who may drive a session: told by machine, boot and process, renewed while it is held, lost for good once lost."""

from __future__ import annotations

import asyncio
import os

import pytest

from agentctl import errors
from agentctl.model import Sandbox
from agentctl.ops import reach, sessions
from agentctl.store import leases
from agentctl.supervisor.processes import ProcessIdentity
from tests.ops.support import spec


@pytest.fixture
async def session(app, tmp_path):
    return await sessions.create(app, spec(tmp_path), provision=False)


@pytest.fixture
def machine_id(tmp_path, monkeypatch):
    """Set this machine's id."""

    def write(text):
        path = tmp_path / "machine-id"
        path.write_text(text)
        monkeypatch.setattr(leases, "_MACHINE_ID", path)
        leases.host_id.cache_clear()

    yield write
    monkeypatch.undo()
    leases.host_id.cache_clear()


def of_another_boot():
    host, _, pid, ticks = leases.this_holder().rsplit(":", 3)
    return f"{host}:another-boot:{pid}:{ticks}"


def test_a_holder_from_before_a_reboot_of_this_machine_is_dead(machine_id):
    machine_id("0123456789abcdef\n")
    assert leases.is_dead(of_another_boot())


def test_without_a_machine_id_a_reboot_is_not_told_from_a_twin(machine_id):
    machine_id("")
    assert not leases.is_dead(of_another_boot())


def test_a_machine_of_the_same_name_is_another_machine(machine_id):
    machine_id("aaaaaaaaaaaaaaaa")
    holder = of_another_boot()
    machine_id("bbbbbbbbbbbbbbbb")
    assert not leases.is_dead(holder)


def test_a_process_of_another_container_is_not_taken_for_dead():
    me = ProcessIdentity.of(os.getpid())
    host, _, name_space = leases.host_id().rpartition("/")
    assert not leases.is_dead(f"{host}/{name_space}9:{me.boot_id}:{2**22}:1")
    assert leases.is_dead(f"{host}/{name_space}:{me.boot_id}:{2**22}:1")


async def test_a_lease_is_renewed_for_as_long_as_it_is_held(app, session, monkeypatch):
    monkeypatch.setattr(reach, "LEASE_S", 0.3)
    monkeypatch.setattr(reach, "RENEW_S", 0.05)
    async with reach.lease_of(app, session.id):
        deadline = asyncio.get_running_loop().time() + 0.5
        while asyncio.get_running_loop().time() < deadline:
            with pytest.raises(errors.SessionBusy):
                app.store.acquire_lease(session.id, holder="elsewhere:b:1:1", ttl_s=60)
            await asyncio.sleep(0.02)
    taken = app.store.acquire_lease(session.id, holder="elsewhere:b:1:1", ttl_s=60)
    app.store.release_lease(taken)


async def test_whoever_lost_the_lease_can_neither_name_nor_record_a_sandbox(app, session):
    old = app.store.acquire_lease(session.id, holder="elsewhere:b:1:1", ttl_s=-1)
    new = app.store.acquire_lease(session.id, holder=leases.this_holder(), ttl_s=60)
    with pytest.raises(errors.LeaseLost):
        app.store.update_session(session.id, lease=old, sandbox_id="sbx_old")
    handle = {"run_dir": "/nowhere/sbx_old"}
    facts = {"session_id": session.id, "provider": "unix_local", "handle": handle, "labels": {}, "created_at": 1.0}
    with pytest.raises(errors.LeaseLost):
        app.store.put_sandbox(Sandbox(id="sbx_old", fencing=old.fencing, **facts))
    with pytest.raises(errors.LeaseLost):
        app.store.renew_lease(old, ttl_s=60)
    assert app.store.session(session.id).sandbox_id is None
    assert app.store.sandboxes() == []
    app.store.release_lease(new)


async def test_a_sandbox_made_under_a_lost_lease_is_removed_again(app, session, monkeypatch):
    """Its maker was stopped while the sandbox came up, for so long that another took the session over."""
    create = app.provider("unix_local").create

    async def and_lose_the_lease(sandbox):
        handle = await create(sandbox)
        app.store.acquire_lease(session.id, holder=leases.this_holder(), ttl_s=60)
        return handle

    monkeypatch.setattr(app.provider("unix_local"), "create", and_lose_the_lease)
    with pytest.raises(errors.LeaseLost):
        await sessions.resume(app, session.id)
    assert [f async for f in app.provider("unix_local").find_by_labels({})] == []
