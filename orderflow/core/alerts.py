"""The alert engine: from a number that changes with every tick to one raise and one clear.

A `Rule` says when; a `RuleState` knows where one rule stands on one instrument; an `AlertEngine` keeps those states and
puts the evidence into `Alert`s.

    quiet --breached--> pending --for_s--> raised --within clear_at for clear_for_s--> quiet (not again for cooldown_s)

Time is the tick's own monotonic clock (`tick.mono_ns`): setting the wall clock neither makes, ends nor lengthens an
alert. A missing value (book not live, warm-up, empty side) is not evidence: it restarts the `for` and `clear_for`
clocks, raises nothing and clears nothing. A raised alert stays raised while the value is missing; `tick.state` and
`tick.reason` say why it is.
"""

from __future__ import annotations

import enum
import math
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from orderflow.core.nearest import did_you_mean
from orderflow.core.text import plain_decimal
from orderflow.core.types import Alert, AlertKind, MetricsTick, Severity
from orderflow.core.units import NS, seconds_to_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderflow.core.types import InstrumentId


_EARLY_NS: Final = NS // 20
"""Half of the shortest interval: a tick that ends a duration may come this much too early."""


class Direction(enum.StrEnum):
    """On which side of `raise_at` a value is bad."""

    ABOVE = "above"
    BELOW = "below"


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an alert is raised and when it is cleared.

    Args:
        name: of the rule, unique inside a plugin.
        metric: a number of the tick, dotted where it is nested: `spread_pct`, `hops.socket_to_book.p99`.
        direction: `above` breaches when value > raise_at, `below` when value < raise_at.
        raise_at: in the metric's unit.
        clear_at: the value must come back to this or better; default raise_at. The distance between the two is the
            hysteresis: a value that moves inside it changes nothing.
        for_s: the breach must last this long before it raises.
        clear_for_s: the value must stay within clear_at this long before it clears.
        cooldown_s: after a raise or a clear nothing is raised for this long; a breach that outlasts it raises then.
        severity: of both the raise and the clear.
        live_only: a tick whose book is not live counts as a missing value. Off for metrics that are about the feed
            itself, such as `book_age_ms`.
        label: what messages call the metric; default the metric's name.
        unit: what messages put after numbers; `{base_coin}` stands for the instrument's.

    Raises: ValueError, with what was expected, for a rule that could never work.
    """

    name: str
    metric: str
    raise_at: float
    clear_at: float | None = None
    direction: Direction = Direction.ABOVE
    for_s: float = 0.0
    clear_for_s: float = 0.0
    cooldown_s: float = 0.0
    severity: Severity = Severity.WARNING
    live_only: bool = True
    label: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a rule needs a name")
        metric_reader(self.metric)
        check_levels(self.direction, self.raise_at, self.clear_at)
        for name in ("for_s", "clear_for_s", "cooldown_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected seconds >= 0")

    @property
    def clear_level(self) -> float:
        """`clear_at`, or `raise_at` when there is no hysteresis."""
        return self.raise_at if self.clear_at is None else self.clear_at

    def breached(self, value: float) -> bool:
        """Whether `value` is bad enough to raise."""
        return value > self.raise_at if self.direction is Direction.ABOVE else value < self.raise_at

    def recovered(self, value: float) -> bool:
        """Whether `value` is good enough to clear. Never true together with `breached`."""
        return value <= self.clear_level if self.direction is Direction.ABOVE else value >= self.clear_level


def check_levels(direction: Direction, raise_at: float, clear_at: float | None) -> None:
    """Raises: ValueError when a level is not finite or clear_at lies on the wrong side of raise_at."""
    for name, level in (("raise_at", raise_at), ("clear_at", raise_at if clear_at is None else clear_at)):
        if not math.isfinite(level):
            raise ValueError(f"{name} is {level}; expected a finite number")
    if clear_at is None:
        return
    if direction is Direction.ABOVE and clear_at > raise_at:
        raise ValueError(f"clear level {clear_at} is above raise level {raise_at}; expected at most {raise_at}")
    if direction is Direction.BELOW and clear_at < raise_at:
        raise ValueError(f"clear level {clear_at} is below raise level {raise_at}; expected at least {raise_at}")


class RuleState:
    """Where one rule stands on one instrument. Feed it every tick of that instrument, in order."""

    __slots__ = ("_breached_ns", "_last_ns", "_now_ns", "_quiet_until_ns", "_recovered_ns", "lasted_ms", "raised")

    def __init__(self) -> None:
        self.raised = False
        self.lasted_ms = 0  # from the beginning of the breach to the last raise or clear
        self._last_ns: int | None = None
        self._now_ns = 0  # time as the ticks count it: never goes back, not even with made-up ticks that do
        self._breached_ns: int | None = None  # when the breach began that is pending or raised
        self._recovered_ns: int | None = None  # when the recovery began that may clear it
        self._quiet_until_ns = 0

    def step(self, rule: Rule, mono_ns: int, value: float | None) -> AlertKind | None:
        """One tick: RAISE, CLEAR or None.

        Args: mono_ns: the tick's monotonic clock; value: None when missing (NaN and infinities count as missing).
        """
        if self._last_ns is not None and mono_ns > self._last_ns:
            self._now_ns += mono_ns - self._last_ns
        self._last_ns = mono_ns
        if value is not None and not math.isfinite(value):
            value = None
        return self._while_raised(rule, value) if self.raised else self._while_quiet(rule, value)

    def _while_quiet(self, rule: Rule, value: float | None) -> AlertKind | None:
        if value is None or not rule.breached(value):
            self._breached_ns = None
            return None
        if self._breached_ns is None:
            self._breached_ns = self._now_ns
        if not self._lasted(self._breached_ns, rule.for_s) or self._now_ns + _EARLY_NS < self._quiet_until_ns:
            return None
        self.raised = True
        self._note(rule, self._breached_ns)
        return AlertKind.RAISE

    def _while_raised(self, rule: Rule, value: float | None) -> AlertKind | None:
        if value is None or not rule.recovered(value):
            self._recovered_ns = None
            return None
        if self._recovered_ns is None:
            self._recovered_ns = self._now_ns
        if not self._lasted(self._recovered_ns, rule.clear_for_s):
            return None
        self.raised = False
        self._note(rule, self._breached_ns or 0)
        self._breached_ns = self._recovered_ns = None
        return AlertKind.CLEAR

    def _lasted(self, since_ns: int, seconds: float) -> bool:
        """Whether it has gone on for so long, to the tick: ticks come a little late, the first of them perhaps more."""
        needed_ns = seconds_to_ns(seconds)
        return self._now_ns - since_ns >= needed_ns - min(_EARLY_NS, needed_ns // 2)

    def _note(self, rule: Rule, began_ns: int) -> None:
        self.lasted_ms = round((self._now_ns - began_ns) / 1e6)
        self._quiet_until_ns = self._now_ns + seconds_to_ns(rule.cooldown_s)


class AlertEngine:
    """Rule states by (rule, instrument). A rule may differ from instrument to instrument; its name is what counts."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, InstrumentId], RuleState] = {}

    def observe(self, rule: Rule, tick: MetricsTick) -> Alert | None:
        """Judge the rule's metric as the tick has it. Call it for every tick, also those that are not live."""
        return self.judge(rule, tick, metric_reader(rule.metric)(tick))

    def judge(self, rule: Rule, tick: MetricsTick, value: float | None) -> Alert | None:
        """Judge a value of your own in place of the metric (a bound, a ratio of two metrics).

        Returns: the alert with its evidence, or None. `since_ms` is when the breach began, on a clear as well.
        """
        if rule.live_only and not tick.live:
            value = None
        state = self._states.get((rule.name, tick.instrument))
        if state is None:
            state = self._states[rule.name, tick.instrument] = RuleState()
        kind = state.step(rule, tick.mono_ns, value)
        if kind is None or value is None:
            return None
        return Alert(
            rule=rule.name,
            kind=kind,
            severity=rule.severity,
            message=describe(rule, kind, tick, value, state.lasted_ms),
            tick=tick,
            metric=rule.metric,
            value=value,
            threshold=rule.raise_at if kind is AlertKind.RAISE else rule.clear_level,
            since_ms=tick.ts - state.lasted_ms,
        )

    def raised(self) -> tuple[tuple[str, InstrumentId], ...]:
        """What is raised now: (rule name, instrument), in a stable order."""
        return tuple(sorted(key for key, state in self._states.items() if state.raised))


