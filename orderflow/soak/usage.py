"""Memory, descriptors and tasks: before, after, and whether they grew."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GROWTH_BYTES: Final = 4 * 1024 * 1024
"""What the second half of a run may hold more than the first. The noise, measured in November 2026 over runs of two to
ten minutes on a busy machine, with faults and without: +0.2 to +1.7 MiB. So what leaks 20 KiB a second is found in ten
minutes, 1 KiB a second in three and a half hours."""


ENOUGH: Final = 60  # samples: fewer tell of a program's start and not of its days


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Of one process (Linux; elsewhere what cannot be told is 0)."""

    rss_bytes: int
    descriptors: int
    tasks: int  # of Trio; 0 for another process


def usage() -> Usage:
    """Of this process: monitors and exchange together."""
    return usage_of(os.getpid(), trio.lowlevel.current_statistics().tasks_living)


def usage_of(pid: int, tasks: int = 0) -> Usage:
    """0 for what cannot be told, as of a process that is gone."""
    try:
        folder = Path(f"/proc/{pid}")
        rss = int((folder / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        descriptors = len(os.listdir(folder / "fd"))
    except (OSError, IndexError):
        rss = descriptors = 0
    return Usage(rss_bytes=rss, descriptors=descriptors, tasks=tasks)


def kept_open(before: Usage, after: Usage) -> Iterator[str]:
    """Descriptors and tasks that were opened and never closed."""
    for name in ("descriptors", "tasks"):
        if getattr(after, name) > getattr(before, name):
            yield f"{name}: {getattr(before, name)} before, {getattr(after, name)} after"


def growth(samples: Sequence[int]) -> int:
    """Bytes by which the medians of the second and of the last quarter of these samples differ; 0 for too few."""
    if len(samples) < ENOUGH:
        return 0
    quarter = len(samples) // 4
    return round(median(samples[-quarter:]) - median(samples[quarter : 2 * quarter]))


def grown(samples: Sequence[int]) -> Iterator[str]:
    """The first quarter is left out: imports, caches and histograms find their size in it."""
    more = growth(samples)
    if more > GROWTH_BYTES:
        yield f"the second half of the run holds {more / 2**20:.1f} MiB more than the first"
