"""What plugins print becomes lines of the log."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import pytest

from orderflow.hooks.printed import LINE_LIMIT, PrintedLines, prints_logged
from orderflow.hooks.setup import set_up
from tests.hooks.choice import choose
from tests.hooks.plugin_files import write_plugin

if TYPE_CHECKING:
    from pathlib import Path

NAME = "orderflow.hooks.printed"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == NAME]


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, NAME)


def test_whole_lines_are_logged_and_nothing_is_printed(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with prints_logged():
        sys.stdout.write("one\ntwo")
        sys.stderr.write("odd \x1b[2J\n")
        sys.stdout.write(" and a half\n")
        sys.stdout.write("x" * 10 * LINE_LIMIT + "\n")
        sys.stdout.write("never ended")
    assert lines(caplog) == ["one", "odd \x1b[2J", "two and a half", "x" * LINE_LIMIT]
    assert capfd.readouterr() == ("", "")


def test_it_is_a_text_stream_as_others_are() -> None:
    stream = PrintedLines()
    assert stream.writable()
    assert stream.write("one\ntwo") == 7


def test_standard_error_may_be_left_alone(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with prints_logged(errors=False):
        sys.stderr.write("seen\n")
        sys.stdout.write("logged\n")
    assert (lines(caplog), capfd.readouterr().err) == (["logged"], "seen\n")


def test_a_log_handler_that_fails_and_prints_that_does_not_run_away(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert sys.stderr.write(f"I failed over {record.getMessage()}\n") == 19

    broken = Broken()
    logging.getLogger(NAME).addHandler(broken)
    try:
        with prints_logged():
            sys.stderr.write("this\n")
    finally:
        logging.getLogger(NAME).removeHandler(broken)
    assert lines(caplog) == ["this"]


def test_what_a_plugin_prints_while_it_is_loaded(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    write_plugin(folder, "loud", text="print('here I am \\u202e')\n")
    set_up(choose(("loud",), folder), None)
    assert lines(caplog) == ["here I am \u202e"]
    assert capfd.readouterr().out == ""
