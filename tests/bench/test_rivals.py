"""Running another library's client; the real ones where they are installed."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from orderflow.bench.certificate import papers
from orderflow.bench.client import Job, Sheet, perform
from orderflow.bench.field import find_rivals
from orderflow.bench.loopback import open_server
from orderflow.bench.plan import BARE
from orderflow.bench.rivals import RIVALS
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    import ssl

PYTHON = os.environ.get("ORDERFLOW_PEERS_PYTHON", sys.executable)


def _job(timeout_s: float = 5.0) -> Job:
    return Job(client="fake", url="ws://x", depth=50, count=3, stamp=False, timeout_s=timeout_s)


@pytest.fixture
def _asyncio_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orderflow.bench.rivals.find_spec", lambda name: None)


@pytest.mark.usefixtures("_asyncio_alone")
def test_what_a_rival_found_is_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fake(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
        assert context is None
        sheet.mark(1)
        await asyncio.sleep(0)
        sheet.mark(job.count)
        sheet.keep([(2.0, 1.0)], [(3.0, 1.0)])

    monkeypatch.setattr("orderflow.bench.rivals.RIVALS", {"fake": fake})
    outcome = perform(_job())
    assert (outcome.messages, outcome.error) == (2, "")
    assert outcome.books["BTCUSDT"].bids == [(2.0, 1.0)]


@pytest.mark.usefixtures("_asyncio_alone")
def test_a_rival_that_fails_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
        raise BaseExceptionGroup("both", [ConnectionError("no route"), ValueError()])

    monkeypatch.setattr("orderflow.bench.rivals.RIVALS", {"fake": broken})
    assert perform(_job()).error == "ConnectionError: no route"


@pytest.mark.usefixtures("_asyncio_alone")
def test_a_rival_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(job: Job, sheet: Sheet, context: ssl.SSLContext | None) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("orderflow.bench.rivals.RIVALS", {"fake": hangs})
    assert perform(_job(timeout_s=0.01)).error == "not done after 0.01 s"


@pytest.mark.socket
@pytest.mark.parametrize("client, secure", list(zip(BARE, (False, True), strict=True)))
def test_a_bare_client_on_trio_ends_with_the_servers_book(client: str, secure: bool) -> None:
    with papers() as tls, open_server(50, 8, 7, tls if secure else None) as server:
        run = server.run(client, 200, 2000)
    assert len(run.outcome.stamps) == 200


@pytest.mark.peers
@pytest.mark.socket
@pytest.mark.parametrize("name", RIVALS)
def test_an_installed_rival_ends_with_the_servers_book(name: str) -> None:
    try:
        found = find_rivals(PYTHON).rivals
    except ConfigError as exc:
        pytest.skip(str(exc))
    if name not in found:
        pytest.skip(f"{name} is not installed (extra `peers`)")
    with papers() as tls, open_server(50, 8, 7) as plain, open_server(50, 8, 7, tls) as secure:
        for server in (plain, secure):
            assert len(server.run(name, 200, 2000, python=PYTHON).outcome.stamps) == 200
