"""Slow feed: alerts while messages take more than 150 ms from the exchange to here.

The exchange's clock is known only so well: a tick's `latency_ms` may be wrong by `latency_error_ms` either way. What is
judged is the least the latency can have been, so that a doubtful clock never raises. While the offset of the clocks is
not known at all there is nothing to judge, unless `trust_clock` says that this machine's clock is right (NTP).

    [plugins.latency]
    raise_above = 150                           # ms
    trust_clock = false
"""

from orderflow.api import Above, Alert, Configs, MetricsTick, Positive, Threshold, hookimpl


class Plugin:
    """One rule, `slow_feed`, on the metric `latency_ms` less its uncertainty."""

    version = "1.0"

    class Config(Above, frozen=True):
        raise_above: Positive = 150.0  # ms
        trust_clock: bool = False  # judge the uncorrected latency while the clock offset is unknown

    def __init__(self, config: Configs[Config]) -> None:
        self.config = config
        self.slow = Threshold("slow_feed", "latency_ms", config, label="latency of at least", unit="ms")

    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> list[Alert]:
        return self.slow.judge(tick, self.least_ms(tick))

    def least_ms(self, tick: MetricsTick) -> float | None:
        """The least the latency can have been, ms; None when nothing can be said."""
        if tick.latency_ms is None:
            return None
        if tick.latency_error_ms is None:
            return tick.latency_ms if self.config.of(tick.instrument).trust_clock else None
        return tick.latency_ms - tick.latency_error_ms
