"""Wide spread: alerts while the spread is above 0.8 % of mid.

[plugins.spread]
raise_above = 0.8                           # % of mid
clear_below = 0.64                          # default: 20 % under raise_above

[plugins.spread.symbols."spot:BTCUSDT"]     # or "BTCUSDT": that symbol in every category
raise_above = 0.3
"""

from orderflow.api import Above, Alert, Configs, MetricsTick, Positive, Threshold, hookimpl


class Plugin:
    """One rule, `wide_spread`, on the metric `spread_pct`."""

    version = "1.0"

    class Config(Above, frozen=True):
        raise_above: Positive = 0.8  # % of mid

    def __init__(self, config: Configs[Config]) -> None:
        self.wide = Threshold("wide_spread", "spread_pct", config, label="spread", unit="%")

    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> list[Alert]:
        return self.wide.alerts(tick)
