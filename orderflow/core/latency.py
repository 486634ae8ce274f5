"""Latency distributions: signed, mergeable, with a bounded relative error (the idea of HdrHistogram and DDSketch)."""

from __future__ import annotations

from collections import Counter
from typing import Final

from orderflow.core.types import Percentiles

_SUB_BITS: Final = 6  # 64 sub-buckets per power of two: at most 1/128 of relative error at a bucket's middle
_PLAIN_BELOW: Final = 2 << _SUB_BITS  # smaller values have a bucket each
_FOLD_AT: Final = 1024
STAMPS_FOLD_AT: Final = 256
"""How many stamps may wait: a message's take 250 bytes."""
_QUANTILES: Final = (0.5, 0.99, 0.999)

Stamps = tuple[int, int, int | None, int, int | None]
"""One message's times: recv_ns, exchange_ms, engine_ms, mono_ns, and monotonic ns when it was in the book."""


def _bucket(value: int) -> int:
    """Bucket number of a value >= 0."""
    shift = value.bit_length() - _SUB_BITS - 1
    return value if shift <= 0 else (shift << _SUB_BITS) + (value >> shift)


def _signed_bucket(value: int) -> int:
    return _bucket(value) if value >= 0 else -1 - _bucket(-value)


def _middle(bucket: int) -> float:
    """The value a bucket stands for: its middle."""
    if bucket < _PLAIN_BELOW:
        return float(bucket)
    shift = (bucket >> _SUB_BITS) - 1
    return float((bucket - (shift << _SUB_BITS)) << shift) + ((1 << shift) - 1) / 2


class LatencyHistogram:
    """Counts of signed whole microseconds.

    `record` is on the per-message path and only appends; buckets are filled in bulk when somebody asks or 1,024 values
    wait. Percentiles are merged by merging histograms, never by averaging.
    """

    __slots__ = ("_counts", "_max", "_negative", "_pending", "_total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._pending: list[int] = []
        self._total = 0
        self._negative = 0
        self._max: int | None = None

    def record(self, microseconds: int) -> None:
        """Add one value; negative ones are kept as they are (they say that a clock offset is wrong)."""
        self._pending.append(microseconds)
        if len(self._pending) >= _FOLD_AT:
            self._fold()

    def record_all(self, microseconds: list[int]) -> None:
        """Add many values at once."""
        self._pending += microseconds
        self._fold()

    def _fold(self) -> None:
        pending = self._pending
        if not pending:
            return
        counts = self._counts
        counted = Counter(pending)  # in C; many messages take the same time
        for value, times in counted.items():
            if value >= _PLAIN_BELOW:  # nearly all: _signed_bucket without the call
                shift = value.bit_length() - _SUB_BITS - 1
                key = (shift << _SUB_BITS) + (value >> shift)
            else:
                key = _signed_bucket(value)
                if value < 0:
                    self._negative += times
            counts[key] = counts.get(key, 0) + times
        self._total += len(pending)
        top = max(counted)
        if self._max is None or top > self._max:
            self._max = top
        pending.clear()

    @property
    def count(self) -> int:
        return self._total + len(self._pending)

    @property
    def maximum(self) -> int | None:
        """The greatest value, exact; None when nothing was recorded."""
        self._fold()
        return self._max

    @property
    def negative(self) -> int:
        """How many values were below zero."""
        self._fold()
        return self._negative

    def merge(self, other: LatencyHistogram) -> None:
        """Add everything `other` counted; `other` stays as it is."""
        other._fold()
        for key, count in other._counts.items():
            self._counts[key] = self._counts.get(key, 0) + count
        self._total += other._total
        self._negative += other._negative
        if other._max is not None and (self._max is None or other._max > self._max):
            self._max = other._max

    def clear(self) -> None:
        """Forget everything."""
        self._counts.clear()
        self._pending.clear()
        self._total = self._negative = 0
        self._max = None

    def quantiles(self, *shares: float) -> list[float]:
        """Values in microseconds at ascending `shares` in (0, 1]: the smallest value that many samples do not exceed.

        Raises: ValueError when nothing was recorded.
        """
        self._fold()
        if self._max is None:
            raise ValueError("no samples")
        result: list[float] = []
        wanted = iter(shares)
        share = next(wanted, None)
        seen = 0
        for key in sorted(self._counts):
            seen += self._counts[key]
            value = _middle(key) if key >= 0 else -_middle(-1 - key)
            while share is not None and seen >= share * self._total - 1e-9:
                result.append(min(value, float(self._max)))
                share = next(wanted, None)
        return result

    def percentiles(self) -> Percentiles:
        """p50, p99, p99.9 and max in milliseconds."""
        self._fold()
        if self._max is None:
            return Percentiles()
        p50, p99, p999 = (round(value / 1000, 4) for value in self.quantiles(*_QUANTILES))
        return Percentiles(count=self._total, p50=p50, p99=p99, p999=p999, max=self._max / 1000)


class MessageHops:
    """The three hops of one book's messages, of the current interval, and when the first and last of all came.

    Per message there is one append to `stamps`, and `fold` when STAMPS_FOLD_AT wait: all else happens in bulk, out of a
    message's way (`orderflow bench --only choices`, stamps).
    """

    __slots__ = (
        *("engine_to_gateway", "gateway_to_socket", "socket_to_book", "stamps"),
        *("first_ns", "last_ns", "messages"),
    )

    def __init__(self) -> None:
        self.engine_to_gateway = LatencyHistogram()
        self.gateway_to_socket = LatencyHistogram()
        self.socket_to_book = LatencyHistogram()
        self.stamps: list[Stamps] = []
        self.begin()

    def begin(self) -> None:
        """Count from here on: how many messages were folded in all, and the stamps of the first and the last."""
        self.messages = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def fold(self, offset_us: int | None) -> None:
        """Turn the stamps into histograms.

        Args: offset_us: our wall clock minus the exchange's, of all of them; None: nobody noted when they came
            (imports), so there is no feed latency.
        """
        stamps = self.stamps
        if not stamps:
            return
        if self.first_ns is None:
            self.first_ns = stamps[0][0]
        self.last_ns = stamps[-1][0]
        self.messages += len(stamps)
        if offset_us is not None:
            # The difference first: small numbers divide four times as fast as nanoseconds since 1970.
            late_us = [(recv - sent * 1_000_000) // 1000 - offset_us for recv, sent, _, _, _ in stamps]
            self.gateway_to_socket.record_all(late_us)
        self.engine_to_gateway.record_all(
            [(sent - matched) * 1000 for _, sent, matched, _, _ in stamps if matched is not None]
        )
        self.socket_to_book.record_all([(done - came) // 1000 for _, _, _, came, done in stamps if done is not None])
        stamps.clear()

    def clear(self) -> None:
        """Begin a new interval."""
        self.stamps.clear()
        self.engine_to_gateway.clear()
        self.gateway_to_socket.clear()
        self.socket_to_book.clear()
