"""Threshold plugins in a dozen lines: config bases for a level, and a `Threshold` that judges ticks by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from orderflow.core.alerts import AlertEngine, Direction, Rule, check_levels, metric_reader
from orderflow.core.types import Severity
from orderflow.hooks.configs import PluginConfig

if TYPE_CHECKING:
    from orderflow.core.types import Alert, InstrumentId, MetricsTick
    from orderflow.hooks.configs import Configs

HYSTERESIS: Final = 0.2
"""Without a clear level of its own, a rule clears when the value is back by this share of the raise level."""

Duration = Annotated[float, Meta(ge=0, le=1e9)]


class LevelConfig(PluginConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every level has, next to the level itself. Seconds."""

    for_s: Duration = 0.0  # the breach must last this long before it raises
    clear_for_s: Duration = 10.0  # and the recovery this long before it clears
    cooldown_s: Duration = 30.0  # after a raise or a clear: nothing is raised for this long
    severity: Severity = Severity.WARNING


class Above(LevelConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alert while a metric is above a level. Derive your `Config` from it and give `raise_above` a default."""

    raise_above: float
    clear_below: float | None = None  # None: 20 % under raise_above

    def __post_init__(self) -> None:
        try:
            check_levels(Direction.ABOVE, self.raise_above, self.clear_below)
        except ValueError as exc:
            raise ValueError(f"raise_above and clear_below do not go together: {exc}") from None

    def levels(self) -> tuple[Direction, float, float]:
        """(direction, raise_at, clear_at)."""
        clear = self.raise_above - HYSTERESIS * abs(self.raise_above) if self.clear_below is None else self.clear_below
        return Direction.ABOVE, self.raise_above, clear


class Below(LevelConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alert while a metric is below a level. Derive your `Config` from it and give `raise_below` a default."""

    raise_below: float
    clear_above: float | None = None  # None: 20 % over raise_below

    def __post_init__(self) -> None:
        try:
            check_levels(Direction.BELOW, self.raise_below, self.clear_above)
        except ValueError as exc:
            raise ValueError(f"raise_below and clear_above do not go together: {exc}") from None

    def levels(self) -> tuple[Direction, float, float]:
        """(direction, raise_at, clear_at)."""
        clear = self.raise_below + HYSTERESIS * abs(self.raise_below) if self.clear_above is None else self.clear_above
        return Direction.BELOW, self.raise_below, clear


class Threshold:
    """One level on one metric: one raise and one clear each time it is crossed, by each instrument's own config.

    Args:
        rule: the name alerts carry.
        metric: the number of the tick it is about; see `Rule`.
        configs: the plugin's configs, of a `Config` derived from `Above` or `Below`.
        label, unit: for messages: `spread 0.91 % is above 0.8 %`; `{base_coin}` in the unit is the instrument's.
        live_only: False for metrics about the feed itself, which mean something while the book is not live.

    Raises: ValueError for a metric that ticks do not have.
    """

    def __init__(
        self,
        rule: str,
        metric: str,
        configs: Configs[Above | Below],
        *,
        label: str = "",
        unit: str = "",
        live_only: bool = True,
    ) -> None:
        metric_reader(metric)
        self._rule = rule
        self._metric = metric
        self._configs = configs
        self._label = label
        self._unit = unit
        self._live_only = live_only
        self._rules: dict[InstrumentId, Rule] = {}
        self._engine = AlertEngine()

    def alerts(self, tick: MetricsTick) -> list[Alert]:
        """Judge the metric as the tick has it. Call it for every tick, also those that are not live."""
        return self._list(self._engine.observe(self._rule_for(tick.instrument), tick))

    def judge(self, tick: MetricsTick, value: float | None) -> list[Alert]:
        """Judge a value of your own in place of the metric; None when there is none now."""
        return self._list(self._engine.judge(self._rule_for(tick.instrument), tick, value))

    def _rule_for(self, instrument: InstrumentId) -> Rule:
        rule = self._rules.get(instrument)
        if rule is None:
            rule = self._rules[instrument] = self._make_rule(self._configs.of(instrument))
        return rule

    def _make_rule(self, config: Above | Below) -> Rule:
        direction, raise_at, clear_at = config.levels()
        return Rule(
            name=self._rule,
            metric=self._metric,
            direction=direction,
            raise_at=raise_at,
            clear_at=clear_at,
            for_s=config.for_s,
            clear_for_s=config.clear_for_s,
            cooldown_s=config.cooldown_s,
            severity=config.severity,
            live_only=self._live_only,
            label=self._label,
            unit=self._unit,
        )

    @staticmethod
    def _list(alert: Alert | None) -> list[Alert]:
        return [] if alert is None else [alert]
