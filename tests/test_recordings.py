"""Every V5 stream recorded from Bybit, through the real codec and books."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from orderflow.bybit.codec import FeedCodec
from orderflow.bybit.topics import TopicTable
from orderflow.core.engine import Engine
from orderflow.core.errors import WireError
from orderflow.core.types import BookState, BookUpdate, Category, InstrumentId, Syncing, TickerUpdate, Trade
from tests.recordings import golden, received

LINEAR, SPOT = Category.LINEAR, Category.SPOT


class Stream(NamedTuple):
    name: str
    category: Category
    depth: int
    frames: int
    books: dict[str, int]  # symbol -> book messages
    exact: bool = True  # the window holds exactly `depth` levels a side after every message


STREAMS = [
    Stream("linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz", LINEAR, 200, 1312, {"BTCUSDT": 414, "SOLUSDT": 383}),
    Stream("spot-ETHUSDT-ob200-20260809.jsonl.gz", SPOT, 200, 314, {"ETHUSDT": 250}),
    Stream("2024-12-01_XRPUSDT_ob500.data.zip", LINEAR, 500, 50, {"XRPUSDT": 50}),
    Stream("spot-BTCUSDT-ob50-20260824.jsonl", SPOT, 50, 10, {"BTCUSDT": 9}),
    Stream("linear-BANDUSDT-RADUSDT-ob1-20250613.txt.gz", LINEAR, 1, 67, {"BANDUSDT": 45, "RADUSDT": 18}),
    Stream(
        "spot-OPUSDC-TUSDUSDT-KCSUSDT-ob1-20250613.txt.gz", SPOT, 1, 66, {"OPUSDC": 30, "TUSDUSDT": 11, "KCSUSDT": 19}
    ),
]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_book_is_whole(stream: Stream) -> None:
    keys = {InstrumentId(stream.category, symbol): count for symbol, count in stream.books.items()}
    engine = Engine([(key, stream.depth) for key in keys])
    codec = FeedCodec(TopicTable(stream.category))
    frames = 0
    for key in keys:
        engine.apply(Syncing(instrument=key, reason="subscribe", mono_ns=0))
    for received_s, raw in received(stream.name):
        frames += 1
        event = codec.decode(raw, int((received_s or 0) * 1e9), 0)
        if not isinstance(event, BookUpdate):
            continue
        engine.apply(event)
        book = engine.books[event.instrument]
        assert book.state is BookState.LIVE
        if stream.exact:
            assert (len(book.levels.bids), len(book.levels.asks)) == (stream.depth, stream.depth)
    assert frames == stream.frames
    for key, count in keys.items():
        counters = engine.books[key].counters
        assert counters.updates == count
        for name in ("gaps", "duplicates", "early_deltas", "unknown_deletes", "crossed", "locked", "refused"):
            assert getattr(counters, name) == 0, name


def test_recorded_tickers_agree_with_the_book() -> None:
    """Ticker and book are sampled at moments of their own, so each touch a ticker names must be one the book had near
    that moment (exchange time, one push interval of either to each side); and most must be."""
    books: dict[InstrumentId, list[tuple[int, float | None, float | None]]] = {}
    tickers: list[tuple[InstrumentId, int, float, float]] = []
    codec = FeedCodec(TopicTable(LINEAR))
    keys = [InstrumentId(LINEAR, symbol) for symbol in ("BTCUSDT", "SOLUSDT")]
    engine = Engine([(key, 200) for key in keys])
    touch: dict[InstrumentId, list[float | None]] = {key: [None, None] for key in keys}
    for key in keys:
        engine.apply(Syncing(instrument=key, reason="subscribe", mono_ns=0))
    for _, raw in received("linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz"):
        event = codec.decode(raw, 0, 0)
        if isinstance(event, BookUpdate):
            engine.apply(event)
            levels = engine.books[event.instrument].levels
            books.setdefault(event.instrument, []).append((event.exchange_ms, levels.best_bid(), levels.best_ask()))
        elif isinstance(event, TickerUpdate):
            known = touch[event.instrument]
            known[0] = event.bid if event.bid is not None else known[0]
            known[1] = event.ask if event.ask is not None else known[1]
            if known[0] is not None and known[1] is not None:
                tickers.append((event.instrument, event.exchange_ms, known[0], known[1]))
    checked = agreed = 0
    for key, when, bid, ask in tickers:
        near = [(b, a) for at, b, a in books[key] if abs(at - when) <= 200]
        if near and books[key][0][0] + 200 <= when <= books[key][-1][0] - 200:
            checked += 1
            agreed += (bid, ask) in near
    assert checked > 250
    assert agreed / checked > 0.99


def test_level_1_repeats_come_with_the_same_u() -> None:
    repeats: dict[str, int] = {}
    last: dict[str, int] = {}
    codec = FeedCodec(TopicTable(LINEAR))
    for _, raw in received("linear-BANDUSDT-RADUSDT-ob1-20250613.txt.gz"):
        event = codec.decode(raw, 0, 0)
        if isinstance(event, BookUpdate):
            symbol = event.instrument.symbol
            repeats[symbol] = repeats.get(symbol, 0) + (last.get(symbol) == event.u)
            last[symbol] = event.u
    assert repeats == {"BANDUSDT": 4, "RADUSDT": 7}


def test_recorded_trades_decode() -> None:
    codec = FeedCodec(TopicTable(LINEAR))
    counts: dict[str, int] = {}
    for _, raw in received("linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz"):
        event = codec.decode(raw, 0, 0)
        if isinstance(event, list):
            for trade in event:
                assert isinstance(trade, Trade)
                counts[trade.instrument.symbol] = counts.get(trade.instrument.symbol, 0) + 1
    assert counts == {"BTCUSDT": 56, "SOLUSDT": 165}


def test_golden_messages_decode_or_are_refused_by_name() -> None:
    """Every single message kept from other projects: only what is no V5 JSON, an option or an RPI book is refused."""
    kinds: dict[str, int] = {}
    refused: set[str] = set()
    for message in golden("ws-messages.jsonl"):
        try:
            decoded = FeedCodec(TopicTable(Category.INVERSE)).decode(message["raw"].encode(), 0, 0)
        except WireError:
            refused.add(message["id"])
            continue
        kinds[type(decoded).__name__] = kinds.get(type(decoded).__name__, 0) + 1
    no_json = {message["id"] for message in golden("ws-messages.jsonl") if not message["json_ok"]}
    assert refused == no_json | {"tardis-16", "docs-orderbook-rpi-2"}
    assert kinds["BookUpdate"] >= 15
    assert kinds["TickerUpdate"] >= 8
    assert kinds["WireReply"] >= 15
