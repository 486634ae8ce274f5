"""Lines of any file: bounded, numbered, and an end that is told."""

from __future__ import annotations

import gzip
import os
import random
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.errors import RecordingError
from orderflow.foreign import files
from orderflow.foreign.files import ForeignFile, cut_lines, is_damage
from orderflow.record.format import MAGIC
from tests.foreign.made import encrypted_zip, lines

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = [b"one", b"", b"three", "vier \N{GREEK SMALL LETTER ALPHA}".encode()]


@given(st.binary(max_size=200).filter(lambda data: b"\r" not in data), st.lists(st.integers(1, 9), max_size=60))
def test_lines_do_not_depend_on_how_they_come(data: bytes, sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    pieces.append(data[at:])
    found = list(cut_lines(filter(None, pieces)))
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert found == list(enumerate(expected, 1))


def test_an_endless_line_is_stepped_over() -> None:
    pieces = [b"a\nbb", *[b"b" * 10] * 100, b"b\nc\n", b"d" * 50, b"d"]
    assert list(cut_lines(pieces, limit=40)) == [(1, b"a"), (2, None), (3, b"c"), (4, None)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", ["x.data", "x.data.zip", "x.jsonl.gz", "zipped.gz", "members.gz", "bom.txt"])
def test_every_packing_gives_the_same_lines(tmp_path: Path, name: str, end: bytes) -> None:
    path = lines(tmp_path / name, SAMPLE, end)
    if name == "zipped.gz":  # a name that lies
        path = lines(tmp_path / "x.zip", SAMPLE, end).rename(tmp_path / name)
    elif name == "members.gz":
        data = end.join(SAMPLE)
        path.write_bytes(gzip.compress(data[:7]) + gzip.compress(data[7:]) + b"\0" * 100)
    elif name == "bom.txt":
        path.write_bytes(b"\xef\xbb\xbf" + end.join(SAMPLE))
    assert list(ForeignFile(path).lines()) == list(enumerate(SAMPLE, 1))


def refused(path: Path) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        list(ForeignFile(path).lines())
    assert caught.value.path == str(path)
    return caught.value


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "empty"),
        (MAGIC + bytes(40), "already a recording"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG"),
        (b"PAR1....", "Parquet"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"text\0text", "zero bytes"),
        ("{}\n".encode("utf-16"), "zero bytes"),
        (b"PK\x05\x06" + bytes(18), "0 files"),
        (b"PK\x03\x04 but no zip", "damaged"),
        (b"\x1f\x8b but no gzip", "damaged"),
    ],
)
def test_what_is_something_else_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    assert told in refused(path).detail


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # opening it the ordinary way would wait for ever
    elif kind == "device":
        path.symlink_to("/dev/zero")
    assert refused(path).reason == ("missing" if kind == "nothing" else "foreign")


def test_zips_with_other_than_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/._a", b"x")
        archive.writestr("a.data", b"one\n")
    assert list(ForeignFile(path).lines()) == [(1, b"one")]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b\x1b[31m.data", b"two\n")
    detail = refused(path).detail
    assert "2 files" in detail
    assert "\x1b" not in detail


def test_zips_of_other_kinds(tmp_path: Path) -> None:
    assert "encrypted" in refused(encrypted_zip(tmp_path / "x.zip")).detail
    with zipfile.ZipFile(tmp_path / "y.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("y.data", b"x")
    assert "method 14" in refused(tmp_path / "y.zip").detail


@pytest.mark.parametrize("name", ["x.gz", "x.zip"])
def test_a_cut_file_gives_what_came_before(tmp_path: Path, name: str) -> None:
    generator = random.Random(11)
    sample = [generator.randbytes(20).hex().encode() for _ in range(40_000)]
    path = lines(tmp_path / name, sample)
    data = path.read_bytes()
    if name == "x.gz":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[: len(data) // 2] + bytes(1000) + data[len(data) // 2 + 1000 :])
    found: list[bytes | None] = []

    def read() -> None:
        for _, line in ForeignFile(path).lines():
            found.append(line)

    with pytest.raises(RecordingError) as caught:
        read()
    assert is_damage(caught.value)
    assert 0 < caught.value.offset <= path.stat().st_size
    assert len(found) > 1000
    assert found[:1000] == sample[:1000]


def test_an_endless_line_of_a_bomb_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(60):
            file.write(bytes(1 << 20).replace(b"\0", b"0"))
    tracemalloc.start()
    try:
        assert list(ForeignFile(path).lines()) == [(1, None)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * files.MAX_LINE_BYTES


@pytest.mark.parametrize("name", ["x.gz", "x.zip"])
def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FREE_BYTES", 1 << 20)
    path = lines(tmp_path / name, [b"x" * 99] * 400_000)
    error = refused(path)
    assert error.reason == "bomb"
    assert not is_damage(error)
