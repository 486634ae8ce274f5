"""Channels: each keeps its written policy."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.errors import FeedOverrun
from orderflow.core.types import Event, TimerDue
from orderflow.net.fanout import DropOldest, EventQueue, Latest, QueueStatistics


def events(count: int, start: int = 0) -> list[Event]:
    return [TimerDue(mono_ns=start + number) for number in range(count)]


# --- events


async def test_events_come_in_order_and_whole_batches() -> None:
    queue = EventQueue(10)
    queue.put_nowait(events(2))
    queue.put_control(events(1, 2))
    assert await queue.receive() == [events(2), events(1, 2)]


async def test_a_full_queue_refuses_the_batch_and_loses_nothing_it_took() -> None:
    queue = EventQueue(5)
    queue.put_nowait(events(3))
    with pytest.raises(FeedOverrun) as caught:
        queue.put_nowait(events(3, 3))
    assert caught.value.reason == "overrun"
    queue.put_nowait(events(2, 6))
    assert (queue.statistics().depth, queue.statistics().peak, queue.statistics().overruns) == (5, 5, 1)
    assert await queue.receive() == [events(3), events(2, 6)]
    assert queue.statistics().depth == 0
    queue.put_nowait(events(5))


async def test_what_a_link_says_of_itself_always_gets_in() -> None:
    queue = EventQueue(1)
    queue.put_nowait(events(1))
    queue.put_control(events(4))
    with pytest.raises(FeedOverrun):
        queue.put_nowait(events(1))
    assert [len(item) for item in await queue.receive()] == [1, 4]


async def test_what_is_counted_of_events() -> None:
    queue = EventQueue(3)
    assert queue.statistics() == QueueStatistics(depth=0, peak=0, overruns=0)
    queue.put_nowait(events(1))
    queue.put_nowait(events(1, 1))
    assert queue.statistics() == QueueStatistics(depth=2, peak=2, overruns=0)
    await queue.receive()
    assert queue.statistics() == QueueStatistics(depth=0, peak=2, overruns=0)
    queue.put_control(events(10, 1))
    for count in (1, 2):
        with pytest.raises(FeedOverrun):
            queue.put_nowait(events(1))
        assert queue.statistics() == QueueStatistics(depth=10, peak=2, overruns=count)
    assert queue.take_all() == events(10, 1)
    assert queue.statistics() == QueueStatistics(depth=0, peak=2, overruns=2)


async def test_events_are_handed_over_at_once_but_never_past_others() -> None:
    queue = EventQueue(5)
    taken: list[list[Event]] = []
    queue.hand_to(taken.append)
    queue.put_nowait(events(7))  # nothing waits, so there is nothing to overrun
    queue.put_control(events(1, 7))
    queue.put_nowait(events(2, 8))
    assert taken == [events(7)]
    assert queue.statistics().depth == 3
    assert await queue.receive() == [events(1, 7), events(2, 8)]
    queue.put_nowait(events(1, 10))
    assert taken == [events(7), events(1, 10)]
    queue.hand_to(None)
    queue.put_nowait(events(1, 11))
    assert await queue.receive() == [events(1, 11)]


async def test_a_flood_that_began_while_something_waited_does_not_outrun_the_book_task() -> None:
    """A read of a flood is several items, and the book task has one turn between two reads."""
    queue = EventQueue(100)
    got: list[Event] = []

    async def book_task() -> None:
        queue.hand_to(got.extend)
        while True:
            for item in await queue.receive():
                got.extend(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(book_task)
        await trio.testing.wait_all_tasks_blocked()
        queue.put_control(events(1))
        for number in range(1, 801, 4):
            for item in range(number, number + 4):
                queue.put_nowait(events(1, item))
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert got == events(801)
    assert queue.statistics().overruns == 0


async def test_a_closed_queue_hands_out_what_it_has() -> None:
    queue = EventQueue(5)
    queue.put_nowait(events(1))
    queue.close()
    assert await queue.receive() == [events(1)]
    with pytest.raises(trio.EndOfChannel):
        await queue.receive()


@given(st.lists(st.integers(0, 6) | st.none(), max_size=60), st.integers(1, 12))
def test_the_depth_is_what_was_put_and_not_taken(steps: list[int | None], limit: int) -> None:
    """`None` takes what waits, a number puts an item."""

    async def play() -> None:
        queue, waiting = EventQueue(limit), list[int]()
        for step in steps:
            if step is None:
                if waiting:
                    assert [len(item) for item in await queue.receive()] == waiting
                    waiting.clear()
            elif sum(waiting) + step > limit:
                with pytest.raises(FeedOverrun):
                    queue.put_nowait(events(step))
            else:
                queue.put_nowait(events(step))
                waiting.append(step)
            assert queue.statistics().depth == sum(waiting) <= limit

    trio.run(play)


# --- latest


@pytest.mark.parametrize("count", [1, 2, 3, 6])
async def test_only_the_newest_value_is_kept(count: int) -> None:
    latest: Latest[int] = Latest()
    for number in range(count):
        latest.put(number)
    assert await latest.receiver.receive() == count - 1
    latest.put(count)
    latest.close()
    assert [value async for value in latest.receiver] == [count]


async def test_a_waiting_reader_gets_the_value_at_once(autojump_clock: trio.testing.MockClock) -> None:
    latest: Latest[str] = Latest()

    async def read() -> None:
        assert await latest.receiver.receive() == "first"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        latest.put("first")
        latest.put("second")
    assert latest.receiver.receive_nowait() == "second"


async def test_a_view_that_went_away_does_not_disturb_who_feeds_it() -> None:
    latest: Latest[int] = Latest()
    latest.put(1)
    latest.receiver.close()
    latest.put(2)


# --- drop oldest


async def drain(queue: DropOldest[int], into: list[int]) -> None:
    while True:
        into.append(await queue.receive())


@given(st.lists(st.integers(), max_size=40), st.integers(1, 10))
def test_the_oldest_go_and_are_counted(items: list[int], limit: int) -> None:
    async def play() -> None:
        queue: DropOldest[int] = DropOldest(limit)
        for item in items:
            queue.put(item)
        queue.close()
        got: list[int] = []
        with pytest.raises(trio.EndOfChannel):
            await drain(queue, got)
        assert got == items[-limit:]
        assert queue.dropped == max(0, len(items) - limit)

    trio.run(play)


async def test_a_reader_waits_for_the_first_item(autojump_clock: trio.testing.MockClock) -> None:
    queue: DropOldest[int] = DropOldest(3)
    got: list[int] = []

    async def read() -> None:
        with pytest.raises(trio.EndOfChannel):
            await drain(queue, got)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for number in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert len(got) == number
            queue.put(number)
        await trio.testing.wait_all_tasks_blocked()
        queue.close()
    assert got == [0, 1, 2]


def test_what_waits_what_waited_at_most_and_what_was_dropped() -> None:
    queue: DropOldest[int] = DropOldest(3)
    assert queue.statistics() == QueueStatistics(depth=0, peak=0, overruns=0)
    for number in range(2):
        queue.put(number)
    assert queue.receive_more(1) == [0]
    assert queue.statistics() == QueueStatistics(depth=1, peak=2, overruns=0)
    for number in range(2, 6):
        queue.put(number)
    assert queue.statistics() == QueueStatistics(depth=3, peak=3, overruns=2)
    assert queue.receive_more(2) == [3, 4]
    assert queue.receive_more(2) == [5]
    assert queue.receive_more(2) == []
    assert queue.statistics() == QueueStatistics(depth=0, peak=3, overruns=2)


async def test_every_read_lets_others_run_and_can_be_cancelled() -> None:
    queue: DropOldest[int] = DropOldest(3)
    queue.put(1)
    with trio.testing.assert_checkpoints():
        await queue.receive()


async def test_a_cancelled_read_loses_nothing() -> None:
    queue: DropOldest[int] = DropOldest(3)
    queue.put(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await queue.receive()
    assert scope.cancelled_caught
    assert await queue.receive() == 1


async def test_what_is_taken_at_once_is_not_handed_out_again() -> None:
    """Even the item that already woke the waiting task is taken, in its place: else it would come after newer ones."""
    queue = EventQueue(100)
    got: list[list[Event]] = []

    async def book_task() -> None:
        while True:
            got.extend(await queue.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(book_task)
        await trio.testing.wait_all_tasks_blocked()
        first, second, third = (TimerDue(mono_ns=number) for number in range(3))
        queue.put_control([first])
        queue.put_control([second])
        assert queue.take_all() == [first, second]
        assert queue.statistics().depth == 0
        await trio.testing.wait_all_tasks_blocked()
        assert got == []
        queue.put_control([third])
        await trio.testing.wait_all_tasks_blocked()
        assert got == [[third]]
        nursery.cancel_scope.cancel()
