from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderflow.core.errors import RecordingError
from orderflow.core.types import Category
from orderflow.record import format
from orderflow.record.format import FILE_HEADER_BYTES, Encoder, pack_block
from orderflow.record.reader import BlockStart, Damage, open_recording, read_file, survey
from orderflow.record.records import End, Frames, Session, Timer
from tests.record.tapes import T0, simple_tape

ROOT = Path(__file__).resolve().parents[2]

if TYPE_CHECKING:
    from orderflow.record.records import Record

on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simple_tape(tmp_path_factory.mktemp("tape"))


def whole(path: Path) -> list[Record]:
    return [item for item in open_recording(path).records() if not isinstance(item, Damage)]


def block_ends(path: Path) -> list[int]:
    ends = [FILE_HEADER_BYTES]
    survey(path, each=lambda at, header: ends.append(at + 56 + header.stored))
    return ends


def test_a_closed_recording_reads_without_damage(tape: Path) -> None:
    items = list(open_recording(tape).records())
    assert not [item for item in items if isinstance(item, Damage)]
    assert isinstance(items[0], Session)
    assert isinstance(items[-1], End)
    assert sum(len(item.messages) for item in items if isinstance(item, Frames)) == 61


def test_messages_between_two_times(tape: Path) -> None:
    every = list(open_recording(tape).messages())
    assert len(every) == 61
    assert {(message.link, message.category) for message in every} == {("linear", Category.LINEAR)}
    since, until = T0 + 1_000_000_000, T0 + 2_000_000_000
    some = list(open_recording(tape).messages(since_ns=since, until_ns=until))
    assert some == [message for message in every if since <= message.recv_ns <= until]
    assert some


