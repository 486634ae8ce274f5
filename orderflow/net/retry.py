"""When to try again, and how long to wait. Everything but `supervise` is pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NoReturn

import trio

from orderflow.core.errors import TransientFeedError, UpgradeRefused
from orderflow.core.text import escape_text
from orderflow.core.types import LinkChanged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orderflow.core.policy import RetryPolicy

_PAUSING_STATUS = (403, 429)  # blocked or too many: trying soon makes it worse


class LinkHealth:
    """How one attempt went: the link's task fills it in, the back-off reads it."""

    __slots__ = ("healthy_s",)

    def __init__(self) -> None:
        self.healthy_s = 0.0  # from the first to the last data of the link


class Backoff:
    """Full jitter: delay k is uniform in [0, min(cap, base * 2**k)]; HTTP 403 and 429 get a long pause of their own.

    It starts over only after a link that carried healthy data for `stable_after_s`: a peer that accepts and kicks is
    backed off like one that refuses. Args: rng: uniform in [0, 1).
    """

    def __init__(self, policy: RetryPolicy, rng: Callable[[], float]) -> None:
        self._policy = policy
        self._rng = rng
        self.attempt = 0
        self._pauses = 0

    def failed(self, error: TransientFeedError, healthy_s: float) -> float:
        """A link ended with `error` after `healthy_s` of data. Returns the seconds to wait before the next try."""
        policy = self._policy
        if healthy_s >= policy.stable_after_s:
            self.attempt = self._pauses = 0
        self.attempt += 1
        if isinstance(error, UpgradeRefused) and error.status in _PAUSING_STATUS:
            pause = min(policy.refused_cap_s, policy.refused_pause_s * 2.0 ** min(self._pauses, 60))
            self._pauses += 1
            asked = error.retry_after_s
            return pause if asked is None else min(max(asked, pause), policy.refused_cap_s)
        ceiling = min(policy.cap_s, policy.base_s * 2.0 ** min(self.attempt - 1, 60))
        return self._rng() * ceiling


class AttemptBudget:
    """At most so many connection attempts in a window, over all links together: first come, first served.

    Attempts are given out ahead of time, so that a link waits once; links that all woke up for the same one, to wait on
    but for one of them, would tell the world about it each time.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._window_s = policy.window_s
        self._times: deque[float] = deque(maxlen=policy.attempts_per_window)  # of the last attempts, future ones too

    def reserve(self, now_s: float) -> float:
        """Take the next free attempt. Returns: the seconds until it may be made (0: now)."""
        times = self._times
        is_full = len(times) == times.maxlen
        when_s = max(now_s, times[0] + self._window_s) if is_full else now_s
        times.append(when_s)
        return when_s - now_s


def first_leaf(group: BaseExceptionGroup[TransientFeedError]) -> TransientFeedError:
    """The error to report out of a group; the others are its consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TransientFeedError)
    return error


async def supervise(
    link: str,
    run_link: Callable[[LinkHealth, Callable[[], None]], Awaitable[NoReturn]],
    policy: RetryPolicy,
    budget: AttemptBudget,
    notify: Callable[[LinkChanged], None],
    rng: Callable[[], float],
) -> NoReturn:
    """Keep one link running for ever: connect, run, name what ended it, back off, again.

    Args:
        run_link: one attempt; it calls its second argument once the link is up, and ends by raising.
        budget: shared by all links.
        notify: told of every state change; must not raise or block.
    Raises: whatever is no TransientFeedError.
    """
    backoff = Backoff(policy, rng)
    while True:
        if (wait_s := budget.reserve(trio.current_time())) > 0:
            notify(LinkChanged(link=link, state="waiting", reason="budget", retry_s=wait_s, attempt=backoff.attempt))
            await trio.sleep(wait_s)
        health = LinkHealth()
        notify(LinkChanged(link=link, state="connecting", attempt=backoff.attempt + 1))
        error = TransientFeedError("the link ended without an error")
        try:
            await run_link(health, lambda: notify(LinkChanged(link=link, state="up", attempt=backoff.attempt + 1)))
        except* TransientFeedError as group:
            error = first_leaf(group)
        delay_s = backoff.failed(error, health.healthy_s)
        notify(
            LinkChanged(
                link=link,
                state="down",
                reason=error.reason,
                detail=escape_text(error.detail),
                retry_s=delay_s,
                attempt=backoff.attempt,
            )
        )
        await trio.sleep(delay_s)
