"""Other ways to decode read the same, and vetting by number refuses what our way refuses."""

from __future__ import annotations

import pytest

from orderflow.bench.choices import decoding
from orderflow.bench.choices.decoding import ByNumber, Unvetted, measure_decoding, measure_vetting
from orderflow.bench.choices.turns import Pace
from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import WrongBook
from orderflow.bench.subject import INSTRUMENT
from orderflow.bybit.topics import TopicTable
from orderflow.core.errors import WireError

PACE = Pace(rounds=1, turns=1, messages=10)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return Frames(50, 8)


@pytest.fixture
def topics() -> TopicTable:
    table = TopicTable(INSTRUMENT.category, learn=False)
    table.add_book(INSTRUMENT, 50)
    return table


def test_every_way_is_measured(frames: Frames) -> None:
    figures = [*measure_decoding(frames, PACE), *measure_vetting(frames, PACE)]
    assert [figure.case for figure in figures] == [
        "typed structs", "type as a literal", "tagged union by type", "levels as lists", "untyped, then float()",
        "json, then float()", "vetted by four characters", "vetted number by number", "not vetted",
    ]  # fmt: skip


def test_a_decoder_that_reads_otherwise_is_found_out(frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = decoding.make_decoders()
    sorts = lambda raw: {"data": {**decoders["json, then float()"](raw)["data"], "b": []}}  # noqa: E731 - short
    monkeypatch.setattr(decoding, "make_decoders", lambda: {"ours": decoders["typed structs"], "other": sorts})
    with pytest.raises(WrongBook, match="other: reads messages otherwise than ours"):
        measure_decoding(frames, PACE)


def test_a_snapshot_is_one_whoever_decodes(frames: Frames, topics: TopicTable) -> None:
    assert ByNumber(topics).decode(frames.snapshot) == Unvetted(topics).decode(frames.snapshot)
    assert ByNumber(topics).decode(frames.snapshot).snapshot


@pytest.mark.parametrize("number", [b'"nan"', b'"1e5"', b'"-1"', b'"0"', b'"' + b"1" * 33 + b'"'])
def test_by_number_refuses_a_price_that_is_none(number: bytes, frames: Frames, topics: TopicTable) -> None:
    (raw,) = frames.deltas(1)
    start = raw.index(b'[["') + 2
    with pytest.raises(WireError):
        ByNumber(topics).decode(raw[:start] + number + raw[raw.index(b",", start) :])


@pytest.mark.parametrize("before, after", [(b'"s":"BTCUSDT"', b'"s":"ETHUSDT"'), (b'"delta"', b'"other"')])
def test_both_refuse_what_is_not_of_the_topic(before: bytes, after: bytes, frames: Frames, topics: TopicTable) -> None:
    (raw,) = frames.deltas(1)
    for way in (ByNumber(topics), Unvetted(topics)):
        with pytest.raises(WireError):
            way.decode(raw.replace(before, after))
