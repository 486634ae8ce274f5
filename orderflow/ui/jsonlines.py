"""`--log-format json`: every line of stdout is one JSON object with `event` first and `ts` (our wall clock, ms).

Missing values are null, never NaN or Infinity; all text is escaped (docs/metrics.md has every schema with an example).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.text import escape_text
from orderflow.core.types import Alert, FeedChange, LinkChanged, MetricsTick, Summary

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT_LIMIT: Final = 500

_encoder: Final = msgspec.json.Encoder()


def encode_start(*, ts: int, version: str, env: str, instruments: Iterable[str], depth: int, interval_s: float) -> str:
    """The first line: what is watched, and how."""
    return _line(
        "start",
        ts,
        {"version": version, "env": env, "instruments": list(instruments), "depth": depth, "interval_s": interval_s},
    )


def encode_tick(tick: MetricsTick) -> str:
    """One tick: metrics and counters flat, latency percentiles per hop nested under `hops`."""
    return _line("tick", tick.ts, tick_fields(tick))


def tick_fields(tick: MetricsTick) -> dict[str, Any]:
    """A tick as builtins, its counters lifted to the top level."""
    fields: dict[str, Any] = msgspec.to_builtins(tick)
    hops = fields.pop("hops")
    fields.update(fields.pop("counters"))
    fields["hops"] = hops
    return fields


def encode_alert(alert: Alert) -> str:
    """One alert with its evidence; `tick` is the tick that decided, shaped as in a tick line."""
    fields: dict[str, Any] = {
        "category": alert.tick.category.value,
        "symbol": alert.tick.symbol,
        "plugin": alert.plugin,
        "rule": alert.rule,
        "kind": alert.kind.value,
        "severity": alert.severity.value,
        "message": alert.message,
        "metric": alert.metric,
        "value": alert.value,
        "threshold": alert.threshold,
        "since_ms": alert.since_ms,
        "tick": tick_fields(alert.tick),
    }
    return _line("alert", alert.tick.ts, fields)


def encode_feed(change: FeedChange, *, ts: int) -> str:
    """A connection (`kind` = link) or a book (`kind` = book) changed state. `ts`: now, for changes without a time."""
    if isinstance(change, LinkChanged):
        fields: dict[str, Any] = msgspec.to_builtins(change)
        return _line("feed", change.ts or ts, {"kind": "link", **fields})
    return _line(
        "feed",
        ts,
        {
            "kind": "book",
            "category": change.instrument.category.value,
            "symbol": change.instrument.symbol,
            "old": change.old.value,
            "state": change.new.value,
            "reason": change.reason,
            "detail": change.detail,
        },
    )


def encode_summary(summary: Summary, *, ts: int) -> str:
    """The last line: totals, each book's last tick, latency per hop, clock, notes."""
    clock = summary.clock
    fields: dict[str, Any] = msgspec.to_builtins(summary)
    fields["books"] = [tick_fields(tick) for tick in summary.books]
    fields["clock"] = None if clock is None else {"offset_ms": clock.offset_ms, "error_ms": clock.error_ms}
    return _line("summary", ts, fields)


def encode_dropped(lines: int, *, ts: int) -> str:
    """Stands where `lines` lines are missing because the reader was too slow."""
    return _line("dropped", ts, {"lines": lines})


def encode_stall(length_s: float, *, ts: int) -> str:
    """The program stood still for so long; every book is distrusted until it is fresh."""
    return _line("stall", ts, {"length_s": round(length_s, 3)})


def encode_event(event: str, *, ts: int, **fields: object) -> str:
    """Any other event, of builtins and Structs."""
    return _line(event, ts, msgspec.to_builtins(fields))


def _line(event: str, ts: int, fields: dict[str, Any]) -> str:
    line = {"event": event, "ts": ts, **{key: value for key, value in fields.items() if key != "ts"}}
    return _encoder.encode(clean(line)).decode() + "\n"


def clean(value: Any) -> Any:
    """Text escaped, numbers that JSON does not have as null, all the way down."""
    if isinstance(value, str):
        return escape_text(value, TEXT_LIMIT)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value
