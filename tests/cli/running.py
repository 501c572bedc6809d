"""Runs agentctl as a process, as a script would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def agentctl(*args: str, stdin: str | None = None, env: dict[str, str] | None = None, cwd: Any = None) -> Done:
    """Run one command to its end. Without ``stdin`` there is none (/dev/null)."""
    done = subprocess.run(
        [sys.executable, "-m", "agentctl.cli", *args],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=60,
        check=False,
    )
    return Done(done)


class Done:
    """What a command left behind."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def data(self) -> Any:
        """The data of the JSON envelope."""
        return self.envelope["data"]

    @property
    def envelope(self) -> Any:
        [line] = self.out.splitlines()
        return json.loads(line)

    @property
    def events(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
