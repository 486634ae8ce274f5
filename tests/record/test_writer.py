from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orderflow.core.errors import ConfigError
from orderflow.core.policy import RecordPolicy
from orderflow.record.folder import LOCK, MANIFEST, append_manifest, read_manifest
from orderflow.record.format import Encoder
from orderflow.record.reader import Damage, open_recording
from orderflow.record.records import End, Frames, Session
from orderflow.record.writer import RecordingWriter
from tests.record.tapes import M0, POLICY, T0, begin, simple_tape

if TYPE_CHECKING:
    from pathlib import Path


def encoder_with(count: int, first: int = 0) -> Encoder:
    encoder = Encoder()
    for number in range(first, first + count):
        encoder.frames(1, [b"%d" % number], T0 + number, M0 + number)
    return encoder


def numbers(folder: Path) -> list[int]:
    found = open_recording(folder).records()
    return [int(raw) for item in found if isinstance(item, Frames) for raw in item.messages]


def test_two_writers_on_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    first = RecordingWriter(tmp_path / "tape", POLICY, os.urandom(16))
    with pytest.raises(ConfigError, match=f"process {os.getpid()} records into it"):
        RecordingWriter(tmp_path / "tape", POLICY, os.urandom(16))
    first.close(None)
    RecordingWriter(tmp_path / "tape", POLICY, os.urandom(16)).close(None)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        RecordingWriter(tmp_path / "file" / "tape", POLICY, os.urandom(16))


def test_the_manifest_has_every_file_with_its_hash(tmp_path: Path) -> None:
    policy = RecordPolicy(keep_free_mb=0, rotate_mb=0.001)
    writer = RecordingWriter(tmp_path, policy, os.urandom(16))
    written = 0
    last = None
    for _ in range(6):
        if writer.rotation_due:
            writer.rotate(last)
            last = None
        encoder = Encoder()
        for number in range(written, written + 40):
            encoder.frames(1, [b"%d" % number], T0 + number, M0)
        written += 40
        writer.write(encoder.take())
    writer.close(None)
    lines = read_manifest(tmp_path)
    files = sorted(tmp_path.glob("*.ofr"))
    assert [path.name for path in files] == sorted(lines)
    assert len(files) > 1
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == lines[path.name].sha256
        assert path.stat().st_size == lines[path.name].bytes
    assert [lines[path.name].end for path in files] == ["rotated"] * (len(files) - 1) + ["stopped"]
    assert sum(line.frames or 0 for line in lines.values()) == written
    assert numbers(tmp_path) == list(range(written))
    assert writer.statistics().frames == written


def test_time_rotates_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RecordingWriter(tmp_path, RecordPolicy(keep_free_mb=0, rotate_s=60), os.urandom(16))
    assert writer.rotation_due
    writer.rotate(None)
    assert not writer.rotation_due
    now = __import__("time").monotonic() + 61
    monkeypatch.setattr("orderflow.record.writer.time.monotonic", lambda: now)
    assert writer.rotation_due
    writer.close(None)


def test_a_restart_overwrites_nothing(tmp_path: Path) -> None:
    before = simple_tape(tmp_path)
    content = before.read_bytes()
    for _ in range(3):  # at the very same time by the clock
        writer = RecordingWriter(tmp_path, POLICY, os.urandom(16), clock=lambda: T0)
        writer.rotate(None)
        writer.close(encoder_with(3).take())
    assert before.read_bytes() == content
    assert len(list(tmp_path.glob("*.ofr"))) == 4


def test_files_of_killed_programs_are_sealed_and_left_as_they_are(tmp_path: Path) -> None:
    path = simple_tape(tmp_path)
    content = path.read_bytes()[:-10]
    path.write_bytes(content)
    (tmp_path / MANIFEST).unlink()
    (tmp_path / "other.ofr").write_bytes(b"what is this")
    writer = RecordingWriter(tmp_path, POLICY, os.urandom(16))
    (sealed,) = writer.seal_orphans()
    assert path.read_bytes() == content
    assert (sealed.file, sealed.end) == (path.name, "torn")
    assert sealed.bytes < len(content)
    assert hashlib.sha256(content[: sealed.bytes]).hexdigest() == sealed.sha256
    assert writer.seal_orphans() == []
    writer.close(None)


