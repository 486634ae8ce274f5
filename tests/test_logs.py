"""Log lines: safe, masked, bounded, rate-limited, and never in the way."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow import logs
from orderflow.config.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave logging as it was: other tests share the process."""
    root = logging.getLogger()
    before = root.level, list(root.handlers), logging.getLogger("orderflow").level
    yield
    logs.forget_secrets()
    logging.captureWarnings(False)
    for handler in [h for h in root.handlers if h not in before[1]]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[0])
    logging.getLogger("orderflow").setLevel(before[2])
    logs._handler = None


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(read end, write end)."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass  # the test closed it


def record(msg: str, *args: object, exc: BaseException | None = None) -> logging.LogRecord:
    info = (type(exc), exc, exc.__traceback__) if exc is not None else None
    return logging.LogRecord("orderflow.x", logging.WARNING, __file__, 1, msg, args, info)


def show(msg: str, *args: object, exc: BaseException | None = None) -> str:
    return logs.SafeFormatter().format(record(msg, *args, exc=exc))


def test_shape() -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning orderflow\.x lost after 3 s", show("lost after %d s", 3))


@given(st.text(st.characters(exclude_categories=())))
def test_any_message_is_one_printable_line(text: str) -> None:
    assert show("%s", text).isprintable()


def test_an_exception_cannot_forge_a_log_line() -> None:
    exc = ValueError("x\n12:00:00 info orderflow all is well\x1b[2J")
    first, *rest = show("failed", exc=exc).split("\n")
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
    assert any(r"all is well\x1b[2J" in line for line in rest)


def test_a_huge_traceback_is_bounded_and_keeps_its_end() -> None:
    lines = show("failed", exc=ValueError("\n".join(map(str, range(10_000))))).split("\n")
    assert len(lines) < 250
    assert lines[-1] == "  | 9999"


def test_arguments_that_do_not_fit_or_raise_are_survived() -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError

    assert "do not fit" in show("%d", "no number")
    assert "do not fit" in show("%s", Rude())


SECRET = 's3cr3t/with+odd=chars"&é'
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    "leak",
    [
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        SECRET.encode().hex(),
        repr({"k": SECRET}),
        "AQEFAASCBKcwggSjAgEAAoIB",
    ],
)
def test_secrets_are_masked_in_message_and_traceback(leak: str) -> None:
    logs.register_secret(Secret(SECRET))
    logs.register_secret(Secret(PEM))
    shown = show(f"sent {leak}", exc=ValueError(f"bad key {leak}"))
    assert leak not in shown
    assert SECRET[:6] not in shown
    assert "***" in shown


@pytest.mark.parametrize("secret", ["awkward\"'\\secret", "awkward'secret", 'awkward"secret', "awkward\\n\u00e9secret"])
@pytest.mark.parametrize("first", [json.dumps, repr, lambda text: str({"k": text, "other": "'\""})])
@pytest.mark.parametrize("second", [str, json.dumps, repr, lambda text: repr(f'it\'s "{text}"')])
def test_a_secret_is_masked_however_it_was_quoted_twice(
    secret: str, first: Callable[[str], str], second: Callable[[str], str]
) -> None:
    """As when the text of a settings file stands in an error that is shown."""
    logs.register_secret(Secret(secret))
    assert "awkwar" not in show(second(first(secret)))


def test_a_secret_is_masked_before_the_text_is_cut() -> None:
    logs.register_secret("k" * 100)
    shown = show("x" * (logs.MESSAGE_LIMIT - 50) + "k" * 100)
    assert "kkkk" not in shown


def test_nothing_is_masked_for_an_empty_secret() -> None:
    logs.register_secret(Secret(""))
    logs.register_secret(None)
    assert show("plain").endswith("plain")


def test_repeats_are_held_back_and_counted() -> None:
    now = [0.0]
    limit = logs.RepeatLimit(burst=2, window_s=10, kinds=3, now=lambda: now[0])
    passed = [limit.filter(record("refused: %s", i)) for i in range(5)]
    assert passed == [True, True, False, False, False]
    assert limit.filter(record("something else"))
    now[0] = 11.0
    late = record("refused: %s", 6)
    assert limit.filter(late)
    assert late.getMessage() == "refused: 6 (3 more like this were not shown)"
    for i in range(100):
        assert limit.filter(record(f"kind {i}"))
    assert len(limit._seen) == 3


def test_debug_is_never_held_back() -> None:
    limit = logs.RepeatLimit(burst=1)
    debug = logging.LogRecord("x", logging.DEBUG, "", 1, "again", (), None)
    assert all(limit.filter(debug) for _ in range(5))


def test_levels_and_libraries(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler = logs.configure("info", fd=writer)
    logging.getLogger("orderflow.net").info("ours")
    logging.getLogger("orderflow.net").debug("too much")
    logging.getLogger("httpx").info("payload")
    logging.getLogger("trio-websocket").debug("payload")
    logging.getLogger("wsproto").warning("trouble")
    logs.flush(5)
    text = os.read(reader, 65536).decode()
    assert [line.split()[1:3] for line in text.splitlines()] == [["info", "orderflow.net"], ["warning", "wsproto"]]
    assert handler.writer.statistics().lines == 2


def test_configuring_twice_leaves_one_handler(pipe: tuple[int, int]) -> None:
    logs.configure(fd=pipe[1])
    logs.configure("debug", fd=pipe[1])
    assert sum(isinstance(h, logs.StderrHandler) for h in logging.getLogger().handlers) == 1


def test_a_closed_stderr_does_not_raise(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    handler = logs.configure(fd=writer)
    for _ in range(3):
        logging.getLogger("orderflow").error("nobody hears")
        logs.flush(5)
    assert handler.writer.statistics().broken


def test_a_full_stderr_does_not_block(pipe: tuple[int, int]) -> None:
    handler = logs.configure(fd=pipe[1])
    for i in range(3000):
        logging.getLogger(f"orderflow.{i}").error("x" * 1000)
    assert handler.writer.statistics().pending_bytes <= 1 << 20
    assert handler.writer.statistics().dropped > 0
    os.close(pipe[0])


def test_diverted_lines_go_to_the_view_and_back(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    logs.configure(fd=writer, colour=True)
    seen: list[logs.LogLine] = []
    with logs.diverted(seen.append):
        logging.getLogger("orderflow").warning("inside \x1b[2J")
    logging.getLogger("orderflow").warning("after")
    logs.flush(5)
    (line,) = seen
    assert (line.level, line.message) == ("warning", r"inside \x1b[2J")  # no colour in what a view shows
    assert line.line.endswith("\x1b[33mwarning\x1b[0m orderflow inside \\x1b[2J")
    assert os.read(reader, 1000).decode().split()[-1] == "after"


def test_colour_is_on_the_level_only() -> None:
    shown = logs.SafeFormatter(colour=True).format(record("text"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d \x1b\[33mwarning\x1b\[0m orderflow\.x text", shown)
