"""What recording takes: the disk use of a day, from what the folder holds already or else from the books."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from orderflow.core.errors import OrderflowError
from orderflow.core.text import escape_text
from orderflow.doctor.findings import Check, passed, warned
from orderflow.record.folder import FolderLock, read_manifest
from orderflow.record.news import DAY_S, size_text

if TYPE_CHECKING:
    from orderflow.config.tree import Settings

MOST_A_SECOND: Final = {1: 100, 50: 50, 200: 10, 1000: 5}
"""Messages of one book: the exchange sends no more of each depth."""
BYTES_EACH: Final = {1: 60, 50: 130, 200: 260, 1000: 490}
"""Of one message in a recording of a single busy book, compressed half a second at a time: more books take less."""
LITTLE_DAYS: Final = 2.0
LONG_ENOUGH_S: Final = 60.0


async def check_recording(settings: Settings) -> list[Check]:
    """Whether the folder can be recorded into, and how long its disk lasts."""
    folder = settings.record.folder
    if not folder:
        most = size_text(estimate_a_day(settings))
        return [passed("recording", f"off; --record DIR would take at most about {most} a day for these books")]
    path = Path(folder)
    shown = escape_text(folder, 300)
    try:
        free = await trio.to_thread.run_sync(_try_folder, path)
    except (OrderflowError, OSError) as error:
        return [
            warned("recording", escape_text(str(error), 400), "choose another record.folder, or end who writes there")
        ]
    measured = measure_a_day(path)
    a_day = measured or estimate_a_day(settings)
    how = "as before" if measured else "at most about"
    days = free / a_day if a_day else 0.0
    text = f"into {shown}: {how} {size_text(a_day)} a day, {size_text(free)} free, room for {days:.1f} days"
    if days < LITTLE_DAYS or free < settings.record.keep_free_mb * 1e6:
        return [warned("recording", text, "make room, or choose another record.folder")]
    return [passed("recording", text)]


def _try_folder(path: Path) -> int:
    """Bytes free where the folder is, or will be. Raises: ConfigError when somebody else records there, OSError."""
    if path.exists():
        FolderLock(path).release()
    whole = path.absolute()
    return shutil.disk_usage(next(folder for folder in (whole, *whole.parents) if folder.exists())).free


def estimate_a_day(settings: Settings) -> float:
    """Bytes a day if every book is as busy as the exchange lets it be."""
    return DAY_S * len(settings.instruments) * MOST_A_SECOND[settings.depth] * BYTES_EACH[settings.depth]


def measure_a_day(folder: Path) -> float:
    """Bytes a day as the finished files of a folder have it; 0 when they tell of less than a minute."""
    lines = [line for line in read_manifest(folder).values() if line.last_ns > line.first_ns]
    seconds = sum(line.last_ns - line.first_ns for line in lines) / 1e9
    return sum(line.bytes for line in lines) / seconds * DAY_S if seconds >= LONG_ENOUGH_S else 0.0
