"""The plugin host: calls hooks one plugin at a time, contains what they do, counts it and says it once."""

from __future__ import annotations

import inspect
import logging
import time
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from orderflow.core.text import escape_text
from orderflow.hooks.contain import BadResult, Limits, alert_fault, describe_error, error_line, passes, refuse_result
from orderflow.hooks.records import CurrentCall, HostStatistics, PluginState, Record
from orderflow.hooks.specs import HOOKS, TICK_HOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orderflow.core.types import Alert, FeedChange, MetricsTick, PrivateMessage, Summary
    from orderflow.hooks.loading import Impl, Loaded, Refused
    from orderflow.hooks.specs import StartInfo

log = logging.getLogger(__name__)

_replace: Final = msgspec.structs.replace


class Slot:
    """One hook of one plugin: what is called, and how often in a row it failed."""

    __slots__ = ("failures_in_row", "function", "hook", "record", "takes_argument")

    def __init__(self, record: Record, impl: Impl) -> None:
        self.record = record
        self.hook, self.function, self.takes_argument = impl
        self.failures_in_row = 0


class Failure(NamedTuple):
    """One failed call, for whoever wants to hear of it (`orderflow.testing` raises it again)."""

    plugin: str
    hook: str
    error: BaseException


class PluginHost:
    """Calls plugins. Everything is synchronous and nothing a plugin does comes out of a call, Ctrl-C excepted.

    Args:
        limits: how far plugins are trusted.
        clock: monotonic seconds.
        on_failure: told of every failed call after it was counted; what it raises goes to the caller.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.perf_counter,
        on_failure: Callable[[Failure], None] | None = None,
    ) -> None:
        self.current_call: CurrentCall | None = None  # what runs now; a watchdog reads it from its own thread
        self._limits = limits or Limits()
        self._clock = clock
        self._on_failure = on_failure
        self._records: dict[str, Record] = {}
        self._plan: dict[str, tuple[Slot, ...]] = dict.fromkeys(HOOKS, ())

    # --- who is called ------------------------------------------------------------------------------------------

    def add(self, loaded: Loaded) -> None:
        """Add a loaded plugin behind those already there. Raises: ValueError for a name that is taken."""
        name = loaded.source.name
        if name in self._records:
            raise ValueError(f"plugin {name!r} is there already")
        hooks = tuple(impl.hook for impl in loaded.impls)
        record = self._records[name] = Record(name, loaded.source, loaded.version, hooks, loaded.configs.table())
        for impl in loaded.impls:
            self._plan[impl.hook] = (*self._plan[impl.hook], Slot(record, impl))

    def refuse(self, refused: Refused) -> None:
        """Note a plugin that is not used, so that the statistics show it."""
        record = Record(refused.name, refused.source, "", (), {})
        record.state = PluginState.REFUSED
        record.last_error = "; ".join(map(str, refused.problems))
        self._records.setdefault(refused.name, record)

    @contextmanager
    def marking(self) -> Iterator[Callable[[str, str], None]]:
        """A function that notes (plugin, step) as the current call while plugins are being loaded."""

        def mark(plugin: str, step: str) -> None:
            self.current_call = CurrentCall(plugin, step, self._clock())

        try:
            yield mark
        finally:
            self.current_call = None

    def statistics(self) -> HostStatistics:
        """What every plugin did so far, in the order of calls; refused ones included."""
        return HostStatistics(plugins=tuple(record.statistics() for record in self._records.values()))

    def notes(self) -> tuple[str, ...]:
        """One line for each plugin that is not working, for the closing summary."""
        return tuple(
            f"plugin {record.name} {record.state}: {record.last_error}"
            for record in self._records.values()
            if record.state in (PluginState.DISABLED, PluginState.REFUSED)
        )

    # --- the hooks ----------------------------------------------------------------------------------------------

    def start(self, info: StartInfo) -> None:
        """Call `orderflow_start`."""
        self._tell("orderflow_start", info)

    def stop(self, summary: Summary) -> None:
        """Call `orderflow_stop`."""
        self._tell("orderflow_stop", summary)

    def feed_change(self, change: FeedChange) -> None:
        """Call `orderflow_feed_change`."""
        self._tell("orderflow_feed_change", change)

    def private(self, message: PrivateMessage) -> None:
        """Call `orderflow_private`."""
        self._tell("orderflow_private", message)

    def tick(self, tick: MetricsTick) -> list[Alert]:
        """Call `orderflow_tick`, then `orderflow_alert` with each alert.

        Returns: the alerts, checked, with `plugin` filled in, in the order of plugins.
        """
        alerts: list[Alert] = []
        for slot in self._plan[TICK_HOOK]:
            self._call(slot, tick, alerts)
        for alert in alerts:
            self._tell("orderflow_alert", alert)
        return alerts

    def _tell(self, hook: str, argument: object) -> None:
        for slot in self._plan[hook]:
            self._call(slot, argument, None)

    # --- one call -----------------------------------------------------------------------------------------------

    def _call(self, slot: Slot, argument: Any, alerts: list[Alert] | None) -> None:
        """Call one hook of one plugin. Alerts go to `alerts`; None: this hook returns nothing."""
        failure: BaseException | None = None
        began = self._clock()
        self.current_call = CurrentCall(slot.record.name, slot.hook, began)
        try:
            result: Any = slot.function(argument) if slot.takes_argument else slot.function()
            if result is not None:
                if alerts is None:
                    raise refuse_result(slot.hook, result)
                self._take(slot, result, argument, alerts)
        except BaseException as exc:
            if passes(exc):
                raise
            failure = exc
        finally:
            self.current_call = None
        self._settle(slot, self._clock() - began, failure)

    def _take(self, slot: Slot, result: Iterable[Alert], tick: MetricsTick, alerts: list[Alert]) -> None:
        """Take the good alerts of a result. Raises: BadResult for the first bad one, after the rest was taken."""
        if isinstance(result, (str, bytes, dict)) or not hasattr(result, "__iter__"):
            raise refuse_result(slot.hook, result, "an iterable of Alerts or None")
        record = slot.record
        limit = self._limits.max_alerts_per_call
        fault = ""
        for number, alert in enumerate(islice(result, limit + 1)):
            if number == limit:
                record.dropped += 1
                self._warn(record, "flood", f"{slot.hook} returned more than {limit} alerts; the rest is dropped")
                if inspect.isgenerator(result):
                    result.close()  # here, where what it does then is contained and timed
                break
            wrong = alert_fault(alert, tick)
            if wrong:
                record.rejected += 1
                fault = fault or wrong
            else:
                record.alerts += 1
                alerts.append(_replace(alert, plugin=record.name))
        if fault:
            raise BadResult(f"an alert was refused: {fault}")

    def _settle(self, slot: Slot, took_s: float, failure: BaseException | None) -> None:
        """Count the call; warn, or disable the plugin, when it went wrong or took too long."""
        record, limits = slot.record, self._limits
        record.count_call(took_s)
        took_ms = took_s * 1000
        if took_ms > limits.budget_ms:
            record.over_budget += 1
            self._warn(record, "slow", f"{slot.hook} took {took_ms:.0f} ms; the budget is {limits.budget_ms:g} ms")
        if failure is None:
            slot.failures_in_row = 0
        else:
            self._count_failure(slot, failure)
        if took_ms > limits.disable_over_ms:
            self._disable(record, f"{slot.hook} took {took_ms:.0f} ms; the limit is {limits.disable_over_ms:g} ms")
        elif slot.failures_in_row >= limits.max_failures:
            self._disable(
                record, f"{slot.hook} failed {slot.failures_in_row} times in a row, last: {record.last_error}"
            )
        if failure is not None and self._on_failure is not None:
            self._on_failure(Failure(record.name, slot.hook, failure))

    def _count_failure(self, slot: Slot, failure: BaseException) -> None:
        slot.failures_in_row += 1
        record = slot.record
        record.failures += 1
        line = error_line(failure, record.path)
        record.last_error = describe_error(failure) + (f" (line {line})" if line else "")
        self._warn(record, "failure", f"{slot.hook} failed: {record.last_error}")

    def _disable(self, record: Record, why: str) -> None:
        """Call this plugin no more."""
        if record.state is PluginState.DISABLED:
            return
        record.state = PluginState.DISABLED
        record.last_error = why
        for hook, slots in self._plan.items():
            self._plan[hook] = tuple(slot for slot in slots if slot.record is not record)
        log.error("plugin %s (%s) disabled: %s", record.name, escape_text(record.where, 1000), why)

    def _warn(self, record: Record, kind: str, text: str) -> None:
        """Say it, at most once a minute for each kind and plugin."""
        if record.may_warn(kind, self._clock()):
            log.warning("plugin %s (%s): %s", record.name, escape_text(record.where, 1000), text)
