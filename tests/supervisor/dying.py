"""A process that dies at every step of its work on files, one after the other."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys

from tests.supervisor.s3_files import REPOSITORY

STEPS = ("open", "write", "fsync", "unlink", "mkdir", "listdir", "rename", "replace", "close")


def dying_at_every_step(base, play):
    """``play(base/at<number>)``, with a copy of ``base/kept`` in it, in a process that is killed at its so-many-th
    step, for each number until it comes to its end. Print how many were killed."""
    for at in itertools.count(1):
        place = base / f"at{at}"
        shutil.copytree(base / "kept", place / "kept")
        pid = os.fork()
        if pid == 0:
            _die_at(at)
            play(place)
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            print(at - 1)
            return


def killed_at_every_step(script, base):
    """Run a script that does the above; the places in which one was killed."""
    argv = [sys.executable, "-c", script.format(repository=str(REPOSITORY)), str(base)]
    steps = int(subprocess.run(argv, check=True, timeout=100, stdout=subprocess.PIPE).stdout)
    assert steps > 30
    return [base / f"at{at}" for at in range(1, steps + 1)]


def _die_at(at):
    left = [at]
    for name in STEPS:
        setattr(os, name, _counted(left, name, getattr(os, name)))


def _counted(left, name, real):
    def call(*args, **named):
        left[0] -= 1
        if left[0] == 0:
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **named)

    return call
