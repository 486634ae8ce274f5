"""The reducer: what each event does to the ticks."""

from __future__ import annotations

import msgspec
import pytest

from orderflow.core.engine import Engine
from orderflow.core.latency import STAMPS_FOLD_AT
from orderflow.core.policy import BookPolicy, MetricsPolicy
from orderflow.core.text import plain_decimal
from orderflow.core.types import (
    BookState,
    BookStateChanged,
    BookUpdate,
    Category,
    ClockOffset,
    ClockStepped,
    Distrust,
    Event,
    Instrument,
    InstrumentId,
    Level,
    LinkDown,
    LinkUp,
    MetricsTick,
    ResyncNeeded,
    Started,
    Stopping,
    Syncing,
    TickDue,
    TimerDue,
    TopicRefused,
    Trade,
)

LINEAR = InstrumentId(Category.LINEAR, "BTCUSDT")
SPOT = InstrumentId(Category.SPOT, "BTCUSDT")
S = 1_000_000_000
BIDS: list[Level] = [(99.0, 1.0)]
ASKS: list[Level] = [(101.0, 3.0)]


def snapshot(key: InstrumentId = LINEAR, u: int = 10, at: int = 0, recv_ms: float = 1000, ts: int = 1000) -> BookUpdate:
    return BookUpdate(key, 50, True, BIDS, ASKS, u, 7, ts, ts - 3, round(recv_ms * 1e6), at)


def ticks(engine: Engine, recv_ns: int = 5 * S, mono_ns: int = 0) -> dict[InstrumentId, MetricsTick]:
    outputs = engine.apply(TickDue(recv_ns=recv_ns, mono_ns=mono_ns))
    found = [output for output in outputs if isinstance(output, MetricsTick)]
    assert len(found) == len(outputs)
    return {tick.instrument: tick for tick in found}


def started(*keys: InstrumentId) -> Engine:
    engine = Engine([(key, 50) for key in keys or (LINEAR,)])
    for key in keys or (LINEAR,):
        engine.apply(Syncing(instrument=key, reason="subscribe", mono_ns=0))
        engine.apply(snapshot(key))
    return engine


