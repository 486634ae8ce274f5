"""The sole configurer of logging: human logs on stderr, safe to show and without secrets, never in the feed's way.

Alerts and ticks are data and go to stdout (orderflow.ui); what is logged here is for the person who runs the program.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import time
import traceback
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from orderflow.config.secrets import MASK, Secret
from orderflow.core.text import escape_text
from orderflow.ui.sink import LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
QUIET: Final = ("trio-websocket", "trio_websocket", "wsproto", "httpx", "httpcore", "h11", "hpack", "asyncio")
"""Libraries that would log payloads or every request; their warnings still show."""

MESSAGE_LIMIT: Final = 2000
TRACE_LINE_LIMIT: Final = 500
TRACE_LINES: Final = 200
_COLOURS: Final = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[1;31m"}
_SHORTEST_SECRET: Final = 4  # masking shorter ones would blot out ordinary words

_SIGNATURE: Final = re.compile(r"(?<![0-9A-Za-z+/])(?:[0-9a-f]{64}|[0-9A-Za-z+/]{170,}={0,2})(?![0-9A-Za-z+/])")
"""HMAC-SHA256 in hex, or RSA in base64."""

_secrets: set[str] = set()


def register_secret(secret: Secret | str | None) -> None:
    """From now on every log line shows `***` where this value, or a usual encoding of it, would stand.

    The last line of defence: nothing should ever log a secret. Lines of a PEM key are masked one by one.
    """
    value = secret.reveal() if isinstance(secret, Secret) else secret or ""
    for part in {value, *value.splitlines()}:
        if len(part.strip()) >= _SHORTEST_SECRET and not part.startswith("-----"):
            _secrets.update(_encodings(part.strip()))


def forget_secrets() -> None:
    """Forget all registered secrets (tests, and a second run in one process)."""
    _secrets.clear()


def knows_secrets() -> bool:
    return bool(_secrets)


def mask_secrets(text: str) -> str:
    """`text` with every registered secret replaced by `***`, and all that looks like a signature made with one."""
    for value in sorted(_secrets, key=len, reverse=True):  # longest first: one may contain another
        text = text.replace(value, MASK)
    return _SIGNATURE.sub(MASK, text) if _secrets else text


def _encodings(value: str) -> Iterator[str]:
    data = value.encode("utf-8", "surrogatepass")
    yield quote(value, safe="")
    forms = {value}
    for _ in range(3):  # a file that quotes it, in an error that quotes the file, in another that quotes the error
        forms |= {written for form in forms for written in _quotings(form)}
    yield from forms
    yield binascii.hexlify(data).decode()
    yield base64.b64encode(data).decode().rstrip("=")
    yield base64.urlsafe_b64encode(data).decode().rstrip("=")


def _quotings(text: str) -> Iterator[str]:
    """As JSON, TOML and Python write text between quotes; which quotes Python escapes depends on what else is there."""
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    python = repr(text + "'\"")[1:-4]
    yield python
    yield python.replace("\\'", "'")


class SafeFormatter(logging.Formatter):
    """`HH:MM:SS level logger message` in local time; secrets masked, then all escaped.

    Traceback lines follow behind a bar, so that text inside an exception cannot pass for a log line.
    """

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = escape_text(mask_secrets(_message_of(record)), MESSAGE_LIMIT)
        shown = f"{_COLOURS[level]}{level}\x1b[0m" if self._colour and level in _COLOURS else level
        head = f"{clock} {shown} {escape_text(record.name)} {message}"
        return "\n".join((head, *_trace_lines(record)))


def _message_of(record: logging.LogRecord) -> str:
    """The record's text; a message whose arguments do not fit is shown raw, never raised."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - any __str__ of an argument may raise anything; logging must not
        return f"{record.msg!s} (arguments do not fit the message)"


def _trace_lines(record: logging.LogRecord) -> list[str]:
    """The traceback and stack of a record, bounded: the end, which names the error, is kept."""
    text = ""
    if record.exc_info and record.exc_info[1] is not None:
        text = "".join(traceback.format_exception(record.exc_info[1]))
    if record.stack_info:
        text += record.stack_info
    lines = [escape_text(line, TRACE_LINE_LIMIT) for line in mask_secrets(text).split("\n") if line.strip()]
    if len(lines) > TRACE_LINES:
        cut = len(lines) - TRACE_LINES
        lines = [f"… [{cut} lines left out]", *lines[cut:]]
    return [f"  | {line}" for line in lines]