def describe(rule: Rule, kind: AlertKind, tick: MetricsTick, value: float, lasted_ms: int) -> str:
    """The alert in words: `spread 0.91 % is above 0.8 %`, `spread 0.5 % is back within 0.64 % after 35 s`."""
    unit = rule.unit.replace("{base_coin}", tick.base_coin or "base coin")

    def number(level: float) -> str:
        return f"{plain_decimal(float(f'{level:.6g}'))} {unit}".rstrip()

    what = f"{rule.label or rule.metric} {number(value)}"
    if kind is AlertKind.CLEAR:
        return f"{what} is back within {number(rule.clear_level)} after {lasted_ms / 1000:.3g} s"
    return f"{what} is {rule.direction} {number(rule.raise_at)}"


# --- the numbers of a tick ------------------------------------------------------------------------------------------

_NUMBERS: Final = (int, float)


@cache
def metric_names() -> frozenset[str]:
    """Every number of a `MetricsTick` that a rule can watch, nested ones dotted."""
    return frozenset(_number_paths(MetricsTick, "")) - {"ts", "mono_ns"}


@cache
def metric_reader(metric: str) -> Callable[[MetricsTick], Any]:
    """The function that reads `metric` from a tick.

    Raises: ValueError naming the nearest metric there is.
    """
    if metric not in metric_names():
        raise ValueError(f"no metric {metric!r} in a tick{did_you_mean(metric, metric_names())}")
    return attrgetter(metric)


def _number_paths(struct: type[msgspec.Struct], prefix: str) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        for kind in get_args(field.type) or (field.type,):
            if kind in _NUMBERS:
                yield prefix + field.name
            elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                yield from _number_paths(kind, f"{prefix}{field.name}.")
