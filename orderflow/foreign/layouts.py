"""Lines that hold V5 messages, in every layout met so far. Pure: one line in, one message or nothing out.

| line | who writes it |
|---|---|
| `{"topic":...}`, acknowledgements too | the exchange's own archives, plain logs |
| `{"t":"recv","conn":...,"ts":<s>,"data":"<raw>"}` | recorders of both directions; `connect` lines name the address |
| `<receive time in s>: <raw>` | recorders, with lines that begin with the address |
| `<receive time in ns> <raw>` | loggers of high-frequency traders |
| `{"t":<ms>,"d":[...]}` | logs of the retired topic `liquidation.<symbol>` |
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.errors import RecordingError
from orderflow.core.types import Category
from orderflow.foreign.heard import Heard, LineProblem, check_ms, decimal_ns, is_inverse

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADDRESS: Final = re.compile(r"/v5/public/(linear|inverse|spot)\b")
_OTHER_ADDRESS: Final = re.compile(r"wss?://[^\s\"]{1,200}")
_STAMPED: Final = re.compile(rb"([0-9]{9,10}\.[0-9]{1,12}): (\{.*)", re.DOTALL)
_NANO_STAMPED: Final = re.compile(rb"([0-9]{19}) (\{.*)", re.DOTALL)
_TOPIC: Final = re.compile(r"[A-Za-z]+(?:\.[A-Za-z0-9_\-]+){0,3}\Z", re.ASCII)
_LEGACY_TOPIC: Final = re.compile(r"orderBook|trade\.|instrument_info|klineV2|candle\.|insurance$")
_LEGACY_ADDRESS: Final = re.compile(r"/(?:realtime|spot/quote|quote/ws|contract/|perpetual/|unified/)")
_MAX_NAME_CHARS: Final = 64
"""Of topics and connections."""
_MAX_CONNECTIONS: Final = 10_000
_PATIENCE: Final = 1000
"""Lines without a single message before a file is taken for something else."""


class _Record(msgspec.Struct):
    """One line of a recorder that notes both directions, or of a liquidation log."""

    t: str | int
    conn: str = ""
    ts: msgspec.Raw = msgspec.Raw(b"")
    addr: str = ""
    data: str = ""
    d: list[msgspec.Raw] | None = None


class _Head(msgspec.Struct):
    """Of any message what tells what it is; reading it proves the rest to be JSON."""

    topic: str = ""
    ts: int | None = None
    op: str | None = None
    success: bool | None = None
    retCode: int | None = None
    ret_msg: str | None = None


class _Liquidation(msgspec.Struct):
    symbol: str
    updatedTime: int


_record: Final = msgspec.json.Decoder(_Record, strict=False)
_head: Final = msgspec.json.Decoder(_Head, strict=False)
_liquidation: Final = msgspec.json.Decoder(_Liquidation, strict=False)
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class MessageLines:
    """Reads the lines of one file.

    Args: path: for errors; category: of messages whose address is not in the file; None: told by their keys.
    """

    def __init__(self, path: str, category: Category | None, *, certain: bool = False) -> None:
        self._path = path
        self._category = category
        self._certain = certain  # the category was asked for: no address may say otherwise
        self._addresses: dict[str, Category] = {}
        self._found = False

    def read(self, number: int, line: bytes) -> Iterator[Heard]:
        """The messages of one line: mostly one, none for headers and what was sent.

        Raises: LineProblem for a line that is none of these; RecordingError when the file as a whole is another thing.
        """
        try:
            for heard in self._read(line):
                self._found = True
                yield heard
        except _Legacy as error:
            raise RecordingError(self._path, 0, "legacy", f"line {number}: {error}") from None
        except LineProblem as error:
            if not self._found and number >= _PATIENCE:
                detail = f"no Bybit V5 message in the first {number} lines; line {number}: {error}"
                raise RecordingError(self._path, 0, "foreign", detail) from None
            raise

    def _read(self, line: bytes) -> Iterator[Heard]:
        if line.startswith(b'{"t":'):
            yield from self._recorded(line)
        elif line.startswith(b"{"):
            yield self._message(None, "", line)
        elif (match := _STAMPED.fullmatch(line)) is not None:
            yield self._message(decimal_ns(match[1].decode(), 9), "", match[2])
        elif (match := _NANO_STAMPED.fullmatch(line)) is not None:
            yield self._message(decimal_ns(match[1].decode(), 0), "", match[2])
        elif line.startswith((b"wss://", b"ws://")):
            self._address("", line.decode("utf-8", "replace"))
        else:
            raise LineProblem(f"no message: begins {line[:40]!r}")

    def _recorded(self, line: bytes) -> Iterator[Heard]:
        try:
            record = _record.decode(line)
        except _UNREADABLE as error:
            raise LineProblem(f"no record of a recorder: {error}") from None
        if len(record.conn) > _MAX_NAME_CHARS:
            raise LineProblem(f"no connection: {record.conn[:60]!r}")
        if record.d is not None:
            yield from self._liquidations(record)
        elif record.t == "recv":
            yield self._message(decimal_ns(bytes(record.ts).decode(), 9), record.conn, record.data.encode())
        elif record.addr:
            self._address(record.conn, record.addr)

    def _liquidations(self, record: _Record) -> Iterator[Heard]:
        if not isinstance(record.t, int):
            raise LineProblem("a liquidation log without its time")
        recv_ns = check_ms(record.t) * 1_000_000
        for row in record.d or ():
            try:
                event = _liquidation.decode(row)
            except _UNREADABLE as error:
                raise LineProblem(f"no liquidation: {error}") from None
            topic = f"liquidation.{event.symbol}"
            if len(topic) > _MAX_NAME_CHARS or _TOPIC.match(topic) is None:
                raise LineProblem(f"no symbol: {event.symbol[:40]!r}")
            ts_ms = check_ms(event.updatedTime)
            raw = b'{"topic":"%b","type":"snapshot","ts":%d,"data":%b}' % (topic.encode(), ts_ms, bytes(row))
            yield Heard(recv_ns, ts_ms, self._category or _by_symbol(event.symbol), "", topic, raw)

    def _message(self, recv_ns: int | None, connection: str, raw: bytes) -> Heard:
        try:
            head = _head.decode(raw)
        except _UNREADABLE as error:
            raise LineProblem(f"no message: {error}") from None
        topic = head.topic
        category = self._addresses.get(connection) if not self._certain else None
        if not topic:
            if head.op is None and head.success is None and head.retCode is None and head.ret_msg is None:
                raise LineProblem("JSON, but no message of Bybit V5")
            return Heard(recv_ns, None, category or self._category or Category.LINEAR, connection, "", raw)
        if _LEGACY_TOPIC.match(topic) is not None:
            raise _Legacy(f"topic {topic[:60]}")
        if len(topic) > _MAX_NAME_CHARS or _TOPIC.match(topic) is None:
            raise LineProblem(f"no topic: {topic[:60]!r}")
        ts_ms = check_ms(head.ts) if head.ts is not None else None
        return Heard(recv_ns, ts_ms, category or self._category or category_of_keys(raw, topic), connection, topic, raw)

    def _address(self, connection: str, text: str) -> None:
        found = _ADDRESS.search(text)
        if found is not None:
            if len(self._addresses) >= _MAX_CONNECTIONS and connection not in self._addresses:
                raise LineProblem(f"more than {_MAX_CONNECTIONS} connections")
            self._addresses[connection] = Category(found[1])
        elif (other := _OTHER_ADDRESS.search(text)) is not None and _LEGACY_ADDRESS.search(other[0]) is not None:
            raise _Legacy(f"address {other[0]}")


class _Legacy(LineProblem):
    """A message of an earlier protocol."""

    def __str__(self) -> str:
        return f"{self.args[0]}: Bybit's legacy protocol (v2 or v3); only V5 is read"


def category_of_keys(raw: bytes, topic: str) -> Category:
    """Spot writes `ts` before `type`; level 1 does so everywhere, and tells nothing."""
    stamp, kind = raw.find(b'"ts":'), raw.find(b'"type":')
    if 0 <= stamp < kind and not topic.startswith("orderbook.1."):
        return Category.SPOT
    return _by_symbol(topic.rpartition(".")[2])


def _by_symbol(symbol: str) -> Category:
    return Category.INVERSE if is_inverse(symbol) else Category.LINEAR
