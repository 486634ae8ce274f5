"""Bybit's JSON, field by field. Nothing above L1 sees these. Unknown keys are ignored, absent ones have defaults.

Numbers arrive as strings; the lax decoder turns them into floats straight away (performance.md section 2). What it
accepts beyond plain decimals is found and refused by the codec.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MAX_PRICE: Final = 1e15
MAX_SIZE: Final = 1e18

# Checked inside the decoder, where it costs next to nothing (0.1 us a message; 0.7 us by looking for `["0` beforehand).
Price = Annotated[float, msgspec.Meta(gt=0, lt=MAX_PRICE)]
Size = Annotated[float, msgspec.Meta(ge=0, lt=MAX_SIZE)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class WireBookData(msgspec.Struct, gc=False):
    s: str
    b: list[tuple[Price, Size]]
    a: list[tuple[Price, Size]]
    u: Count
    seq: Count = 0


class WireBook(msgspec.Struct, gc=False):
    topic: str
    type: str
    ts: Count
    data: WireBookData
    cts: Count | None = None


class WireTrade(msgspec.Struct, gc=False):
    T: Count
    s: str
    S: str
    v: str
    p: str
    i: str
    BT: bool = False
    RPI: bool = False
    seq: Count = 0


class WireTrades(msgspec.Struct, gc=False):
    topic: str
    ts: Count
    data: list[WireTrade]


class WireLiquidation(msgspec.Struct, gc=False):
    T: Count
    s: str
    S: str
    v: str
    p: str


class WireLiquidations(msgspec.Struct, gc=False):
    topic: str
    ts: Count
    data: list[WireLiquidation]


class WireTickerData(msgspec.Struct, gc=False):
    """A delta carries only what changed, and "" stands for no value: hence optional text, converted later."""

    symbol: str
    lastPrice: str | None = None
    bid1Price: str | None = None
    bid1Size: str | None = None
    ask1Price: str | None = None
    ask1Size: str | None = None
    markPrice: str | None = None
    indexPrice: str | None = None
    usdIndexPrice: str | None = None
    openInterest: str | None = None
    fundingRate: str | None = None


class WireTicker(msgspec.Struct, gc=False):
    topic: str
    type: str
    ts: Count
    data: WireTickerData
    cs: Count | None = None


class WireReply(msgspec.Struct, gc=False):
    """Acks, pongs and refusals in every dialect (bybit-v5.md 2.2 to 2.4), and the envelope of any topic."""

    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    retCode: int | None = None
    retMsg: str = ""
    req_id: str | int = ""
    reqId: str | int = ""
    conn_id: str = ""
    topic: str = ""


# --- numbers as text ----------------------------------------------------------------------------------------------


class TextBookData(msgspec.Struct, gc=False):
    s: str
    b: list[tuple[msgspec.Raw, msgspec.Raw]]
    a: list[tuple[msgspec.Raw, msgspec.Raw]]
    u: int
    seq: int = 0


class TextBook(msgspec.Struct, gc=False):
    """A book message with its numbers as the exchange wrote them: JSON, quoted or not."""

    topic: str
    type: str
    ts: int
    data: TextBookData
    cts: int | None = None


class TextFill(msgspec.Struct, gc=False):
    """Of one trade or liquidation what a float would change: price and size as JSON, quoted or not."""

    p: msgspec.Raw
    v: msgspec.Raw
    L: str = ""


class TextFills(msgspec.Struct, gc=False):
    ts: int
    data: list[TextFill]


class TextTicker(msgspec.Struct, gc=False):
    data: msgspec.Raw


def number_text(raw: msgspec.Raw) -> str:
    """The number itself, without the quotes it may have. Raises: UnicodeDecodeError, of what is no UTF-8."""
    data = bytes(raw)
    if data.startswith(b'"'):
        return msgspec.json.decode(data, type=str)
    return data.decode()
