"""What passes between the program and an isolated plugin's process, on the side of the process too."""

from __future__ import annotations

from typing import Any

import pytest

from orderflow.core.types import (
    Alert,
    AlertKind,
    CoinBalance,
    OrderRow,
    PositionRow,
    PrivateMessage,
    Severity,
    WalletRow,
)
from orderflow.hooks import wire
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.problems import Problem, ProblemKind
from orderflow.hooks.samples import make_tick, sample_changes, sample_private, sample_start, sample_summary

TICK = make_tick()
ALERT = Alert(
    rule="r",
    kind=AlertKind.RAISE,
    severity=Severity.CRITICAL,
    message="m",
    tick=TICK,
    metric="mid",
    value=1.5,
    threshold=1,
    since_ms=7,
    plugin="p",
)


def private(topic: str, kind: type, **fields: Any) -> PrivateMessage:
    rows = tuple(kind(**{name: fields.get(name, number) for name in kind.__struct_fields__}) for number in ("1", "2.5"))
    return PrivateMessage(topic=topic, creation_ms=5, rows=rows)


COIN = CoinBalance(**dict.fromkeys(CoinBalance.__struct_fields__, "2"))
TYPED: dict[str, Any] = {"reduce_only": True, "created_ms": 1, "updated_ms": None, "position_idx": 0, "seq": -1}
ARGUMENTS = [
    ("orderflow_start", sample_start()),
    ("orderflow_stop", sample_summary()),
    *(("orderflow_feed_change", change) for change in sample_changes()),
    ("orderflow_tick", TICK),
    ("orderflow_alert", ALERT),
    ("orderflow_private", sample_private()),
    ("orderflow_private", private("order", OrderRow, **TYPED)),
    ("orderflow_private", private("position", PositionRow, **TYPED)),
    ("orderflow_private", private("wallet", WalletRow, coins=(COIN,))),
]


def cut(data: bytes) -> bytes:
    """The one message in these bytes."""
    cutter = wire.Cutter()
    cutter.feed(data)
    message = cutter.next()
    assert message is not None
    assert cutter.next() is None
    return message


@pytest.mark.parametrize(("hook", "argument"), ARGUMENTS)
def test_a_call_arrives_as_it_was_made(hook: str, argument: Any) -> None:
    data = wire.encode_call(2**40, hook, argument)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    back = wire.decode_call(cut(data))
    assert back == (2**40, hook, argument)
    assert type(back[2]) is type(argument)


def test_the_order_to_load_arrives_as_it_was_given() -> None:
    source = Source(name="x", origin=Origin.ENTRY_POINT, entry_point="a:b", version="1")
    load = wire.Load(source=source, table={"a": 1.5, "symbols": {"BTCUSDT": {"b": [None, True]}}}, max_alerts=3)
    assert wire.decode_load(cut(wire.encode(load))) == load


VERDICT = wire.verdict(ALERT)
PROBLEM = Problem(plugin="p", text="t", kind=ProblemKind.SETTINGS, path="/x.py", line=3, key="k")


@pytest.mark.parametrize(
    "message",
    [
        wire.Ready(version="1", hooks=("orderflow_tick",), config={"a": 1}),
        wire.Unfit(problems=(PROBLEM,)),
        wire.Said(level=30, text="words"),
        wire.Answer(number=1, took_s=0.5),
        wire.Answer(number=1, took_s=0.5, alerts=(VERDICT, VERDICT), rejected=2, cut=True, error="no"),
    ],
)
def test_what_a_process_says_arrives_as_it_was_said(message: wire.FromPlugin) -> None:
    assert wire.decode_from_plugin(cut(wire.encode(message))) == message


def test_an_answer_says_by_itself_that_all_went_well() -> None:
    answer = wire.Answer(number=1, took_s=0.5)
    assert (answer.alerts, answer.rejected, answer.cut, answer.error) == ((), 0, False, "")


def test_an_alert_comes_back_about_the_tick_we_know_and_of_nobody() -> None:
    other = make_tick(bid=1.0)
    back = wire.alert_of(VERDICT, other)
    assert back.tick is other
    assert back.plugin == ""
    for name in VERDICT.__struct_fields__:
        assert getattr(back, name) == getattr(ALERT, name)


def of_size(size: int) -> wire.Said:
    """A message of so many bytes, its length not counted."""
    empty = len(wire.encode(wire.Said(level=30, text="x" * 2**16))) - 4 - 2**16
    return wire.Said(level=30, text="x" * (size - empty))


def test_a_message_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert wire.MAX_BYTES == 8 * 1024 * 1024
    longest = wire.encode(of_size(wire.MAX_BYTES))
    assert len(longest) == 4 + wire.MAX_BYTES
    assert len(cut(longest)) == wire.MAX_BYTES
    with pytest.raises(wire.Nonsense, match="it is longer than 8388608 bytes"):
        wire.encode(of_size(wire.MAX_BYTES + 1))
    cutter = wire.Cutter()
    cutter.feed((wire.MAX_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(wire.Nonsense, match="a message of 8388609 bytes"):
        cutter.next()


def endless() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["again"] = table
    return table


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"a": object()}, "TypeError"),
        ({"a": 2**70}, "OverflowError"),
        (endless(), "RecursionError"),
        ({"a": "\ud800"}, "UnicodeEncodeError"),
    ],
)
def test_what_cannot_be_sent_is_named(config: dict[str, Any], name: str) -> None:
    with pytest.raises(wire.Nonsense, match=f"it cannot be sent: {name}"):
        wire.encode(wire.Ready(version="1", hooks=(), config=config))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa4type\xa5never", b"\x91" * 5000])
def test_nonsense_is_called_nonsense(data: bytes) -> None:
    with pytest.raises(wire.Nonsense):
        wire.decode_from_plugin(data)


def test_messages_are_cut_wherever_the_bytes_break() -> None:
    said = [wire.Said(level=30, text="x" * size) for size in (0, 1, 300)]
    stream = b"".join(map(wire.encode, said))
    for step in (1, 3, 4, 5, 7, len(stream)):
        cutter, got = wire.Cutter(), list[wire.FromPlugin]()
        for at in range(0, len(stream), step):
            cutter.feed(stream[at : at + step])
            while (message := cutter.next()) is not None:
                got.append(wire.decode_from_plugin(message))
        assert got == said
