"""What a recording's tables hold: message by message, and against the replay."""

from __future__ import annotations

import itertools
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="needs the extra `export`")

from orderflow.core.text import plain_decimal
from orderflow.core.types import BookState, InstrumentId, Level
from orderflow.export.schemas import SCHEMAS
from orderflow.export.tables import TableReader, tick_row
from orderflow.hooks.host import PluginHost
from orderflow.record.reader import open_recording
from orderflow.record.records import BookImage, Checkpoint, Gap
from orderflow.replay.engine import Choice
from orderflow.replay.run import Sessions
from orderflow.replay.sinks import Silent
from tests.export.tapes import MS, SPOT, T0_MS, Tape, book, liquidation, spot_book, ticker, trade
from tests.record.tapes import BTC, M0, T0

if TYPE_CHECKING:
    from orderflow.core.types import MetricsTick

SNAPSHOT = book(10, [("100.10", "1.000"), ("100.0", "2")], [("100.20", "1"), ("100.3", "5.5")], "snapshot")


def rows_of(folder: Path, table: str, **window: Any) -> list[dict[str, Any]]:
    symbols = frozenset(window.pop("symbols", ()))
    reader = TableReader(open_recording(folder), [table], Choice(symbols=symbols), PluginHost, batch_rows=3, **window)
    found: list[dict[str, Any]] = []
    for name, batch in reader:
        assert name == table
        batch.validate(full=True)
        assert batch.schema.equals(SCHEMAS[table])
        found += batch.to_pylist()
    return found


def picked(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


# --- table by table -----------------------------------------------------------------------------------------------


def test_book(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT, book(11, [], [("100.20", "0")], cts=None)])
    tape.frames(6 * MS, [spot_book(3, [("7", "1")], [("8.5", "1")], "snapshot")], connection=2)
    rows = rows_of(tape.close(), "book")
    assert rows[0] == {
        "message": 0,
        "category": "linear",
        "symbol": "BTCUSDT",
        "depth": 50,
        "kind": "snapshot",
        "recv_ns": T0 + 5 * MS,
        "exchange_ms": T0_MS + 2,
        "engine_ms": T0_MS,
        "u": 10,
        "seq": 70,
        "side": "bid",
        "price": Decimal("100.1"),
        "size": Decimal(1),
        "price_text": "100.10",
        "size_text": "1.000",
    }
    assert picked(rows[4:], "message", "symbol", "kind", "engine_ms", "side", "price_text", "size_text") == [
        (1, "BTCUSDT", "delta", None, "ask", "100.20", "0"),
        (2, "ETHUSDT", "snapshot", T0_MS, "bid", "7", "1"),
        (2, "ETHUSDT", "snapshot", T0_MS, "ask", "8.5", "1"),
    ]


