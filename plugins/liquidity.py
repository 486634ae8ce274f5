"""Thin book: alerts while the best levels of both sides hold less than 5 base coins together.

Five of what depends on the instrument: 5 BTC is a thin BTCUSDT, 5 DOGE is nothing. Set it per symbol. On an inverse
contract the size in base coin is known only once the exchange has described the contract; until then nothing is judged.

    [plugins.liquidity]
    raise_below = 5                             # base coin, both sides, `metrics.levels` levels each

    [plugins.liquidity.symbols.ETHUSDT]         # or "linear:ETHUSDT": in that category only
    raise_below = 100
"""

from orderflow.api import Alert, Below, Configs, MetricsTick, Positive, Threshold, hookimpl


class Plugin:
    """One rule, `thin_book`, on the metric `liquidity`."""

    version = "1.0"

    class Config(Below, frozen=True):
        raise_below: Positive = 5.0  # base coin

    def __init__(self, config: Configs[Config]) -> None:
        self.thin = Threshold("thin_book", "liquidity", config, label="liquidity", unit="{base_coin}")

    @hookimpl
    def orderflow_tick(self, tick: MetricsTick) -> list[Alert]:
        return self.thin.alerts(tick)
