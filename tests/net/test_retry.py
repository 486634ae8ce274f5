"""Back-off: how long, how often, and what makes it start over."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.errors import (
    AuthRejected,
    ConnectFailed,
    ConnectionLost,
    HeartbeatLost,
    TransientFeedError,
    UpgradeRefused,
)
from orderflow.core.policy import RetryPolicy
from orderflow.net.retry import AttemptBudget, Backoff, LinkHealth, first_leaf, supervise

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.types import LinkChanged

POLICY = RetryPolicy()
unit = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RetryPolicy,
    base_s=st.floats(0.01, 10),
    cap_s=st.floats(0.01, 600),
    refused_pause_s=st.floats(0.1, 100),
    refused_cap_s=st.floats(0.1, 1000),
)


# --- delays


@given(policies, st.lists(unit, min_size=1, max_size=80))
def test_delays_are_jittered_in_full_below_a_doubling_ceiling_with_a_cap(
    policy: RetryPolicy, draws: list[float]
) -> None:
    numbers = iter(draws)
    backoff = Backoff(policy, lambda: next(numbers))
    for number, draw in enumerate(draws):
        delay = backoff.failed(ConnectionLost(), 0.0)
        assert delay == pytest.approx(draw * min(policy.cap_s, policy.base_s * 2.0**number))
        assert 0 <= delay <= policy.cap_s
        assert backoff.attempt == number + 1


def test_an_outage_of_any_length_does_not_overflow() -> None:
    backoff = Backoff(POLICY, lambda: 0.999)
    for _ in range(10_000):
        assert backoff.failed(ConnectFailed(), 0.0) < 60


@given(st.lists(st.tuples(st.floats(0, 200), unit), min_size=1, max_size=40))
def test_only_healthy_data_for_long_enough_starts_over(links: list[tuple[float, float]]) -> None:
    backoff = Backoff(POLICY, lambda: 0.5)
    attempt = 0
    for healthy_s, _ in links:
        attempt = 1 if healthy_s >= 60 else attempt + 1
        assert backoff.failed(HeartbeatLost(), healthy_s) == 0.5 * min(60, 2.0 ** (attempt - 1))
        assert backoff.attempt == attempt


def test_accept_and_kick_is_backed_off_like_a_refusal() -> None:
    backoff = Backoff(POLICY, lambda: 1.0)
    assert [backoff.failed(ConnectionLost(), 0.3) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("status", [403, 429])
def test_blocked_links_pause_long_doubling_to_a_cap(status: int) -> None:
    backoff = Backoff(POLICY, lambda: 0.0)
    assert [backoff.failed(UpgradeRefused(status), 0.0) for _ in range(6)] == [60, 120, 240, 480, 600, 600]


@pytest.mark.parametrize("status", [301, 400, 404, 500, 502, 503])
def test_other_statuses_are_ordinary_losses(status: int) -> None:
    assert Backoff(POLICY, lambda: 0.5).failed(UpgradeRefused(status, retry_after_s=300), 0.0) == 0.5


@pytest.mark.parametrize(
    ("asked_s", "pause_s"), [(None, 60), (0, 60), (30, 60), (90, 90), (600, 600), (601, 600), (1e9, 600)]
)
def test_retry_after_is_obeyed_within_bounds(asked_s: float | None, pause_s: float) -> None:
    assert Backoff(POLICY, lambda: 0.9).failed(UpgradeRefused(429, retry_after_s=asked_s), 0.0) == pause_s


def test_pauses_start_over_after_healthy_data_too() -> None:
    backoff = Backoff(POLICY, lambda: 0.0)
    assert [backoff.failed(UpgradeRefused(403), 0.0) for _ in range(3)] == [60, 120, 240]
    assert backoff.failed(UpgradeRefused(403), 61.0) == 60


# --- the budget over all links


@given(
    st.lists(st.floats(0, 40), min_size=1, max_size=120),
    st.integers(1, 10),
    st.floats(1, 100),
    st.floats(0, 1e6),
)
def test_no_window_holds_more_attempts_than_the_budget(
    waits: list[float], limit: int, window_s: float, start_s: float
) -> None:
    """Whoever asks when, also while others still wait for theirs."""
    budget = AttemptBudget(RetryPolicy(attempts_per_window=limit, window_s=window_s))
    now_s, attempts = start_s, []
    for index, wait_s in enumerate(waits):
        now_s += wait_s
        left_s = budget.reserve(now_s)
        assert left_s >= 0
        if index < limit:
            assert left_s == 0
        attempts.append(now_s + left_s)
    assert attempts == sorted(attempts), "first come, first served"
    for earlier, later in zip(attempts, attempts[limit:], strict=False):
        assert later - earlier >= window_s * (1 - 1e-9) - 1e-9


def test_the_default_budget_is_a_hundred_in_five_minutes() -> None:
    budget = AttemptBudget(POLICY)
    assert [budget.reserve(1000.0 + number) for number in range(100)] == [0.0] * 100
    assert budget.reserve(1100.0) == 200.0
    assert budget.reserve(1100.0) == 201.0  # the first free one is taken
    assert budget.reserve(1400.0) == 0.0


def test_an_attempt_is_free_when_its_window_ends_and_no_sooner() -> None:
    budget = AttemptBudget(RetryPolicy(attempts_per_window=1, window_s=100))
    assert budget.reserve(0.0) == 0
    assert budget.reserve(99.5) == 0.5
    assert budget.reserve(200.0) == 0


def test_a_link_that_never_had_data_was_not_healthy() -> None:
    assert LinkHealth().healthy_s == 0


# --- groups


def test_the_first_leaf_is_what_is_reported() -> None:
    first, second = HeartbeatLost("a"), ConnectionLost("b")
    group = BaseExceptionGroup("x", [BaseExceptionGroup("y", [first]), second])
    assert first_leaf(group) is first


# --- supervise


class Story:
    """Runs `supervise` over scripted attempts: each is (seconds until up, data seconds, how it ends)."""

    def __init__(self, *attempts: Callable[[LinkHealth, Callable[[], None]], BaseException]) -> None:
        self.attempts = list(attempts)
        self.changes: list[LinkChanged] = []
        self.times: list[float] = []

    async def run_link(self, health: LinkHealth, up: Callable[[], None]) -> NoReturn:
        self.times.append(trio.current_time())
        if not self.attempts:
            await trio.sleep_forever()
        raise self.attempts.pop(0)(health, up)

    async def run(self, policy: RetryPolicy = POLICY, budget: AttemptBudget | None = None) -> None:
        await supervise(
            "linear", self.run_link, policy, budget or AttemptBudget(policy), self.changes.append, lambda: 0.5
        )

    @property
    def states(self) -> list[str]:
        return [change.state for change in self.changes]


def refuse(health: LinkHealth, up: Callable[[], None]) -> BaseException:
    return ConnectFailed("port\x1b[31m closed", reason="refused")


def kick(health: LinkHealth, up: Callable[[], None]) -> BaseException:
    up()
    return ConnectionLost("reset", reason="reset")


def live_and_die(health: LinkHealth, up: Callable[[], None]) -> BaseException:
    up()
    health.healthy_s = 100.0
    return BaseExceptionGroup("nursery", [HeartbeatLost("no pong", reason="pong")])


async def test_a_link_is_tried_again_and_told_about(autojump_clock: trio.testing.MockClock) -> None:
    story = Story(refuse, kick, refuse, live_and_die, refuse)
    began = trio.current_time()
    with trio.move_on_after(1000):
        await story.run()
    assert [round(when - began, 6) for when in story.times] == [0, 0.5, 1.5, 3.5, 4.0, 5.0]
    assert story.states == [
        *("connecting", "down", "connecting", "up", "down", "connecting", "down"),
        *("connecting", "up", "down", "connecting", "down", "connecting"),
    ]
    downs = [change for change in story.changes if change.state == "down"]
    assert [(change.reason, change.retry_s, change.attempt) for change in downs] == [
        ("refused", 0.5, 1),
        ("reset", 1.0, 2),
        ("refused", 2.0, 3),
        ("pong", 0.5, 1),
        ("refused", 1.0, 2),
    ]
    assert downs[0].detail == "port\\x1b[31m closed"
    assert [change.attempt for change in story.changes if change.state == "connecting"] == [1, 2, 3, 4, 2, 3]
    assert [change.attempt for change in story.changes if change.state == "up"] == [2, 4]


async def test_links_share_the_budget_and_say_that_they_wait(autojump_clock: trio.testing.MockClock) -> None:
    policy = RetryPolicy(attempts_per_window=10, window_s=100, cap_s=1)
    budget = AttemptBudget(policy)
    stories = [Story(*[refuse] * 50) for _ in range(3)]
    with trio.move_on_after(1000):
        async with trio.open_nursery() as nursery:
            for story in stories:
                nursery.start_soon(story.run, policy, budget)
    times = sorted(when for story in stories for when in story.times)
    assert 90 <= len(times) <= 110
    assert all(later - earlier >= 99.99 for earlier, later in zip(times, times[10:], strict=False))
    waiting = [change for story in stories for change in story.changes if change.state == "waiting"]
    assert all(change.reason == "budget" and change.retry_s and change.retry_s > 0 for change in waiting)
    assert 0 < len(waiting) <= len(times) + 3  # each waits once for an attempt


@pytest.mark.parametrize("fault", [refuse, kick, lambda health, up: UpgradeRefused(403)], ids=["down", "kicks", "403"])
async def test_thirty_links_and_an_exchange_that_is_away_for_an_hour(
    autojump_clock: trio.testing.MockClock, fault: Callable[[LinkHealth, Callable[[], None]], BaseException]
) -> None:
    """Never more than a hundred attempts in five minutes, nobody is left out, and little is said about it."""
    rng = random.Random(7)
    budget = AttemptBudget(POLICY)
    back_s = trio.current_time() + 3600
    attempts: list[tuple[float, int]] = []
    up: dict[int, float] = {}
    changes: list[LinkChanged] = []

    async def run_link(number: int, health: LinkHealth, tell_up: Callable[[], None]) -> NoReturn:
        attempts.append((trio.current_time(), number))
        if trio.current_time() < back_s:
            raise fault(health, tell_up)
        up[number] = trio.current_time()
        await trio.sleep_forever()
        raise AssertionError

    with trio.move_on_after(2 * 3600):
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(
                    supervise, str(number), partial(run_link, number), POLICY, budget, changes.append, rng.random
                )
    times = [when for when, _ in attempts]
    assert all(later - earlier >= 299.999 for earlier, later in zip(times, times[100:], strict=False))
    per_link = Counter(number for when, number in attempts if when < back_s)
    assert max(per_link.values()) <= 3 * min(per_link.values())
    assert len(up) == 30
    assert max(up.values()) - back_s <= POLICY.window_s + max(POLICY.cap_s, POLICY.refused_cap_s)
    assert len([change for change in changes if change.state == "waiting"]) <= len(attempts)


async def test_what_is_no_feed_error_goes_through(autojump_clock: trio.testing.MockClock) -> None:
    for error in (AuthRejected("no"), ZeroDivisionError()):
        story = Story(lambda health, up, error=error: error)  # type: ignore[misc]
        with pytest.raises(type(error)):
            await story.run()
        assert story.states == ["connecting"]


async def test_a_bug_beside_a_loss_goes_through(autojump_clock: trio.testing.MockClock) -> None:
    def both(health: LinkHealth, up: Callable[[], None]) -> BaseException:
        return BaseExceptionGroup("link", [ConnectionLost("x"), ZeroDivisionError()])

    with pytest.raises(ExceptionGroup) as caught:
        await Story(both).run()
    assert caught.group_contains(ZeroDivisionError)
    assert not caught.group_contains(TransientFeedError)


async def test_cancelled_while_waiting_it_just_ends(autojump_clock: trio.testing.MockClock) -> None:
    story = Story(*[refuse] * 10)
    with trio.move_on_after(3.4) as scope:
        await story.run()
    assert scope.cancelled_caught
    assert story.states[-1] == "down"


async def test_the_budget_is_waited_for_to_the_end(autojump_clock: trio.testing.MockClock) -> None:
    story = Story(*[refuse] * 3)
    began = trio.current_time()
    with trio.move_on_after(10):
        await story.run(RetryPolicy(attempts_per_window=1, window_s=1, base_s=0.5))
    assert [round(when - began, 3) for when in story.times] == [0, 1, 2, 3]
    assert [change.retry_s for change in story.changes if change.state == "waiting"] == pytest.approx([0.75, 0.5])


async def test_a_link_that_ends_without_an_error_is_lost_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    changes: list[LinkChanged] = []

    async def run_link(health: LinkHealth, up: Callable[[], None]) -> None:
        """Ends, against its promise."""

    with trio.move_on_after(0.4):
        await supervise("a", run_link, POLICY, AttemptBudget(POLICY), changes.append, lambda: 0.5)  # type: ignore[arg-type]
    assert [(change.state, change.attempt) for change in changes] == [("connecting", 1), ("down", 1)]
    assert changes[-1].detail
