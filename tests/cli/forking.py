"""Commands of agentctl as processes that are forked, all imported, from one server: a fifth of the time of a start.

``python -m tests.cli.forking`` reads one JSON object a line, ``{"args", "stdin", "cwd", "env"}``, and answers with
``{"code", "out", "err"}``.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import agentctl.cli
from tests.cli.running import Done

_MODULES = (
    "agentctl.agents.recipes",
    "agentctl.config",
    "agentctl.credentials.environment",
    "agentctl.ops.exec",
    "agentctl.ops.files",
    "agentctl.ops.projects",
    "agentctl.ops.sandboxes",
    "agentctl.ops.sessions",
    "agentctl.ops.turns",
    "agentctl.ops.volumes",
    "agentctl.providers.bootstrap",
    "agentctl.providers.unix_local",
    "agentctl.store.sqlite",
    "agentctl.supervisor_client.client",
    "agentctl.supervisor_client.files",
    "anyio._backends._asyncio",
    "platformdirs",
    "sqlite_utils.db",
)
"""What most commands import when they run."""


class Agentctl:
    """Use as a context manager, and call it as ``tests.cli.running.agentctl``."""

    def __init__(self, env: dict[str, str], cwd) -> None:
        self._env = env
        self._cwd = cwd

    def __enter__(self) -> Agentctl:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._env,
        )
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.stdin.close()
        self._server.wait(20)
        self._server.stdout.close()

    def __call__(self, *args: str, stdin: str = "", env: dict[str, str] | None = None, cwd=None) -> Done:
        asked = {"args": args, "stdin": stdin, "env": env or {}, "cwd": str(cwd or self._cwd)}
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return Done(subprocess.CompletedProcess(args, answer["code"], answer["out"], answer["err"]))


def _serve() -> None:
    for module in Path(agentctl.cli.__file__).parent.glob("*.py"):
        if module.stem != "__main__":
            import_module(f"agentctl.cli.{module.stem}")
    for name in _MODULES:
        import_module(name)
    gc.freeze()  # so that a collection in a command does not copy all pages
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(json.loads(line))) + "\n")
        sys.stdout.flush()


def _answer(asked) -> dict[str, object]:
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(asked["stdin"])
        stdin.seek(0)
        pid = os.fork()
        if pid == 0:
            _become(asked, [stdin.fileno(), out.fileno(), err.fileno()])
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = [os.pread(file.fileno(), 1 << 26, 0).decode() for file in (out, err)]
    return {"code": code, "out": texts[0], "err": texts[1]}


def _become(asked, files: list[int]) -> None:
    for fd, file in enumerate(files):
        os.dup2(file, fd)
    sys.stdin = os.fdopen(0)  # the server's own has read ahead
    os.chdir(asked["cwd"])
    os.environ.update(asked["env"])
    sys.argv = ["agentctl", *asked["args"]]
    try:
        from agentctl.cli.entry import main

        main()
    finally:
        os._exit(99)  # it has exited by itself unless something is wrong


if __name__ == "__main__":
    _serve()
