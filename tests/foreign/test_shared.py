"""Every V5 file recorded from Bybit, through the import; and a published figure computed again from what came out."""

from __future__ import annotations

import csv
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pytest

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.errors import RecordingError
from orderflow.core.types import BookState, Trade
from orderflow.foreign.facts import read_facts
from orderflow.record.reader import open_recording
from tests.foreign.test_convert import bring, messages, replayed
from tests.recordings import received, recording

if TYPE_CHECKING:
    from pathlib import Path


class Stream(NamedTuple):
    """`clock` of the import; `books`: messages by instrument."""

    name: str
    clock: str
    frames: int
    books: dict[str, int]


STREAMS = [
    Stream(
        "linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz",
        "receive",
        1312,
        {"linear:BTCUSDT": 414, "linear:SOLUSDT": 383},
    ),
    Stream("spot-ETHUSDT-ob200-20260809.jsonl.gz", "receive", 314, {"spot:ETHUSDT": 250}),
    Stream("2024-12-01_XRPUSDT_ob500.data.zip", "exchange", 50, {"linear:XRPUSDT": 50}),
    Stream("spot-BTCUSDT-ob50-20260824.jsonl", "exchange", 10, {"spot:BTCUSDT": 9}),
    Stream("linear-BANDUSDT-RADUSDT-ob1-20250613.txt.gz", "receive", 67, {"linear:BANDUSDT": 45, "linear:RADUSDT": 18}),
    Stream(
        "spot-OPUSDC-TUSDUSDT-KCSUSDT-ob1-20250613.txt.gz",
        "receive",
        66,
        {"spot:KCSUSDT": 19, "spot:OPUSDC": 30, "spot:TUSDUSDT": 11},
    ),
]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_stream_imports_and_replays(stream: Stream, tmp_path: Path) -> None:
    done = bring(tmp_path / "tape", recording(f"streams/{stream.name}"))
    assert (done.messages, done.clock, done.instruments) == (stream.frames, stream.clock, list(stream.books))
    assert done.files[0].problems == []
    assert messages(tmp_path / "tape") == [raw for _, raw in received(stream.name)]
    _, summary = replayed(tmp_path / "tape")
    assert {str(tick.instrument): tick.counters.updates for tick in summary.books} == stream.books
    for tick in summary.books:
        assert tick.state is BookState.LIVE
        counters = tick.counters
        assert (counters.gaps, counters.refused, counters.duplicates, counters.crossed, counters.resyncs) == (0,) * 5
    latencies = summary.hops.gateway_to_socket.count
    assert latencies == (sum(stream.books.values()) if stream.clock == "receive" else 0)


@pytest.mark.parametrize(
    "name", ["legacy-v2-linear-BCH-XTZ-UNI-LTC-20210417.txt.gz", "legacy-v2-inverse-EOSUSD-20210417.txt.gz"]
)
def test_the_old_protocol_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"line 1: .*legacy protocol \(v2"):
        bring(tmp_path / "tape", recording(f"streams/{name}"))


def test_both_connections_of_one_session_together(tmp_path: Path) -> None:
    names = [stream.name for stream in STREAMS[:2]]
    known = read_facts(recording("rest/instruments-info-linear-20260809.json.gz"))
    done = bring(tmp_path / "tape", *(recording(f"streams/{name}") for name in names), known=known)
    assert (done.messages, done.inferred) == (1312 + 314, ["spot:ETHUSDT"])
    times = [message.recv_ns for message in open_recording(tmp_path / "tape").messages()]
    assert times == sorted(times)
    kept, summary = replayed(tmp_path / "tape")
    assert {tick.counters.gaps for tick in summary.books} == {0}
    assert {tick.size_decimals for tick in kept.ticks if tick.symbol == "BTCUSDT"} == {3}


def test_what_numbers_tell_agrees_with_the_exchange(tmp_path: Path) -> None:
    """Tick size and decimals read off a recording are those of instruments-info."""
    path = recording(f"streams/{STREAMS[0].name}")
    known = read_facts(recording("rest/instruments-info-linear-20260809.json.gz"))
    bring(tmp_path / "known", path, known=known)
    bring(tmp_path / "read", path)
    facts = [
        [(tick.base_coin, tick.price_decimals, tick.size_decimals) for tick in replayed(tmp_path / name)[0].ticks[:2]]
        for name in ("known", "read")
    ]
    assert facts[0] == facts[1]


def test_the_other_files(tmp_path: Path) -> None:
    done = bring(tmp_path / "a", recording("trades/history-csv-format-FXSUSDT-20231010.csv"))
    assert (done.instruments, done.topics) == (["linear:FXSUSDT"], {"publicTrade": 9})
    codec = FeedCodec(TopicTable(next(open_recording(tmp_path / "a").messages()).category))
    trades = [trade for raw in messages(tmp_path / "a") for trade in _trades(codec, raw)]
    assert len(trades) == 15
    assert (trades[0].match_ms, trades[0].price, trades[0].size, trades[0].buy) == (1696982287492, 5.239, 0.86, False)
    done = bring(tmp_path / "b", recording("trades/linear-BTCUSDT-liquidation-excerpt-20240212.jsonl"))
    assert (done.clock, done.topics) == ("receive", {"liquidation": 4})


def _trades(codec: FeedCodec, raw: bytes) -> list[Trade]:
    found = codec.decode(raw, 0, 0)
    assert isinstance(found, list)
    return [trade for trade in found if isinstance(trade, Trade)]


def test_minute_volume_and_vwap_are_the_published_ones(tmp_path: Path) -> None:
    """Row T covers trades with T - 60 s < ts <= T."""
    published = recording("published/linear-BTCUSDT-1m-bars-and-microfeatures-20251204-2008-2159.csv")
    path = recording("trades/linear-BTCUSDT-trades-20251204-2008-2159.csv.gz")
    done = bring(tmp_path / "tape", path)
    assert done.files[0].problems == []
    volume: dict[int, float] = {}
    value: dict[int, float] = {}
    count = 0
    codec = None
    for message in open_recording(tmp_path / "tape").messages():
        codec = codec or FeedCodec(TopicTable(message.category))
        for trade in _trades(codec, message.raw):
            minute = -(-trade.match_ms // 60_000) * 60_000
            volume[minute] = volume.get(minute, 0.0) + trade.size
            value[minute] = value.get(minute, 0.0) + trade.price * trade.size
            count += 1
    assert count == 157_170
    with published.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 111
    for row in rows:
        minute = round(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000)
        assert volume[minute] == pytest.approx(float(row["volume"]), rel=1e-12)
        assert value[minute] / volume[minute] == pytest.approx(float(row["vwap"]), rel=1e-12)
