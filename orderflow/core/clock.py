"""The offset of our wall clock to the exchange's, learnt from request and answer times. Pure arithmetic."""

from __future__ import annotations

from typing import Final

import msgspec

from orderflow.core.types import ClockOffset

STEP_TOLERANCE_NS: Final = 2_000_000
"""Wall and monotonic clock are slewed together, so between two readings they differ only by a step of the wall clock
(or by a sleep of the machine, which the monotonic clock does not count); this much is the jitter of reading both."""

DRIFT_PPM: Final = 100.0
"""How fast two clocks may drift apart (an uncorrected quartz: 20 to 100): a sample's error bound grows with its age."""


class TimeSample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One question for the exchange's time; both clocks of ours are read before sending and after receiving."""

    sent_ns: int
    sent_mono_ns: int
    received_ns: int
    received_mono_ns: int
    server_ns: int
    resolution_ns: int  # the exchange's stamp was cut off to a multiple of this

    @property
    def round_trip_ns(self) -> int:
        return self.received_mono_ns - self.sent_mono_ns

    @property
    def step_ns(self) -> int:
        """How far the wall clock moved against the monotonic one while the question was under way."""
        return (self.received_ns - self.received_mono_ns) - (self.sent_ns - self.sent_mono_ns)


class _Measured(msgspec.Struct, frozen=True, gc=False):
    offset_ns: float
    error_ns: float
    mono_ns: int
    base_ns: int  # wall minus monotonic

    def error_at(self, mono_ns: int, base_ns: int, drift_ppm: float) -> float:
        """The bound now: widened by drift and by how far the wall clock moved without counting as a step."""
        return self.error_ns + abs(mono_ns - self.mono_ns) * drift_ppm * 1e-6 + abs(base_ns - self.base_ns)


class OffsetEstimator:
    """Keeps the samples of a sliding window and believes the one whose error bound is smallest now.

    The exchange read its clock at some moment between our sending and our receiving, so ours minus theirs lies within
    half a round trip of (midpoint - stamp), however unequal the two ways were. Nothing more can be known.

    Args: window_s: how long a sample is used; drift_ppm: how fast its bound widens meanwhile.
    """

    def __init__(self, window_s: float, *, drift_ppm: float = DRIFT_PPM) -> None:
        self._window_ns = int(window_s * 1e9)
        self._drift_ppm = drift_ppm
        self._samples: list[_Measured] = []
        self._base_ns: int | None = None  # wall minus monotonic at the last sample
        self.steps = 0

    def add(self, sample: TimeSample) -> ClockOffset | None:
        """Takes a sample in; the offset as known now. None: our clock was set meanwhile, ask again."""
        base_ns = sample.received_ns - sample.received_mono_ns
        stepped = abs(sample.step_ns) > STEP_TOLERANCE_NS
        if stepped or (self._base_ns is not None and abs(base_ns - self._base_ns) > STEP_TOLERANCE_NS):
            self._samples.clear()
            self.steps += 1
        self._base_ns = base_ns
        if not stepped and sample.round_trip_ns >= 0:
            self._samples.append(_measure(sample))
        return self.current(sample.received_mono_ns)

    def current(self, mono_ns: int) -> ClockOffset | None:
        """The best offset at `mono_ns`; None when the window is empty."""
        self._samples = [s for s in self._samples if mono_ns - s.mono_ns <= self._window_ns]
        if self._base_ns is None or not self._samples:
            return None
        base_ns, drift_ppm = self._base_ns, self._drift_ppm
        error_ns, best = min(
            ((s.error_at(mono_ns, base_ns, drift_ppm), s) for s in self._samples), key=lambda pair: pair[0]
        )
        return ClockOffset(offset_ms=best.offset_ns / 1e6, error_ms=error_ns / 1e6, mono_ns=mono_ns)


def _measure(sample: TimeSample) -> _Measured:
    """Half a round trip either way, half the resolution (a cut-off stamp is on average that much early), and what a
    step too small to be called one could hide.
    """
    doubled = (sample.sent_ns - sample.server_ns) + (sample.received_ns - sample.server_ns) - sample.resolution_ns
    span = max(sample.received_ns - sample.sent_ns, sample.round_trip_ns)
    error_ns = (span + sample.resolution_ns + abs(sample.step_ns)) / 2
    return _Measured(doubled / 2, error_ns, sample.received_mono_ns, sample.received_ns - sample.received_mono_ns)