def test_trades_liquidations_tickers(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(
        5 * MS, [trade("100.10", "0.010"), liquidation("99.0", "2.50"), trade("99.9", "3", side="Sell", block=True)]
    )
    tape.frames(6 * MS, [ticker("snapshot", lastPrice="100.10", openInterest="60553.172", fundingRate="-0.0001")])
    folder = tape.close()
    assert rows_of(folder, "trades") == [
        {
            "message": 0,
            "category": "linear",
            "symbol": "BTCUSDT",
            "recv_ns": T0 + 5 * MS,
            "exchange_ms": T0_MS + 1,
            "match_ms": T0_MS,
            "trade_id": "a-1",
            "side": "Buy",
            "price": Decimal("100.1"),
            "size": Decimal("0.01"),
            "price_text": "100.10",
            "size_text": "0.010",
            "tick_direction": "PlusTick",
            "block": False,
            "rpi": False,
            "seq": 9,
        },
        {**rows_of(folder, "trades")[1], "message": 2, "side": "Sell", "block": True, "price_text": "99.9"},
    ]
    (row,) = rows_of(folder, "liquidations")
    assert picked([row], "message", "exchange_ms", "match_ms", "side", "price_text", "size") == [
        (1, T0_MS + 3, T0_MS, "Sell", "99.0", Decimal("2.5"))
    ]
    (row,) = rows_of(folder, "tickers")
    assert picked([row], "message", "kind", "cross_seq", "last", "bid", "open_interest", "funding_rate") == [
        (3, "snapshot", 77, Decimal("100.1"), None, Decimal("60553.172"), Decimal("-0.0001"))
    ]
    assert json.loads(row["data"])["lastPrice"] == "100.10"


def test_a_recording_without_receive_times_has_none(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape", timed=False)
    tape.frames(5 * MS, [SNAPSHOT, trade("1", "1"), liquidation("1", "1"), ticker(lastPrice="1")])
    folder = tape.close()
    for table in ("book", "trades", "liquidations", "tickers"):
        assert {row["recv_ns"] for row in rows_of(folder, table)} == {None}
    (image, *_) = rows_of(folder, "book", from_ns=T0 + 5 * MS)
    assert image["kind"] == "snapshot"


def test_refused_messages_are_counted(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT, b"{", book(11, [("nan", "1")], []), b'{"op":"pong"}'])
    reader = TableReader(open_recording(tape.close()), ["book"], Choice(), PluginHost)
    assert sum(batch.num_rows for _, batch in reader) == 4
    assert (reader.walk.messages, reader.walk.refused) == (4, 2)


class Kept(Silent):
    def __init__(self) -> None:
        self.ticks: list[MetricsTick] = []
        self.books: list[tuple[int, dict[str, list[Level]]]] = []  # after how many messages
        self.sessions: Sessions | None = None

    def tick(self, tick: MetricsTick) -> None:
        self.ticks.append(tick)
        assert self.sessions is not None
        assert self.sessions.session is not None
        levels = self.sessions.session.engine.books[tick.instrument].levels
        if tick.live:
            book = {"bid": levels.top_bids(99), "ask": levels.top_asks(99)}
            self.books.append((self.sessions.messages, book))


def replayed(folder: Path) -> Kept:
    """A replay's ticks, and the whole book at each that is live."""
    kept = Kept()
    kept.sessions = Sessions(Choice(), PluginHost, kept)
    for item in open_recording(folder).items():
        kept.sessions.take(item)
    kept.sessions.finish()
    return kept


def test_ticks_are_those_of_the_replay(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape", [BTC])
    tape.fact()
    tape.frames(5 * MS, [SNAPSHOT])
    tape.tick(1000 * MS)
    tape.frames(1005 * MS, [book(11, [("100.1", "7")], [])])
    tape.tick(2000 * MS)
    folder = tape.close()
    rows = rows_of(folder, "ticks")
    ticks = replayed(folder).ticks
    assert [tuple(row.values()) for row in rows] == [tick_row(tick) for tick in ticks]
    assert picked(rows, "ts", "bid_size", "base_coin", "updates", "quality_coverage_pct")[1][:4] == (
        T0_MS + 2000,
        7.0,
        "BTC",
        2,
    )
    assert [row["ts"] for row in rows_of(folder, "ticks", from_ns=T0 + 1500 * MS)] == [T0_MS + 2000]
    assert [row["ts"] for row in rows_of(folder, "ticks", to_ns=T0 + 1500 * MS)] == [T0_MS + 1000]


def test_every_number_of_a_tick_has_its_column(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape", [BTC])
    tape.frames(5 * MS, [SNAPSHOT])
    tape.tick(1000 * MS)
    (tick,) = replayed(tape.close()).ticks
    row = dict(zip(SCHEMAS["ticks"].names, tick_row(tick), strict=True))
    flat = {**msgspec.structs.asdict(tick), **msgspec.structs.asdict(tick.counters)}
    for name in ("counters", "hops", "quality"):
        del flat[name]
    assert {name: row[name] for name in flat} == flat
    assert row["quality_coverage_pct"] == tick.quality.coverage_pct
    assert row["gateway_to_socket_p50"] == tick.hops.gateway_to_socket.p50


# --- holes and windows --------------------------------------------------------------------------------------------


def test_a_window_begins_with_the_books_as_they_stand(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT, trade("1", "1")])
    tape.frames(6 * MS, [book(11, [("100.10", "0")], [("100.20", "9.50")])])
    tape.frames(8 * MS, [book(12, [("99", "1")], []), trade("2", "1")])
    tape.frames(9 * MS, [book(13, [("98", "1")], [])])
    folder = tape.close()
    rows = rows_of(folder, "book", from_ns=T0 + 7 * MS, to_ns=T0 + 8 * MS)
    assert picked(rows, "message", "kind", "recv_ns", "u", "side", "price_text", "size_text") == [
        (3, "checkpoint", T0 + 7 * MS, 11, "bid", "100", "2"),
        (3, "checkpoint", T0 + 7 * MS, 11, "ask", "100.2", "9.5"),
        (3, "checkpoint", T0 + 7 * MS, 11, "ask", "100.3", "5.5"),
        (3, "delta", T0 + 8 * MS, 12, "bid", "99", "1"),
    ]
    assert picked(rows_of(folder, "trades", from_ns=T0 + 7 * MS), "message", "price_text") == [(4, "2")]


def checkpoint(tape: Tape, at: int, bids: list[Level], u: int, instrument: InstrumentId = BTC) -> Checkpoint:
    image = BookImage(
        instrument=instrument,
        state=BookState.LIVE,
        reason="",
        u=u,
        seq=1,
        last_mono_ns=M0,
        bids=bids,
        asks=[(100.5, 1.0)],
    )
    return Checkpoint(applied=tape.encoder.items, recv_ns=T0 + at, mono_ns=M0 + at, books=[image])


def gapped(tmp_path: Path) -> Path:
    """A gap of the recorder between u 11 and u 20, with the checkpoint that the recorder writes behind it."""
    tape = Tape(tmp_path / "tape")
    tape.encoder.note(checkpoint(tape, 1 * MS, [(1.0, 1.0)], 1))  # of a later file: nobody needs it
    tape.frames(5 * MS, [SNAPSHOT])
    tape.frames(6 * MS, [book(11, [("100.10", "3")], [])])
    tape.tick(10 * MS)
    gap = Gap(reason="behind", from_ns=T0 + 11 * MS, to_ns=T0 + 90 * MS, frames=9, bytes=900, items=9, detail="slow")
    tape.encoder.note(gap)
    tape.encoder.items += 9
    tape.encoder.note(checkpoint(tape, 90 * MS, [(100.25, 0.5)], 20))
    tape.frames(95 * MS, [book(21, [("100.25", "0"), ("100.0", "1")], [])])
    tape.tick(100 * MS)
    return tape.close()


def test_behind_a_hole_stands_the_recorders_checkpoint(tmp_path: Path) -> None:
    folder = gapped(tmp_path)
    rows = rows_of(folder, "book", symbols=["BTCUSDT"])
    assert picked(rows, "kind", "u", "price_text")[2:] == [
        ("snapshot", 10, "100.10"),
        ("snapshot", 10, "100.0"),
        ("snapshot", 10, "100.20"),
        ("snapshot", 10, "100.3"),
        ("delta", 11, "100.10"),
        ("checkpoint", 20, "100.25"),
        ("checkpoint", 20, "100.5"),
        ("delta", 21, "100.25"),
        ("delta", 21, "100.0"),
    ]
    assert rebuilt(rows)[-1][1] == replayed(folder).books[-1][1]
    gaps = rows_of(folder, "gaps")
    assert picked(gaps, "from_ms", "to_ms", "symbol", "scope", "reason", "frames", "bytes", "file") == [
        (T0_MS + 11, T0_MS + 90, symbol, "recording", "behind", 9, 900, None) for symbol in ("BTCUSDT", "ETHUSDT")
    ]


def test_damage_is_a_gap_up_to_what_comes_next(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape", [BTC])
    tape.frames(5 * MS, [SNAPSHOT])
    tape.block()
    tape.frames(6 * MS, [book(11, [("100", "1")], [])])
    tape.block()
    tape.frames(8 * MS, [book(12, [("99", "1")], [])])
    folder = tape.close()
    (path,) = folder.glob("*.ofr")
    content = bytearray(path.read_bytes())
    second = [at for at in range(len(content)) if content[at : at + 4] == b"OFRB"][1]
    content[second + 70] ^= 255
    path.write_bytes(content)
    (gap,) = rows_of(folder, "gaps")
    assert picked([gap], "from_ms", "to_ms", "scope", "reason", "file", "offset") == [
        (T0_MS + 5, T0_MS + 8, "recording", "block", path.name, second)
    ]
    path.write_bytes(content[: second + 60])
    (gap,) = rows_of(folder, "gaps")
    assert picked([gap], "from_ms", "to_ms", "reason", "offset") == [(T0_MS + 5, None, "torn", second)]


def test_a_book_that_was_not_live_is_a_gap(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape", [BTC])
    tape.frames(5 * MS, [SNAPSHOT])
    tape.frames(20 * MS, [book(13, [("100", "1")], [])])  # 11 and 12 are missing
    tape.frames(50 * MS, [book(20, [("100", "1")], [("101", "1")], "snapshot")])
    tape.frames(70 * MS, [book(31, [("100", "1")], [])])
    tape.tick(100 * MS)
    rows = rows_of(tape.close(), "gaps")
    assert picked(rows, "from_ms", "to_ms", "scope", "reason", "frames") == [
        (T0_MS + 20, T0_MS + 50, "book", "gap", None),
        (T0_MS + 70, None, "book", "gap", None),
    ]
    assert "2 missed" in rows[0]["detail"]


# --- round trips --------------------------------------------------------------------------------------------------


def rebuilt(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, list[Level]]]]:
    """(message, the book after it), by the rule of docs/exporting.md."""
    sides: dict[str, dict[Decimal, Decimal]] = {"bid": {}, "ask": {}}
    last: int | None = None
    books = []
    for (number, kind, u), message in itertools.groupby(rows, lambda row: (row["message"], row["kind"], row["u"])):
        if kind != "delta":
            sides = {"bid": {}, "ask": {}}
        elif last is None or u != last + 1:
            continue
        last = u
        for row in message:
            if row["side"] is not None:
                sides[row["side"]][row["price"]] = row["size"]
        book = {
            side: sorted(((float(p), float(s)) for p, s in levels.items() if s), reverse=side == "bid")
            for side, levels in sides.items()
        }
        books.append((number, book))
    return books


PRICE = st.integers(1, 40).map(lambda number: number * 5)
PAD = st.integers(0, 3)
SIZE = st.sampled_from(["0", "0.000", "1", "2.50", "17.001", "100000000.00000001"])


def _price(number: int, pad: int) -> str:
    return f"{number / 10:.1f}" + "0" * pad


LEVELS = st.dictionaries(PRICE, st.tuples(PAD, SIZE), max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("delta"), LEVELS, LEVELS, st.sampled_from([1, 1, 1, 1, 0, 2])),
        st.tuples(st.just("snapshot"), LEVELS, LEVELS, st.integers(1, 3)),
        st.tuples(st.just("trade"), PRICE, PAD, SIZE.filter(lambda text: float(text) > 0)),
        st.tuples(st.just("tick")),
    ),
    max_size=30,
)


