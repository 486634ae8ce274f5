"""Foreign files into recordings that replay, and nothing left behind when that fails."""

from __future__ import annotations

import errno
import itertools
import json
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderflow.core.errors import ConfigError, RecordingError
from orderflow.core.types import BookState, Category, InstrumentId
from orderflow.foreign import convert
from orderflow.foreign.convert import Import, Imported
from orderflow.hooks.host import PluginHost
from orderflow.record.folder import read_manifest
from orderflow.record.reader import Damage, open_recording
from orderflow.record.records import Frames, Opened, Session
from orderflow.record.writer import RecordingWriter
from orderflow.replay.engine import Choice
from orderflow.replay.run import run_replay
from orderflow.replay.sinks import Silent
from tests.foreign.made import ACK, T0_MS, book, books, contract_trades, lines, recorded

if TYPE_CHECKING:
    from pathlib import Path

    from orderflow.core.types import FeedChange, MetricsTick, Summary

ABC = InstrumentId(Category.LINEAR, "ABCUSDT")


def bring(out: Path, *paths: Path, **options: Any) -> Imported:
    job = Import(paths, **options)
    return job.write(job.look(), out)


def messages(out: Path) -> list[bytes]:
    return [message.raw for message in open_recording(out).messages()]


def session_of(out: Path) -> Session:
    return next(record for record in open_recording(out).records() if isinstance(record, Session))


class Kept(Silent):
    def __init__(self) -> None:
        self.ticks: list[MetricsTick] = []
        self.changes: list[FeedChange] = []
        self.last: Summary | None = None

    def tick(self, tick: MetricsTick) -> None:
        self.ticks.append(tick)

    def feed(self, change: FeedChange, ts: int) -> None:
        self.changes.append(change)

    def summary(self, summary: Summary, ts: int) -> None:
        self.last = summary


def replayed(out: Path) -> tuple[Kept, Summary]:
    kept = Kept()
    run_replay(open_recording(out), Choice(), PluginHost, kept, stop=threading.Event())
    assert kept.last is not None
    return kept, kept.last


# --- what comes out -------------------------------------------------------------------------------------------------


def test_an_archive_with_a_restart_and_a_closing_snapshot(tmp_path: Path) -> None:
    content = [*books(100, 30), book(1, 3000, "snapshot"), *[book(u, 3000 + 100 * u) for u in range(2, 20)]]
    content.append(book(21, 5000, "snapshot"))
    path = lines(tmp_path / "2026-09-21_ABCUSDT_ob200.data.zip", content, b"\r\n")
    done = bring(tmp_path / "tape", path)
    assert messages(tmp_path / "tape") == content
    _, summary = replayed(tmp_path / "tape")
    (tick,) = summary.books
    assert (tick.instrument, tick.state, tick.u) == (ABC, BookState.LIVE, 21)
    counters = tick.counters
    assert (counters.updates, counters.snapshots, counters.restarts) == (50, 3, 1)
    assert (counters.gaps, counters.duplicates, counters.early_deltas, counters.reconnects) == (0, 0, 0, 0)
    assert done.topics == {"orderbook": 50}


