"""REST, the clock and the private link against the simulated exchange over real localhost sockets."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import trio

from orderflow.bybit.signing import Signer
from orderflow.core.policy import ClockPolicy, LinkPolicy, RetryPolicy
from orderflow.core.types import Category, InstrumentId
from orderflow.net.clock import run_clock
from orderflow.net.private import PrivateLink
from orderflow.net.rest import open_rest
from orderflow.net.retry import AttemptBudget
from orderflow.sim.private import DEFAULT_KEYS
from orderflow.sim.server import ServerPolicy, SimConfig, SimServer, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderflow.core.types import ClockOffset, LinkChanged, PrivateMessage

pytestmark = pytest.mark.socket

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
((KEY, SECRET),) = DEFAULT_KEYS.items()


@asynccontextmanager
async def exchange(policy: ServerPolicy | None = None) -> AsyncIterator[SimServer]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve, SimConfig(server=policy or ServerPolicy()))
        nursery.cancel_scope.cancel()


async def test_instruments_and_books() -> None:
    wanted = [BTC, InstrumentId(Category.SPOT, "BTCUSDT"), InstrumentId(Category.INVERSE, "BTCUSD")]
    unknown = InstrumentId(Category.SPOT, "NOPEUSDT")
    async with exchange() as sim, open_rest(sim.rest_url, 5) as rest:
        got = await rest.instruments([*wanted, unknown])
        assert {found.id for found in got.found} == set(wanted)
        assert got.missing == (unknown,)
        assert {found.base_coin for found in got.found} == {"BTC"}
        book = await rest.orderbook(BTC, 50)
        assert len(book.bids) == len(book.asks) == 50
        assert Decimal(book.bids[0][0]) < Decimal(book.asks[0][0])


async def test_the_clock_offset() -> None:
    offsets: list[ClockOffset] = []
    async with exchange() as sim, open_rest(sim.rest_url, 5) as rest:
        with trio.move_on_after(5) as scope:

            def publish(offset: ClockOffset) -> None:
                offsets.append(offset)
                if len(offsets) == 5:
                    scope.cancel()

            await run_clock(rest, ClockPolicy(), publish)
        true_ms = (time.time_ns() - sim.now_ns()) / 1e6
    assert abs(offsets[-1].offset_ms - true_ms) <= offsets[-1].error_ms + 1
    assert offsets[-1].error_ms < 500


async def run_private(
    sim: SimServer, secret: str, until: int
) -> tuple[list[PrivateMessage], list[LinkChanged], object]:
    """Run a link until it changed state `until` times, or gave up."""
    messages: list[PrivateMessage] = []
    changes: list[LinkChanged] = []
    retry = RetryPolicy(base_s=0.01, cap_s=0.01)
    link = PrivateLink(sim.private_url, Signer(KEY, secret), LinkPolicy(), messages.append)
    verdict: object = None
    with trio.move_on_after(10) as scope:

        def notify(change: LinkChanged) -> None:
            changes.append(change)
            if len(changes) == until:
                scope.cancel()

        verdict = await link.run(retry, AttemptBudget(retry), notify, lambda: 0.5)
    return messages, changes, verdict


async def test_the_private_link_is_let_in() -> None:
    async with exchange() as sim:
        _, changes, _ = await run_private(sim, SECRET, 2)
    assert [change.state for change in changes] == ["connecting", "up"]


async def test_wrong_credentials() -> None:
    async with exchange() as sim:
        _, changes, verdict = await run_private(sim, "wrong", 99)
    assert verdict is not None
    assert [f"{change.state} {change.reason}".strip() for change in changes] == ["connecting", "down auth"] * 2