class RepeatLimit(logging.Filter):
    """Lets `burst` records of one kind through per `window_s`, then is silent and says how many it held back.

    One kind is one logger and one message template: "refused message: %s" counts together whatever was refused.
    Debug records pass always. Bounded memory: the kinds seen longest ago are forgotten.
    """

    def __init__(
        self,
        burst: int = 20,
        window_s: float = 10.0,
        *,
        kinds: int = 500,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._burst = burst
        self._window_s = window_s
        self._kinds = kinds
        self._now = now
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        kind = (record.name, record.msg[:200] if isinstance(record.msg, str) else type(record.msg).__name__)
        now = self._now()
        since, count = self._seen.pop(kind, (now, 0))
        held_back = 0
        if now - since >= self._window_s:
            since, count, held_back = now, 0, max(0, count - self._burst)
        self._seen[kind] = (since, count + 1)
        if len(self._seen) > self._kinds:
            self._seen.popitem(last=False)
        if held_back:
            record.msg = f"{_message_of(record)} ({held_back} more like this were not shown)"
            record.args = ()
        return count < self._burst


class LogLine(NamedTuple):
    """A log record for a view: its parts are safe to show, `line` is what stderr would have got."""

    ts: int  # wall ms
    level: str
    message: str
    line: str


class StderrHandler(logging.Handler):
    """Formats in the caller, writes in a thread: a stderr that is full or closed neither stalls nor raises."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self.writer = LineWriter(fd, confess=lambda n: f"(stderr was blocked: {n} log lines lost)\n")
        self.divert: Callable[[LogLine], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self.divert is not None:
                message = escape_text(mask_secrets(_message_of(record)), MESSAGE_LIMIT)
                self.divert(LogLine(round(record.created * 1000), record.levelname.lower(), message, line))
            else:
                self.writer.put(line + "\n")
        except Exception:  # noqa: BLE001 - a log line that cannot be written must not hurt what it reports on
            pass

    def flush(self) -> None:
        self.writer.flush(0.5)

    def close(self) -> None:
        self.writer.close(0.5)
        super().close()


_handler: StderrHandler | None = None


def configure(level: str = "info", *, fd: int = 2, colour: bool = False) -> StderrHandler:
    """Send all logging to `fd` (stderr) from now on; calling it again replaces what was set up before.

    Args: level: debug, info, warning or error, for this program; libraries stay at warning.
    """
    global _handler
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, StderrHandler)]:
        root.removeHandler(old)
        old.close()
    _handler = StderrHandler(fd)
    _handler.setFormatter(SafeFormatter(colour=colour))
    _handler.addFilter(RepeatLimit())
    root.addHandler(_handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("orderflow").setLevel(LEVELS[level])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    return _handler


def flush(timeout_s: float = 0.5) -> None:
    """Wait until what was logged is written; before printing to stderr by other ways and before a hard exit."""
    if _handler is not None:
        _handler.writer.flush(timeout_s)


def last_words(lines: Iterable[str]) -> None:
    """Write to stderr before a hard exit, past all that could hold it up; masked, escaped, and written on return.

    From any thread. Takes no lock of the logging module: whoever hangs may hold it.
    """
    writer = _handler.writer if _handler is not None else LineWriter(2)
    for line in lines:
        writer.put(escape_text(mask_secrets(line), TRACE_LINE_LIMIT) + "\n")
    writer.flush(0.5)


def last_traceback(error: BaseException) -> None:
    """What Python says of an error nobody caught, with nothing secret and nothing a terminal would obey in it."""
    text = "".join(traceback.format_exception(error))
    last_words(line for line in text.split("\n") if line.strip())


def replay(lines: Iterable[str]) -> None:
    """Write lines that were diverted, finished as they are, to stderr after all."""
    if _handler is not None:
        for line in lines:
            _handler.writer.put(line + "\n")


@contextmanager
def diverted(sink: Callable[[LogLine], None]) -> Iterator[None]:
    """While this is open log lines go to `sink` instead of stderr: a full-screen view shows them in its own place."""
    handler = _handler
    if handler is None:
        yield
        return
    handler.divert = sink
    try:
        yield
    finally:
        handler.divert = None
