"""Recorded sessions as the simulated exchange serves them: our own recordings, and foreign files in any layout.

Only messages of V5 topics count; acknowledgements and what the client sent are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from orderflow.bybit.wire import WireReply
from orderflow.core.errors import ConfigError, RecordingError
from orderflow.core.text import escape_text
from orderflow.foreign.source import Source
from orderflow.record.format import SUFFIX
from orderflow.record.reader import open_recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderflow.core.types import Category

V5_KINDS: Final = frozenset(
    {
        "orderbook",
        "publicTrade",
        "tickers",
        "kline",
        "allLiquidation",
        "liquidation",
        "priceLimit",
        "adlAlert",
        "insurance",
    }
)
_reply: Final = msgspec.json.Decoder(WireReply, strict=False)


class Recorded(NamedTuple):
    """One recorded message. `at_ms`: when it was received, or the exchange's `ts` where nobody noted that."""

    category: Category
    topic: str
    at_ms: float
    raw: bytes


def read_recording(path: Path) -> Iterator[Recorded]:
    """The messages of one file or folder in their order, with times that never go back.

    Raises: ConfigError for what cannot be read; lines that are no messages are left out.
    """
    last_ms = 0.0
    try:
        for message in _read_own(path) if path.suffix == SUFFIX or path.is_dir() else _read_foreign(path):
            if message.topic.partition(".")[0] in V5_KINDS:
                last_ms = max(last_ms, message.at_ms)
                yield message._replace(at_ms=last_ms)
    except RecordingError as error:
        place = f" (byte {error.offset})" if error.offset else ""
        raise ConfigError(f"--play: {path.name}: {escape_text(error.detail, 500)}{place}") from None


def _read_own(path: Path) -> Iterator[Recorded]:
    for received in open_recording(path).messages():
        try:
            topic = _reply.decode(received.raw).topic
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        yield Recorded(received.category, topic, received.recv_ns / 1e6, received.raw)


def _read_foreign(path: Path) -> Iterator[Recorded]:
    for heard in Source(path).heard():
        if heard.recv_ns is not None:
            yield Recorded(heard.category, heard.topic, heard.recv_ns / 1e6, heard.raw)
        elif heard.ts_ms is not None:
            yield Recorded(heard.category, heard.topic, float(heard.ts_ms), heard.raw)
