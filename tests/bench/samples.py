"""Whole processes, timed from outside: wall clock by us, CPU and memory by the kernel's account of the finished one."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

TOO_WIDE = 1.35
"""A median that far above its minimum says that the machine was busy: measure more."""

MOST_BATCHES = 2


class Sample(NamedTuple):
    """One finished process. ``ended_at`` is Unix time."""

    wall_ms: float
    cpu_ms: float
    rss_mb: float
    ended_at: float


class Figure(NamedTuple):
    """What several runs say of one thing."""

    median: float
    minimum: float
    runs: int


def run(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: int | IO[bytes] = subprocess.DEVNULL
) -> Sample:
    """Run ``argv`` to its end; ``CalledProcessError`` unless it exits with 0."""
    started = time.perf_counter()
    process = subprocess.Popen(
        argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall_ms, ended_at = (time.perf_counter() - started) * 1000, time.time()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return Sample(wall_ms, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024, ended_at)


def interleave(contestants: Sequence[Callable[[], float]], runs: int) -> list[list[float]]:
    """Each contestant once to warm up, then all in turn, ``runs`` times; again while the machine is too noisy."""
    for contestant in contestants:
        contestant()
    series: list[list[float]] = [[] for _ in contestants]
    for _ in range(MOST_BATCHES):
        for _ in range(runs):
            for values, contestant in zip(series, contestants, strict=True):
                values.append(contestant())
        if all(statistics.median(values) <= TOO_WIDE * min(values) for values in series):
            break
    return series


def figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.median(values), min(values), len(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios run by run, which a machine that slows down meanwhile does not move."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
