"""The loop of an isolated plugin's process, over bytes instead of pipes. The process itself is in test_isolate.py."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from orderflow.core.types import Severity
from orderflow.hooks import wire
from orderflow.hooks.child import Server, Teller
from orderflow.hooks.discovery import Origin, Source
from orderflow.hooks.samples import make_tick, sample_start
from tests.hooks.plugin_files import GOOD, HEAD, tick_hook, write_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TICK = make_tick()


def load_of(path: Path, max_alerts: int = 10) -> bytes:
    source = Source(name=path.stem, origin=Origin.TEST, path=str(path))
    return wire.encode(wire.Load(source=source, table={"limit": 2.0}, max_alerts=max_alerts))


def ticks(count: int) -> bytes:
    return b"".join(wire.encode_call(number, "orderflow_tick", TICK) for number in range(1, count + 1))


class Answers(io.BytesIO):
    """What was written and flushed: whoever waits at the other end gets nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = b""

    def flush(self) -> None:
        self.flushed = self.getvalue()


@contextmanager
def own_log() -> Iterator[None]:
    """The log of the process, which here is that of the tests, has no other reader meanwhile."""
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], []
    try:
        yield
    finally:
        root.handlers[:] = before
        logging.captureWarnings(False)


def serve(commands: bytes) -> list[wire.FromPlugin]:
    answers = Answers()
    with own_log():
        Server(io.BytesIO(commands), answers).run()
    cutter = wire.Cutter()
    cutter.feed(answers.flushed)
    messages: list[wire.FromPlugin] = []
    while (message := cutter.next()) is not None:
        messages.append(wire.decode_from_plugin(message))
    return messages


READY = wire.Ready(version="", hooks=("orderflow_tick",), config={"limit": 2.0})


def only(messages: list[wire.FromPlugin], kind: type) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]


def test_it_loads_and_answers_each_call_by_its_number(folder: Path) -> None:
    lines = ("self.seen.append(1)", "return [notice(tick, 'r', str(len(self.seen)), severity=Severity.CRITICAL)]")
    path = write_plugin(folder, "whale", tick_hook(*lines))
    ready, *answers = serve(load_of(path) + ticks(3))
    assert ready == READY
    for number, answer in enumerate(answers, 1):
        assert isinstance(answer, wire.Answer)
        assert (answer.number, answer.rejected, answer.cut, answer.error) == (number, 0, False, "")
        assert 0 < answer.took_s < 60
        (verdict,) = answer.alerts
        assert (verdict.rule, verdict.message, verdict.severity) == ("r", str(number), Severity.CRITICAL)
    assert len(answers) == 3


def test_hooks_get_what_they_are_called_with(folder: Path) -> None:
    start = "@hookimpl\ndef orderflow_start(self, info):\n    self.seen.append(info.env)\n"
    path = write_plugin(folder, "whale", start + tick_hook("return [notice(tick, self.seen[0], 'm')]"))
    calls = wire.encode_call(1, "orderflow_start", sample_start()) + wire.encode_call(2, "orderflow_tick", TICK)
    ready, first, second = serve(load_of(path) + calls)
    assert isinstance(ready, wire.Ready)
    assert ready.hooks == ("orderflow_start", "orderflow_tick")
    assert isinstance(first, wire.Answer)
    assert isinstance(second, wire.Answer)
    assert (first.number, first.alerts, first.error) == (1, (), "")
    assert second.alerts[0].rule == "sim"


def test_what_goes_wrong_in_a_call_is_in_its_answer(folder: Path) -> None:
    lines = ("yield notice(tick, '', 'm')", "while True: yield notice(tick, 'r', 'm')")
    _, answer = serve(load_of(write_plugin(folder, "whale", tick_hook(*lines)), 3) + ticks(1))
    assert isinstance(answer, wire.Answer)
    assert (len(answer.alerts), answer.rejected, answer.cut) == (2, 1, True)
    assert answer.error == "BadResult: an alert was refused: it has no rule name"


def test_the_line_of_the_plugins_file_is_named(folder: Path) -> None:
    path = write_plugin(folder, "whale", tick_hook("raise ValueError('no')"))
    _, answer = serve(load_of(path) + ticks(1))
    line = path.read_text().splitlines().index("        raise ValueError('no')") + 1
    assert isinstance(answer, wire.Answer)
    assert answer.error == f"ValueError: no (line {line})"


