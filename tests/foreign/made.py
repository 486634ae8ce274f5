"""Foreign files made for tests."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

T0_MS = 1_790_000_000_000
ADDRESS = "wss://stream.bybit.com/v5/public/linear"
ACK = b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"","op":"subscribe"}'


def book(
    u: int, ms: int, kind: str = "delta", *, symbol: str = "ABCUSDT", depth: int = 200, spot: bool = False
) -> bytes:
    """One level a side; the size tells `u`."""
    stamps = f'"ts":{T0_MS + ms},"type":"{kind}"' if spot else f'"type":"{kind}","ts":{T0_MS + ms}'
    return (
        f'{{"topic":"orderbook.{depth}.{symbol}",{stamps},"data":{{"s":"{symbol}","b":[["1.20","{u}"]],'
        f'"a":[["1.30","{u}"]],"u":{u},"seq":{u}}},"cts":{T0_MS + ms - 2}}}'
    ).encode()


def books(first: int, count: int, ms: int = 0, **more: object) -> list[bytes]:
    """A snapshot and deltas, 100 ms apart."""
    kinds = ["snapshot", *["delta"] * (count - 1)]
    return [book(first + n, ms + 100 * n, kind, **more) for n, kind in enumerate(kinds)]  # type: ignore[arg-type]


def lines(path: Path, content: Iterable[bytes], end: bytes = b"\n") -> Path:
    """A plain, gzipped or zipped file of lines, as its name says."""
    data = b"".join(line + end for line in content)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data, mtime=0))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.name.removesuffix(".zip"), data)
    else:
        path.write_bytes(data)
    return path


def recorded(stamped: Iterable[tuple[str, bytes]], connection: str = "1", address: str = ADDRESS) -> list[bytes]:
    """Lines of a recorder that notes both directions. Args: stamped: (receive time in s, message)."""
    head = [{"t": "header", "format": 2}, {"t": "connect", "conn": connection, "ts": 1.5, "addr": address}]
    sent = {"t": "send", "conn": connection, "ts": 1.5, "addr": address, "data": '{"op":"subscribe"}'}
    found = [json.dumps(record).encode() for record in [*head, sent]]
    for seconds, raw in stamped:
        text = json.dumps(raw.decode())
        found.append(f'{{"t":"recv","conn":"{connection}","ts":{seconds},"data":{text}}}'.encode())
    return found


def contract_trades(rows: Iterable[str], *, rpi: bool = False) -> list[bytes]:
    """Rows `seconds,side,size,price` as the exchange's file of a contract has them."""
    head = "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
    found = [head + (",RPI" if rpi else "")]
    for number, row in enumerate(rows):
        seconds, side, size, price = row.split(",")
        tail = f"PlusTick,id-{number},1e+08,{size},1.0" + (f",{number % 2}" if rpi else "")
        found.append(f"{seconds},ABCUSDT,{side},{size},{price},{tail}")
    return [line.encode() for line in found]


def encrypted_zip(path: Path) -> Path:
    """A zip whose member says it is encrypted."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.data", b"secret" * 10)
    data = bytearray(buffer.getvalue())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    path.write_bytes(data)
    return path
