"""One `.npz` a symbol and day, as `numpy.savez_compressed(file, data=events)` would write it, of any length."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from orderflow.export.events import EVENT
from orderflow.export.order import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderflow.export.events import Events, Spool

_CHUNK_ROWS: Final = 1 << 16
_PIECE: Final = 1 << 20
_LEVEL: Final = 3
"""Of deflate: 6 takes twice as long for a few percent."""


class DayFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was written, as the summary has it. `rows` counts split rows twice.

    Tick and lot size None: the recording does not say.
    """

    file: str
    category: str
    symbol: str
    date: str
    rows: int
    events: int
    first_local_ts: int
    last_local_ts: int
    tick_size: str | None = None
    lot_size: str | None = None


def write_days(spools: list[Spool], folder: Path, shift_ns: int) -> Iterator[DayFile]:
    """The files of one instrument, day after day; spools are removed.

    Args: shift_ns: added to every `local_ts`, so that nothing arrives before it happened.
    """
    floor_ns = 0
    for spool in spools:
        key = spool.instrument
        date = str(np.datetime64(spool.day, "D"))
        path = folder / key.category / f"{key.symbol}_{date.replace('-', '')}.npz"
        path.parent.mkdir(exist_ok=True)
        merged = spool.path.with_suffix(".merged")
        ends = _merge(spool, merged, shift_ns, floor_ns)
        spool.path.unlink()
        rows = merged.stat().st_size // EVENT.itemsize
        _pack(merged, path, rows)
        merged.unlink()
        floor_ns = ends.youngest_ns
        yield DayFile(
            file=str(path.relative_to(folder)),
            category=key.category.value,
            symbol=key.symbol,
            date=date,
            rows=rows,
            events=spool.rows,
            first_local_ts=ends.first_ns,
            last_local_ts=ends.last_ns,
        )


class _Ends(msgspec.Struct, kw_only=True):
    first_ns: int = 0
    last_ns: int = 0
    youngest_ns: int  # the highest `exch_ts`


def _merge(spool: Spool, merged: Path, shift_ns: int, floor_ns: int) -> _Ends:
    ends = _Ends(youngest_ns=floor_ns)
    with merged.open("wb") as file:
        for events in in_order(_chunks(spool, shift_ns, ends), floor_ns):
            if len(events):
                ends.youngest_ns = max(ends.youngest_ns, int(events["exch_ts"].max()))
                events.tofile(file)
    return ends


def _chunks(spool: Spool, shift_ns: int, ends: _Ends) -> Iterator[Events]:
    """The rows of a spool on one clock: all arrive later than they happened."""
    with spool.path.open("rb") as file:
        while len(chunk := np.fromfile(file, EVENT, _CHUNK_ROWS)):
            chunk["local_ts"] += shift_ns
            chunk["exch_ts"] = np.minimum(chunk["exch_ts"], chunk["local_ts"] - 1)
            ends.first_ns = ends.first_ns or int(chunk["local_ts"][0])
            ends.last_ns = int(chunk["local_ts"][-1])
            yield chunk


def _pack(rows_path: Path, path: Path, rows: int) -> None:
    header = io.BytesIO()
    descr: dict[str, Any] = {"descr": [(name, EVENT[name].str) for name in EVENT.names or ()]}
    np.lib.format.write_array_header_1_0(header, {**descr, "fortran_order": False, "shape": (rows,)})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
        archive.open("data.npy", "w", force_zip64=True) as out,
        rows_path.open("rb") as source,
    ):
        out.write(header.getvalue())
        while piece := source.read(_PIECE):
            out.write(piece)
