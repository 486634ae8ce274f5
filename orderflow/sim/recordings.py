"""Reading recorded V5 sessions, streaming, whatever they were recorded with.

| form | lines |
|---|---|
| `.jsonl.gz`, `.jsonl` | `{"t":"recv","conn":...,"ts":<seconds>,"data":"<raw>"}`, `connect` records name the address |
| `.jsonl`, `.data`, `.data.zip` | the raw message alone (the exchange's own history files are this) |
| `.txt.gz`, `.txt` | `<receive seconds>: <raw>`, and lines with the address |
| any | `<receive nanoseconds> <raw>` |
| `.ofr`, or a folder of them | our own recordings (docs/recording.md) |

Only messages with a topic count; acks and what the client sent are left out.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import zipfile
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from orderflow.core.errors import ConfigError, RecordingError
from orderflow.core.types import Category
from orderflow.record.format import SUFFIX
from orderflow.record.reader import open_recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

V5_KINDS: Final = frozenset(
    {
        "orderbook",
        "publicTrade",
        "tickers",
        "kline",
        "allLiquidation",
        "liquidation",
        "priceLimit",
        "adlAlert",
        "insurance",
    }
)
_TOPIC: Final = re.compile(rb'"topic":"([A-Za-z]+\.[A-Za-z0-9.\-]+)"')
_TS: Final = re.compile(rb'"ts":"?([0-9]{13})')
_TYPE: Final = re.compile(rb'"type":"')
_ADDRESS: Final = re.compile(rb"/v5/public/(linear|inverse|spot)")
_STAMPED: Final = re.compile(rb"([0-9]{9,10}\.[0-9]+): (\{.*)")
_NANO_STAMPED: Final = re.compile(rb"([0-9]{19}) (\{.*)")


class Recorded(NamedTuple):
    """One recorded message. `at_ms`: when it was received, or the exchange's `ts` where nobody noted that."""

    category: Category
    topic: str
    at_ms: float
    raw: bytes


class _Record(msgspec.Struct):
    """One line of a recorder that notes both directions."""

    t: str
    conn: str = ""
    ts: float = 0.0
    addr: str = ""
    data: str = ""


_RECORD: Final = msgspec.json.Decoder(_Record)


def read_recording(path: Path) -> Iterator[Recorded]:
    """The messages of one file in their order, with times that never go back.

    Raises: ConfigError for a file that cannot be read; lines that are no messages are left out.
    """
    if path.suffix == SUFFIX or path.is_dir():
        yield from _read_own(path)
        return
    fallback = _category_of_name(path.name)
    addresses: dict[str, Category] = {}
    last_ms = 0.0
    try:
        with _open(path) as lines:
            for line in lines:
                message = _read_line(line.strip(), addresses, fallback)
                if message is not None:
                    last_ms = max(last_ms, message.at_ms)
                    yield message._replace(at_ms=last_ms)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"--play: {path.name}: cannot be read: {error}") from error


def _read_own(path: Path) -> Iterator[Recorded]:
    last_ms = 0.0
    try:
        for received in open_recording(path).messages():
            message = _message(received.raw, received.recv_ns / 1e6, received.category)
            if message is not None:
                last_ms = max(last_ms, message.at_ms)
                yield message._replace(at_ms=last_ms)
    except RecordingError as error:
        raise ConfigError(f"--play: {path.name}: {error.detail} (byte {error.offset})") from error


def _read_line(line: bytes, addresses: dict[str, Category], fallback: Category | None) -> Recorded | None:
    if line.startswith(b'{"t":'):
        return _read_record(line, addresses, fallback)
    match = _STAMPED.fullmatch(line)
    if match is not None:
        return _message(match[2], float(match[1]) * 1000, addresses.get("") or fallback)
    match = _NANO_STAMPED.fullmatch(line)
    if match is not None:
        return _message(match[2], int(match[1]) / 1e6, addresses.get("") or fallback)
    if line.startswith(b"{"):
        return _message(line, None, fallback)
    address = _ADDRESS.search(line)
    if address is not None:
        addresses[""] = Category(address[1].decode())
    return None


def _read_record(line: bytes, addresses: dict[str, Category], fallback: Category | None) -> Recorded | None:
    try:
        record = _RECORD.decode(line)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    if record.t == "recv":
        return _message(record.data.encode(), record.ts * 1000, addresses.get(record.conn) or fallback)
    address = _ADDRESS.search(record.addr.encode())
    if address is not None:
        addresses[record.conn] = Category(address[1].decode())
    return None


def _message(raw: bytes, received_ms: float | None, category: Category | None) -> Recorded | None:
    topic, stamp = _TOPIC.search(raw), _TS.search(raw)
    if topic is None or (stamp is None and received_ms is None):
        return None
    name = topic[1].decode()
    if name.partition(".")[0] not in V5_KINDS:
        return None
    at_ms = float(stamp[1]) if received_ms is None and stamp is not None else received_ms or 0.0
    return Recorded(category or _category_of_keys(raw, name), name, at_ms, raw)


def _category_of_name(name: str) -> Category | None:
    return next((category for category in Category if name.lower().startswith(category)), None)


def _category_of_keys(raw: bytes, topic: str) -> Category:
    """Spot writes `ts` before `type`; level 1 does so everywhere, and tells nothing."""
    stamp, kind = _TS.search(raw), _TYPE.search(raw)
    time_first = stamp is not None and kind is not None and stamp.start() < kind.start()
    return Category.SPOT if time_first and not topic.startswith("orderbook.1.") else Category.LINEAR


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The lines of a plain, gzipped or zipped file (the first member of the zip)."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
            yield member
    elif path.suffix == ".gz":
        with gzip.open(path, "rb") as unpacked:
            yield unpacked  # type: ignore[misc]  # GzipFile iterates over lines of bytes, as IO[bytes] does
    else:
        with path.open("rb") as plain:
            yield plain


def read_instruments(path: Path) -> dict[Category, list[dict[str, Any]]]:
    """The rows of a recorded instruments-info answer, by category. Raises: ConfigError when it is none."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        answer = msgspec.json.decode(data, type=_InstrumentsAnswer)
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise ConfigError(f"--instruments: {path.name}: no recorded instruments-info answer: {error}") from error
    return {answer.result.category: answer.result.rows}


class _Instruments(msgspec.Struct):
    category: Category
    rows: list[dict[str, Any]] = msgspec.field(name="list")


class _InstrumentsAnswer(msgspec.Struct):
    result: _Instruments
