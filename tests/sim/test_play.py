"""Recordings: every form is read whole, and served verbatim."""

from __future__ import annotations

import gzip
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest

from orderflow.core.errors import ConfigError
from orderflow.core.types import Category, InstrumentId
from orderflow.foreign.facts import read_rows
from orderflow.sim.play import PlayBackend, parse_speed
from orderflow.sim.recordings import read_recording
from orderflow.sim.venue import Verdict

DATA = Path(__file__).parents[3] / "shared" / "data" / "bybit"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the recordings are not beside this clone")
LINEAR = "linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz"

SNAPSHOT = (
    b'{"topic":"orderbook.50.ABCUSDT","type":"snapshot","ts":1790000000100,"data":{"s":"ABCUSDT",'
    b'"b":[["1.20","5"],["1.10","6"]],"a":[["1.30","7"]],"u":7,"seq":70},"cts":1790000000098}'
)
DELTA = (
    b'{"topic":"orderbook.50.ABCUSDT","type":"delta","ts":1790000000300,"data":{"s":"ABCUSDT",'
    b'"b":[["1.20","0"]],"a":[["1.25","1"]],"u":8,"seq":75},"cts":1790000000299}'
)
TRADE = (
    b'{"topic":"publicTrade.ABCUSDT","type":"snapshot","ts":1790000000200,"data":[{"T":1790000000199,"s":"ABCUSDT",'
    b'"S":"Buy","v":"1","p":"1.30","L":"PlusTick","i":"x","BT":false,"RPI":false,"seq":72}]}'
)
ACK = b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"","op":"subscribe"}'
ABC = InstrumentId(Category.LINEAR, "ABCUSDT")


class Listener:
    def deliver(self, topic: str, message: bytes) -> None:
        raise AssertionError("backends only return messages")


def raw_file(folder: Path, *lines: bytes, name: str = "linear-x.jsonl", end: bytes = b"\r\n") -> Path:
    path = folder / name
    path.write_bytes(end.join(lines) + end)
    return path


def played(backend: PlayBackend, now_ms: float) -> list[bytes]:
    return [message for _, messages in backend.step(now_ms) for message in messages]


def attach(backend: PlayBackend, topic: str, now_ms: int = 1000) -> list[bytes]:
    return list(backend.attach("linear", topic, Listener(), now_ms))


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["linear-x.jsonl", "linear-x.txt.gz", "linear-x.data.zip", "linear-rec.jsonl.gz", "n.txt"]
)
def test_every_form_gives_the_same_messages(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    messages = [SNAPSHOT, DELTA]
    if name.endswith(".jsonl"):
        path.write_bytes(b"\r\n".join([ACK, *messages]))
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.data", b"\n".join(messages))
    elif name == "n.txt":
        path.write_bytes(b"\n".join(b"%d %b" % (1_790_000_000_100_000_000, raw) for raw in messages))
    elif name.endswith(".txt.gz"):
        lines = [b"wss://stream.bybit.com/v5/public/linear <-> 1789999999.5"]
        lines += [b"1790000000.1: " + raw for raw in (ACK, *messages)]
        path.write_bytes(gzip.compress(b"\n".join(lines)))
    else:
        address = "wss://stream.bybit.com/v5/public/linear"
        records: list[dict[str, Any]] = [{"t": "header"}, {"t": "connect", "conn": "1", "ts": 1.0, "addr": address}]
        records += [{"t": "recv", "conn": "1", "ts": 1790000000.1, "data": raw.decode()} for raw in (ACK, *messages)]
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    found = list(read_recording(path))
    assert [message.raw for message in found] == messages
    assert {(message.category, message.topic) for message in found} == {(Category.LINEAR, "orderbook.50.ABCUSDT")}
    assert [message.at_ms for message in found] == sorted(message.at_ms for message in found)


def test_spot_is_known_by_its_key_order(tmp_path: Path) -> None:
    spot = SNAPSHOT.replace(b'"type":"snapshot","ts":1790000000100', b'"ts":1790000000100,"type":"snapshot"')
    assert [m.category for m in read_recording(raw_file(tmp_path, spot, name="x.jsonl"))] == [Category.SPOT]


@pytest.mark.parametrize(
    "content, name", [(b"", "empty.jsonl"), (b"hello", "x.jsonl"), (b"PK no zip", "x.zip"), (b"no gzip", "x.gz")]
)
def test_files_without_messages_are_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match="--play"):
        PlayBackend.open([tmp_path / name], 1.0)


@needs_data
def test_the_old_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="legacy protocol"):
        PlayBackend.open([DATA / "streams" / "legacy-v2-inverse-EOSUSD-20210417.txt.gz"], 1.0)


