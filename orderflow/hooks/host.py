"""The plugin host: calls hooks one plugin at a time, contains what they do, counts it and says it once."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from orderflow.core.text import escape_text
from orderflow.hooks.calling import Outcome, call_hook
from orderflow.hooks.contain import Limits
from orderflow.hooks.records import CurrentCall, HostStatistics, PluginState, Record
from orderflow.hooks.specs import HOOKS, TICK_HOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderflow.core.types import Alert, FeedChange, MetricsTick, PrivateMessage, Summary
    from orderflow.hooks.discovery import Source
    from orderflow.hooks.isolate import Isolate
    from orderflow.hooks.loading import Loaded, Refused
    from orderflow.hooks.specs import StartInfo
    from orderflow.hooks.wire import Ready

log = logging.getLogger(__name__)

_replace: Final = msgspec.structs.replace


class Slot:
    """One hook of one plugin: what calls it, and how often in a row it failed."""

    __slots__ = ("failures_in_row", "hook", "record", "run")

    def __init__(self, record: Record, hook: str, run: Callable[[Any], Outcome | None]) -> None:
        self.record = record
        self.hook = hook
        self.run = run  # None: the outcome comes later, through `PluginHost.settle`
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
        self._isolates: dict[str, Isolate] = {}

    # --- who is called ------------------------------------------------------------------------------------------

    def add(self, loaded: Loaded) -> None:
        """Add a loaded plugin behind those already there. Raises: ValueError for a name that is taken."""
        hooks = tuple(impl.hook for impl in loaded.impls)
        record = self._record(loaded.source, loaded.version, hooks, loaded.configs.table())
        limit, clock = self._limits.max_alerts_per_call, self._clock
        for impl in loaded.impls:
            self._into_plan(
                Slot(record, impl.hook, partial(call_hook, impl, limit=limit, path=record.path, clock=clock))
            )

    def add_isolated(self, isolate: Isolate, ready: Ready) -> None:
        """Add a plugin that lives in a process of its own. Raises: ValueError for a name that is taken."""
        hooks = tuple(hook for hook in HOOKS if hook in ready.hooks)
        record = self._record(isolate.source, ready.version, hooks, ready.config)
        record.isolated = True
        self._isolates[record.name] = isolate
        for hook in hooks:
            self._into_plan(Slot(record, hook, partial(isolate.run, hook)))

    def _record(self, source: Source, version: str, hooks: tuple[str, ...], config: dict[str, Any]) -> Record:
        if source.name in self._records:
            raise ValueError(f"plugin {source.name!r} is there already")
        record = self._records[source.name] = Record(source.name, source, version, hooks, config)
        return record

    def _into_plan(self, slot: Slot) -> None:
        self._plan[slot.hook] = (*self._plan[slot.hook], slot)

    @property
    def isolates(self) -> tuple[Isolate, ...]:
        """The plugins that live in processes of their own and are not disabled."""
        return tuple(
            isolate for name, isolate in self._isolates.items() if self._records[name].state is PluginState.ACTIVE
        )

    def close(self, within_s: float = 0.2) -> None:
        """End the processes of isolated plugins, by force once `within_s` is over. No hook is called after this."""
        self._plan = dict.fromkeys(HOOKS, ())
        for isolate in self._isolates.values():
            isolate.farewell()
        for isolate in self._isolates.values():
            isolate.close(within_s)

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
            alerts += self._call(slot, tick)
        self._tell_alerts(alerts)
        return alerts

    def settle(self, isolate: Isolate, hook: str, outcome: Outcome) -> list[Alert]:
        """The outcome of a call that was posted. Tells `orderflow_alert`. Returns: its alerts, as `tick` does."""
        slot = next((slot for slot in self._plan[hook] if slot.record.name == isolate.source.name), None)
        if slot is None:
            return []
        alerts = self._settle(slot, outcome.took_s, outcome)
        self._tell_alerts(alerts)
        return alerts

    def _tell_alerts(self, alerts: list[Alert]) -> None:
        for alert in alerts:
            self._tell("orderflow_alert", alert)

    def _tell(self, hook: str, argument: object) -> None:
        for slot in self._plan[hook]:
            self._call(slot, argument)

    # --- one call -----------------------------------------------------------------------------------------------

    def _call(self, slot: Slot, argument: Any) -> list[Alert]:
        """Call one hook of one plugin. Returns: its good alerts."""
        began = self._clock()
        self.current_call = CurrentCall(slot.record.name, slot.hook, began)
        try:
            outcome = slot.run(argument)
        finally:
            self.current_call = None
        return self._settle(slot, self._clock() - began, outcome) if outcome is not None else []

    def _settle(self, slot: Slot, took_s: float, outcome: Outcome) -> list[Alert]:
        """Count the call; warn, or disable the plugin, when it went wrong or took too long. Returns: its alerts."""
        record = slot.record
        record.count_call(took_s)
        record.alerts += len(outcome.alerts)
        record.rejected += outcome.rejected
        if outcome.cut:
            record.dropped += 1
            limit = self._limits.max_alerts_per_call
            self._warn(record, "flood", f"{slot.hook} returned more than {limit} alerts; the rest is dropped")
        self._judge_time(slot, took_s * 1000)
        self._judge_failure(slot, outcome)
        return [_replace(alert, plugin=record.name) for alert in outcome.alerts]

    def _judge_time(self, slot: Slot, took_ms: float) -> None:
        """Too slow for the budget, or for the plugin to stay? In a process of its own it may take its time."""
        record, limits = slot.record, self._limits
        if took_ms <= limits.budget_ms or record.isolated:
            return
        record.over_budget += 1
        self._warn(record, "slow", f"{slot.hook} took {took_ms:.0f} ms; the budget is {limits.budget_ms:g} ms")
        if took_ms > limits.disable_over_ms:
            self._disable(record, f"{slot.hook} took {took_ms:.0f} ms; the limit is {limits.disable_over_ms:g} ms")

    def _judge_failure(self, slot: Slot, outcome: Outcome) -> None:
        if not outcome.error:
            slot.failures_in_row = 0
            return
        record = slot.record
        slot.failures_in_row += 1
        record.failures += 1
        if record.state is not PluginState.DISABLED:
            record.last_error = outcome.error
        if not outcome.told:
            self._warn(record, "failure", f"{slot.hook} failed: {outcome.error}")
        if outcome.fatal:
            self._disable(record, outcome.fatal)
        elif slot.failures_in_row >= self._limits.max_failures:
            self._disable(record, f"{slot.hook} failed {slot.failures_in_row} times in a row, last: {outcome.error}")
        if outcome.failure is not None and self._on_failure is not None:
            self._on_failure(Failure(record.name, slot.hook, outcome.failure))

    def _disable(self, record: Record, why: str) -> None:
        """Call this plugin no more."""
        if record.state is PluginState.DISABLED:
            return
        record.state = PluginState.DISABLED
        record.last_error = why
        for hook, slots in self._plan.items():
            self._plan[hook] = tuple(slot for slot in slots if slot.record is not record)
        if record.isolated:
            self._isolates[record.name].kill()
        log.error("plugin %s (%s) disabled: %s", record.name, escape_text(record.where, 1000), why)

    def _warn(self, record: Record, kind: str, text: str) -> None:
        """Say it, at most once a minute for each kind and plugin."""
        if record.may_warn(kind, self._clock()):
            log.warning("plugin %s (%s): %s", record.name, escape_text(record.where, 1000), text)
