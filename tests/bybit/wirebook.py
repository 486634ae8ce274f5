"""Frames as Bybit words them, for tests of what reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def book(
    topic: str,
    u: int,
    *,
    snapshot: bool = False,
    bids: Sequence[tuple[str, str]] = (("99", "1"),),
    asks: Sequence[tuple[str, str]] = (("101", "2"),),
    ts: int = 1000,
    symbol: str | None = None,
) -> bytes:
    """One book message; `topic` as in `orderbook.50.BTCUSDT`."""
    return encode(
        {
            "topic": topic,
            "type": "snapshot" if snapshot else "delta",
            "ts": ts,
            "data": {
                "s": symbol or topic.rpartition(".")[2],
                "b": [list(level) for level in bids],
                "a": [list(level) for level in asks],
                "u": u,
                "seq": 1000 + u,
            },
            "cts": ts - 3,
        }
    )


def ack(request: dict[str, Any], *, spot: bool = False) -> bytes:
    return encode(
        {
            "success": True,
            "ret_msg": request["op"] if spot else "",
            "conn_id": "d4al7m6c-77",
            "req_id": request["req_id"],
            "op": request["op"],
        }
    )


def refusal(text: str, *, op: str = "subscribe", req_id: str | None = None) -> bytes:
    """`req_id` None: the refusal carries none."""
    message: dict[str, Any] = {"success": False, "ret_msg": text, "conn_id": "d4al7m6c-77"}
    if req_id is not None:
        message["req_id"] = req_id
    return encode({**message, "op": op})


def no_handler(topic: str) -> str:
    return f"error:handler not found,topic:{topic}"


def already(topic: str) -> str:
    return f"error:already subscribed,topic:{topic}"
