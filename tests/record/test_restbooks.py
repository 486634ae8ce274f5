from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from orderflow.bybit.rest import RestUnavailable
from orderflow.core.types import Category, InstrumentId
from orderflow.record.restbooks import LEVELS, MIN_PAUSE_S, record_rest_books

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock

    from orderflow.record.records import RestAnswer

KEYS = [InstrumentId(Category.LINEAR, "BTCUSDT"), InstrumentId(Category.SPOT, "BTCUSDT")]


class Exchange:
    def __init__(self) -> None:
        self.asked: list[tuple[float, InstrumentId, int]] = []
        self.down = False

    async def orderbook_text(self, instrument: InstrumentId, levels: int) -> str:
        self.asked.append((round(trio.current_time(), 3), instrument, levels))
        await trio.sleep(0.01)
        if self.down:
            raise RestUnavailable("nobody\x1b there")
        return f"book of {instrument}"


class Recorder:
    def __init__(self) -> None:
        self.notes: list[RestAnswer] = []

    def rest(self, note: RestAnswer) -> None:
        self.notes.append(note)


def clock() -> tuple[int, int]:
    now_ns = round(trio.current_time() * 1e9)
    return now_ns + 10**18, now_ns


async def run(exchange: Exchange, recorder: Recorder, every_s: float, for_s: float) -> float:
    began = trio.current_time()
    with trio.move_on_after(for_s):
        await record_rest_books(exchange, recorder, KEYS, every_s, clock)  # type: ignore[arg-type]
    return round(began, 3)


async def test_books_are_asked_for_in_turn_and_recorded_word_for_word(autojump_clock: MockClock) -> None:
    exchange, recorder = Exchange(), Recorder()
    began = await run(exchange, recorder, every_s=10, for_s=21)
    assert [(round(at - began), key, levels) for at, key, levels in exchange.asked] == [
        (5, KEYS[0], LEVELS),
        (10, KEYS[1], LEVELS),
        (15, KEYS[0], LEVELS),
        (20, KEYS[1], LEVELS),
    ]
    assert [(note.category, note.body) for note in recorder.notes[:2]] == [
        ("linear", "book of linear:BTCUSDT"),
        ("spot", "book of spot:BTCUSDT"),
    ]
    note = recorder.notes[0]
    assert note.recv_ns - note.sent_ns == 10_000_000
    assert note.recv_ns - note.mono_ns == 10**18


async def test_never_more_often_than_the_exchange_likes(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    await run(exchange, Recorder(), every_s=0.001, for_s=10)
    assert len(exchange.asked) <= 10 / MIN_PAUSE_S


async def test_trouble_is_said_once_and_survived(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    exchange, recorder = Exchange(), Recorder()
    exchange.down = True
    await run(exchange, recorder, every_s=1, for_s=10)
    assert (len(exchange.asked) > 10, recorder.notes) == (True, [])
    (said,) = (record for record in caplog.records if "REST" in record.message)
    assert "\x1b" not in said.message
    exchange.down = False
    await run(exchange, recorder, every_s=1, for_s=2)
    assert recorder.notes
