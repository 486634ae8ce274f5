"""The plugin border: what a plugin raises or returns goes no further than here."""

from __future__ import annotations

import inspect
import math
import signal
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from orderflow.core.text import escape_text
from orderflow.core.types import Alert, AlertKind, MetricsTick, Severity
from orderflow.hooks.problems import show

if TYPE_CHECKING:
    from types import TracebackType

TEXT_LIMIT: Final = 2000
NAME_LIMIT: Final = 100


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How far plugins are trusted (`[plugins]` in the settings)."""

    max_failures: Annotated[int, Meta(ge=1)] = 5  # in a row of one hook, then the plugin is disabled
    budget_ms: Annotated[float, Meta(gt=0)] = 20.0  # one call; over it is warned about
    disable_over_ms: Annotated[float, Meta(gt=0)] = 1000.0  # one call; over it disables
    max_alerts_per_call: Annotated[int, Meta(ge=1)] = 100


class BadResult(Exception):
    """A hook returned what its spec does not allow."""


def passes(exc: BaseException) -> bool:
    """Whether an exception is not the plugin's and must fly on: Ctrl-C, and Trio's cancellation.

    Everything else is contained, `SystemExit` and home-made BaseExceptions too. Hooks are called between two steps of
    the event loop, so Trio itself raises nothing inside them; the test only makes sure of it without importing trio.
    """
    if isinstance(exc, KeyboardInterrupt):
        return _ctrl_c_raises()
    return not isinstance(exc, Exception) and _is_trio(type(exc))  # what the object itself says is the plugin's code


def _ctrl_c_raises() -> bool:
    """Not while handlers of our own are in place, as in every run: then it was the plugin that raised it."""
    handler = signal.getsignal(signal.SIGINT)
    return handler is signal.default_int_handler or _is_trio(handler)


def _is_trio(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "trio"


def describe_error(exc: BaseException, limit: int = 200) -> str:
    """`ValueError: text` as one safe line, even when the exception's own `__str__` fails or exits."""
    name = type(exc).__name__
    try:
        text = str(exc)
        line = f"{name}: {text}" if text else name
    except BaseException as failure:
        if passes(failure):
            raise
        line = f"{name}: (its text cannot be had)"
    return escape_text(line, limit)


def error_line(exc: BaseException, path: str) -> int:
    """The line in the file `path` where `exc` came from: the innermost frame of that file; 0 when there is none."""
    if isinstance(exc, SyntaxError) and exc.filename == path:
        return exc.lineno or 0
    line = 0
    frame: TracebackType | None = exc.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == path:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def refuse_result(hook: str, result: object, expected: str = "None") -> BadResult:
    """The error for a hook that returned something else than expected."""
    if inspect.iscoroutine(result):
        result.close()  # or Python warns, much later, that it was never awaited
    return BadResult(f"{hook} returned {show(result)}; expected {expected}")


def alert_fault(alert: Any, tick: MetricsTick) -> str:
    """What is wrong with what a plugin returned as an alert about `tick`; empty when nothing is."""
    if not _is_alert(alert):
        return f"{show(alert)} is no Alert"
    if alert.tick is not tick:
        return "its tick is not the one the hook was given"
    if not isinstance(alert.kind, AlertKind) or not isinstance(alert.severity, Severity):
        return f"kind {show(alert.kind)} and severity {show(alert.severity)} must be an AlertKind and a Severity"
    for name, text, limit in (
        ("rule", alert.rule, NAME_LIMIT),
        ("metric", alert.metric, NAME_LIMIT),
        ("message", alert.message, TEXT_LIMIT),
    ):
        if not _is_text(text, limit):
            return f"{name} {show(text)} is not encodable text of at most {limit} characters"
    if not alert.rule:
        return "it has no rule name"
    if not (_is_number(alert.value) and _is_number(alert.threshold)):
        return f"value {show(alert.value)} and threshold {show(alert.threshold)} must be finite numbers or None"
    if alert.since_ms is not None and (type(alert.since_ms) is not int or alert.since_ms < 0):
        return f"since_ms {show(alert.since_ms)} is not a time in ms"
    return ""


def _is_alert(thing: object) -> bool:
    """Exactly Alert: a subclass could change under the eyes of the next plugin."""
    return type(thing) is Alert


def _is_text(text: object, limit: int) -> bool:
    """Text that every sink can write: lone surrogates cannot be encoded and would break the sink, not the plugin."""
    if type(text) is not str or len(text) > limit:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))