@needs_data
@pytest.mark.parametrize(
    "name, topic, count",
    [
        (LINEAR, "orderbook.200.BTCUSDT", 414),
        (LINEAR, "publicTrade.SOLUSDT", 57),
        ("spot-ETHUSDT-ob200-20260809.jsonl.gz", "orderbook.200.ETHUSDT", 250),
        ("2024-12-01_XRPUSDT_ob500.data.zip", "orderbook.500.XRPUSDT", 50),
        ("spot-BTCUSDT-ob50-20260824.jsonl", "orderbook.50.BTCUSDT", 9),
        ("linear-BANDUSDT-RADUSDT-ob1-20250613.txt.gz", "orderbook.1.BANDUSDT", 45),
        ("spot-OPUSDC-TUSDUSDT-KCSUSDT-ob1-20250613.txt.gz", "orderbook.1.TUSDUSDT", 11),
    ],
)
def test_recordings_are_read_whole(name: str, topic: str, count: int) -> None:
    found = [message for message in read_recording(DATA / "streams" / name) if message.topic == topic]
    assert len(found) == count
    assert {str(message.category) for message in found} == {"spot" if name.startswith("spot") else "linear"}


@needs_data
def test_recorded_instruments_complete_the_derived_ones() -> None:
    rest = DATA / "rest" / "instruments-info-linear-20260809.json.gz"
    assert len(read_rows(rest)[Category.LINEAR]) > 500
    backend = PlayBackend.open([DATA / "streams" / LINEAR], 1.0, rest)
    rows = {row["symbol"]: row for row in backend.instrument_rows(Category.LINEAR)}
    assert rows["BTCUSDT"]["priceFilter"]["minPrice"] == "0.10"
    derived = PlayBackend.open([DATA / "streams" / LINEAR], 1.0)
    for row in derived.instrument_rows(Category.LINEAR):
        recorded = rows[row["symbol"]]
        assert row["priceFilter"]["tickSize"] == recorded["priceFilter"]["tickSize"]
        assert row["lotSizeFilter"]["qtyStep"] == recorded["lotSizeFilter"]["qtyStep"]
        assert row["priceScale"] == recorded["priceScale"]


def test_no_instruments_answer(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"result":{}}')
    with pytest.raises(ConfigError, match="--instruments"):
        read_rows(path)


# --- playing --------------------------------------------------------------------------------------------------------


def test_messages_come_verbatim_at_the_recorded_pace(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT, DELTA)], 1.0)
    assert backend.next_ms() == math.inf
    assert attach(backend, "orderbook.50.ABCUSDT", 5000) == []
    assert played(backend, 5000) == [SNAPSHOT]
    assert backend.next_ms() == 5200
    assert played(backend, 5199) == []
    assert played(backend, 5200) == [DELTA]
    assert (backend.next_ms(), backend.finished) == (math.inf, True)


def test_ten_times_as_fast(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT, DELTA)], parse_speed("10"))
    attach(backend, "orderbook.50.ABCUSDT", 5000)
    played(backend, 5000)
    assert backend.next_ms() == 5020


def test_a_topic_is_held_until_somebody_subscribes(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT, TRADE, DELTA)], math.inf)
    attach(backend, "publicTrade.ABCUSDT")
    assert played(backend, 1000) == [TRADE]
    assert attach(backend, "orderbook.50.ABCUSDT") == [SNAPSHOT, DELTA]


def test_whoever_comes_again_gets_a_snapshot_the_next_delta_fits(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT, DELTA)], 1.0)
    attach(backend, "orderbook.50.ABCUSDT", 0)
    played(backend, 0)
    assert attach(backend, "orderbook.50.ABCUSDT", 10) == [SNAPSHOT]
    played(backend, 200)
    (late,) = map(json.loads, attach(backend, "orderbook.50.ABCUSDT", 300))
    assert late["data"] == {
        "s": "ABCUSDT",
        "b": [["1.10", "6"]],
        "a": [["1.25", "1"], ["1.30", "7"]],
        "u": 8,
        "seq": 75,
    }
    assert late["type"] == "snapshot"


def test_too_much_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.sim.play.HELD_BYTES", 10)
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT, TRADE, DELTA)], math.inf)
    attach(backend, "publicTrade.ABCUSDT")
    played(backend, 1000)
    (late,) = map(json.loads, attach(backend, "orderbook.50.ABCUSDT"))
    assert (late["type"], late["data"]["u"]) == ("snapshot", 8)