def test_a_manifest_that_was_torn_is_read_and_written_on(tmp_path: Path) -> None:
    simple_tape(tmp_path)
    manifest = tmp_path / MANIFEST
    (line,) = read_manifest(tmp_path).values()
    manifest.write_bytes(manifest.read_bytes() + b'\xff\xfe\n{"file":"x.o')
    append_manifest(tmp_path, line)
    assert list(read_manifest(tmp_path).values()) == [line]
    assert manifest.read_bytes().count(b"\n") == 4


def test_a_full_disk_is_an_error_and_leaves_whole_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RecordingWriter(tmp_path, POLICY, os.urandom(16))
    writer.rotate(None)
    encoder = Encoder()
    begin(encoder)
    writer.write(encoder.take())
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 20:
            return real(fd, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("orderflow.record.writer.os.write", full)
        with pytest.raises(OSError, match="No space"):
            writer.write(encoder_with(50).take())
        assert not writer.is_open
        with pytest.raises(OSError, match="no file"):
            writer.write(encoder_with(1).take())
    writer.rotate(None)
    writer.close(encoder_with(5).take())
    items = list(open_recording(tmp_path).records())
    assert isinstance(items[0], Session)
    assert numbers(tmp_path) == list(range(5))
    assert {item.skipped for item in items if isinstance(item, Damage)} == {0}  # nothing half-written is left


def test_room_that_is_to_be_kept_is_kept(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, RecordPolicy(keep_free_mb=1e9), os.urandom(16))
    with pytest.raises(OSError, match="free"):
        writer.rotate(None)
    writer.close(None)
    assert not list(tmp_path.glob("*.ofr"))


# --- kill -9 --------------------------------------------------------------------------------------------------------

VICTIM = """
import os, sys, time
from pathlib import Path
from orderflow.core.policy import RecordPolicy
from orderflow.record.format import Encoder
from orderflow.record.writer import RecordingWriter
writer = RecordingWriter(Path(sys.argv[1]), RecordPolicy(keep_free_mb=0, rotate_mb=0.02), os.urandom(16))
writer.seal_orphans()
encoder, number, last = Encoder(), 0, None
while True:
    for _ in range(300):
        encoder.frames(1, [b"%d" % number], time.time_ns(), time.monotonic_ns())
        number += 1
    if writer.rotation_due:
        writer.rotate(last)
    writer.write(encoder.take())
    os.write(1, b"%d\\n" % number)  # so many are on the disk
"""


def test_kill_9_costs_nothing_that_was_synced(tmp_path: Path) -> None:
    """25 times into one folder, at random moments; what was written before is never touched."""
    folder = tmp_path / "tape"
    dice = random.Random(5)
    synced: dict[bytes, int] = {}
    for _ in range(5):
        victims = []
        for lane in range(5):
            process = subprocess.Popen([sys.executable, "-c", VICTIM, folder / str(lane)], stdout=subprocess.PIPE)
            victims.append((lane, process))
        for lane, process in victims:
            assert process.stdout is not None
            for _ in range(dice.randrange(1, 12)):
                process.stdout.readline()
            process.kill()
            told = process.stdout.read().split(b"\n")
            process.wait()
            process.stdout.close()
            known = {bytes.fromhex(line.session) for line in read_manifest(folder / str(lane)).values()}
            (new,) = {header.session for header in open_recording(folder / str(lane)).headers} - set(synced)
            synced[new] = max([int(line) for line in told if line.isdigit()], default=300)
            assert known <= set(synced)
    for lane in range(5):
        recording = open_recording(folder / str(lane))
        got: dict[bytes, list[int]] = {}
        for path, header in zip(recording.files, recording.headers, strict=True):
            records = open_recording(path).records()
            found = [int(raw) for item in records if isinstance(item, Frames) for raw in item.messages]
            got.setdefault(header.session, []).extend(found)
        assert len(got) == 5
        for name, values in got.items():
            assert values == list(range(len(values)))
            assert len(values) >= synced[name]
            assert len(values) % 300 == 0
    assert len(synced) == 25
    assert (folder / "0" / LOCK).exists()


def test_a_closed_tape_ends_with_an_end(tmp_path: Path) -> None:
    assert list(open_recording(simple_tape(tmp_path)).records())[-1] == End(reason="stopped")


def test_an_endless_line_in_the_manifest_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(b"x" * 200_000 + b"\n")
    path = simple_tape(tmp_path)
    assert list(read_manifest(tmp_path)) == [path.name]
