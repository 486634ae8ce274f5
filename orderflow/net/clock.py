"""Keeps the clock offset known: asks for the exchange's time, again and again, for ever."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from orderflow.bybit.rest import RestError
from orderflow.core.clock import OffsetEstimator
from orderflow.core.errors import WireError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.clock import TimeSample
    from orderflow.core.policy import ClockPolicy
    from orderflow.core.types import ClockOffset

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0


class TimeSource(Protocol):
    """Something that can be asked for the exchange's time (RestClient)."""

    async def server_time(self) -> TimeSample: ...


async def run_clock(
    source: TimeSource,
    policy: ClockPolicy,
    publish: Callable[[ClockOffset], None],
    *,
    trouble: Callable[[str], None] | None = None,
) -> NoReturn:
    """Sample in a burst at start and after our clock was set, then one by one; publish what is known after each.

    Trouble with the network or the exchange is logged once per change, and survived.

    Args:
        publish: told the offset and its error bound; must not raise or block.
        trouble: told a short escaped text when asking stops working or fails in another way, "" when it works again.
    """
    await _ClockTask(source, policy, publish, trouble or (lambda text: None)).run()


class _ClockTask:
    def __init__(
        self,
        source: TimeSource,
        policy: ClockPolicy,
        publish: Callable[[ClockOffset], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._source = source
        self._policy = policy
        self._publish = publish
        self._trouble = trouble
        self._estimator = OffsetEstimator(policy.window_s)
        self._reason = ""
        self._far_off = False

    async def run(self) -> NoReturn:
        retry_s = FIRST_RETRY_S
        burst = self._policy.burst
        while True:
            steps = self._estimator.steps
            if not await self._sample(burst):
                await trio.sleep(min(retry_s, self._policy.interval_s))
                retry_s *= 2.0 if retry_s < self._policy.interval_s else 1.0
                continue
            retry_s = FIRST_RETRY_S
            if self._estimator.steps != steps:
                log.warning("our clock was set: learning its offset to the exchange afresh")
                burst = self._policy.burst
                await trio.sleep(min(FIRST_RETRY_S, self._policy.interval_s))  # it may still be moving
                continue
            burst = 1
            await trio.sleep(self._policy.interval_s)

    async def _sample(self, count: int) -> bool:
        """Takes samples until one fails. Returns whether all came."""
        for _ in range(count):
            try:
                sample = await self._source.server_time()
            except (RestError, WireError) as error:
                self._failed(error)
                return False
            self._recovered()
            offset = self._estimator.add(sample)
            if offset is not None:
                self._publish(offset)
                self._judge(offset)
        return True

    def _failed(self, error: RestError | WireError) -> None:
        if error.reason != self._reason:
            self._reason = error.reason
            text = escape_text(str(error))
            log.warning("the exchange's time is not to be had: %s", text)
            self._trouble(text)

    def _recovered(self) -> None:
        if self._reason:
            self._reason = ""
            log.info("the exchange's time is to be had again")
            self._trouble("")

    def _judge(self, offset: ClockOffset) -> None:
        far_off = abs(offset.offset_ms) - offset.error_ms > self._policy.warn_offset_ms
        if far_off and not self._far_off:
            side = "ahead of" if offset.offset_ms > 0 else "behind"
            log.warning(
                "our clock is %.0f ms %s the exchange's (± %.0f ms): set it; latencies are corrected meanwhile",
                abs(offset.offset_ms),
                side,
                offset.error_ms,
            )
        self._far_off = far_off
