"""An isolated plugin as the host sees it: hooks that are answered by a process of the plugin's own.

Whatever it does there, loop for ever, crash, take all memory, holds up nothing here. A process that dies or does not
answer is started again, each time later, a few times; then the plugin is disabled.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from orderflow.core.text import escape_text
from orderflow.hooks import wire
from orderflow.hooks.calling import Outcome
from orderflow.hooks.contain import alert_fault
from orderflow.hooks.loading import PluginProblems
from orderflow.hooks.process import Died, Patience, PluginProcess
from orderflow.hooks.specs import TICK_HOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orderflow.core.types import Alert, MetricsTick
    from orderflow.hooks.discovery import Source

log = logging.getLogger(__name__)

START_HOOK: Final = "orderflow_start"
BACK_OFF_S: Final = 1.0
"""The wait before the first restart; doubled each time."""
STABLE_S: Final = 600.0
"""A process that lived this long starts the count of restarts again."""

END_S: Final = 0.2
"""How long a process that was asked to end may take."""
_MAX_SAID: Final = 200  # log records before one answer; our side of the pipe sends far fewer

Call = tuple[str, Any]
"""(hook, argument)."""


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """How far the processes of isolated plugins are trusted (`[plugins]` in the settings)."""

    start_s: Annotated[float, Meta(gt=0)] = 10.0  # starting it and loading the plugin
    answer_s: Annotated[float, Meta(gt=0)] = 5.0  # one call
    restarts: Annotated[int, Meta(ge=0)] = 3
    memory_mb: Annotated[int, Meta(ge=0)] = 2048  # 0: no limit


class Isolate:
    """One isolated plugin and its process.

    `launch`, `begin_loading`, `wait_ready`, then `ask`: all but the first of them wait. While `post` is set, calls go
    there instead: somebody asks on another thread and gives the outcomes to the host (`PluginHost.settle`).

    Args: source, table: as for `loading.load`; max_alerts: taken of one call.
    """

    def __init__(self, source: Source, table: Mapping[str, Any], policy: Isolation, max_alerts: int) -> None:
        self.source = source
        self.policy = policy
        self.post: Callable[[Call], None] | None = None
        self._load = wire.Load(source=source, table=dict(table), max_alerts=max_alerts)
        self._log = logging.getLogger(f"orderflow.plugin.{source.name}")
        self._process: PluginProcess | None = None
        self._number = 0
        self._deaths = 0  # since it was last stable
        self._launched_s = 0.0
        self._start: Any = None  # what orderflow_start was told, for the next process
        self._closed = False

    @property
    def ended(self) -> bool:
        """Whether it was closed or killed on purpose."""
        return self._closed

    @property
    def pid(self) -> int | None:
        """Of its process; None before there is one."""
        return self._process.pid if self._process is not None else None

    # --- its process

    def launch(self) -> None:
        """Start a process: a matter of a millisecond, and one for the main thread. Raises: Died."""
        self._launched_s = time.monotonic()
        self._process = PluginProcess(self.policy.memory_mb)

    def begin_loading(self) -> None:
        """Tell the process what to load. Raises: Died."""
        assert self._process is not None
        try:
            data = wire.encode(self._load)
        except wire.Nonsense as exc:
            self._process.end()
            raise Died(f"its process could not be told its settings: {exc}") from None
        self._process.send(data, Patience(self.policy.start_s))

    def wait_ready(self) -> wire.Ready:
        """Wait until the plugin is loaded. Raises: PluginProblems with everything that is wrong with it; Died."""
        message = self._receive(self.policy.start_s)
        if isinstance(message, wire.Unfit):
            if self._process is not None:
                self._process.end(END_S)
            raise PluginProblems(self.source, message.problems)
        if not isinstance(message, wire.Ready):
            raise self._lied()
        return message

    def close(self, within_s: float = 0.0) -> None:
        """End the process, by force once `within_s` is over. No call after this does anything."""
        self._closed = True
        if self._process is not None:
            self._process.end(within_s)

    def farewell(self) -> None:
        """Ask the process to end; `close` waits for it."""
        self._closed = True
        if self._process is not None:
            self._process.close()

    def kill(self) -> None:
        """End the process at once, from whatever thread; who waits for its answer learns that it died."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    # --- calls

    def run(self, hook: str, argument: Any) -> Outcome | None:
        """Call a hook and wait for the outcome, or hand it to `post`: None, the outcome comes later."""
        if hook == START_HOOK:
            self._start = argument
        if self.post is not None:
            self.post((hook, argument))
            return None
        try:
            return self.ask(hook, argument)
        except Died as death:
            return self._revived(death, hook)

    def ask(self, hook: str, argument: Any) -> Outcome:
        """One call, waited for. Raises: Died."""
        if self._closed or self._process is None:
            raise Died("its process has been ended")
        self._number += 1
        try:
            data = wire.encode_call(self._number, hook, argument)
        except wire.Nonsense as exc:
            outcome = Outcome()
            outcome.error = f"what {hook} is told: {exc}"
            return outcome
        self._process.send(data, Patience(self.policy.answer_s))
        message = self._receive(self.policy.answer_s)
        if not isinstance(message, wire.Answer) or message.number != self._number:
            raise self._lied()
        return _outcome(message, argument if hook == TICK_HOOK else None)

    def begin_again(self) -> None:
        """What a new process is told first: `orderflow_start`. Its outcome is nobody's. Raises: Died."""
        if self._start is not None:
            self.ask(START_HOOK, self._start)

    def bury(self, death: Died, hook: str) -> float | None:
        """Say what happened. Returns: seconds until it should be launched again; None: never."""
        lived_s = time.monotonic() - self._launched_s
        self._deaths = 1 if lived_s > STABLE_S else self._deaths + 1
        wait_s = None if self._deaths > self.policy.restarts else BACK_OFF_S * 2.0 ** (self._deaths - 1)
        again = "" if wait_s is None else f"; it is started again ({self._deaths} of {self.policy.restarts})"
        where = escape_text(self.source.where, 1000)
        log.error("plugin %s (%s): %s during %s%s", self.source.name, where, death.what, hook, again)
        if death.lines:
            log.error("plugin %s: the last it said: %s", self.source.name, " | ".join(death.lines))
        return wait_s

    def _revived(self, death: Died, hook: str) -> Outcome:
        """The outcome of a call that cost a process; the next one is up when this returns, without a wait."""
        outcome = failed(death, hook, self.source.path)
        while self.bury(death, hook) is not None:
            try:
                self.launch()
                self.begin_loading()
                self.wait_ready()
                self.begin_again()
                return outcome
            except PluginProblems as exc:
                death = Died(str(exc))
            except Died as exc:
                death, hook = exc, "start"
        outcome.fatal = outcome.error
        return outcome

    def _receive(self, limit_s: float) -> wire.FromPlugin:
        """The next message that is no log record; those are passed on. Raises: Died."""
        assert self._process is not None
        patience = Patience(limit_s)
        for _ in range(_MAX_SAID):
            data = self._process.receive(patience)
            try:
                message = wire.decode_from_plugin(data)
            except wire.Nonsense:
                break
            for line in self._process.printed():
                self._log.info("%s", line)
            if not isinstance(message, wire.Said):
                return message
            self._log.log(min(max(message.level, logging.DEBUG), logging.CRITICAL), "%s", escape_text(message.text))
        raise self._lied()

    def _lied(self) -> Died:
        assert self._process is not None
        self._process.end()
        return Died("its process sent nonsense and was ended")


def failed(death: Died, hook: str, path: str) -> Outcome:
    """The outcome of a call during which the process died."""
    outcome = Outcome()
    line = next((line for line in death.lines if path and path in line), "")
    number = line.partition(", line ")[2].partition(" ")[0]
    outcome.error = f"{death.what} during {hook}" + (f" (line {number})" if number.isdigit() else "")
    outcome.told = True
    return outcome


def _outcome(answer: wire.Answer, tick: MetricsTick | None) -> Outcome:
    """What the process says, judged once more: it need not be ours that answers there."""
    outcome = Outcome()
    outcome.took_s = answer.took_s if 0 <= answer.took_s < 1e6 else 0.0
    outcome.rejected = max(0, answer.rejected)
    outcome.cut = answer.cut
    outcome.error = escape_text(answer.error, 400)
    if tick is not None:
        alerts: list[Alert] = [wire.alert_of(verdict, tick) for verdict in answer.alerts]
        outcome.alerts = [alert for alert in alerts if not alert_fault(alert, tick)]
    return outcome
