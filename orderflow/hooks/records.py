"""What is known of each plugin: its identity, its state and its counters."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from orderflow.hooks.discovery import Source

_QUIET_S: Final = 60.0


class PluginState(enum.StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"  # failed too often in a row, or took far too long
    REFUSED = "refused"  # could not be loaded
    AVAILABLE = "available"  # found, but not enabled


class CurrentCall(NamedTuple):
    """The plugin code that runs now: a hook, or a step of loading (`import`, `Config`, `__init__`)."""

    plugin: str
    hook: str
    since: float  # seconds, on the clock the host was given


class PluginStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin's counters since start.

    Args: isolated: it lives in a process of its own; failures: failed calls, refused results and processes that died
        among them; rejected: single alerts refused; dropped: calls whose alerts were cut off at the limit; over_budget:
        calls that took longer than the budget; total_s: seconds spent in its calls, mean_ms and max_ms None before the
        first; last_error: escaped, for people.
    """

    name: str
    version: str
    where: str
    origin: str
    hooks: tuple[str, ...]
    state: PluginState
    isolated: bool = False
    calls: int = 0
    failures: int = 0
    last_error: str = ""
    total_s: float = 0.0
    mean_ms: float | None = None
    max_ms: float | None = None
    alerts: int = 0
    rejected: int = 0
    dropped: int = 0
    over_budget: int = 0
    config: dict[str, Any] = {}


class HostStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """All plugins, in the order they are called."""

    plugins: tuple[PluginStatistics, ...]


class Record:
    """The mutable side of `PluginStatistics`."""

    __slots__ = (
        "_calls",
        "_max_s",
        "_total_s",
        "_warned",
        "alerts",
        "config",
        "dropped",
        "failures",
        "hooks",
        "isolated",
        "last_error",
        "name",
        "over_budget",
        "rejected",
        "source",
        "state",
        "version",
    )

    def __init__(
        self, name: str, source: Source | None, version: str, hooks: tuple[str, ...], config: dict[str, Any]
    ) -> None:
        self.name = name
        self.source = source
        self.version = version
        self.hooks = hooks
        self.config = config
        self.isolated = False
        self.state = PluginState.ACTIVE
        self.failures = 0
        self.last_error = ""
        self.alerts = 0
        self.rejected = 0
        self.dropped = 0
        self.over_budget = 0
        self._calls = 0
        self._total_s = 0.0
        self._max_s = 0.0
        self._warned: dict[str, float] = {}

    @property
    def path(self) -> str:
        """Its file, empty for one that came from an entry point."""
        return self.source.path if self.source is not None else ""

    @property
    def where(self) -> str:
        """Its file or entry point, for people."""
        return self.source.where if self.source is not None else ""

    def count_call(self, took_s: float) -> None:
        """One more call that took this long."""
        self._calls += 1
        self._total_s += took_s
        if took_s > self._max_s:
            self._max_s = took_s

    def may_warn(self, kind: str, now: float) -> bool:
        """Whether a warning of this kind is due (at most one a minute); notes that it is given."""
        last = self._warned.get(kind)
        if last is not None and now - last < _QUIET_S:
            return False
        self._warned[kind] = now
        return True

    def statistics(self) -> PluginStatistics:
        """The counters as they are now."""
        calls = self._calls
        return PluginStatistics(
            name=self.name,
            version=self.version,
            where=escape_text(self.where, 1000),
            origin=self.source.origin if self.source is not None else "",
            hooks=self.hooks,
            state=self.state,
            isolated=self.isolated,
            calls=calls,
            failures=self.failures,
            last_error=self.last_error,
            total_s=self._total_s,
            mean_ms=self._total_s / calls * 1000 if calls else None,
            max_ms=self._max_s * 1000 if calls else None,
            alerts=self.alerts,
            rejected=self.rejected,
            dropped=self.dropped,
            over_budget=self.over_budget,
            config=self.config,
        )
