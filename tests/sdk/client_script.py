"""Run in an environment of its own, where ``sandbox-agent-sdk`` is installed: its calls against a supervisor.

``URL`` and ``TOKEN`` are in the environment; every call's answer goes to stdout as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from sandboxagent import SandboxAgent


async def main() -> None:
    agent = await SandboxAgent.connect(os.environ["URL"], token=os.environ["TOKEN"])
    said: dict[str, Any] = {"health": await agent.health()}
    try:
        await files(agent, said)
        await processes(agent, said)
        await terminal(agent, said)
        await agents(agent, said)
    finally:
        await agent.dispose()
    print(json.dumps(said, default=str))


async def files(agent: SandboxAgent, said: dict[str, Any]) -> None:
    await agent.write_file("notes/a.txt", "héllo")
    said["read"] = await agent.read_file("notes/a.txt")
    said["entries"] = await agent.list_entries("notes")
    said["stat"] = await agent.stat("notes/a.txt")
    await agent.move("notes/a.txt", "notes/b.txt")
    await agent.delete_entry("notes/b.txt")
    said["after"] = await agent.list_entries("notes")
    said["missing"] = await refused(agent.read_file("notes/none"))


async def refused(call: Any) -> Any:
    try:
        return await call
    except Exception as e:  # the client has several kinds, none of them with a stable name
        return {"refused": str(e)}


async def processes(agent: SandboxAgent, said: dict[str, Any]) -> None:
    said["run"] = await agent.run_process({"command": "sh", "args": ["-c", "echo out; echo err >&2; exit 3"]})
    made = await agent.create_process({"command": "sh", "args": ["-c", "echo line; exec sleep 60"]})
    said["created"] = made
    said["listed"] = [p["id"] for p in await agent.list_processes()]
    said["got"] = await agent.get_process(made["id"])
    for _ in range(100):
        said["logs"] = await agent.get_process_logs(made["id"])
        if said["logs"]["entries"]:
            break
        await asyncio.sleep(0.05)
    await agent.stop_process(made["id"])
    for _ in range(100):
        said["stopped"] = await agent.get_process(made["id"])
        if said["stopped"]["status"] == "exited":
            break
        await asyncio.sleep(0.05)
    said["killed"] = await agent.kill_process(made["id"])
    await agent.delete_process(made["id"])
    said["left"] = [p["id"] for p in await agent.list_processes()]
    said["limits"] = await agent.get_process_config()
    said["limits_set"] = await agent.set_process_config({**said["limits"], "maxConcurrentProcesses": 7})


async def terminal(agent: SandboxAgent, said: dict[str, Any]) -> None:
    made = await agent.create_process({"command": "sh", "tty": True, "interactive": True})
    session = await agent.connect_process_terminal(made["id"])
    seen, ended = bytearray(), asyncio.Event()
    session.on_data(seen.extend)
    session.on_exit(lambda _: ended.set())
    await agent.resize_process_terminal(made["id"], cols=91, rows=33)
    session.send_input("stty size; exit 5\n")
    try:
        await asyncio.wait_for(ended.wait(), 10)
    finally:
        said["terminal"] = seen.decode(errors="replace")
    await session.close()


async def agents(agent: SandboxAgent, said: dict[str, Any]) -> None:
    said["agents"] = await agent.list_agents()
    said["agent"] = await agent.get_agent("mock")
    said["installed"] = await agent.install_agent("mock", {})
    said["unknown"] = await refused(agent.get_agent("nobody"))
    said["servers"] = await agent.list_acp_servers()


asyncio.run(main())
