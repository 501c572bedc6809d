"""Starting one process for a user: its pipes or its terminal, its own session, its mark; errors that say what is wrong.

A pipe for output is opened for reading too by the process that writes it: so it lives on when the supervisor dies, and
the next supervisor reads on where this one stopped, from ``/proc/<pid>/fd``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from agentctl.errors import SpawnFailed, UsageError
from agentctl.supervisor.exec.spec import ProcessSpec

PIPE_BYTES = 1024 * 1024
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


class Spawned(NamedTuple):
    """A started process with our ends of its streams: ``stdin`` is None when it has none, ``outputs`` are by stream."""

    popen: subprocess.Popen[bytes]
    stdin: int | None
    outputs: dict[str, int]


def spawn(spec: ProcessSpec, env: Mapping[str, str], cwd: str, *, durable: bool) -> Spawned:
    """Start it with exactly ``env``. ``durable`` output outlives us. Raise ``SpawnFailed`` (``details.exitCode`` is
    127 or 126, as a shell says it) or ``UsageError``; nothing is left then."""
    return _on_terminal(spec, env, cwd) if spec.tty else _on_pipes(spec, env, cwd, durable)


def set_size(fd: int, rows: int, cols: int) -> None:
    """Tell a terminal its size; whoever runs on it gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def _on_pipes(spec: ProcessSpec, env: Mapping[str, str], cwd: str, durable: bool) -> Spawned:
    with ExitStack() as on_failure, ExitStack() as theirs:
        stdin: int = subprocess.DEVNULL
        stdin_end = None
        if spec.interactive:
            stdin, stdin_end = os.pipe()
            theirs.callback(os.close, stdin)
            on_failure.callback(os.close, stdin_end)
        outputs = {}
        ends = []
        for name in ("stdout", "stderr"):
            ours, end = _output_pipe(durable)
            outputs[name] = ours
            ends.append(end)
            on_failure.callback(os.close, ours)
            theirs.callback(os.close, end)
        with _said(spec, cwd):
            popen = subprocess.Popen(
                spec.argv,
                env=env,
                cwd=cwd,
                stdin=stdin,
                stdout=ends[0],
                stderr=ends[1],
                bufsize=0,
                start_new_session=True,
            )
        on_failure.pop_all()
        return Spawned(popen, stdin_end, outputs)


def _output_pipe(durable: bool) -> tuple[int, int]:
    ours, end = os.pipe()
    with suppress(OSError, AttributeError):  # a burst needs fewer switches; a limit of the user may forbid it
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    if durable:
        with suppress(OSError):  # no /proc: then it does not outlive us
            both = os.open(f"/proc/self/fd/{ours}", os.O_RDWR | os.O_CLOEXEC)
            os.close(end)
            end = both
    return ours, end


def _on_terminal(spec: ProcessSpec, env: Mapping[str, str], cwd: str) -> Spawned:
    master, slave = os.openpty()
    with ExitStack() as on_failure, ExitStack() as theirs:
        on_failure.callback(os.close, master)
        theirs.callback(os.close, slave)
        set_size(master, spec.rows, spec.cols)
        with _said(spec, cwd):
            popen = subprocess.Popen(
                spec.argv,
                env=env,
                cwd=cwd,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                bufsize=0,
                start_new_session=True,
                # Nothing but a system call between fork and exec: other threads of ours cannot hold it up.
                preexec_fn=_take_terminal,
            )
        on_failure.pop_all()
        return Spawned(popen, os.dup(master), {"pty": master})


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def _said(spec: ProcessSpec, cwd: str) -> Iterator[None]:
    """What the system refuses in this block is raised as our error."""
    try:
        yield
    except ValueError as e:
        raise UsageError(f"Cannot start {spec.command}: {e}.") from e
    except OSError as e:
        raise _failure(spec.command, cwd, e) from e


def _failure(program: str, cwd: str, error: OSError) -> SpawnFailed | UsageError:
    if not os.path.isdir(cwd):
        return UsageError(
            f"Cannot start {program}: its working directory {cwd} does not exist.",
            hint="Create the directory, or choose another with --cwd.",
        )
    if error.errno == errno.E2BIG:
        return UsageError(
            f"Cannot start {program}: its arguments and environment are larger than the system takes.",
            hint="Put what is large into a file, or send it to the command's stdin.",
        )
    if error.errno == errno.ENOENT and "/" in program and os.path.exists(os.path.join(cwd, program)):
        return _spawn_failed(program, "the interpreter that its first line names is missing", _NOT_FOUND)
    if error.errno == errno.ENOENT:
        return _spawn_failed(program, "command not found", _NOT_FOUND)
    return _spawn_failed(program, error.strerror or str(error), _NOT_EXECUTABLE)


def _spawn_failed(program: str, reason: str, exit_code: int) -> SpawnFailed:
    return SpawnFailed(f"Cannot start {program}: {reason}.", details={"exitCode": exit_code})