def test_rest_follows_the_recording(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT, TRADE, DELTA)], math.inf)
    target = "/v5/market/orderbook?category=linear&symbol=ABCUSDT"

    def book() -> dict[str, Any]:
        result: dict[str, Any] = json.loads(backend.respond("GET", target, (), b"", 1).body)["result"]
        return result

    assert book()["u"] == 7
    attach(backend, "orderbook.50.ABCUSDT")
    played(backend, 1000)
    assert (book()["u"], book()["b"], book()["a"][0]) == (8, [["1.10", "6"]], ["1.25", "1"])
    assert backend.true_book(ABC, 1).bids == [("1.1", "6")]
    assert [row["execId"] for row in backend.trade_rows(Category.LINEAR, "ABCUSDT", 5) or []] == ["x"]
    with pytest.raises(KeyError):
        backend.true_book(InstrumentId(Category.SPOT, "ABCUSDT"), 1)


def test_which_topics_exist(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT)], 1.0)
    verdicts = {
        topic: backend.verdict(Category.LINEAR, topic)
        for topic in ("orderbook.50.ABCUSDT", "orderbook.200.ABCUSDT", "tickers.ABCUSDT", "tickers.XYZUSDT", "x.y")
    }
    known, missing = Verdict.KNOWN, Verdict.NO_HANDLER
    assert list(verdicts.values()) == [known, missing, known, Verdict.BAD_SYMBOL, missing]


def test_shifted_time_moves_stamps_alone(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT)], 1.0, shift_time=True)
    attach(backend, "orderbook.50.ABCUSDT", 1_800_000_000_000)
    (message,) = played(backend, 1_800_000_000_000)
    assert message == SNAPSHOT.replace(b"1790000000100", b"1800000000000").replace(b"1790000000098", b"1799999999998")
    with pytest.raises(ConfigError, match="--shift-time"):
        PlayBackend.open([tmp_path / "linear-x.jsonl"], 10.0, shift_time=True)


def test_pausing_holds_the_recording(tmp_path: Path) -> None:
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT)], 1.0)
    attach(backend, "orderbook.50.ABCUSDT", 0)
    backend.set_paused(True)
    assert backend.next_ms() == math.inf
    backend.set_paused(False)
    assert played(backend, 0) == [SNAPSHOT]


@pytest.mark.parametrize("shift", [False, True])
def test_a_standstill_moves_the_rest_of_the_recording(tmp_path: Path, shift: bool) -> None:
    """Nothing is left out and nothing comes as a burst: the pace stays, an hour later; shifted stamps move along."""
    deltas = [DELTA.replace(b"300,", b"%d," % ms) for ms in (300, 400, 500)]
    backend = PlayBackend.open([raw_file(tmp_path, SNAPSHOT, *deltas)], 1.0, shift_time=shift)
    attach(backend, "orderbook.50.ABCUSDT", 1_790_000_000_000)
    backend.step(1_790_000_000_000)
    hour = 3_600_000
    assert backend.halt(1_790_000_000_200 + hour)
    due = []
    for ms in range(0, 400, 10):
        due += [(ms, raw) for raw in played(backend, 1_790_000_000_200 + hour + ms)]
    assert [ms for ms, _ in due] == [0, 100, 200]
    stamps = [int(json.loads(raw)["ts"]) for _, raw in due]
    assert [stamp - stamps[0] for stamp in stamps] == [0, 100, 200]
    assert (stamps[0] == 1_790_000_000_200 + hour) is shift


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf"])
def test_speeds_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--speed"):
        parse_speed(text)


@needs_data
def test_a_real_session_ends_with_its_book() -> None:
    """An oracle of the test's own replays the file; the backend must say the same at the end."""
    path = DATA / "streams" / LINEAR
    backend = PlayBackend.open([path], math.inf)
    for topic in ("orderbook.200.BTCUSDT", "orderbook.200.SOLUSDT"):
        attach(backend, topic)
    sent: list[bytes] = []
    while not backend.finished:
        sent += played(backend, 1000)
    books = [m.raw for m in read_recording(path) if m.topic.startswith("orderbook")]
    assert sent == books
    bids: dict[float, float] = {}
    for message in map(json.loads, books):
        if message["data"]["s"] == "BTCUSDT":
            bids = {} if message["type"] == "snapshot" else bids
            bids.update({float(p): float(s) for p, s in message["data"]["b"]})
            bids = {p: s for p, s in bids.items() if s}
    truth = backend.true_book(InstrumentId(Category.LINEAR, "BTCUSDT"), 200)
    assert [(float(p), float(s)) for p, s in truth.bids] == sorted(bids.items(), reverse=True)