def test_the_recording_says_what_it_is(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", [ACK, *books(100, 30)])
    done = bring(tmp_path / "tape", path)
    session = session_of(tmp_path / "tape")
    assert (session.source, session.timed, session.clock, session.env) == (
        "import: x.jsonl",
        False,
        "exchange",
        "import",
    )
    assert (session.instruments, session.depth, session.started_ns) == ([ABC], 200, T0_MS * 1_000_000)
    assert done.inferred == ["linear:ABCUSDT"]
    kept, summary = replayed(tmp_path / "tape")
    assert [tick.latency_ms for tick in kept.ticks] == [None, None]
    assert summary.hops.gateway_to_socket.count == 0
    assert summary.hops.engine_to_gateway.count == 30  # of the exchange's own two times
    assert (kept.ticks[0].price_decimals, kept.ticks[0].size_decimals, kept.ticks[0].base_coin) == (2, 0, "ABC")
    (line,) = read_manifest(tmp_path / "tape").values()
    assert (line.end, line.frames) == ("stopped", 31)


def test_receive_times_are_kept_and_give_latencies(tmp_path: Path) -> None:
    stamped = [(f"{(T0_MS + 100 * n + 7) / 1000:.3f}0005", raw) for n, raw in enumerate(books(100, 30))]
    path = lines(tmp_path / "x.jsonl.gz", recorded(stamped))
    bring(tmp_path / "tape", path)
    assert session_of(tmp_path / "tape").clock == "receive"
    found = list(open_recording(tmp_path / "tape").messages())
    assert found[0].recv_ns == T0_MS * 1_000_000 + 7_000_500
    assert {message.link for message in found} == {"linear 1"}
    kept, _ = replayed(tmp_path / "tape")
    assert kept.ticks[0].latency_ms == pytest.approx(7.0, abs=0.1)
    bring(tmp_path / "other", path, clock="exchange")
    assert session_of(tmp_path / "other").clock == "exchange"
    assert replayed(tmp_path / "other")[0].ticks[0].latency_ms is None


def test_books_from_one_and_trades_from_another(tmp_path: Path) -> None:
    one = lines(tmp_path / "2026-09-21_ABCUSDT_ob200.data.zip", books(100, 30))
    rows = [f"{(T0_MS + ms) / 1000},Buy,1,1.25" for ms in (-50, 100, 150, 2950, 4000)]
    other = lines(tmp_path / "ABCUSDT2026-09-21.csv.gz", contract_trades(rows))
    done = bring(tmp_path / "tape", one, other)
    found = [
        (json.loads(raw)["topic"].partition(".")[0], json.loads(raw)["ts"] - T0_MS)
        for raw in messages(tmp_path / "tape")
    ]
    assert [ms for _, ms in found] == sorted(ms for _, ms in found)
    assert [ms for kind, ms in found if kind == "publicTrade"] == [-50, 100, 150, 2950, 4000]
    assert found[2:4] == [("orderbook", 100), ("publicTrade", 100)]  # of one moment, the file named first
    assert done.topics == {"orderbook": 30, "publicTrade": 5}
    assert replayed(tmp_path / "tape")[1].books[0].counters.updates == 30
    (opened,) = [record for record in open_recording(tmp_path / "tape").records() if isinstance(record, Opened)]
    assert opened.books == [("ABCUSDT", 200)]


def test_days_follow_each_other_without_a_break(tmp_path: Path) -> None:
    days = [books(100, 100), [*books(200, 100, 10_000), book(300, 20_050, "snapshot")], books(300, 50, 20_000)]
    paths = [lines(tmp_path / f"day-{n}.data", content) for n, content in enumerate(days)]
    bring(tmp_path / "tape", *reversed(paths))
    kept, summary = replayed(tmp_path / "tape")
    counters = summary.books[0].counters
    assert (counters.gaps, counters.reconnects, summary.books[0].u) == (0, 0, 349)
    assert all(tick.live for tick in kept.ticks)


def test_the_deepest_book_of_any_time_is_replayed(tmp_path: Path) -> None:
    mixed = [raw for pair in zip(books(100, 700), books(900, 700, depth=50), strict=True) for raw in pair]
    done = bring(tmp_path / "a", lines(tmp_path / "a.jsonl", mixed))
    assert done.passed_over == ["linear orderbook.50.ABCUSDT"]
    assert messages(tmp_path / "a") == mixed
    counters = replayed(tmp_path / "a")[1].books[0].counters
    assert (counters.updates, counters.gaps, counters.duplicates) == (700, 0, 0)
    one = lines(tmp_path / "old.data", books(100, 50, depth=500))  # as the archives' depth changed in August 2025
    other = lines(tmp_path / "new.data", books(7, 50, 6000, depth=200))
    assert bring(tmp_path / "b", one, other).passed_over == []
    tick = replayed(tmp_path / "b")[1].books[0]
    assert (tick.depth, tick.u, tick.counters.updates, tick.counters.gaps) == (500, 56, 100, 0)


def test_several_categories_and_connections(tmp_path: Path) -> None:
    one = lines(tmp_path / "a.jsonl", recorded([("1790000000.1", ACK), ("1790000000.2", book(5, 0, "snapshot"))], "7"))
    address = "wss://stream.bybit.com/v5/public/spot"
    two = [("1790000000.15", book(9, 0, "snapshot", spot=True)), ("1790000000.3", ACK)]
    other = lines(tmp_path / "b.jsonl", recorded(two, "8", address))
    done = bring(tmp_path / "tape", one, other)
    assert done.instruments == ["linear:ABCUSDT", "spot:ABCUSDT"]
    found = [(message.link, message.category.value) for message in open_recording(tmp_path / "tape").messages()]
    assert found == [("linear 7", "linear"), ("spot 8", "spot"), ("linear 7", "linear"), ("spot 8", "spot")]
    assert {tick.state for tick in replayed(tmp_path / "tape")[1].books} == {BookState.LIVE}


def test_acknowledgements_belong_to_what_their_file_speaks_of(tmp_path: Path) -> None:
    content = [ACK, *books(1, 3, spot=True), ACK]
    bring(tmp_path / "tape", lines(tmp_path / "x.jsonl", content))
    found = list(open_recording(tmp_path / "tape").messages())
    assert [message.raw for message in found] == content
    assert {message.category for message in found} == {Category.SPOT}
    assert found[0].recv_ns == found[1].recv_ns


def test_trades_in_no_order_are_sorted(tmp_path: Path) -> None:
    rows = [f"{(T0_MS + ms) / 1000},Buy,{ms + 1},1.25" for ms in range(0, 400_000, 1000)]
    shuffled = random.Random(3).sample(rows, len(rows))
    for name, unsorted in (("backwards", rows[::-1]), ("shuffled", shuffled)):
        done = bring(tmp_path / name, lines(tmp_path / f"{name}.csv", contract_trades(unsorted)))
        sizes = [json.loads(raw)["data"][0]["v"] for raw in messages(tmp_path / name)]
        assert sizes == [row.split(",")[2] for row in rows]
        assert done.files[0].sorted
    assert not bring(tmp_path / "tape", lines(tmp_path / "x.csv", contract_trades(rows))).files[0].sorted


def test_times_that_go_back_a_little_are_lifted(tmp_path: Path) -> None:
    content = [book(5, 0, "snapshot"), book(6, 30_000), book(7, 100), book(8, 30_001)]
    bring(tmp_path / "tape", lines(tmp_path / "x.jsonl", content))
    times = [message.recv_ns // 1_000_000 - T0_MS for message in open_recording(tmp_path / "tape").messages()]
    assert messages(tmp_path / "tape") == content
    assert times == [0, 30_000, 30_000, 30_001]


def test_instruments_from_a_recorded_answer(tmp_path: Path) -> None:
    from orderflow.foreign.facts import Decimals, derived_row, parse_rows, read_facts

    row = {**derived_row(ABC, Decimals(4, 4, 2)), "baseCoin": "ABCCOIN"}
    answer = {"retCode": 0, "result": {"category": "linear", "list": [row, {"symbol": "broken"}]}}
    path = lines(tmp_path / "instruments.json.gz", [json.dumps(answer, indent=1).encode()])
    known = read_facts(path)
    assert known[ABC] == parse_rows([row], Category.LINEAR)[0]
    done = bring(tmp_path / "tape", lines(tmp_path / "x.jsonl", books(1, 30)), known=known)
    assert done.inferred == []
    tick = replayed(tmp_path / "tape")[0].ticks[0]
    assert (tick.base_coin, tick.price_decimals, tick.size_decimals) == ("ABCCOIN", 4, 2)


def test_the_same_files_give_the_same_recording(tmp_path: Path) -> None:
    paths = [
        lines(tmp_path / "x.jsonl", books(1, 30)),
        lines(tmp_path / "x.csv", contract_trades(["1790000000.5,Buy,1,1"])),
    ]
    content = []
    for name in ("one", "two"):
        bring(tmp_path / name, *paths)
        content.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.ofr")})
    assert content[0] == content[1]
    assert len(content[0]) == 1


def test_messages_written_anew_are_replayed_too(tmp_path: Path) -> None:
    """By a recorder that parsed them: keys in alphabetical order, with spaces."""
    found = [json.dumps(json.loads(raw), sort_keys=True).encode() for raw in books(100, 30)]
    found += [json.dumps(json.loads(raw), sort_keys=True).encode() for raw in books(7, 30, 50, symbol="XYZUSDT")]
    found.sort(key=lambda raw: json.loads(raw)["ts"])
    bring(tmp_path / "tape", lines(tmp_path / "linear.jsonl", found))
    kept = Kept()
    choice = Choice(symbols=frozenset({"XYZUSDT"}))
    run_replay(open_recording(tmp_path / "tape"), choice, PluginHost, kept, stop=threading.Event())
    assert kept.last is not None
    assert [(tick.symbol, tick.u) for tick in kept.last.books] == [("XYZUSDT", 36)]


# --- round trip -----------------------------------------------------------------------------------------------------

_texts = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=20)
_extra = st.dictionaries(st.sampled_from(["id", "cs", "x y", "ünï"]), st.one_of(_texts, st.integers(), st.booleans()))


@st.composite
def v5_messages(draw: st.DrawFn) -> list[bytes]:
    """Messages of any V5 kind, keys in any order, with fields nobody knows; acknowledgements among them."""
    found = []
    at_ms = T0_MS
    for _ in range(draw(st.integers(1, 30))):
        at_ms += draw(st.integers(0, 5000))
        kind = draw(st.sampled_from(["orderbook.50.ABCUSDT", "publicTrade.X-1", "tickers.ABCUSDT", "greeks.BTC", ""]))
        fields: dict[str, object] = {"op": "subscribe", "success": True, **draw(_extra)}
        if kind:
            fields = {"topic": kind, "type": "delta", "ts": at_ms, "data": draw(_extra), **draw(_extra)}
        keys = draw(st.permutations(list(fields)))
        separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
        text = json.dumps({key: fields[key] for key in keys}, ensure_ascii=draw(st.booleans()), separators=separators)
        found.append(text.encode())
    last = {"topic": "tickers.ABCUSDT", "ts": at_ms, "data": {}}
    return [*found, json.dumps(last).encode()]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    v5_messages(),
    st.sampled_from(["plain", "record", "seconds", "nanoseconds"]),
    st.sampled_from(["", ".gz", ".zip"]),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_what_was_written_comes_back_word_for_word(
    tmp_path: Path, given: list[bytes], layout: str, packing: str, end: bytes
) -> None:
    number = next(_numbers)
    times = [f"{T0_MS // 1000 + n}.5" for n in range(len(given))]
    content = {
        "plain": given,
        "record": recorded(list(zip(times, given, strict=True))),
        "seconds": [f"{at}: ".encode() + raw for at, raw in zip(times, given, strict=True)],
        "nanoseconds": [
            at.replace(".", "").ljust(19, "0").encode() + b" " + raw for at, raw in zip(times, given, strict=True)
        ],
    }[layout]
    path = lines(tmp_path / f"{number}.jsonl{packing}", content, end)
    done = bring(tmp_path / f"tape-{number}", path)
    assert messages(tmp_path / f"tape-{number}") == given
    assert done.files[0].left_out == 0
    assert not any(isinstance(record, Damage) for record in open_recording(tmp_path / f"tape-{number}").records())
    received = [message.recv_ns for message in open_recording(tmp_path / f"tape-{number}").messages()]
    if layout != "plain":
        assert received == [int(at.replace(".", "")) * 10**8 for at in times]


_numbers = itertools.count()


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_lines_that_are_wrong_are_left_out_and_told(tmp_path: Path) -> None:
    good = books(100, 30)
    bad = [b"hello", b"\xff\xfe", b'{"topic":"orderbook.200.ABCUSDT"', book(5, -T0_MS), b"x" * (9 << 20), b""]
    path = lines(tmp_path / "x.jsonl", [*good[:10], *bad, *good[10:]])
    done = bring(tmp_path / "tape", path)
    assert messages(tmp_path / "tape") == good
    (file,) = done.files
    assert [problem.line for problem in file.problems] == [11, 12, 13, 14, 15]
    assert file.left_out == 5
    assert str(file.problems[4]) == "x.jsonl: line 15: an endless line: left out"
    assert "impossible time" in str(file.problems[3])


def incompressible(count: int) -> list[bytes]:
    generator = random.Random(5)
    return [raw.replace(b"1.30", b"1.3%05d" % generator.randrange(10**5)) for raw in books(100, count)]


def test_a_cut_file_is_imported_up_to_there_and_its_books_are_not_believed(tmp_path: Path) -> None:
    content = incompressible(20_000)
    path = lines(tmp_path / "x.jsonl.gz", content)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    following = books(50_000, 100, 20_000 * 100)
    done = bring(tmp_path / "tape", path, lines(tmp_path / "next.jsonl", following))
    (file, _) = done.files
    assert 1000 < file.messages < 20_000
    assert file.damaged
    assert file.problems[-1].offset == len(data) // 2
    assert messages(tmp_path / "tape") == [*content[: file.messages], *following]
    kept, summary = replayed(tmp_path / "tape")
    assert [change.reason for change in kept.changes][-2:] == ["damaged_file", "snapshot"]
    assert (summary.books[0].counters.gaps, summary.books[0].state) == (0, BookState.LIVE)


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.data.zip"])
def test_wrong_bytes_in_a_packed_file_are_told(tmp_path: Path, name: str) -> None:
    content = incompressible(5_000)
    path = lines(tmp_path / name, content)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 500] = bytes(500)
    path.write_bytes(data)
    done = bring(tmp_path / "tape", path)
    assert done.files[0].damaged  # the checksum finds it at the latest
    assert messages(tmp_path / "tape")[:1000] == content[:1000]
    assert replayed(tmp_path / "tape")[1].books[0].state is BookState.EMPTY


