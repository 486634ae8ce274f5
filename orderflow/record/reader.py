"""Reading recordings, streaming: one block in memory, damage reported with file and offset, the rest still read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec
import zstandard

from orderflow.core.errors import RecordingError
from orderflow.core.types import Category
from orderflow.record.folder import walk_paths
from orderflow.record.format import (
    BLOCK_HEADER_BYTES,
    BLOCK_MAGIC,
    FILE_HEADER_BYTES,
    BlockHeader,
    FileHeader,
    parse_block_header,
    parse_file_header,
    parse_records,
    unpack_payload,
)
from orderflow.record.records import End, Frames, Opened, Record, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_SEARCH_BYTES: Final = 1 << 20


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """A place that cannot be read. What was recorded between it and the next record is missing.

    Args: offset: of the first byte that is wrong; skipped: bytes until reading went on (or to the end of the file);
        reason: `torn` at the end of a file, `block` inside one, `header`, `foreign`, `version`, `empty`, `missing`.
    """

    file: str
    offset: int
    skipped: int
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}: at byte {self.offset}: {self.detail} ({self.skipped} bytes skipped)"


class BlockStart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A block begins. `items`: queue items recorded before it; `done_bytes`: of all files, before this block."""

    items: int
    first_ns: int
    last_ns: int
    done_bytes: int


Item = Record | Damage | BlockStart


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A file as its headers have it. `good`: bytes that are whole, up to the first damage."""

    path: str
    size: int
    good: int
    header: FileHeader
    blocks: int
    records: int
    raw_bytes: int
    first_ns: int
    last_ns: int
    torn: bool


class Message(msgspec.Struct, frozen=True, gc=False):
    """One received message with its stamps: what `Recording.messages()` gives."""

    recv_ns: int
    mono_ns: int
    connection: int
    link: str
    category: Category
    raw: bytes


class Recording:
    """One file, one folder, or several of either, as one stream in the order of their sessions and files.

    Reading holds one block at a time. Damaged places come as `Damage` in the stream; nothing else is raised.
    """

    def __init__(self, files: Sequence[tuple[Path, FileHeader]], damages: Sequence[Damage]) -> None:
        self.files = tuple(path for path, _ in files)
        self.headers = tuple(header for _, header in files)
        self.damages = tuple(damages)  # files that could not be opened at all
        self.bytes = sum(path.stat().st_size for path in self.files)

    def records(self, *, until_ns: int | None = None) -> Iterator[Record | Damage]:
        """Every record. Args: until_ns: blocks that begin later are left out."""
        return (item for item in self.items(until_ns=until_ns) if type(item) is not BlockStart)  # type: ignore[misc]  # mypy does not narrow by `type() is not`

    def items(self, *, until_ns: int | None = None) -> Iterator[Item]:
        """Records with the beginnings of their blocks: for whoever shows progress or counts queue items."""
        yield from self.damages
        done = 0
        before: FileHeader | None = None
        for path, header in zip(self.files, self.headers, strict=True):
            missing = _missing(before, header, str(path))
            if missing is not None:
                yield missing
            before = header
            for item in read_file(path):
                if type(item) is BlockStart:
                    if until_ns is not None and item.first_ns > until_ns:
                        return
                    item = msgspec.structs.replace(item, done_bytes=done + item.done_bytes)
                yield item
            done += path.stat().st_size

    def messages(self, *, since_ns: int = 0, until_ns: int | None = None) -> Iterator[Message]:
        """Every received message between two wall clock times, both included. Damage is passed over."""
        links: dict[int, tuple[str, Category]] = {}
        for item in self.items(until_ns=until_ns):
            if type(item) is Session:
                links.clear()
            elif type(item) is Opened:
                links[item.connection] = item.link, item.category
            elif type(item) is Frames and item.recv_ns >= since_ns:
                if until_ns is not None and item.recv_ns > until_ns:
                    continue
                link, category = links.get(item.connection, ("", Category.LINEAR))
                for raw in item.messages:
                    yield Message(item.recv_ns, item.mono_ns, item.connection, link, category, raw)

    def surveys(self) -> list[Survey]:
        """What the headers of each file say; reads no payload."""
        return [survey(path) for path in self.files]


def open_recording(*paths: Path | str) -> Recording:
    """A recording to iterate over: files, folders, or several of them.

    Raises: RecordingError when there is nothing to read: no such file, a directory without recordings, a pipe, or a
        single file that is foreign, empty or of another version.
    """
    opened: dict[Path, FileHeader] = {}
    damages: list[Damage] = []
    single: RecordingError | None = None
    for path in (found for given in paths for found in walk_paths(Path(given))):
        try:
            opened[path] = read_header(path)
        except RecordingError as error:
            single = single or error
            size = path.stat().st_size if path.is_file() else 0
            damages.append(
                Damage(file=str(path), offset=error.offset, skipped=size, reason=error.reason, detail=error.detail)
            )
    if not opened:
        raise single or RecordingError("", 0, "missing", "no recording was named")
    return Recording(_in_order(opened), damages)


def _in_order(opened: dict[Path, FileHeader]) -> list[tuple[Path, FileHeader]]:
    began: dict[bytes, int] = {}
    for header in opened.values():
        began[header.session] = min(header.created_ns, began.get(header.session, header.created_ns))
    return sorted(opened.items(), key=lambda item: (began[item[1].session], item[1].session, item[1].number))


def _missing(before: FileHeader | None, header: FileHeader, path: str) -> Damage | None:
    if before is None or before.session != header.session or header.number <= before.number + 1:
        return None
    absent = header.number - before.number - 1
    return Damage(
        file=path, offset=0, skipped=0, reason="missing", detail=f"{absent} files before this one are missing"
    )


def open_file(path: Path) -> IO[bytes]:
    """Raises: RecordingError for what is no ordinary, readable file. Never waits for the other end of a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise RecordingError(str(path), 0, "foreign", "not an ordinary file")
        return os.fdopen(fd, "rb", buffering=1 << 18)
    except OSError as error:
        raise RecordingError(str(path), 0, "missing", f"cannot be opened: {error.strerror}") from None


