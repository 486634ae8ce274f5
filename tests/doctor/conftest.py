"""A quiet place to examine, exchanges to examine, and short ways of asking."""

from __future__ import annotations

import argparse
import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orderflow.doctor.command import examine_all
from orderflow.doctor.findings import Status
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.server import SimConfig, SimServer, serve

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from orderflow.doctor.findings import Check
    from orderflow.sim.faults import Faults

COMMON: dict[str, object] = {
    "symbols": ["BTCUSDT"],
    "feed.open_timeout_s": 15.0,
    "feed.snapshot_timeout_s": 15.0,
    "feed.ack_timeout_s": 15.0,
    "bybit.rest_timeout_s": 15.0,
    "plugins.entry_points": False,
    "plugins.budget_ms": 9_000.0,
    "plugins.disable_over_ms": 10_000.0,
}
"""Patient: what should answer does so on a busy machine too."""
HASTY: dict[str, object] = {key: 0.5 for key in COMMON if key.endswith("_timeout_s")}
"""Where nothing will come."""


class Report:
    """The checks of one examination, by name."""

    def __init__(self, checks: list[Check]) -> None:
        self.checks = checks

    def status(self, name: str) -> Status:
        return self[name].status

    def __getitem__(self, name: str) -> Check:
        """The worst check of that name."""
        order = [Status.FAIL, Status.WARN, Status.PASS, Status.SKIP]
        return min((check for check in self.checks if check.name == name), key=lambda check: order.index(check.status))

    @property
    def trouble(self) -> dict[str, Status]:
        return {check.name: check.status for check in self.checks if check.status in (Status.WARN, Status.FAIL)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no settings in the environment."""
    for name in list(os.environ):
        if name.startswith("ORDERFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"env": "sim", "config": None, "json": False, "set": [], **more})


async def examine(options: Mapping[str, object], **more: Any) -> Report:
    with trio.fail_after(60):
        return Report(await examine_all(arguments(**more), {**COMMON, **options}))


@asynccontextmanager
async def exchange(
    faults: Faults | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    symbols: Sequence[str] = ("linear:BTCUSDT",),
) -> AsyncIterator[tuple[SimServer, dict[str, object]]]:
    """A simulated exchange that lists these (each market takes a moment to make), and the settings that point to it."""
    known = {str(key): item for key, item in catalogue_by_id().items()}
    config = SimConfig(instruments=tuple(known[symbol] for symbol in symbols), faults=faults, tls=tls)
    async with trio.open_nursery() as nursery:
        sim = await nursery.start(serve, config)
        urls = {"public_ws_url": sim.public_url, "private_ws_url": sim.private_url, "rest_url": sim.rest_url}
        yield sim, {f"bybit.{key}": url.replace("127.0.0.1", host) for key, url in urls.items()}
        nursery.cancel_scope.cancel()


def all_at(port: int) -> dict[str, object]:
    """Settings that point to whatever listens at a port of this machine."""
    return {
        "bybit.public_ws_url": f"ws://127.0.0.1:{port}/v5/public/{{category}}",
        "bybit.private_ws_url": f"ws://127.0.0.1:{port}/v5/private",
        "bybit.rest_url": f"http://127.0.0.1:{port}",
    }


@asynccontextmanager
async def listening(handler: Any) -> AsyncIterator[int]:
    """A TCP server; its port."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
