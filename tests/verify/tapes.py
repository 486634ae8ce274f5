"""A small market as a recording: a book, and beside it tickers, level 1 and REST, all of one mind. And its doctor."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec

from orderflow.core.types import BookState, Category
from orderflow.record.folder import MANIFEST, read_manifest
from orderflow.record.format import Encoder, pack_block, pack_file_header
from orderflow.record.reader import BlockStart, read_file, read_header
from orderflow.record.records import BookImage, Checkpoint, End, Frames, Opened, RestAnswer, Tick, Timer
from orderflow.record.writer import RecordingWriter
from tests.record.tapes import BTC, M0, POLICY, T0, begin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orderflow.record.records import Record

STEP_NS = 50_000_000
LEVELS = 10
Side = dict[int, int]  # price in tenths -> size


class Market:
    """Sizes change everywhere; now and then the touch moves."""

    def __init__(self) -> None:
        self.seq = 1000
        self.u = 9
        self.bids: Side = {1000 - n: 5 + n for n in range(LEVELS)}
        self.asks: Side = {1001 + n: 5 + n for n in range(LEVELS)}

    def step(self, number: int) -> tuple[Side, Side]:
        """One change; the changed levels."""
        self.seq += 3
        bids: Side = {1000 - number % LEVELS: number % 7 + 1}
        asks: Side = {1001 + number * 3 % LEVELS: number % 5 + 1}
        self.bids.update(bids)
        self.asks.update(asks)
        return bids, asks

    @property
    def touch(self) -> tuple[int, int]:
        return max(self.bids), min(self.asks)

    def book(self, at_ms: int, kind: str, bids: Side, asks: Side) -> bytes:
        self.u += 1
        return (
            f'{{"topic":"orderbook.50.BTCUSDT","type":"{kind}","ts":{at_ms},"data":{{"s":"BTCUSDT",'
            f'"b":{rows(bids)},"a":{rows(asks)},"u":{self.u},"seq":{self.seq}}},"cts":{at_ms}}}'
        ).encode()

    def level1(self, at_ms: int) -> bytes:
        bid, ask = self.touch
        return (
            f'{{"topic":"orderbook.1.BTCUSDT","ts":{at_ms},"type":"snapshot","data":{{"s":"BTCUSDT",'
            f'"b":{rows({bid: self.bids[bid]})},"a":{rows({ask: self.asks[ask]})},"u":{self.u},"seq":{self.seq}}},'
            f'"cts":{at_ms}}}'
        ).encode()

    def ticker(self, at_ms: int) -> bytes:
        bid, ask = self.touch
        return (
            f'{{"topic":"tickers.BTCUSDT","type":"snapshot","data":{{"symbol":"BTCUSDT",'
            f'"bid1Price":"{bid / 10}","bid1Size":"{self.bids[bid]}","ask1Price":"{ask / 10}",'
            f'"ask1Size":"{self.asks[ask]}"}},"cs":{self.seq},"ts":{at_ms}}}'
        ).encode()

    def rest(self, at_ms: int) -> str:
        return (
            f'{{"retCode":0,"retMsg":"OK","result":{{"s":"BTCUSDT","b":{rows(self.bids)},"a":{rows(self.asks)},'
            f'"ts":{at_ms},"u":1,"seq":{self.seq},"cts":{at_ms}}},"time":{at_ms}}}'
        )

    def image(self) -> BookImage:
        return BookImage(
            instrument=BTC,
            state=BookState.LIVE,
            reason="",
            u=self.u,
            seq=self.seq,
            last_mono_ns=M0,
            bids=[(price / 10, float(size)) for price, size in sorted(self.bids.items(), reverse=True)],
            asks=[(price / 10, float(size)) for price, size in sorted(self.asks.items())],
        )


def rows(side: Side) -> str:
    return "[" + ",".join(f'["{price / 10}","{size}"]' for price, size in side.items()) + "]"


def beside() -> Opened:
    return Opened(
        connection=2,
        link="beside",
        category=Category.LINEAR,
        url="wss://x/linear",
        books=[],
        recv_ns=T0,
        mono_ns=M0,
        topics=["tickers.BTCUSDT", "orderbook.1.BTCUSDT"],
    )


def market_tape(folder: Path, steps: int = 200, per_block: int = 20) -> Path:
    """A closed recording: a block each second, a REST book and a checkpoint every two. Returns: its one file."""
    writer = RecordingWriter(folder, POLICY, os.urandom(16), clock=lambda: T0)
    writer.rotate(None)
    encoder, market = Encoder(), Market()
    begin(encoder)
    encoder.note(beside())
    for number in range(steps):
        later = number * STEP_NS
        stamps = (T0 + later, M0 + later)
        at_ms = stamps[0] // 1_000_000
        changed = market.step(number)
        message = (
            market.book(at_ms, "delta", *changed)
            if number
            else market.book(at_ms, "snapshot", market.bids, market.asks)
        )
        encoder.frames(1, [message], *stamps)
        encoder.frames(2, [market.level1(at_ms), market.ticker(at_ms)], *stamps, fed=0)
        encoder.timer(encoder.items, stamps[1])
        if number % 40 == 39:
            body = market.rest(at_ms)
            answer = {"sent_ns": stamps[0], "recv_ns": stamps[0], "mono_ns": stamps[1]}
            encoder.note(RestAnswer(category=Category.LINEAR, symbol="BTCUSDT", body=body, **answer))
            encoder.note(
                Checkpoint(applied=encoder.items, recv_ns=stamps[0], mono_ns=stamps[1], books=[market.image()])
            )
        if number % per_block == per_block - 1:
            writer.write(encoder.take())
    encoder.note(End(reason="stopped"))
    writer.close(encoder.take())
    (path,) = folder.glob("*.ofr")
    return path


def doctor(path: Path, change: Callable[[list[Record]], None]) -> None:
    """Change the records of a file and make everything fit again: CRCs, lengths and the manifest's hash.

    What the headers say about the queue stays: a doctor who mends that too would have to know the format well.
    """
    blocks: list[tuple[int, list[Record]]] = []
    for item in read_file(path):
        if isinstance(item, BlockStart):
            blocks.append((item.items, []))
        else:
            blocks[-1][1].append(item)  # type: ignore[arg-type]  # no damage in a tape that was just made
    records = [record for _, block in blocks for record in block]
    ends = {id(block[-1]): items for items, block in blocks}
    change(records)
    data = pack_file_header(read_header(path))
    encoder, starts = Encoder(), [items for items, _ in blocks]
    for record in records:
        _encode(encoder, record)
        if id(record) in ends:
            data += pack_block(encoder.take()._replace(items=starts.pop(0)), None)
    path.write_bytes(data)
    relabel(path)


def relabel(path: Path, **fields: object) -> None:
    """Make the manifest's line true again, or say something else in it."""
    (line,) = (line for line in read_manifest(path.parent).values() if line.file == path.name)
    content = path.read_bytes()
    honest = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    line = msgspec.structs.replace(line, **{**honest, **fields})
    (path.parent / MANIFEST).write_bytes(msgspec.json.encode(line) + b"\n")


def _encode(encoder: Encoder, record: Record) -> None:
    if isinstance(record, Frames):
        encoder.frames(record.connection, record.messages, record.recv_ns, record.mono_ns, record.fed)
    elif isinstance(record, Timer):
        encoder.timer(record.applied, record.mono_ns)
    elif isinstance(record, Tick):
        encoder.tick(record.applied, record.recv_ns, record.mono_ns)
    else:
        encoder.note(record)
