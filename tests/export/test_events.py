"""hftbacktest's rows: what a recording becomes, and the files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

np = pytest.importorskip("numpy", reason="needs the extra `export`")

from orderflow.core.types import ClockOffset, Level  # noqa: E402 - behind the question whether numpy is there
from orderflow.export import events  # noqa: E402
from orderflow.export.events import (  # noqa: E402
    BUY,
    CLEAR,
    DEPTH,
    EVENT,
    EXCH,
    LOCAL,
    SELL,
    SNAPSHOT,
    TRADE,
    EventSpooler,
)
from orderflow.export.npz import DayFile, write_days  # noqa: E402
from orderflow.export.walk import Walk  # noqa: E402
from orderflow.record.reader import open_recording  # noqa: E402
from orderflow.record.records import Control, encode_event  # noqa: E402
from orderflow.replay.engine import Choice  # noqa: E402
from tests.export.tapes import MS, T0_MS, Tape, book, trade  # noqa: E402
from tests.export.test_tables import STEPS, gapped, replayed, write_steps  # noqa: E402
from tests.record.tapes import T0  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable

SNAPSHOT_10 = book(10, [("100.1", "1"), ("100.0", "2")], [("100.2", "3")], "snapshot")
DAY = 86_400_000 * MS


def export(folder: Path, out: Path, from_ns: int | None = None, shift_ns: int = 0, **more: Any) -> list[DayFile]:
    out.mkdir()
    spooler = EventSpooler(out, **more)
    walk = Walk(spooler, Choice(), from_ns)
    for item in open_recording(folder).items():
        walk.take(item)
    walk.finish()
    return [day for spools in spooler.finish() for day in write_days(spools, out, shift_ns)]


def rows_of(folder: Path, tmp_path: Path, **more: Any) -> Any:
    (day,) = export(folder, tmp_path / "out", **more)
    return np.load(tmp_path / "out" / day.file)["data"]


def told(rows: Any) -> list[tuple[int, float, float]]:
    return [(int(row["ev"]) & ~(EXCH | LOCAL), float(row["px"]), float(row["qty"])) for row in rows]


def books(rows: Any, times: Iterable[int]) -> list[dict[str, list[Level]]]:
    """The book at each local time, as hftbacktest's local processor makes it."""
    sides: dict[int, dict[float, float]] = {BUY: {}, SELL: {}}
    found, at = [], 0
    local = rows[(rows["ev"] & LOCAL) != 0]
    for time in times:
        while at < len(local) and local[at]["local_ts"] <= time:
            ev, price, size = int(local[at]["ev"]), float(local[at]["px"]), float(local[at]["qty"])
            kind, side = ev & 0xFF, ev & (BUY | SELL)
            if kind == CLEAR:
                assert side == 0
                sides = {BUY: {}, SELL: {}}
            elif kind != TRADE:
                sides[side][price] = size
            at += 1
        bids, asks = ([(p, s) for p, s in sides[side].items() if s] for side in (BUY, SELL))
        found.append({"bid": sorted(bids, reverse=True), "ask": sorted(asks)})
    return found