@pytest.mark.parametrize(
    "content, told",
    [
        ([b"", b"  "], "nothing in it"),
        ([b"hello"], "no Bybit V5 messages"),
        ([ACK], "with a topic"),
        ([b"a,b,c", b"1,2,3"], "line 1: no message"),
        ([b"timestamp,price,c", b"1,2,3"], "line 1: no trade file: no column for size, side"),
        (contract_trades(["soon,Buy,1,1"]), "line 2: no time"),
        ([book(5, 0, "snapshot"), b'{"topic":"trade.BTCUSD","data":[]}'], "line 2: .*legacy"),
        ([book(5, 0, "snapshot"), book(6, -61_000)], "line 2: its exchange time lies 61.0 s before"),
        ([b'{"topic":"tickers.ABCUSDT","data":{}}'], "time in it"),
    ],
)
def test_files_that_cannot_be_used_are_refused_and_nothing_is_written(
    tmp_path: Path, content: list[bytes], told: str
) -> None:
    path = lines(tmp_path / "x.jsonl", content)
    good = lines(tmp_path / "good.jsonl", books(1, 5))
    with pytest.raises(RecordingError, match=told) as caught:
        bring(tmp_path / "tape", good, path)
    assert caught.value.path == str(path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["good.jsonl", "x.jsonl"]


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    stamped = [("1790000100.5", book(5, 0, "snapshot")), ("1790000000.5", book(6, 100))]
    path = lines(tmp_path / "x.jsonl", recorded(stamped))
    with pytest.raises(RecordingError, match=r"line 5: its receive time .*--clock exchange"):
        bring(tmp_path / "tape", path)
    bring(tmp_path / "tape", path, clock="exchange")
    assert len(messages(tmp_path / "tape")) == 2


def test_a_receive_clock_must_be_there(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", books(1, 5))
    with pytest.raises(ConfigError, match=r"x\.jsonl has no receive times"):
        bring(tmp_path / "tape", path, clock="receive")


def test_the_same_messages_twice_are_refused(tmp_path: Path) -> None:
    rows = contract_trades(["1790000000.5,Buy,1,1", "1790000090.5,Buy,1,1"])
    one, other = lines(tmp_path / "a.csv", rows), lines(tmp_path / "b.csv.gz", rows)
    with pytest.raises(ConfigError, match=r"a\.csv and b\.csv\.gz both have linear publicTrade\.ABCUSDT"):
        bring(tmp_path / "tape", one, other)
    with pytest.raises(ConfigError, match=r"a\.csv and a\.csv both"):
        bring(tmp_path / "tape", one, one)


def test_nothing_that_is_there_is_touched(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", books(1, 5))
    out = tmp_path / "tape"
    out.mkdir()
    bring(out, path)  # an empty folder may be there
    before = sorted(found.name for found in out.iterdir())
    for there in (out, path):
        with pytest.raises(ConfigError, match="there already"):
            bring(there, path)
    assert sorted(found.name for found in out.iterdir()) == before
    mine = tmp_path / "other.importing"
    mine.mkdir()
    (mine / "20260101T000000Z-00000000-00000.ofr").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="in the way"):
        bring(tmp_path / "other", path)
    assert (mine / "20260101T000000Z-00000000-00000.ofr").read_bytes() == b"mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_import_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(convert, "_BLOCK_BYTES", 1000)
    path = lines(tmp_path / "x.jsonl", books(1, 100))
    write = RecordingWriter.write
    calls = itertools.count()

    def failing(self: RecordingWriter, chunk: Any) -> None:
        if next(calls) == 3:
            raise error
        write(self, chunk)

    monkeypatch.setattr(RecordingWriter, "write", failing)
    with pytest.raises(type(error)):
        bring(tmp_path / "tape", path)
    assert [found.name for found in tmp_path.iterdir()] == ["x.jsonl"]


def killed(writer: RecordingWriter, last: object) -> None:
    writer._lock.release()  # as the end of its process does
    raise OSError(5, "gone")


def test_what_a_killed_import_leaves_is_cleared_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "x.jsonl", books(1, 100))
    aside = tmp_path / "tape.importing"
    with monkeypatch.context() as patch:
        for name in ("_clear", "_remove"):
            patch.setattr(convert, name, lambda folder: None)
        patch.setattr(RecordingWriter, "close", killed)
        with pytest.raises(OSError, match="gone"):
            bring(tmp_path / "tape", path)
    assert not (tmp_path / "tape").exists()
    assert any(isinstance(record, Damage) for record in open_recording(aside).records())  # it does not read as whole
    bring(tmp_path / "tape", path)
    assert not aside.exists()
    assert len(messages(tmp_path / "tape")) == 100


def test_two_imports_to_one_place(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", books(1, 5))
    other = RecordingWriter(tmp_path / "tape.importing", convert._POLICY, bytes(16))
    (tmp_path / "tape.importing" / ".import").touch()
    try:
        with pytest.raises(ConfigError, match="records into it"):
            bring(tmp_path / "tape", path)
    finally:
        other.close(None)
    assert (tmp_path / "tape.importing" / ".import").exists()


def test_frames_that_the_engine_does_not_get_are_marked(tmp_path: Path) -> None:
    content = [*books(1, 2), b'{"topic":"tickers.ABCUSDT","type":"delta","ts":1790000000200,"data":{}}', ACK]
    bring(tmp_path / "tape", lines(tmp_path / "x.jsonl", content))
    found = [record.fed for record in open_recording(tmp_path / "tape").records() if isinstance(record, Frames)]
    assert found == [1, 1, 0, 0]
