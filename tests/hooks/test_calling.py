"""One call of a hook: what is taken, how long it took, what is said of what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from orderflow.core.types import Alert, AlertKind, Severity
from orderflow.hooks.calling import Outcome, call_hook
from orderflow.hooks.loading import Impl
from orderflow.hooks.samples import make_tick

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = make_tick()
ALERT = Alert(rule="r", kind=AlertKind.NOTICE, severity=Severity.INFO, message="m", tick=TICK)


def call(function: Callable[..., object], hook: str = "orderflow_tick", limit: int = 3) -> Outcome:
    """On a clock that shows 100.0 before the call and 100.5 behind it."""
    return call_hook(Impl(hook, function, True), TICK, limit, __file__, iter((100.0, 100.5)).__next__)


def returning(result: object) -> Outcome:
    return call(lambda tick: result)


def test_it_is_timed() -> None:
    assert Outcome().took_s == 0.0
    assert call(lambda tick: None).took_s == 0.5
    assert returning(7).took_s == 0.5


@pytest.mark.parametrize("result", ["alert", b"alert", {"rule": "x"}, 7, False, Alert])
def test_a_result_that_is_no_iterable_of_alerts_is_shown(result: object) -> None:
    said = f"BadResult: orderflow_tick returned {result!r}; expected an iterable of Alerts or None"
    assert returning(result).error == said


def test_hooks_that_return_nothing_may_return_nothing() -> None:
    outcome = call(lambda change: [], "orderflow_feed_change")
    assert outcome.error == "BadResult: orderflow_feed_change returned []; expected None"
    assert call(lambda change: None, "orderflow_feed_change").error == ""


def test_one_alert_more_than_the_limit_is_looked_at_and_no_other() -> None:
    asked = 0

    def forever(tick: Any) -> Any:
        nonlocal asked
        while True:
            asked += 1
            yield ALERT

    outcome = call(forever)
    assert (outcome.alerts, outcome.cut, asked) == ([ALERT] * 3, True, 4)


def test_of_several_bad_alerts_the_first_is_named_and_all_are_counted() -> None:
    bad = [structs.replace(ALERT, rule=""), structs.replace(ALERT, value=float("nan"))]
    outcome = returning([bad[0], ALERT, bad[1]])
    assert (outcome.alerts, outcome.rejected) == ([ALERT], 2)
    assert outcome.error == "BadResult: an alert was refused: it has no rule name"
