"""A recording that is right verifies clean; whatever is done to it is found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderflow.cli import main
from orderflow.record.folder import MANIFEST, FolderLock
from orderflow.record.format import FILE_HEADER_BYTES
from orderflow.record.records import Checkpoint, Frames, Gap, RestAnswer, Timer
from orderflow.record.writer import RecordingWriter
from orderflow.verify.run import verify
from tests.record.tapes import POLICY
from tests.recordings import recording
from tests.verify.tapes import doctor, market_tape, relabel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orderflow.record.records import Record
    from orderflow.verify.results import Report

on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, bytes]:
    path = market_tape(tmp_path_factory.mktemp("market"))
    return path.name, path.read_bytes(), (path.parent / MANIFEST).read_bytes()


@pytest.fixture
def tape(pristine: tuple[str, bytes, bytes], tmp_path: Path) -> Path:
    return copy(pristine, tmp_path)


def copy(pristine: tuple[str, bytes, bytes], folder: Path) -> Path:
    name, content, manifest = pristine
    (folder / name).write_bytes(content)
    (folder / MANIFEST).write_bytes(manifest)
    return folder / name


def found(report: Report) -> set[str]:
    return {finding.what for finding in report.findings}


def differing(report: Report) -> dict[str, int]:
    return {one.reference: one.differing for one in report.comparisons if one.differing}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["verify", *words])
    return code, capsys.readouterr().out


def test_a_recording_that_is_right_is_clean(tape: Path) -> None:
    report = verify([tape.parent])
    assert report.clean()
    assert (report.files, report.hashed, report.sessions, report.messages) == (1, 1, 1, 600)
    assert (report.items, report.refused, report.notes, report.blocks) == (201, 0, [], 11)
    compared = {(one.book, one.reference): (one.compared, one.between, one.unjudged) for one in report.comparisons}
    book, level1 = "orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT"
    assert compared == {
        (book, "tickers.BTCUSDT"): (400, 0, 0),
        (book, level1): (400, 0, 0),
        (book, "rest"): (100, 0, 0),
        (book, "checkpoint"): (100, 0, 0),
        (level1, "tickers.BTCUSDT"): (400, 0, 0),
        (level1, "rest"): (10, 0, 0),
    }
    assert [(one.messages, one.snapshots, one.gaps, one.unproven) for one in report.books] == [
        (200, 1, 0, 0),
        (200, 200, 0, 0),
    ]


@on_disk
@given(st.data())
def test_any_byte_that_is_flipped_is_found(
    pristine: tuple[str, bytes, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    path = copy(pristine, tmp_path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(FILE_HEADER_BYTES, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert found(verify([path])) & {"hash"}
    relabel(path)  # and without the manifest's help
    assert found(verify([path])) & {"block", "torn"}


@on_disk
@given(st.data())
def test_a_power_cut_anywhere_is_found_and_the_rest_compared(
    pristine: tuple[str, bytes, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    path = copy(pristine, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(FILE_HEADER_BYTES, len(content) - 1))])
    report = verify([path])
    assert found(report) == {"size", "torn"}
    assert report.compared >= max(0, report.blocks - 1) * 100
    assert not differing(report)


def test_behind_damage_nothing_is_blamed_on_the_exchange(tape: Path) -> None:
    content = bytearray(tape.read_bytes())
    fifth = [at for at in range(len(content)) if content[at : at + 4] == b"OFRB"][4]
    content[fifth + 70] ^= 255
    tape.write_bytes(content)
    relabel(tape)
    report = verify([tape])
    assert found(report) == {"block"}
    assert [book.gaps for book in report.books] == [0, 0]
    assert not differing(report)


def books_of(records: list[Record]) -> list[Frames]:
    return [record for record in records if isinstance(record, Frames) and record.connection == 1]


def replace(records: list[Record], old: Record, new: Record) -> None:
    at = next(at for at, record in enumerate(records) if record is old)
    records[at] = new


def edit(message: int, old: bytes, new: bytes) -> Callable[[list[Record]], None]:
    """Change the text of one book message."""

    def change(records: list[Record]) -> None:
        record = books_of(records)[message]
        assert old in record.messages[0]
        messages = [record.messages[0].replace(old, new)]
        replace(records, record, msgspec.structs.replace(record, messages=messages))

    return change


def test_one_changed_size_at_the_touch_differs(tape: Path) -> None:
    doctor(tape, edit(100, b'["100.0","3"]', b'["100.0","4"]'))
    report = verify([tape])
    assert not report.faults
    assert set(differing(report)) == {"orderbook.1.BTCUSDT", "tickers.BTCUSDT"}
    (level1,) = (one for one in report.comparisons if one.reference == "orderbook.1.BTCUSDT")
    assert (level1.differing, level1.ppm) == (10, 25_000)  # until the level changes again
    example = level1.examples[0]
    assert (example.side, example.book, example.reference) == ("bid", (100.0, 4.0), (100.0, 3.0))


def test_one_changed_price_at_the_touch_differs_by_its_ticks(tape: Path) -> None:
    doctor(tape, edit(100, b'["100.0","3"]', b'["100.05","3"]'))
    report = verify([tape])
    assert {"orderbook.1.BTCUSDT", "tickers.BTCUSDT"} <= set(differing(report))


def test_one_changed_level_deep_in_the_book_differs_from_rest_and_checkpoint(tape: Path) -> None:
    doctor(tape, edit(118, b'["99.2","7"]', b'["99.2","6"]'))
    report = verify([tape])
    assert differing(report) == {"rest": 1, "checkpoint": 1}
    (rest,) = (one for one in report.comparisons if one.reference == "rest" and one.differing)
    assert rest.examples[0].reference == (99.2, 7.0)


def test_a_message_that_is_gone_is_found(tape: Path) -> None:
    def change(records: list[Record]) -> None:
        records.remove(books_of(records)[50])

    doctor(tape, change)
    assert found(verify([tape])) == {"items", "order", "unexplained"}


def test_the_last_message_that_is_gone_is_found_by_the_programs_own_order(tape: Path) -> None:
    def change(records: list[Record]) -> None:
        records.remove(books_of(records)[-1])

    doctor(tape, change)
    report = verify([tape])
    assert not report.clean()


def test_messages_in_another_order_are_found(tape: Path) -> None:
    def change(records: list[Record]) -> None:
        first, second = books_of(records)[50:52]
        at = {id(record): number for number, record in enumerate(records)}
        records[at[id(first)]], records[at[id(second)]] = second, first

    doctor(tape, change)
    assert {"order", "unexplained"} <= found(verify([tape]))


@pytest.mark.parametrize("by", [5, -5])
def test_a_timer_at_an_impossible_place_is_found(tape: Path, by: int) -> None:
    def change(records: list[Record]) -> None:
        timer = [record for record in records if isinstance(record, Timer)][30]
        replace(records, timer, msgspec.structs.replace(timer, applied=timer.applied + by))

    doctor(tape, change)
    assert found(verify([tape])) == {"order"}


def test_a_checkpoint_that_is_not_the_recorded_book_differs(tape: Path) -> None:
    def change(records: list[Record]) -> None:
        note = next(record for record in records if isinstance(record, Checkpoint))
        bids = [(price, size + 1) for price, size in note.books[0].bids]
        image = msgspec.structs.replace(note.books[0], bids=bids)
        replace(records, note, msgspec.structs.replace(note, books=[image]))

    doctor(tape, change)
    assert differing(verify([tape])) == {"checkpoint": 10}


def test_a_rest_book_that_denies_the_recorded_one_differs(tape: Path) -> None:
    def change(records: list[Record]) -> None:
        note = next(record for record in records if isinstance(record, RestAnswer))
        replace(records, note, msgspec.structs.replace(note, body=note.body.replace('["99.5",', '["99.55",')))

    doctor(tape, change)
    assert differing(verify([tape])) == {"rest": 2}  # one level too many, one too few


def test_a_manifest_with_another_hash_or_length_is_found(tape: Path) -> None:
    relabel(tape, sha256="0" * 64)
    assert found(verify([tape.parent])) == {"hash"}
    relabel(tape, bytes=tape.stat().st_size - 1)
    assert found(verify([tape.parent])) == {"size"}


def test_a_file_that_is_gone_is_found_in_a_folder(tape: Path) -> None:
    second = market_tape(tape.parent.with_name(f"{tape.parent.name}-2"))
    lines = [path.read_bytes() for path in (tape.parent / MANIFEST, second.parent / MANIFEST)]
    (tape.parent / MANIFEST).write_bytes(b"".join(lines))
    assert found(verify([tape.parent])) == {"missing"}
    assert verify([tape]).clean()  # that one alone is whole


def test_a_session_that_says_it_goes_on_has_lost_its_last_file(tape: Path) -> None:
    doctor(tape, lambda records: None)
    assert verify([tape]).clean()
    doctor(tape, lambda records: msgspec.structs.force_setattr(records[-1], "reason", "rotated"))
    assert found(verify([tape])) == {"missing"}


def test_a_torn_end_that_is_known_is_no_fault(tape: Path) -> None:
    content = tape.read_bytes()
    (tape.parent / MANIFEST).unlink()
    tape.write_bytes(content[:-40])
    report = verify([tape.parent])
    assert found(report) == {"torn"}
    assert "no manifest" in report.notes[0]
    lock = FolderLock(tape.parent)  # as while it is being recorded
    assert verify([tape.parent]).clean()
    lock.release()
    writer = RecordingWriter(tape.parent, POLICY, bytes(16))
    writer.seal_orphans()
    writer.close(None)
    report = verify([tape.parent])
    assert report.clean()
    assert any("killed" in note for note in report.notes)


def test_behind_a_gap_nothing_is_compared_until_there_is_a_book_again(tape: Path) -> None:
    def change(records: list[Record]) -> None:
        first, last = books_of(records)[50], books_of(records)[55]
        begin, end = records.index(first), records.index(last)
        items = sum(record.fed for record in records[begin:end] if isinstance(record, Frames))
        records[begin:end] = [Gap(reason="behind", from_ns=0, to_ns=0, frames=15, bytes=1, items=items)]

    doctor(tape, change)
    report = verify([tape])
    assert report.clean()
    assert (report.gaps, report.missing_messages) == (1, 15)
    (level1,) = (one for one in report.comparisons if one.reference == "orderbook.1.BTCUSDT")
    assert level1.unjudged > 10
    assert 300 < level1.compared < 400  # from the next checkpoint on


# --- the command ----------------------------------------------------------------------------------------------------


def test_text_json_and_exit_codes(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, str(tape))
    assert code == 0
    assert "clean: 0 faults; 1410 values compared, 0 differ (0 ppm)" in out
    code, out = run(capsys, str(tape), "--json")
    told: dict[str, Any] = json.loads(out)
    assert (code, told["clean"], told["ppm"], told["compared"]) == (0, True, 0.0, 1410)
    doctor(tape, edit(118, b'["99.2","7"]', b'["99.2","6"]'))
    code, out = run(capsys, str(tape))
    assert code == 1
    assert "rest: 100 compared, 1 differ (10000 ppm)" in out
    assert "bid: book 99.2 x 6, reference 99.2 x 7" in out
    assert run(capsys, str(tape), "--allow", "10000")[0] == 0
    assert run(capsys, str(tape), "--allow", "9999")[0] == 1


@pytest.mark.parametrize("words", [["nothing.ofr"], ["nowhere"], ["empty"], ["x", "--allow", "much"]])
def test_nothing_to_verify_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["verify", *words]) == 2
    assert capsys.readouterr().err.startswith("orderflow: ")


def test_text_of_others_never_reaches_the_terminal_raw(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = tape.with_name("a\x1b[31m.ofr")
    tape.rename(name)
    name.write_bytes(name.read_bytes()[:-5])
    assert run(capsys, str(name))[0] == 1
    assert "\x1b" not in run(capsys, str(name))[1]


# --- recordings of Bybit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("imported", [False, True])
def test_recorded_tickers_agree_with_the_recorded_books(tmp_path: Path, imported: bool) -> None:
    path = recording("streams/linear-BTCUSDT-SOLUSDT-ob200-20260809.jsonl.gz")
    if imported:
        assert main(["import", str(path), "--out", str(tmp_path / "tape")]) == 0
    report = verify([tmp_path / "tape" if imported else path])
    assert report.hashed == imported
    assert report.clean()
    assert {one.reference: (one.compared, one.differing, one.between) for one in report.comparisons} == {
        "tickers.BTCUSDT": (350, 0, 18),
        "tickers.SOLUSDT": (382, 0, 22),
    }
    assert {book.topic: (book.messages, book.snapshots, book.gaps) for book in report.books} == {
        "orderbook.200.BTCUSDT": (414, 1, 0),
        "orderbook.200.SOLUSDT": (383, 1, 0),
    }


@pytest.mark.parametrize(
    "name, books",
    [
        ("2024-12-01_XRPUSDT_ob500.data.zip", 50),
        ("spot-ETHUSDT-ob200-20260809.jsonl.gz", 250),
        ("spot-BTCUSDT-ob50-20260824.jsonl", 9),
        ("linear-BANDUSDT-RADUSDT-ob1-20250613.txt.gz", 63),
        ("spot-OPUSDC-TUSDUSDT-KCSUSDT-ob1-20250613.txt.gz", 60),
    ],
)
def test_every_recorded_book_is_whole(name: str, books: int) -> None:
    report = verify([recording(f"streams/{name}")])
    assert report.clean()
    assert sum(book.messages for book in report.books) == books
    faults = ("gaps", "duplicates", "unproven", "unknown_deletes", "crossed", "too_deep")
    assert not any(getattr(book, fault) for book in report.books for fault in faults)


def test_a_file_of_the_old_protocol_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = recording("streams/legacy-v2-inverse-EOSUSD-20210417.txt.gz")
    assert main(["verify", str(path)]) == 2
    assert "V5" in capsys.readouterr().err
