"""A killed supervisor, or acpx's process in its place: how long until the next turn speaks."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import count

from agentctl.supervisor.processes import ProcessIdentity
from tests.bench import proc
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

GOAL_MS = 500.0
TIMES_ACPX = 0.5
SESSION = "killed"
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}\n'


def rows(shop: Workshop) -> Iterator[Row]:
    """As whole commands, from their start; the agent loads its own session."""
    rounds = count()
    shop.run(shop.agentctl("sessions", "create", SESSION, "--agent-command", shop.stub))
    contestants = [lambda: _ours_ms(shop, next(rounds)), lambda: _agent_ms(shop)]
    if shop.acpx:
        shop.run(shop.acpx_agent("sessions", "new", "--name", SESSION))
        shop.run(shop.acpx_prompt(SESSION, "hello"))
        contestants.append(lambda: _acpx_ms(shop, next(rounds)))
    ours, agent, *acpx = interleave(contestants, shop.runs)
    shop.run(shop.agentctl("sessions", "delete", "--yes", SESSION))
    if shop.acpx:
        shop.run(shop.acpx_agent("sessions", "close", SESSION))
    net = [whole - start for whole, start in zip(ours, agent, strict=True)]
    yield compared("supervisor killed: to the next turn's text, without the agent's start", net, None, goal=GOAL_MS)
    if acpx:
        name = "supervisor killed: to the next turn's text"
        yield compared(name, ours, acpx[0], peer_name="acpx prompt, its owner killed", times_peer=TIMES_ACPX)


def _ours_ms(shop: Workshop, number: int) -> float:
    _kill(shop.supervisor(SESSION))
    argv = shop.agentctl("sessions", "stream", SESSION, f"@say=back-{number}.", "--json")
    return shop.first_ms(argv, b'"item.delta"', b"back-%d." % number)


def _acpx_ms(shop: Workshop, number: int) -> float:
    [owner] = proc.running("\0__queue-owner\0", f"HOME={shop.directory}\0")
    _kill(owner)
    argv = shop.acpx_prompt(SESSION, f"@say=back-{number}.")
    return shop.first_ms(argv, b"agent_message_chunk", b"back-%d." % number)


def _kill(pid: int) -> None:
    process = ProcessIdentity.of(pid)
    assert process is not None
    os.kill(pid, signal.SIGKILL)
    while process.is_alive():
        time.sleep(0.001)


def _agent_ms(shop: Workshop) -> float:
    """From the agent's start to its answer to initialize."""
    begun = time.perf_counter()
    agent = subprocess.Popen(
        shop.stub, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=shop.env, cwd=shop.directory
    )
    assert agent.stdin is not None
    assert agent.stdout is not None
    agent.stdin.write(INITIALIZE)
    agent.stdin.flush()
    agent.stdout.readline()
    took = time.perf_counter() - begun
    agent.communicate()
    return took * 1000
