"""The whole path otherwise, over sockets; and the stage as a whole."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from orderflow.bench import plan
from orderflow.bench.certificate import papers
from orderflow.bench.choices import sockets
from orderflow.bench.choices.sockets import FLOOD, PACED, TLS, measure_sockets
from orderflow.bench.client import keep_book
from orderflow.bench.command import main
from orderflow.bench.loopback import LoopbackError, open_server
from orderflow.bench.options import add_arguments
from orderflow.bench.ratios import BUSY, OURS

if TYPE_CHECKING:
    from orderflow.bench.client import Job, Sheet

TINY = msgspec.structs.replace(
    plan.QUICK, rounds=1, windows=8, flood=2000, paced_s=0.1, rate=1000.0, turns=1, turn=40, depths=(50,)
)


@pytest.mark.socket
def test_every_way_ends_with_the_servers_book() -> None:
    with open_server(50, 8, 7) as server:
        for name, client in PACED.items():
            assert len(server.run_here(name, client, 30, 1000).outcome.stamps) == 30
    with papers() as tls, open_server(50, 8, 7, tls) as server:
        for name, client in TLS.items():
            assert server.run_here(name, client, 300, 0).outcome.messages > 0


@pytest.mark.socket
def test_the_stage_measures_every_choice_ours_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "read by Trio's SocketStream"
    two = {name: PACED[name] for name in (OURS, other)}
    for name in ("PACED", "FLOOD"):
        monkeypatch.setattr(sockets, name, two)
    monkeypatch.setattr(sockets, "TLS", {OURS: keep_book})
    monkeypatch.setattr(sockets, "_CODES_COUNT", 20)
    monkeypatch.setattr(plan, "QUICK", TINY)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert main(parser.parse_args(["--quick", "--only", "choices", "--json"])) == 0
    report = json.loads(capsys.readouterr().out)
    ways: dict[str, list[str]] = {}
    for figure in report["figures"]:
        ways.setdefault(figure["name"], []).append(figure["case"])
    for name in (
        "due to book",
        "awake to book",
        "processor time a message",
        "byte codes waking to book",
        "byte codes waking to book, Trio's",
    ):
        assert ways.pop(name) == [OURS, other]
        assert ways.pop(f"{name} over TLS") == [OURS]
    assert {name: len(cases) for name, cases in ways.items()} == {
        "decode": 6, "decode to an event": 3, "reads to book": 3, "reads to book, garbage": 3, "levels": 5,
        "levels, top 10 every 10 messages": 5, "stamps": 2, "byte codes of stamps, unfolded": 2,
        "full collection after start-up": 2,
    }  # fmt: skip
    assert {ratio["case"] for ratio in report["ratios"]} == {OURS, *(cases[0] for cases in ways.values())}
    codes = {ratio["name"]: ratio["value"] for ratio in report["ratios"] if ratio["against"] == other}
    assert codes["byte codes waking to book"] > 1


def test_what_waits_between_messages_is_not_flooded() -> None:
    assert set(PACED) - set(FLOOD) == {"a beat each millisecond", BUSY}


@pytest.mark.socket
def test_a_way_that_loses_messages_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(job: Job, sheet: Sheet, context: object) -> None:
        await keep_book(job, sheet, None)
        sheet.keep([], [])

    monkeypatch.setattr(sockets, "PACED", {OURS: forgetful})
    with pytest.raises(LoopbackError, match="differ from the server's"):
        measure_sockets(TINY, 50)