@on_disk
@given(st.data())
def test_a_cut_file_reads_up_to_the_cut_and_says_where(tape: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = tape.read_bytes()
    cut = data.draw(st.integers(FILE_HEADER_BYTES, len(content) - 1))
    path = tmp_path / "cut.ofr"
    path.write_bytes(content[:cut])
    items = list(read_file(path))
    records = [item for item in items if not isinstance(item, (Damage, BlockStart))]
    good = max(end for end in block_ends(tape) if end <= cut)
    expected = [item for item in read_file(tape) if not isinstance(item, (Damage, BlockStart))]
    assert records == expected[: len(records)]
    assert survey(path).good == good
    (damage,) = (item for item in items if isinstance(item, Damage))
    assert items[-1] is damage
    assert (damage.reason, damage.offset, damage.skipped) == ("torn", good, cut - good)
    before = [end for end in block_ends(tape) if end <= cut]
    assert len([item for item in items if isinstance(item, BlockStart)]) == len(before) - 1


@on_disk
@given(st.data())
def test_damage_anywhere_costs_its_block_alone(tape: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(tape.read_bytes())
    at = data.draw(st.integers(FILE_HEADER_BYTES, len(content) - 1))
    length = data.draw(st.integers(1, 40))
    for offset in range(at, min(at + length, len(content))):
        content[offset] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "bad.ofr"
    path.write_bytes(content)
    items = list(read_file(path))
    damages = [item for item in items if isinstance(item, Damage)]
    assert damages
    ends = block_ends(tape)
    touched = [begin for begin, end in itertools.pairwise(ends) if begin < at + length and end > at]
    assert damages[0].offset == touched[0]
    assert len([item for item in items if isinstance(item, BlockStart)]) == len(ends) - 1 - len(touched)
    expected = [item for item in read_file(tape) if not isinstance(item, (Damage, BlockStart))]
    assert all(record in expected for record in items if not isinstance(record, (Damage, BlockStart)))


@on_disk
@given(st.binary(max_size=400), st.booleans())
def test_garbage_gives_the_declared_error_or_damage(tape: Path, tmp_path: Path, data: bytes, behind: bool) -> None:
    path = tmp_path / "any.ofr"
    path.write_bytes(tape.read_bytes()[: FILE_HEADER_BYTES if behind else 0] + data)
    items = []
    try:
        items = list(read_file(path))
    except RecordingError as error:
        items = [Damage(file=error.path, offset=error.offset, skipped=0, reason=error.reason, detail=error.detail)]
    assert all(isinstance(item, Damage) and item.file == str(path) for item in items)


def test_garbage_between_blocks_is_stepped_over(tape: Path, tmp_path: Path) -> None:
    content = tape.read_bytes()
    middle = block_ends(tape)[3]
    path = tmp_path / "garbage.ofr"
    path.write_bytes(content[:middle] + b"OFRB" * 300_000 + content[middle:])  # more than is searched at once
    assert whole(path) == whole(tape)
    (damage,) = (item for item in read_file(path) if isinstance(item, Damage))
    assert (damage.offset, damage.skipped, damage.reason) == (middle, 1_200_000, "block")


def test_zeros_at_the_end_are_a_torn_tail(tape: Path, tmp_path: Path) -> None:
    path = tmp_path / "zeros.ofr"
    path.write_bytes(tape.read_bytes() + bytes(5000))
    (damage,) = (item for item in read_file(path) if isinstance(item, Damage))
    assert (damage.offset, damage.skipped, damage.reason) == (tape.stat().st_size, 5000, "torn")


def test_a_folder_reads_as_its_sessions_and_files_in_order(tmp_path: Path) -> None:
    simple_tape(tmp_path, 10)
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / "foreign.ofr").write_text("not ours either")
    recording = open_recording(tmp_path)
    assert len(recording.files) == 1
    (damage,) = recording.damages
    assert (damage.reason, damage.offset) == ("foreign", 0)
    assert next(iter(recording.records())) is damage


def test_a_file_of_another_version_among_ours(tmp_path: Path) -> None:
    simple_tape(tmp_path)
    other = bytearray(simple_tape(tmp_path / "other").read_bytes())
    other[8] = 2
    (tmp_path / "99990101T000000Z-00000000-00000.ofr").write_bytes(other)
    recording = open_recording(tmp_path)
    assert [(damage.reason, damage.offset) for damage in recording.damages] == [("version", 8)]
    assert len(list(recording.messages())) == 61


@pytest.mark.parametrize("empty", [Timer(0, 0), Frames(1, 1, T0, 0, [b""] * 2000)], ids=["records", "messages"])
def test_a_block_that_unpacks_to_endless_nothing_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: Timer | Frames
) -> None:
    """64 MiB of it are a few kB in the file."""
    path = simple_tape(tmp_path)
    encoder = Encoder()
    for _ in range(2000):
        if isinstance(empty, Timer):
            encoder.timer(0, 0)
        else:
            encoder.frames(1, empty.messages, T0, 0)
            break
    content = path.read_bytes()
    path.write_bytes(content + pack_block(encoder.take(), zstandard.ZstdCompressor()))
    monkeypatch.setattr(format, "MAX_RECORDS", 1000)
    damages = [item for item in open_recording(path).records() if isinstance(item, Damage)]
    assert [(damage.reason, damage.offset) for damage in damages] == [("block", len(content))]
    assert "more than 1000" in damages[0].detail
    assert len(list(open_recording(path).messages())) == 61


@pytest.mark.parametrize("kind", ["nothing", "empty", "foreign", "folder", "pipe"])
def test_what_is_no_recording_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.ofr"
    if kind == "empty":
        path.touch()
    elif kind == "foreign":
        path.write_bytes(b"PK\x03\x04" + bytes(100))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    assert caught.value.path == str(path)
    assert caught.value.offset == 0


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(RecordingError, match="cannot be opened: Permission denied") as caught:
        open_recording(tmp_path)
    assert caught.value.path == str(tmp_path)


def test_a_missing_file_of_a_session_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orderflow.record.format import Encoder
    from orderflow.record.writer import RecordingWriter
    from tests.record.tapes import POLICY, begin

    writer = RecordingWriter(tmp_path, POLICY, bytes(16), clock=lambda: T0)
    for _ in range(3):
        encoder = Encoder()
        begin(encoder)
        encoder.note(End(reason="rotated"))
        writer.rotate(None)
        writer.write(encoder.take())
    writer.close(None)
    files = sorted(tmp_path.glob("*.ofr"))
    files[1].unlink()
    damages = [item for item in open_recording(tmp_path).records() if isinstance(item, Damage)]
    assert [(damage.reason, damage.file) for damage in damages] == [("missing", str(files[2]))]


def test_the_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    simple_tape(tmp_path / "tape", 3)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "recording.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "docs/recording.md", "exec"), {})
    assert capsys.readouterr().out.count('linear b\'{"topic":"orderbook.50.BTCUSDT"') == 4
