"""One call of one hook: run it, take what it returns, say how it went. In the program or in a plugin's own process."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from orderflow.hooks.contain import BadResult, alert_fault, describe_error, error_line, passes, refuse_result
from orderflow.hooks.specs import TICK_HOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orderflow.core.types import Alert, MetricsTick
    from orderflow.hooks.loading import Impl


class Outcome:
    """How one call went.

    Attributes:
        took_s: seconds, on the caller's clock; alerts: the good ones, `plugin` not filled in.
        rejected: single alerts refused; cut: whether there were more than the limit.
        error: what failed, as one safe line; "": nothing did. failure: the exception, where it was raised here.
        fatal: why the plugin cannot be called any more; "": it can. told: whether people were told of the failure.
    """

    __slots__ = ("alerts", "cut", "error", "failure", "fatal", "rejected", "told", "took_s")

    def __init__(self) -> None:
        self.took_s = 0.0
        self.alerts: list[Alert] = []
        self.rejected = 0
        self.cut = False
        self.error = ""
        self.failure: BaseException | None = None
        self.fatal = ""
        self.told = False

    def take(self, result: Iterable[Alert], tick: MetricsTick, limit: int) -> None:
        """Take the good alerts of what a tick hook returned. Raises: BadResult for a bad one, once all are taken."""
        if isinstance(result, (str, bytes, dict)) or not hasattr(result, "__iter__"):
            raise refuse_result(TICK_HOOK, result, "an iterable of Alerts or None")
        fault = ""
        for number, alert in enumerate(result):
            if number == limit:
                self.cut = True
                if inspect.isgenerator(result):
                    result.close()  # here, where what it does then is contained and timed
                break
            wrong = alert_fault(alert, tick)
            if wrong:
                self.rejected += 1
                fault = fault or wrong
            else:
                self.alerts.append(alert)
        if fault:
            raise BadResult(f"an alert was refused: {fault}")


def call_hook(impl: Impl, argument: Any, limit: int, path: str, clock: Callable[[], float]) -> Outcome:
    """Call one hook and contain it.

    Args: limit: alerts taken of one call; path: the plugin's file, to name the line that failed; clock: seconds.
    Raises: nothing that is the plugin's; Ctrl-C and Trio's cancellation fly on.
    """
    outcome = Outcome()
    began = clock()
    try:
        result: Any = impl.function(argument) if impl.takes_argument else impl.function()
        if result is not None:
            if impl.hook != TICK_HOOK:
                raise refuse_result(impl.hook, result)
            outcome.take(result, argument, limit)
    except BaseException as exc:
        if passes(exc):
            raise
        outcome.failure = exc
    outcome.took_s = clock() - began
    if outcome.failure is not None:
        line = error_line(outcome.failure, path)
        outcome.error = describe_error(outcome.failure) + (f" (line {line})" if line else "")
    return outcome