def _sides(bids: dict[int, tuple[int, str]], asks: dict[int, tuple[int, str]], deletes: bool) -> Any:
    """Text levels; asks lie above all bids, so that no book is crossed."""
    kept = [(_price(p, pad), size) for p, (pad, size) in bids.items() if deletes or float(size)]
    above = [(_price(p + 300, pad), size) for p, (pad, size) in asks.items() if deletes or float(size)]
    return kept, above


def write_steps(folder: Path, steps: list[Any]) -> list[bytes]:
    """Returns: every message."""
    tape = Tape(folder, [BTC])
    u, sent = 10, []
    for number, (kind, *step) in enumerate(steps, 1):
        at = number * MS
        if kind == "tick":
            tape.tick(at)
            continue
        if kind == "trade":
            message = trade(_price(step[0], step[1]), step[2])
        else:
            u += step[2]
            message = book(u, *_sides(step[0], step[1], kind == "delta"), kind)
        sent.append(message)
        tape.frames(at, [message])
        if number % 7 == 0:
            tape.block()
    tape.tick((len(steps) + 1) * MS)
    tape.close()
    return sent


def expected_rows(sent: list[bytes]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    books: list[tuple[Any, ...]] = []
    trades: list[tuple[Any, ...]] = []
    for number, raw in enumerate(sent):
        message = json.loads(raw)
        data = message["data"]
        if isinstance(data, list):
            trades += [(number, row["T"], row["S"], row["p"], row["v"], Decimal(row["p"])) for row in data]
            continue
        head = (number, message["type"], data["u"])
        levels = [(*head, side, *level, Decimal(level[0])) for side in ("b", "a") for level in data[side]]
        books += levels or [(*head, None, None, None, None)]
    return books, trades


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_what_was_recorded_is_what_parquet_gives_back(steps: list[Any]) -> None:
    import pyarrow.parquet as pq

    from orderflow.export.parquet import ParquetWriter

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sent = write_steps(place / "tape", steps)
        reader = TableReader(open_recording(place / "tape"), ["book", "trades"], Choice(), PluginHost, batch_rows=4)
        with ParquetWriter(place / "out") as writer:
            for table, batch in reader:
                writer.add(table, batch)
        read = {table: pq.read_table(place / "out" / table).to_pylist() for table in writer.rows}
        books, trades = expected_rows(sent)
        names = {"bid": "b", "ask": "a", None: None}
        told = picked(read.get("book", []), "message", "kind", "u", "side", "price_text", "size_text", "price")
        assert [(*row[:3], row[3] and names[row[3]][0], *row[4:]) for row in told] == [
            (*row[:3], row[3], *row[4:]) for row in books
        ]
        assert (
            picked(read.get("trades", []), "message", "match_ms", "side", "price_text", "size_text", "price") == trades
        )
        after = rebuilt(read.get("book", []))
        for messages, live in replayed(place / "tape").books:
            assert [found for number, found in after if number < messages][-1] == live


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_checkpoints_text_reads_back_as_its_float(value: float) -> None:
    assert float(plain_decimal(value)) == value


def test_symbols_are_chosen_by_name_and_by_category(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape")
    tape.frames(5 * MS, [SNAPSHOT])
    tape.frames(6 * MS, [spot_book(3, [("7", "1")], [], "snapshot")], connection=2)
    folder = tape.close()
    assert {row["symbol"] for row in rows_of(folder, "book", symbols=["BTCUSDT"])} == {"BTCUSDT"}
    assert {row["symbol"] for row in rows_of(folder, "book", symbols=[str(SPOT)])} == {"ETHUSDT"}
    assert rows_of(folder, "book", symbols=["spot:BTCUSDT"]) == []