def read_header(path: Path) -> FileHeader:
    """Raises: RecordingError."""
    with open_file(path) as file:
        return parse_file_header(_read(file, FILE_HEADER_BYTES, path), str(path))


def _read(file: IO[bytes], count: int, path: Path) -> bytes:
    try:
        return file.read(count)
    except OSError as error:
        raise RecordingError(str(path), file.tell(), "disk", f"cannot be read: {error.strerror}") from None


def read_file(path: Path) -> Iterator[Item]:
    """Every record of one file, with the beginnings of blocks. Raises: RecordingError when its header is no good."""
    decompressor = zstandard.ZstdDecompressor()
    last: Record | None = None
    torn = False
    for found in _blocks(path):
        if isinstance(found, Damage):
            torn = found.reason == "torn"
            yield found
            continue
        at, header, payload = found
        try:
            records = list(parse_records(unpack_payload(header, payload, decompressor)))
        except ValueError as error:
            skipped = BLOCK_HEADER_BYTES + header.stored
            yield Damage(file=str(path), offset=at, skipped=skipped, reason="block", detail=str(error))
            continue
        yield BlockStart(items=header.items, first_ns=header.first_ns, last_ns=header.last_ns, done_bytes=at)
        yield from records
        last = records[-1] if records else last
    if not torn and not isinstance(last, End):
        size = path.stat().st_size
        yield Damage(file=str(path), offset=size, skipped=0, reason="torn", detail="the file was not closed in order")


def _blocks(path: Path) -> Iterator[tuple[int, BlockHeader, bytes] | Damage]:
    """(offset, header, payload) of each block, and what is between them that is none. Raises: RecordingError."""
    with open_file(path) as file:
        parse_file_header(_read(file, FILE_HEADER_BYTES, path), str(path))
        size = os.fstat(file.fileno()).st_size
        at = FILE_HEADER_BYTES
        while at < size:
            head = _read(file, BLOCK_HEADER_BYTES, path)
            header = parse_block_header(head)
            if header is not None and at + BLOCK_HEADER_BYTES + header.stored <= size:
                yield at, header, _read(file, header.stored, path)
                at += BLOCK_HEADER_BYTES + header.stored
                continue
            following = size if header is not None else _find_block(file, at + 1, size, path)
            yield _hole(path, at, following, size)
            at = following
            file.seek(at)


def _hole(path: Path, at: int, following: int, size: int) -> Damage:
    torn = following == size
    detail = "no whole block from here to the end" if torn else "no block begins here"
    return Damage(file=str(path), offset=at, skipped=following - at, reason="torn" if torn else "block", detail=detail)


def _find_block(file: IO[bytes], at: int, size: int, path: Path) -> int:
    """Where the next block begins whose header is whole; `size` when there is none."""
    overlap = len(BLOCK_MAGIC) - 1
    while at < size:
        file.seek(at)
        data = _read(file, _SEARCH_BYTES + overlap, path)
        found = data.find(BLOCK_MAGIC)
        while found >= 0:
            file.seek(at + found)
            if parse_block_header(_read(file, BLOCK_HEADER_BYTES, path)) is not None:
                return at + found
            found = data.find(BLOCK_MAGIC, found + 1)
        at += _SEARCH_BYTES
    return size


def survey(path: Path, each: Callable[[int, BlockHeader], None] | None = None) -> Survey:
    """Walk the headers of one file up to the first damage. Raises: RecordingError.

    Args: each: told the offset and header of each block.
    """
    with open_file(path) as file:
        header = parse_file_header(_read(file, FILE_HEADER_BYTES, path), str(path))
        size = os.fstat(file.fileno()).st_size
        at = FILE_HEADER_BYTES
        blocks = records = raw_bytes = 0
        first_ns = last_ns = header.created_ns
        while True:
            block = parse_block_header(_read(file, BLOCK_HEADER_BYTES, path))
            if block is None or at + BLOCK_HEADER_BYTES + block.stored > size:
                break
            if each is not None:
                each(at, block)
            at += BLOCK_HEADER_BYTES + block.stored
            file.seek(at)
            blocks += 1
            records += block.records
            raw_bytes += block.raw
            last_ns = max(last_ns, block.last_ns)
    return Survey(
        path=str(path),
        size=size,
        good=at,
        header=header,
        blocks=blocks,
        records=records,
        raw_bytes=raw_bytes,
        first_ns=first_ns,
        last_ns=last_ns,
        torn=at < size,
    )