def test_rows_of_a_snapshot_a_delta_and_trades(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT_10])
    delta = book(11, [("100.2", "4"), ("100.1", "0")], [("100.3", "5"), ("100.2", "0")], cts=T0_MS + 4)
    tape.frames(9 * MS, [delta, trade("100.2", "3", match=T0_MS + 3), trade("9", "9", block=True)])
    tape.frames(11 * MS, [trade("100.1", "1", side="Sell", match=T0_MS + 7)])
    rows = rows_of(tape.close(), tmp_path)
    assert told(rows) == [
        (CLEAR, 0, 0),
        (SNAPSHOT | BUY, 100.1, 1),
        (SNAPSHOT | BUY, 100.0, 2),
        (SNAPSHOT | SELL, 100.2, 3),
        (TRADE | BUY, 100.2, 3),  # where it happened
        (DEPTH | BUY, 100.1, 0),  # deletes first
        (DEPTH | SELL, 100.2, 0),
        (DEPTH | BUY, 100.2, 4),
        (DEPTH | SELL, 100.3, 5),
        (TRADE | BUY, 100.2, 3),  # where we heard of it
        (TRADE | SELL, 100.1, 1),
    ]
    flags = [int(row["ev"]) & (EXCH | LOCAL) for row in rows]
    assert flags == [EXCH | LOCAL] * 4 + [EXCH] + [EXCH | LOCAL] * 4 + [LOCAL] + [EXCH | LOCAL]
    assert [int(ts) // MS - T0_MS for ts in rows["exch_ts"]] == [0] * 4 + [3] + [4] * 4 + [3, 7]
    assert [int(ts) // MS - T0_MS for ts in rows["local_ts"]] == [5] * 4 + [9] * 6 + [11]


def test_only_what_our_own_book_takes(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(1 * MS, [book(9, [("1", "1")], [])])  # before the snapshot
    tape.frames(2 * MS, [SNAPSHOT_10, book(10, [("1", "1")], [])])  # a duplicate
    tape.frames(3 * MS, [book(13, [("2", "1")], []), book(14, [("2", "1")], [])])  # behind a gap
    tape.frames(4 * MS, [book(20, [("3", "1")], [], "snapshot"), book(21, [("4", "1")], [])])
    tape.frames(5 * MS, [book(7, [("5", "1")], [], "snapshot", depth=1)])  # recorded beside
    tape.close()
    spooler = EventSpooler(tmp_path)
    walk = Walk(spooler, Choice())
    for item in open_recording(tape.folder).items():
        walk.take(item)
    ((spool,),) = spooler.finish()
    rows = np.fromfile(spool.path, EVENT)
    assert [price for _, price, _ in told(rows)] == [0, 100.1, 100.0, 100.2, 0, 3, 4]
    assert spooler.left_out == 4


def test_the_receive_time_is_on_the_exchanges_clock_and_never_back(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT_10])
    tape.encoder.items += 1
    offset = ClockOffset(offset_ms=2.0, error_ms=0.1, mono_ns=0)
    tape.encoder.note(Control(events=[encode_event(offset)]))
    tape.frames(6 * MS, [book(11, [("1", "1")], [])])
    tape.frames(9 * MS, [book(12, [("1", "2")], [])])
    rows = rows_of(tape.close(), tmp_path)
    assert [int(ts) - T0 for ts in rows["local_ts"]] == [5 * MS] * 5 + [7 * MS]


def test_nothing_arrives_before_it_happened(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT_10])
    tape.frames(6 * MS, [book(11, [("1", "1")], [], cts=T0_MS + 900)])  # our clock is behind
    tape.frames(7 * MS, [trade("1", "1", match=T0_MS + 120_000)])  # a wrong date
    folder = tape.close()
    spooler = EventSpooler(tmp_path)
    walk = Walk(spooler, Choice())
    for item in open_recording(folder).items():
        walk.take(item)
    assert spooler.least_ns == (6 - 900) * MS
    (days,) = spooler.finish()
    (day,) = write_days(days, tmp_path, 894 * MS + 1)
    rows = np.load(tmp_path / day.file)["data"]
    assert (rows["local_ts"] - rows["exch_ts"]).min() == 1
    assert [int(ts) // MS - T0_MS for ts in rows["exch_ts"]] == [0] * 4 + [900, 901]
    assert day.first_local_ts == T0 + 899 * MS + 1


def test_recordings_without_receive_times_get_a_latency(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape", timed=False)
    tape.frames(0, [SNAPSHOT_10])
    rows = rows_of(tape.close(), tmp_path, latency_ns=20 * MS)
    assert {int(ts) - T0 for ts in rows["local_ts"]} == {20 * MS}


def test_each_day_begins_with_the_book(tmp_path: Path) -> None:
    midnight = (T0 // DAY + 1) * DAY
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT_10])
    tape.frames(6 * MS, [trade("100.1", "1", match=midnight // MS - 5)])
    tape.frames(midnight - T0 + 1 * MS, [book(11, [("100.1", "0")], [], cts=midnight // MS - 6)])
    tape.frames(midnight - T0 + 9 * MS, [book(12, [("99", "1")], [], cts=midnight // MS + 3)])
    first, second = export(tape.close(), tmp_path / "out")
    assert (first.file, second.file) == ("linear/BTCUSDT_20260921.npz", "linear/BTCUSDT_20260922.npz")
    rows = np.load(tmp_path / "out" / second.file)["data"]
    assert told(rows)[:5] == [
        (CLEAR, 0, 0),
        (SNAPSHOT | BUY, 100.1, 1),
        (SNAPSHOT | BUY, 100.0, 2),
        (SNAPSHOT | SELL, 100.2, 3),
        (DEPTH | BUY, 100.1, 0),
    ]
    last = np.load(tmp_path / "out" / first.file)["data"]["exch_ts"].max()
    assert (rows["exch_ts"] >= last).all()  # days follow one another on both clocks
    assert second.events == len(rows) == 6


def test_behind_a_hole_stands_the_recorders_checkpoint(tmp_path: Path) -> None:
    folder = gapped(tmp_path)
    times = [T0 + 50 * MS, T0 + 92 * MS, T0 + 99 * MS]
    before, _, after = books(rows_of(folder, tmp_path), times)
    assert before == {"bid": [(100.1, 3.0), (100.0, 2.0)], "ask": [(100.2, 1.0), (100.3, 5.5)]}
    assert after == replayed(folder).books[-1][1]


def test_a_window_begins_with_the_book(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT_10])
    tape.frames(9 * MS, [book(11, [("100.1", "0")], [])])
    rows = rows_of(tape.close(), tmp_path, from_ns=T0 + 7 * MS)
    assert told(rows)[:2] == [(CLEAR, 0, 0), (SNAPSHOT | BUY, 100.1, 1)]
    assert int(rows["local_ts"][0]) == T0 + 7 * MS
    assert len(rows) == 5


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_the_book_of_the_rows_is_the_replays(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_steps(place / "tape", steps)
        kept = replayed(place / "tape")
        live = [(tick, book) for tick, (_, book) in zip((t for t in kept.ticks if t.live), kept.books, strict=True)]
        if not live:
            return
        rows = rows_of(place / "tape", place)
        assert books(rows, [tick.ts * MS for tick, _ in live]) == [book for _, book in live]
        for flag, field in ((EXCH, "exch_ts"), (LOCAL, "local_ts")):
            assert (np.diff(rows[field][(rows["ev"] & flag) != 0]) >= 0).all()


def test_memory_is_bounded_by_what_may_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_ROWS", 10)
    tape = Tape(tmp_path / "tape")
    tape.frames(1 * MS, [SNAPSHOT_10])
    tape.frames(2 * MS, [book(u, [("99", str(u))], []) for u in range(11, 200)])
    assert [qty for _, price, qty in told(rows_of(tape.close(), tmp_path)) if price == 99] == list(range(11, 200))


def test_the_file_is_what_numpy_would_have_written(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT_10])
    (day,) = export(tape.close(), tmp_path / "out")
    path = tmp_path / "out" / day.file
    plain = io.BytesIO()
    np.save(plain, np.load(path)["data"])
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["data.npy"]
        assert archive.read("data.npy") == plain.getvalue()
    assert sorted(found.name for found in (tmp_path / "out").rglob("*")) == ["BTCUSDT_20260921.npz", "linear"]