def test_a_tick_of_a_live_book() -> None:
    tick = ticks(started(), recv_ns=1_790_000_000_123_456_789, mono_ns=S // 2)[LINEAR]
    assert (tick.ts, tick.state, tick.reason) == (1_790_000_000_123, BookState.LIVE, "")
    assert (tick.bid, tick.ask, tick.imbalance, tick.liquidity, tick.u) == (99.0, 101.0, -0.5, 4.0, 10)
    assert (tick.book_age_ms, tick.counters.updates) == (500.0, 1)
    assert tick.base_coin is None


def test_the_tick_of_one_book_alone() -> None:
    engine = started(LINEAR, SPOT)
    engine.apply(BookUpdate(SPOT, 50, False, [], [(102.0, 1.0)], 11, 8, 1000, 999, S, S))
    (tick,) = engine.apply(TickDue(recv_ns=5 * S, mono_ns=S, instrument=SPOT))
    assert isinstance(tick, MetricsTick)
    assert (tick.instrument, tick.counters.updates) == (SPOT, 2)
    assert ticks(engine)[LINEAR].hops.gateway_to_socket.count == 1  # its interval goes on
    assert ticks(engine)[SPOT].hops.gateway_to_socket.count == 0


def test_the_same_symbol_in_two_categories_is_two_books() -> None:
    engine = started(LINEAR, SPOT)
    engine.apply(BookUpdate(SPOT, 50, False, [(99.5, 2.0)], [], 11, 8, 1000, 999, S, S))
    got = ticks(engine)
    assert (got[LINEAR].bid, got[SPOT].bid) == (99.0, 99.5)


@pytest.mark.parametrize(
    ("events", "state", "reason"),
    [
        ([], BookState.EMPTY, "start"),
        ([Syncing(instrument=LINEAR, reason="subscribe", mono_ns=0)], BookState.SYNCING, "subscribe"),
        ([LinkDown(link="l", instruments=(LINEAR,), reason="eof", mono_ns=0)], BookState.EMPTY, "eof"),
        ([TopicRefused(instrument=LINEAR, text="error:no", mono_ns=0)], BookState.CLOSED, "refused"),
        ([Distrust(instrument=LINEAR, reason="json", mono_ns=0)], BookState.SUSPECT, "json"),
        ([TimerDue(mono_ns=61 * S)], BookState.STALE, "silent"),
    ],
)
def test_a_book_that_is_not_live_gives_no_numbers(events: list[Event], state: BookState, reason: str) -> None:
    engine = Engine([(LINEAR, 50)])
    if events and not isinstance(events[0], Syncing):
        engine = started()
    for event in events:
        engine.apply(event)
    tick = ticks(engine)[LINEAR]
    assert (tick.state, tick.reason) == (state, reason)
    for name in ("bid", "ask", "mid", "spread", "spread_pct", "imbalance", "liquidity", "weighted_mid", "band_ask"):
        assert getattr(tick, name) is None


def test_latency_is_signed_and_corrected_by_the_offset() -> None:
    engine = started()
    engine.apply(ClockOffset(offset_ms=-500.0, error_ms=2.5, mono_ns=0))
    ticks(engine)  # ends the interval the snapshot fell into
    engine.apply(BookUpdate(LINEAR, 50, False, [], [], 11, 8, 2000, 1990, 1_545_000_000, S))
    tick = ticks(engine)[LINEAR]
    assert (tick.latency_ms, tick.latency_error_ms) == (pytest.approx(45, rel=0.01), 2.5)
    assert tick.hops.engine_to_gateway.p50 == pytest.approx(10, rel=0.01)
    engine.apply(BookUpdate(LINEAR, 50, False, [], [], 12, 8, 2100, None, 1_500_000_000, S))
    tick = ticks(engine)[LINEAR]
    assert (tick.latency_ms, tick.latency_negative) == (pytest.approx(-100, rel=0.01), 1)


@pytest.mark.parametrize("by_s", [3600, -3600])
def test_a_clock_that_was_set_moves_the_offset_and_spoils_no_latency(by_s: int) -> None:
    engine = started()
    engine.apply(ClockOffset(offset_ms=-500.0, error_ms=2.5, mono_ns=0))
    ticks(engine)
    for number in range(6):  # the clock is set after the third message, and noticed after the sixth
        recv_ns = (2000 - 500 + 45 + 10 * number) * 1_000_000 + (by_s * S if number > 2 else 0)
        mono_ns = S + number * 10_000_000
        engine.apply(BookUpdate(LINEAR, 50, False, [], [], 11 + number, 8, 2000 + 10 * number, None, recv_ns, mono_ns))
    engine.apply(ClockStepped(by_ms=by_s * 1000.0, recv_ns=recv_ns, mono_ns=mono_ns))
    tick = ticks(engine)[LINEAR]
    assert engine.clock_offset == ClockOffset(offset_ms=by_s * 1000.0 - 500.0, error_ms=2.5, mono_ns=0)
    assert tick.hops.gateway_to_socket.count == 6
    assert tick.latency_ms == pytest.approx(45, rel=0.01)
    assert tick.hops.gateway_to_socket.max == pytest.approx(45, rel=0.01)
    assert tick.latency_negative == 0


@pytest.mark.parametrize("by_ms", [600.0, -600.0])
def test_a_message_has_the_offset_it_came_nearer_to(by_ms: float) -> None:
    """The two clocks are not read at once: what lies between them differs from message to message."""
    engine = started()
    engine.apply(ClockOffset(offset_ms=0.0, error_ms=2.5, mono_ns=0))
    ticks(engine)
    for u, (step_ms, apart_ms) in enumerate([(0.0, 0.0), (0.0, 250.0), (by_ms, -250.0), (by_ms, 0.0)], start=11):
        recv_ms = 2045 + step_ms + (apart_ms if by_ms > 0 else -apart_ms)
        engine.apply(BookUpdate(LINEAR, 50, False, [], [], u, 8, 2000, None, round(recv_ms * 1e6), S))
    engine.apply(ClockStepped(by_ms=by_ms, recv_ns=round((2045 + by_ms) * 1e6), mono_ns=S))
    hop = ticks(engine)[LINEAR].hops.gateway_to_socket
    assert (hop.count, hop.max) == (4, pytest.approx(45 + 250, rel=0.01))
    assert engine.clock_offset is not None
    assert engine.clock_offset.offset_ms == by_ms


def test_no_message_is_lost_that_came_in_the_middle_of_a_step() -> None:
    engine = started()
    ticks(engine)
    engine.apply(BookUpdate(LINEAR, 50, False, [], [], 11, 8, 2000, None, 2_300_000_000, S))
    engine.apply(ClockStepped(by_ms=600.0, recv_ns=2_600_000_000, mono_ns=S))
    assert ticks(engine)[LINEAR].hops.gateway_to_socket.count == 1


def test_messages_before_an_offset_are_measured_with_the_one_before() -> None:
    engine = started()
    ticks(engine)
    for u, offset_ms in ((11, 500.0), (12, -300.0)):
        engine.apply(BookUpdate(LINEAR, 50, False, [], [], u, 8, 2000, None, 2_045_000_000, S))
        engine.apply(ClockOffset(offset_ms=offset_ms, error_ms=2.5, mono_ns=S))
    tick = ticks(engine)[LINEAR]
    assert (tick.hops.gateway_to_socket.count, tick.hops.gateway_to_socket.max, tick.latency_negative) == (2, 45, 1)
    assert (engine.offsets.count, engine.offsets.maximum) == (2, 500_000)


def test_a_clock_that_was_set_is_nothing_to_an_offset_nobody_knows() -> None:
    engine = started()
    assert engine.apply(ClockStepped(by_ms=5000.0, recv_ns=S, mono_ns=S)) == ()
    assert engine.clock_offset is None
    assert ticks(engine)[LINEAR].latency_error_ms is None


def test_without_an_offset_the_latency_says_so() -> None:
    assert ticks(started())[LINEAR].latency_error_ms is None


def test_percentiles_are_of_the_interval_and_totals_of_the_run() -> None:
    engine = started()
    assert ticks(engine)[LINEAR].hops.gateway_to_socket.count == 1
    assert ticks(engine)[LINEAR].hops.gateway_to_socket.count == 0
    assert ticks(engine)[LINEAR].latency_ms is None
    engine.apply(BookUpdate(LINEAR, 50, False, [], [], 11, 8, 1000, 999, S, S))
    assert engine.total_latency().gateway_to_socket.count == 2


def test_every_hop_is_summed_up_over_books_and_intervals() -> None:
    """What ended with a tick, and what runs still."""
    now_ns = 0
    engine = Engine([(LINEAR, 50), (SPOT, 50)], clock=lambda: now_ns)
    for key in (LINEAR, SPOT):
        engine.apply(Syncing(instrument=key, reason="subscribe", mono_ns=0))
        now_ns = 40_000
        engine.apply(snapshot(key, at=10_000))
    now_ns = 5_000_000
    engine.apply(TickDue(recv_ns=S, mono_ns=2_000_000))
    now_ns = 100_000 + 6_000_000
    engine.apply(BookUpdate(SPOT, 50, False, [], [], 11, 8, 1000, 980, S, 6_000_000))
    hops = engine.total_latency()
    counts = (hops.engine_to_gateway.count, hops.gateway_to_socket.count, hops.socket_to_book.count)
    assert (*counts, hops.book_to_metrics.count) == (3, 3, 3, 2)
    assert hops.engine_to_gateway.max == pytest.approx(20, rel=0.01)
    assert (hops.socket_to_book.p50, hops.socket_to_book.max) == pytest.approx((0.03, 0.1), rel=0.01)
    assert hops.book_to_metrics.max == 3
    assert engine.total_latency() == hops, "to look changes nothing"


def test_stamps_do_not_pile_up_between_ticks_and_all_of_them_count() -> None:
    engine = started()
    for u in range(11, 1011):
        engine.apply(BookUpdate(LINEAR, 50, False, [], [], u, 8, 1000, 999, S, S))
        assert len(engine.books[LINEAR].hops.stamps) < STAMPS_FOLD_AT
    assert ticks(engine)[LINEAR].hops.gateway_to_socket.count == 1001


def test_resyncs_are_counted_by_reason() -> None:
    engine = started(LINEAR, SPOT)
    for reason in ("gap", "retry", "gap", "silent", "subscribe"):
        engine.apply(Syncing(instrument=SPOT, reason=reason, mono_ns=0))
    assert engine.resyncs == {LINEAR: {}, SPOT: {"gap": 2, "silent": 1}}


def test_the_policies_are_obeyed() -> None:
    policies = BookPolicy(strict_sequence=False), MetricsPolicy(levels=1, band_bps=50.0)
    engine = Engine([(LINEAR, 50)], *policies)
    engine.apply(Syncing(instrument=LINEAR, reason="subscribe", mono_ns=0))
    engine.apply(BookUpdate(LINEAR, 50, True, [(99.0, 1.0), (98.0, 9.0)], ASKS, 10, 7, 1000, 999, 0, 0))
    assert engine.apply(BookUpdate(LINEAR, 50, False, [(97.0, 1.0)], [], 13, 8, 1000, 999, S, S)) == ()
    tick = ticks(engine)[LINEAR]
    assert (tick.live, tick.liquidity, tick.band_bps, tick.counters.gaps) == (True, 4.0, 50.0, 1)


def test_the_age_of_a_book_is_that_of_its_last_message() -> None:
    engine = started()
    engine.apply(BookUpdate(LINEAR, 50, False, [], [], 11, 8, 1000, 999, S, 7 * S))
    assert ticks(engine, mono_ns=59 * S + 1_234_567)[LINEAR].book_age_ms == 52_001.235


def test_facts_say_precision_and_coin() -> None:
    engine = started()
    engine.apply(
        Instrument(
            id=LINEAR,
            base_coin="BTC",
            quote_coin="USDT",
            tick_size="0.10",
            lot_size="0.001",
            price_decimals=2,
            size_decimals=3,
        )
    )
    tick = ticks(engine)[LINEAR]
    assert (tick.base_coin, tick.price_decimals) == ("BTC", 2)


def test_events_that_only_teach_have_no_output() -> None:
    engine = started()
    facts = Instrument(
        id=LINEAR,
        base_coin="BTC",
        quote_coin="USDT",
        tick_size="0.10",
        lot_size="0.001",
        price_decimals=2,
        size_decimals=3,
    )
    up = LinkUp(link="linear", instruments=(LINEAR,), mono_ns=0)
    offset = ClockOffset(offset_ms=1.0, error_ms=1.0, mono_ns=0)
    events: list[Event] = [Started(recv_ns=0, mono_ns=0), facts, up, offset, Stopping(recv_ns=S, mono_ns=S)]
    assert engine.apply_all(events) == []
    assert [engine.apply(event) for event in events] == [()] * 5


def test_reconnects_count_from_the_second_link_on() -> None:
    engine = started()
    up = LinkUp(link="linear", instruments=(LINEAR,), mono_ns=0)
    for expected in (0, 1, 2):
        engine.apply(up)
        assert ticks(engine)[LINEAR].counters.reconnects == expected


def test_a_gap_is_told_and_asks_for_a_resync() -> None:
    engine = started()
    change, ask = engine.apply(BookUpdate(LINEAR, 50, False, [], [], 13, 8, 1000, 999, S, S))
    assert isinstance(change, BookStateChanged)
    assert ask == ResyncNeeded(instrument=LINEAR, reason="gap")


def test_the_events_of_a_read_give_their_outputs_in_order() -> None:
    engine = Engine([(LINEAR, 50)])
    gap = BookUpdate(LINEAR, 50, False, [], [], 13, 8, 1000, 999, S, S)
    told = engine.apply_all([Syncing(instrument=LINEAR, reason="subscribe", mono_ns=0), snapshot(), gap])
    states = [output.new for output in told if isinstance(output, BookStateChanged)]
    assert states == [BookState.SYNCING, BookState.LIVE, BookState.SUSPECT]
    assert told[3:] == [ResyncNeeded(instrument=LINEAR, reason="gap")]


def test_the_figures_stand_still_from_the_stop_on() -> None:
    engine = started()
    engine.apply(Started(recv_ns=0, mono_ns=0))
    (running,) = engine.quality(2 * S)
    assert (running.symbol, running.messages, running.asked_s) == ("BTCUSDT", 1, 2.0)
    engine.apply(Stopping(recv_ns=3 * S, mono_ns=3 * S))
    engine.apply(BookUpdate(LINEAR, 50, False, [], [], 11, 8, 1000, 999, S, 4 * S))
    engine.apply(LinkDown(link="l", instruments=(LINEAR,), reason="eof", mono_ns=5 * S))
    (stopped,) = engine.quality(9 * S)
    assert (stopped.messages, stopped.asked_s, stopped.live_s) == (1, 3.0, 3.0)
    assert ticks(engine, mono_ns=9 * S)[LINEAR].quality.coverage_pct == 100.0


def test_no_book_may_be_believed_once_the_program_stops() -> None:
    engine = started(LINEAR, SPOT)
    assert engine.states() == {LINEAR: BookState.LIVE, SPOT: BookState.LIVE}
    closed = engine.close(7 * S)
    assert [
        (change.instrument, change.new, change.reason) for change in closed if isinstance(change, BookStateChanged)
    ] == [(LINEAR, BookState.CLOSED, "stopped"), (SPOT, BookState.CLOSED, "stopped")]
    assert engine.states() == {LINEAR: BookState.CLOSED, SPOT: BookState.CLOSED}


def test_events_the_monitor_has_no_use_for_are_harmless() -> None:
    trade = Trade(LINEAR, 100.0, 1.0, True, 1, "id", False, False, 1, 1, 1)
    assert started().apply(trade) == ()


def test_a_view_does_not_end_the_interval() -> None:
    engine = started()
    view = engine.view(LINEAR, 5, S, S)
    assert (view.bids, view.asks) == (((99.0, 1.0),), ((101.0, 3.0),))
    assert ticks(engine)[LINEAR].hops.gateway_to_socket.count == 1
    engine.apply(LinkDown(link="l", instruments=(LINEAR,), reason="eof", mono_ns=0))
    assert engine.view(LINEAR, 5, S, S).bids == ()


def test_a_dump_holds_every_level_as_exact_text() -> None:
    engine = Engine([(LINEAR, 50)])
    engine.apply(Syncing(instrument=LINEAR, reason="subscribe", mono_ns=0))
    bids: list[Level] = [(0.1, 0.00000001), (0.09, 123456789.5)]
    engine.apply(BookUpdate(LINEAR, 50, True, bids, [(0.2, 1e15)], 10, 7, 1000, 999, 0, 0))
    (dump,) = engine.dump(plain_decimal)
    assert dump.bids == [("0.1", "0.00000001"), ("0.09", "123456789.5")]
    assert dump.asks == [("0.2", "1000000000000000")]
    assert (dump.state, dump.u, dump.seq) == (BookState.LIVE, 10, 7)


def test_the_same_events_give_the_same_outputs() -> None:
    def outputs() -> bytes:
        engine = Engine([(LINEAR, 50)])
        events: list[Event] = [
            Syncing(instrument=LINEAR, reason="subscribe", mono_ns=0),
            snapshot(),
            *(
                BookUpdate(LINEAR, 50, False, [(98.0, i)], [], 10 + i, i, 1000 + i, 999, i * S, i * S)
                for i in range(1, 9)
            ),
            TickDue(recv_ns=9 * S, mono_ns=9 * S),
        ]
        return b"".join(msgspec.json.encode(output) for event in events for output in engine.apply(event))

    assert outputs() == outputs()
