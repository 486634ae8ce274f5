"""The plugin border: what flies on, what is said of an error, which alerts are sound."""

from __future__ import annotations

import signal
import traceback
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from orderflow.config.tree import PluginSettings
from orderflow.core.types import Alert, AlertKind, Severity
from orderflow.hooks.contain import Limits, alert_fault, describe_error, error_line, passes
from orderflow.hooks.samples import make_tick

if TYPE_CHECKING:
    from pathlib import Path

TICK = make_tick()


def test_the_limits_are_those_of_the_settings() -> None:
    settings = PluginSettings()
    for name in Limits.__struct_fields__:
        assert getattr(Limits(), name) == getattr(settings, name)


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_no_limit_is_nothing(name: str) -> None:
    kind = int if name.startswith("max") else float
    assert msgspec.convert({name: kind(1)}, Limits) == Limits(**{name: kind(1)})
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({name: kind(0)}, Limits)


class Odd(BaseException):
    __module__ = "trio_of_mine"


class Touchy(BaseException):
    @property
    def __module__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize("exc", [ValueError(), SystemExit(), GeneratorExit(), Odd(), Touchy(), trio.TooSlowError()])
def test_a_plugins_exceptions_stay(exc: BaseException) -> None:
    assert not passes(exc)


def test_a_cancellation_of_trio_flies_on() -> None:
    cancelled: list[BaseException] = []

    async def cancel() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                cancelled.append(exc)
                raise

    trio.run(cancel)
    assert passes(cancelled[0])


@pytest.mark.parametrize("restricted", [False, True])
def test_ctrl_c_flies_on_where_it_raises(restricted: bool) -> None:
    """Python's own handler raises, and so does the one of Trio; a handler of ours does not."""

    async def ask() -> bool:
        return passes(KeyboardInterrupt())

    assert passes(KeyboardInterrupt())
    assert trio.run(ask, restrict_keyboard_interrupt_to_checkpoints=restricted)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        assert not passes(KeyboardInterrupt())
    finally:
        signal.signal(signal.SIGINT, before)


class Mute(Exception):
    def __str__(self) -> str:
        raise SyntaxError


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Text(str):
    __slots__ = ()

    def __format__(self, spec: str) -> str:
        raise SystemExit


class Formats(Exception):
    def __str__(self) -> str:
        return Text("text")


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (ValueError("no\x1b"), r"ValueError: no\x1b"),
        (ValueError(), "ValueError"),
        (Mute(), "Mute: (its text cannot be had)"),
        (Exits(), "Exits: (its text cannot be had)"),
        (Formats(), "Formats: (its text cannot be had)"),
        (ValueError("x" * 188), "ValueError: " + "x" * 188),
        (ValueError("x" * 189), "ValueError: " + "x" * 170 + "… [201 characters]"),
    ],
)
def test_an_error_is_one_line(exc: BaseException, text: str) -> None:
    assert describe_error(exc) == text


def test_the_line_is_that_of_the_innermost_frame_of_the_file(tmp_path: Path) -> None:
    path, other = str(tmp_path / "plugin.py"), str(tmp_path / "other.py")
    names: dict[str, Any] = {}
    exec(compile("def fail(): 1 / 0", other, "exec"), names)
    exec(compile("def inner():\n    fail()\ndef outer():\n    inner()", path, "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught:
        names["outer"]()
    assert error_line(caught.value, path) == 2
    assert error_line(caught.value, other) == 1
    assert error_line(caught.value, "elsewhere.py") == 0
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 4


def test_a_file_that_is_not_python_has_a_line() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("\nx = = 1", "plugin.py", "exec")
    assert error_line(caught.value, "plugin.py") == 2
    assert error_line(caught.value, "other.py") == 0
    caught.value.lineno = None
    assert error_line(caught.value, "plugin.py") == 0


def fault(**fields: Any) -> str:
    sound = {"rule": "r", "kind": AlertKind.RAISE, "severity": Severity.INFO, "message": "m", "tick": TICK}
    return alert_fault(Alert(**{**sound, **fields}), TICK)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rule": "r" * 100, "metric": "m" * 100, "message": "m" * 2000},
        {"message": "", "metric": ""},
        {"value": 1, "threshold": -1.5},
        {"value": None, "threshold": None, "since_ms": 0},
    ],
)
def test_sound_alerts(fields: dict[str, Any]) -> None:
    assert fault(**fields) == ""


_KINDS = "must be an AlertKind and a Severity"
_NUMBERS = "must be finite numbers or None"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tick": make_tick()}, "its tick is not the one the hook was given"),
        ({"kind": "raise"}, f"kind 'raise' and severity {Severity.INFO!r} {_KINDS}"),
        ({"severity": 1}, f"kind {AlertKind.RAISE!r} and severity 1 {_KINDS}"),
        ({"rule": 5}, "rule 5 is not encodable text of at most 100 characters"),
        ({"rule": ""}, "it has no rule name"),
        ({"metric": "\ud800"}, r"metric '\ud800' is not encodable text of at most 100 characters"),
        ({"message": None}, "message None is not encodable text of at most 2000 characters"),
        ({"value": True}, f"value True and threshold None {_NUMBERS}"),
        ({"threshold": float("inf")}, f"value None and threshold inf {_NUMBERS}"),
        ({"since_ms": -1}, "since_ms -1 is not a time in ms"),
        ({"since_ms": True}, "since_ms True is not a time in ms"),
    ],
)
def test_what_is_wrong_with_an_alert_is_said(fields: dict[str, Any], text: str) -> None:
    assert fault(**fields) == text


@pytest.mark.parametrize(("name", "limit"), [("rule", 100), ("metric", 100), ("message", 2000)])
def test_texts_are_bounded(name: str, limit: int) -> None:
    assert fault(**{name: "x" * (limit + 1)}).startswith(f"{name} 'xxx")


def test_what_is_no_alert_is_shown() -> None:
    assert alert_fault(7, TICK) == "7 is no Alert"