def test_a_result_that_cannot_be_sent_costs_that_call_only(folder: Path) -> None:
    lines = ("self.seen.append(1)", "return [notice(tick, 'r', 'm', value=10 ** (30 * (len(self.seen) % 2)))]")
    _, bad, good = serve(load_of(write_plugin(folder, "whale", tick_hook(*lines))) + ticks(2))
    assert isinstance(bad, wire.Answer)
    assert (bad.number, bad.alerts, bad.error) == (1, (), "what it returned: it cannot be sent: OverflowError")
    assert bad.took_s > 0
    assert isinstance(good, wire.Answer)
    assert (good.number, len(good.alerts), good.error) == (2, 1, "")


def test_a_plugin_that_does_not_fit_is_told_with_every_problem(folder: Path) -> None:
    body = "@hookimpl\nasync def orderflow_tick(self, tick): pass\n@hookimpl\ndef orderflow_alerts(self, x): pass\n"
    (unfit,) = serve(load_of(write_plugin(folder, "whale", body)) + ticks(1))
    assert isinstance(unfit, wire.Unfit)
    assert len(unfit.problems) == 2


@pytest.mark.parametrize("lost", [1, 3, 4, 5, 50])
def test_a_pipe_that_ends_in_mid_message_ends_it(folder: Path, lost: int) -> None:
    """The parent is gone, whatever it was about to say."""
    path = write_plugin(folder, "whale")
    calls = ticks(1)
    assert len(serve(load_of(path) + calls + calls[:-lost])) == 2
    assert len(serve(load_of(path) + calls + calls[: 4 - min(lost, 4)])) == 2


def test_a_parent_that_says_nothing_is_gone() -> None:
    assert serve(b"") == []
    assert serve(b"\0\0") == []


def test_what_it_logs_is_passed_on_escaped_and_so_much_of_it_a_call(folder: Path) -> None:
    lines = (
        "import logging",
        "logging.warning('said \\x1b')",
        "logging.info('not this')",
        "for n in range(40): logging.error('%d', n)",
    )
    messages = serve(load_of(write_plugin(folder, "whale", tick_hook(*lines))) + ticks(2))
    said = only(messages, wire.Said)
    one_call = [(logging.WARNING, r"said \x1b"), *((logging.ERROR, str(number)) for number in range(19))]
    assert [(one.level, one.text) for one in said] == one_call * 2
    assert [one.number for one in only(messages, wire.Answer)] == [1, 2]


def test_warnings_are_logged_too(folder: Path) -> None:
    path = write_plugin(folder, "whale", tick_hook("import warnings", "warnings.warn('old ways')"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        (said,) = only(serve(load_of(path) + ticks(1)), wire.Said)
    assert "old ways" in said.text


def test_an_exception_that_is_logged_is_named_and_long_text_is_cut(folder: Path) -> None:
    lines = (
        "import logging",
        "try: 1 / 0",
        "except ZeroDivisionError: logging.exception('oh')",
        "logging.warning('no exception', exc_info=True)",
        "logging.warning('x' * 2000)",
        "logging.warning('x' * 2001)",
    )
    texts = [
        one.text for one in only(serve(load_of(write_plugin(folder, "whale", tick_hook(*lines))) + ticks(1)), wire.Said)
    ]
    assert texts[:3] == ["oh (ZeroDivisionError: division by zero)", "no exception", "x" * 2000]
    assert len(texts[3]) == 2000
    assert texts[3].endswith("… [2001 characters]")


def test_a_record_that_cannot_become_text_is_lost_and_nothing_else(folder: Path) -> None:
    lines = ("import logging", "logging.warning('%d', 'no number')", "logging.warning('sound')")
    (said,) = only(serve(load_of(write_plugin(folder, "whale", tick_hook(*lines))) + ticks(1)), wire.Said)
    assert said.text == "sound"


def test_what_is_logged_before_the_first_call_counts_as_a_call_too(folder: Path) -> None:
    text = "import logging\nfor n in range(40): logging.warning('%d', n)\n" + HEAD + GOOD
    messages = serve(load_of(write_plugin(folder, "whale", text=text)))
    assert [one.text for one in only(messages, wire.Said)] == [str(number) for number in range(20)]


def test_only_warnings_and_worse_are_listened_for() -> None:
    assert Teller(Server(io.BytesIO(), io.BytesIO())).level == logging.WARNING
