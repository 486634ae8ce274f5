"""The alert engine: a table of rules that cannot work, the shapes of a life of a rule, and an independent oracle."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orderflow.core.alerts import AlertEngine, Direction, Rule, RuleState, metric_names
from orderflow.core.types import AlertKind, BookCounters, BookState, Category, InstrumentId, MetricsTick, Severity
from orderflow.core.units import NS

RAISE, CLEAR = AlertKind.RAISE, AlertKind.CLEAR


def tick(ts: int = 1000, state: BookState = BookState.LIVE, **fields: Any) -> MetricsTick:
    fields.setdefault("category", Category.LINEAR)
    fields.setdefault("symbol", "BTCUSDT")
    fields.setdefault("mono_ns", ts * 1_000_000)
    return MetricsTick(ts=ts, state=state, reason="", depth=50, **fields)


def make_rule(**fields: Any) -> Rule:
    return Rule(**{"name": "wide", "metric": "spread_pct", "raise_at": 0.8, "clear_at": 0.6, **fields})


def run(rule: Rule, values: list[float | None], step_s: float = 5.0) -> list[tuple[int, AlertKind]]:
    """Feed values `step_s` apart; what happened at which of them."""
    state = RuleState()
    kinds = [state.step(rule, round(at * step_s * NS), value) for at, value in enumerate(values)]
    return [(at, kind) for at, kind in enumerate(kinds) if kind is not None]


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"name": ""}, "needs a name"),
        ({"metric": "spread_pc"}, "did you mean 'spread_pct'"),
        ({"metric": "symbol"}, "no metric 'symbol'"),
        ({"metric": "__class__"}, "no metric"),
        ({"metric": "truncated"}, "no metric"),
        ({"raise_at": math.nan}, "finite"),
        ({"raise_at": math.inf, "clear_at": None}, "finite"),
        ({"clear_at": math.nan}, "finite"),
        ({"clear_at": 0.81}, "expected at most 0.8"),
        ({"direction": Direction.BELOW, "clear_at": 0.79}, "expected at least 0.8"),
        ({"for_s": -1.0}, "for_s"),
        ({"clear_for_s": math.nan}, "clear_for_s"),
        ({"cooldown_s": math.inf}, "cooldown_s"),
    ],
)
def test_rules_that_cannot_work_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_rule(**fields)


def test_every_metric_of_the_contract_can_be_watched() -> None:
    wanted = {"spread_pct", "latency_ms", "liquidity", "imbalance", "book_age_ms", "counters.gaps"}
    assert wanted <= metric_names()


@pytest.mark.parametrize(
    "fields, values, expected",
    [
        pytest.param({}, [0.8, 0.81, 0.9], [(1, RAISE)], id="above means above, and once"),
        pytest.param({}, [0.9, 0.7, 0.61, 0.6], [(0, RAISE), (3, CLEAR)], id="inside the hysteresis nothing happens"),
        pytest.param({}, [0.9, 0.7, 0.9, 0.7, 0.9, 0.5], [(0, RAISE), (5, CLEAR)], id="oscillation around the level"),
        pytest.param(
            {"clear_at": None}, [0.81, 0.8], [(0, RAISE), (1, CLEAR)], id="without hysteresis the level is the border"
        ),
        pytest.param(
            {"direction": Direction.BELOW, "raise_at": 5, "clear_at": 6},
            [5, 4.9, 5.5, 4, 6],
            [(1, RAISE), (4, CLEAR)],
            id="below",
        ),
        pytest.param({"for_s": 10}, [0.9, 0.9, 0.9], [(2, RAISE)], id="for: at its end"),
        pytest.param({"for_s": 10}, [0.9, 0.9, 0.7, 0.9, 0.9], [], id="for: a good value starts it again"),
        pytest.param({"for_s": 10}, [0.9, 0.9, None, 0.9, 0.9], [], id="for: a missing value starts it again"),
        pytest.param({"clear_for_s": 10}, [0.9, 0.5, 0.5, 0.5], [(0, RAISE), (3, CLEAR)], id="clear_for: at its end"),
        pytest.param({"clear_for_s": 10}, [0.9, 0.5, 0.5, 0.7, 0.5, 0.5], [(0, RAISE)], id="clear_for: starts again"),
        pytest.param(
            {"clear_for_s": 10}, [0.9, 0.5, 0.5, None, 0.5, 0.5], [(0, RAISE)], id="clear_for: missing starts it again"
        ),
        pytest.param(
            {"clear_for_s": 10},
            [0.9, 0.1] * 10 + [0.1] * 3,
            [(0, RAISE), (21, CLEAR)],
            id="oscillation wider than the hysteresis, held by clear_for",
        ),
        pytest.param(
            {"cooldown_s": 20},
            [0.9, 0.5, 0.9, 0.5, 0.9, 0.9, 0.9],
            [(0, RAISE), (1, CLEAR), (5, RAISE)],
            id="cooldown: a breach that outlasts it raises at its end",
        ),
        pytest.param(
            {"for_s": 10},
            [0.9, 0.9, 0.9, 0.5, 0.9, 0.9, 0.9],
            [(2, RAISE), (3, CLEAR), (6, RAISE)],
            id="for: counts anew after a clear",
        ),
        pytest.param(
            {"clear_for_s": 10},
            [0.9, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5, 0.5],
            [(0, RAISE), (3, CLEAR), (4, RAISE), (7, CLEAR)],
            id="clear_for: counts anew after a raise",
        ),
        pytest.param({}, [0.9, None, None, 0.9, 0.5], [(0, RAISE), (4, CLEAR)], id="missing: stays raised"),
        pytest.param({}, [None, math.nan, math.inf, -math.inf], [], id="no number is no evidence"),
    ],
)
def test_a_rule_over_time(
    fields: dict[str, Any], values: list[float | None], expected: list[tuple[int, AlertKind]]
) -> None:
    assert run(make_rule(**fields), values) == expected


def test_an_alert_carries_its_evidence() -> None:
    engine = AlertEngine()
    rule = make_rule(for_s=5, severity=Severity.CRITICAL, label="spread", unit="%")
    assert engine.observe(rule, tick(1000, spread_pct=0.9)) is None
    raised = engine.observe(rule, last := tick(6000, spread_pct=0.91))
    assert raised is not None
    assert (raised.rule, raised.kind, raised.severity) == ("wide", RAISE, Severity.CRITICAL)
    assert (raised.metric, raised.value, raised.threshold, raised.since_ms) == ("spread_pct", 0.91, 0.8, 1000)
    assert raised.tick is last
    assert raised.message == "spread 0.91 % is above 0.8 %"
    assert engine.raised() == (("wide", InstrumentId(Category.LINEAR, "BTCUSDT")),)
    cleared = engine.observe(rule, tick(36_000, spread_pct=0.5))
    assert cleared is not None
    assert (cleared.kind, cleared.value, cleared.threshold, cleared.since_ms) == (CLEAR, 0.5, 0.6, 1000)
    assert cleared.message == "spread 0.5 % is back within 0.6 % after 35 s"
    assert engine.raised() == ()


def test_instruments_and_rules_do_not_share_a_state() -> None:
    engine = AlertEngine()
    wide, wider = make_rule(), make_rule(name="wider")
    assert engine.observe(wide, tick(spread_pct=1.0)) is not None
    assert engine.observe(wide, tick(spread_pct=1.0, category=Category.SPOT)) is not None
    assert engine.observe(wide, tick(spread_pct=1.0, symbol="ETHUSDT")) is not None
    assert engine.observe(wider, tick(spread_pct=1.0)) is not None
    assert engine.observe(wide, tick(spread_pct=1.0)) is None


def test_a_book_that_is_not_live_is_no_evidence_unless_the_rule_is_about_the_feed() -> None:
    old = {"metric": "book_age_ms", "raise_at": 1000, "clear_at": None}
    stale = tick(state=BookState.STALE, book_age_ms=60_000.0)
    assert AlertEngine().observe(make_rule(**old), stale) is None
    assert AlertEngine().observe(make_rule(**old, live_only=False), stale) is not None


def test_nested_metrics() -> None:
    rule = make_rule(metric="counters.gaps", raise_at=2, clear_at=None)
    assert AlertEngine().observe(rule, tick(counters=BookCounters(gaps=3))) is not None


@pytest.mark.parametrize(
    "seconds, raises_at",
    [
        ([0, 5, 10], 2),
        ([0, 5, 9.96], 2),  # the first tick was late, this one is not
        ([0, 5, 9.94, 14.94], 3),
        ([0, 5, -3600, -3595], 3),  # made-up ticks that go back cost one step
        ([0, 0, 0, 0], None),
        ([0, 86_400], 1),
    ],
)
def test_a_duration_ends_with_the_tick_that_comes_then(seconds: list[float], raises_at: int | None) -> None:
    state, rule = RuleState(), make_rule(for_s=10)
    kinds = [state.step(rule, round(at * NS), 0.9) for at in seconds]
    assert [at for at, kind in enumerate(kinds) if kind] == ([] if raises_at is None else [raises_at])


@pytest.mark.parametrize("for_s", [0.01, 0.05, 0.1])
def test_the_shortest_durations_need_a_second_tick(for_s: float) -> None:
    assert run(make_rule(for_s=for_s), [0.9, 0.9], step_s=0.1) == [(1, RAISE)]


@pytest.mark.parametrize(("ms", "raised"), [(29, []), (30, [(1, RAISE)])])
def test_a_duration_below_the_shortest_interval_has_lasted_after_half_of_it(ms: int, raised: list[Any]) -> None:
    assert run(make_rule(for_s=0.06), [0.9, 0.9], step_s=ms / 1000) == raised


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
@given(at=st.integers(1, 30), values=st.lists(st.sampled_from([0.9, 0.5, 0.7, None]), min_size=31, max_size=31))
def test_a_wall_clock_that_is_set_neither_makes_nor_ends_nor_lengthens_an_alert(
    jump_ms: int, at: int, values: list[float | None]
) -> None:
    rule = make_rule(for_s=10, clear_for_s=10, cooldown_s=20)
    told = []
    for jump in (0, jump_ms):
        engine = AlertEngine()
        stamps = [1_700_000_000_000 + 5000 * number for number in range(len(values))]
        ticks = [
            tick(ts + (jump if number >= at else 0), mono_ns=number * 5 * NS, spread_pct=value)
            for number, (ts, value) in enumerate(zip(stamps, values, strict=True))
        ]
        alerts = [engine.observe(rule, one) for one in ticks]
        told.append([one and (one.kind, one.message, one.tick.ts - (one.since_ms or 0)) for one in alerts])
        assert all(one is None or (one.since_ms or 0) <= one.tick.ts for one in alerts)
    assert told[0] == told[1]


@given(
    st.sampled_from([0.0, 3.0, 20.0]),
    st.lists(st.floats(min_value=0.61, max_value=0.9), max_size=50).map(lambda values: [0.85, *values, 0.1, 0.1, 0.1]),
)
def test_oscillation_above_the_clear_level_gives_one_raise_and_one_clear(for_s: float, values: list[float]) -> None:
    kinds = [kind for _, kind in run(make_rule(clear_for_s=5), values)]
    assert kinds == [RAISE, CLEAR]
    kinds = [kind for _, kind in run(make_rule(clear_for_s=5, for_s=for_s), values)]
    assert kinds in ([], [RAISE, CLEAR])


class AgainstOracle(RuleBasedStateMachine):
    """The engine against a decision from the whole history, written the slow and obvious way."""

    @initialize(
        for_s=st.sampled_from([0, 4, 10]),
        clear_for_s=st.sampled_from([0, 4, 10]),
        cooldown_s=st.sampled_from([0, 7, 30]),
        below=st.booleans(),
    )
    def begin(self, for_s: float, clear_for_s: float, cooldown_s: float, below: bool) -> None:
        sign = -1 if below else 1
        self.sign = sign
        self.rule = make_rule(
            raise_at=sign * 8,
            clear_at=sign * 6,
            direction=Direction.BELOW if below else Direction.ABOVE,
            for_s=for_s,
            clear_for_s=clear_for_s,
            cooldown_s=cooldown_s,
        )
        self.state = RuleState()
        self.ts = 1_000_000
        self.elapsed = 0
        self.history: list[tuple[int, float | None]] = []  # (elapsed ms, value seen as "bigger is worse")
        self.events: list[tuple[int, AlertKind]] = []

    @rule(value=st.sampled_from([9, 5, 9, 6, 7, 8, None]), step_s=st.sampled_from([5, 3, 1, 0, 5, -3600]))
    def feed(self, value: float | None, step_s: int) -> None:
        self.ts += step_s * 1000
        if self.history:
            self.elapsed += max(0, step_s) * 1000
        self.history.append((self.elapsed, value))
        expected = self.expected()
        if expected is not None:
            self.events.append((self.elapsed, expected))
        assert self.state.step(self.rule, self.ts * 1_000_000, None if value is None else value * self.sign) == expected

    def expected(self) -> AlertKind | None:
        raised = bool(self.events) and self.events[-1][1] is RAISE
        if raised:
            return CLEAR if self.held(lambda value: value <= 6) >= self.rule.clear_for_s * 1000 else None
        cool = not self.events or self.elapsed - self.events[-1][0] >= self.rule.cooldown_s * 1000
        return RAISE if cool and self.held(lambda value: value > 8) >= self.rule.for_s * 1000 else None

    def held(self, condition: Any) -> float:
        """How long the condition has held without a break up to now, ms; -1 when it does not hold now."""
        since = -1.0
        for at, value in reversed(self.history):
            if value is None or not condition(value):
                break
            since = self.elapsed - at
        return since

    @invariant()
    def alternate(self) -> None:
        kinds = [kind for _, kind in getattr(self, "events", [])]
        assert kinds == [RAISE, CLEAR] * (len(kinds) // 2) + [RAISE] * (len(kinds) % 2)


TestAgainstOracle = AgainstOracle.TestCase
TestAgainstOracle.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# --- borders, as mutation testing found them unwatched


def test_a_rule_is_plain_unless_told_otherwise() -> None:
    rule = Rule(name="wide", metric="spread_pct", raise_at=0.8)
    assert (rule.for_s, rule.clear_for_s, rule.cooldown_s) == (0.0, 0.0, 0.0)
    assert (rule.direction, rule.severity, rule.live_only) == (Direction.ABOVE, Severity.WARNING, True)
    assert (rule.clear_at, rule.clear_level, rule.label, rule.unit) == (None, 0.8, "", "")


def test_a_rule_does_not_change_and_knows_its_fields() -> None:
    rule = make_rule()
    with pytest.raises(AttributeError):
        rule.raise_at = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Rule("wide", "spread_pct", 0.8)  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError, match="clear_form"):
        msgspec.convert({"name": "a", "metric": "spread_pct", "raise_at": 1, "clear_form": 1}, Rule)


@pytest.mark.parametrize("direction", Direction)
def test_levels_may_be_equal_and_a_bad_one_is_named(direction: Direction) -> None:
    assert make_rule(direction=direction, clear_at=0.8).clear_level == 0.8
    with pytest.raises(ValueError, match=r"^raise_at is nan"):
        make_rule(direction=direction, raise_at=math.nan)
    with pytest.raises(ValueError, match=r"^clear_at is inf"):
        make_rule(direction=direction, clear_at=math.inf)


def test_a_new_state_is_quiet() -> None:
    state = RuleState()
    assert (state.raised, state.lasted_ms) == (False, 0)


@pytest.mark.parametrize(("direction", "value"), [("above", 0.9), ("below", 0.7)])
def test_the_message_names_the_direction(direction: str, value: float) -> None:
    alert = AlertEngine().observe(make_rule(direction=Direction(direction), clear_at=None), tick(spread_pct=value))
    assert alert is not None
    assert alert.message == f"spread_pct {value} is {direction} 0.8"


def test_times_are_exact_to_half_of_the_shortest_interval() -> None:
    state, rule = RuleState(), make_rule(for_s=10, clear_for_s=20, cooldown_s=30)
    steps = [(0, 0.9), (9949, 0.9), (9950, 0.9), (11_000, 0.1), (30_949, 0.1), (30_950, 0.1), (40_000, 0.9)]
    steps += [(60_899, 0.9), (60_900, 0.9)]
    kinds = [state.step(rule, ms * 1_000_000, value) for ms, value in steps]
    assert kinds == [None, None, RAISE, None, None, CLEAR, None, None, RAISE]


def test_how_long_it_lasted_counts_from_the_breach() -> None:
    state, rule = RuleState(), make_rule(for_s=5)
    for ms, value in ((0, 0.1), (7000, 0.9), (12_000, 0.9)):
        state.step(rule, ms * 1_000_000, value)
    assert (state.raised, state.lasted_ms) == (True, 5000)
    state.step(rule, 20_000 * 1_000_000, 0.1)
    assert (state.raised, state.lasted_ms) == (False, 13_000)


def test_an_alert_that_lasts_for_days_is_timed_to_the_millisecond() -> None:
    state, rule = RuleState(), make_rule()
    days_ms = 5 * 86_400_000 + 1
    for ms, value in ((0, 0.9), (days_ms, 0.1)):
        state.step(rule, ms * 1_000_000, value)
    assert (state.raised, state.lasted_ms) == (False, days_ms)


@pytest.mark.parametrize(("base_coin", "unit"), [("BTC", "BTC"), ("", "base coin")])
def test_a_unit_may_be_the_instruments_coin(base_coin: str, unit: str) -> None:
    rule = make_rule(clear_at=None, unit="{base_coin}/s")
    alert = AlertEngine().observe(rule, tick(spread_pct=0.9, base_coin=base_coin))
    assert alert is not None
    assert alert.message == f"spread_pct 0.9 {unit}/s is above 0.8 {unit}/s"


def test_the_time_of_a_tick_is_no_metric() -> None:
    assert {"ts", "mono_ns"}.isdisjoint(metric_names())
