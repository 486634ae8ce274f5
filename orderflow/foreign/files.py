"""Foreign files as numbered lines: opened without waiting, unpacked in small pieces, one line in memory.

Plain, gzip (several members too) and zip (one member) are told apart by their first bytes, not by their names.
"""

from __future__ import annotations

import zipfile
import zlib
from contextlib import closing
from typing import IO, TYPE_CHECKING, Final

from orderflow.core.errors import RecordingError
from orderflow.core.text import escape_text
from orderflow.record.format import MAGIC
from orderflow.record.reader import open_file

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

MAX_LINE_BYTES: Final = 8 << 20
"""A longer line is stepped over. The longest message of the exchange, a book of 1,000 levels, has 60 kB."""
MAX_RATIO: Final = 200
FREE_BYTES: Final = 64 << 20
"""So much may come out of any file; from there on no more than MAX_RATIO times what went in (books pack to 5 to 15)."""
_PIECE: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_BOM: Final = b"\xef\xbb\xbf"
_FOREIGN: Final = {
    MAGIC: "already a recording of orderflow: it needs no import",
    b"\x28\xb5\x2f\xfd": "packed by zstd, which is not read here: unpack it first",
    b"BZh": "packed by bzip2, which is not read here: unpack it first",
    b"\xfd7zXZ": "packed by xz, which is not read here: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive, which is not read here: unpack it first",
    b"\x89PNG": "a picture (PNG)",
    b"PAR1": "a Parquet file; expected JSON lines or a trade file (csv)",
}
_DAMAGE: Final = frozenset({"torn", "block", "disk"})
"""Reasons behind which nothing can be read, while what came before is good."""


class ForeignFile:
    """One file of JSON lines or comma separated values.

    Raises: RecordingError (`missing`, `foreign`, `empty`, `disk`) for what cannot be such a file at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_file(path) as file:
            self.size = file.seek(0, 2)
            file.seek(0)
            self._head = file.read(4096)
        self.position = 0  # bytes of the file read so far: what progress is measured by
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        head = self._head
        if not head:
            raise RecordingError(str(self.path), 0, "empty", "the file is empty")
        for magic, detail in _FOREIGN.items():
            if head.startswith(magic):
                raise RecordingError(str(self.path), 0, "foreign", detail)
        if not head.startswith((_GZIP, *_ZIP)) and b"\0" in head:
            raise RecordingError(str(self.path), head.index(b"\0"), "foreign", "not text: there are zero bytes in it")

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """(number from 1, line without its end); None in place of a line longer than MAX_LINE_BYTES.

        Raises: RecordingError: `torn` and `block` where the file is cut or damaged, `bomb`, `foreign`. Its offset is a
            byte of the file as it is on the disk. Lines before that place have been given.
        """
        with open_file(self.path) as file, closing(self._pieces(file)) as pieces:
            yield from cut_lines(self._bounded(pieces))

    def _pieces(self, file: IO[bytes]) -> Generator[bytes, None, None]:
        if self._head.startswith(_GZIP):
            return self._gunzip(file)
        return self._unzip(file) if self._head.startswith(_ZIP) else self._plain(file)

    def _error(self, reason: str, detail: str, offset: int | None = None) -> RecordingError:
        return RecordingError(str(self.path), self.position if offset is None else offset, reason, detail)

    def _read(self, file: IO[bytes]) -> bytes:
        try:
            data = file.read(_PIECE)
        except OSError as error:
            raise self._error("disk", f"cannot be read: {error.strerror}") from None
        self.position += len(data)
        return data

    def _plain(self, file: IO[bytes]) -> Generator[bytes, None, None]:
        self.position = 0
        while data := self._read(file):
            yield data

    def _gunzip(self, file: IO[bytes]) -> Generator[bytes, None, None]:
        self.position = 0
        engine: zlib._Decompress | None = None
        members = 0
        while data := self._read(file):
            while data:
                if engine is None:
                    data = data.lstrip(b"\0") if members else data  # padding behind a member
                    if not data:
                        break
                    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
                    members += 1
                try:
                    piece = engine.decompress(data, _PIECE)
                except zlib.error as error:
                    at = self.position - len(data)
                    raise self._error("block", f"the gzip data is damaged from here on: {error}", at) from None
                if piece:
                    yield piece
                data = engine.unconsumed_tail
                if engine.eof:  # another member may follow
                    data, engine = engine.unused_data, None
        if engine is not None:
            raise self._error("torn", "the gzip data ends in the middle: the file is cut")

    def _unzip(self, file: IO[bytes]) -> Generator[bytes, None, None]:
        self.position = 0
        try:
            with zipfile.ZipFile(file) as archive, archive.open(self._member(archive)) as member:
                while data := member.read(_PIECE):
                    self.position = min(self.size, max(self.position, file.tell()))
                    yield data
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            detail = f"the zip data is damaged from here on: {_told(error)}"
            raise self._error("block", detail) from None
        except (NotImplementedError, RuntimeError) as error:
            raise self._error("foreign", f"a zip of a kind that is not read here: {_told(error)}", 0) from None
        except OSError as error:
            raise self._error("disk", f"cannot be read: {error.strerror}") from None

    def _member(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        members = [item for item in archive.infolist() if not (item.is_dir() or item.filename.startswith("__MACOSX/"))]
        if len(members) != 1:
            names = ", ".join(escape_text(item.filename, 60) for item in members[:3]) or "none"
            detail = f"a zip with {len(members)} files in it ({names}); expected just one: unpack it"
            raise self._error("foreign", detail, 0)
        (member,) = members
        if member.flag_bits & 1:
            raise self._error("foreign", "an encrypted zip: unpack it with its password", 0)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._error("foreign", f"a zip packed by method {member.compress_type}: unpack it", 0)
        return member

    def _bounded(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The same pieces, as long as no more comes out than can be honest."""
        out = 0
        for piece in pieces:
            yield piece.removeprefix(_BOM) if out == 0 else piece
            out += len(piece)
            if out > FREE_BYTES and out > MAX_RATIO * max(self.position, 1):
                detail = f"unpacks to more than {MAX_RATIO} times its size: a compression bomb"
                raise self._error("bomb", detail)


def is_damage(error: RecordingError) -> bool:
    """Whether what was read before this error is good: the file is cut or damaged there, not foreign as a whole."""
    return error.reason in _DAMAGE


def _told(error: BaseException) -> str:
    return escape_text(str(error) or type(error).__name__, 120)


def cut_lines(pieces: Iterable[bytes], limit: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line without `\\n` or `\\r\\n`); None in place of a line longer than `limit` and one piece."""
    rest = b""
    number = 0
    skipping = False
    for piece in pieces:
        *whole, last = piece.split(b"\n")
        if whole:
            whole[0] = rest + whole[0]
            rest = b""
        for line in whole:
            number += 1
            yield number, None if skipping else line.removesuffix(b"\r")
            skipping = False
        rest += last
        if skipping or len(rest) > limit:
            rest, skipping = b"", True
    if rest or skipping:
        yield number + 1, None if skipping else rest.removesuffix(b"\r")
