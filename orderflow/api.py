"""Everything a plugin imports. What is not here is not for plugins and may change without notice.

A plugin is a Python file with a class `Plugin`: its `Config` says what can be set, methods marked with `@hookimpl` are
called (orderflow/hooks/specs.py has every hook). docs/plugins.md goes from nothing to an alert in five minutes.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from orderflow.core.alerts import AlertEngine, Direction, Rule, RuleState
from orderflow.core.figures import Quality, TickQuality
from orderflow.core.types import (
    Alert,
    AlertKind,
    BookCounters,
    BookState,
    BookStateChanged,
    Category,
    CoinBalance,
    ExecutionRow,
    FeedChange,
    HopLatency,
    InstrumentId,
    LinkChanged,
    MetricsTick,
    OrderRow,
    Percentiles,
    PositionRow,
    PrivateMessage,
    Severity,
    Summary,
    WalletRow,
)
from orderflow.hooks.configs import Configs, PluginConfig
from orderflow.hooks.specs import StartInfo, hookimpl
from orderflow.hooks.thresholds import Above, Below, Threshold

__all__ = [
    "Above",
    "Alert",
    "AlertEngine",
    "AlertKind",
    "Below",
    "BookCounters",
    "BookState",
    "BookStateChanged",
    "Category",
    "CoinBalance",
    "Configs",
    "Direction",
    "ExecutionRow",
    "FeedChange",
    "HopLatency",
    "InstrumentId",
    "LinkChanged",
    "MetricsTick",
    "OrderRow",
    "Percentiles",
    "PluginConfig",
    "PositionRow",
    "Positive",
    "PrivateMessage",
    "Quality",
    "Rule",
    "RuleState",
    "Severity",
    "StartInfo",
    "Summary",
    "Threshold",
    "TickQuality",
    "WalletRow",
    "hookimpl",
    "notice",
]

Positive = Annotated[float, Meta(gt=0)]
"""Type of a setting that must be a finite number above 0."""


def notice(
    tick: MetricsTick,
    rule: str,
    message: str,
    *,
    metric: str = "",
    value: float | None = None,
    severity: Severity = Severity.INFO,
) -> Alert:
    """An alert that happens once and is never cleared. For a condition that lasts use `Threshold` or `AlertEngine`."""
    return Alert(
        rule=rule,
        kind=AlertKind.NOTICE,
        severity=severity,
        message=message,
        tick=tick,
        metric=metric,
        value=value,
        since_ms=tick.ts,
    )
