"""One soak: warm up, break things for a while, let them heal, then hold all beside the exchange's records."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.chaos import RECIPES, Chaos
from orderflow.sim.server import ServerPolicy, SimConfig, SimServer, serve
from orderflow.soak import ledger as ledgers
from orderflow.soak.compare import differences
from orderflow.soak.watched import QUICK_LINK, QUICK_RETRY, Diary, Watched, open_watched, quick_settings
from orderflow.soak.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orderflow.core.types import MetricsTick

BOOKS: Final = (
    InstrumentId(Category.LINEAR, "BTCUSDT"),
    InstrumentId(Category.LINEAR, "ETHUSDT"),
    InstrumentId(Category.INVERSE, "BTCUSD"),
    InstrumentId(Category.SPOT, "BTCUSDT"),
)
DEPTHS: Final = (50, 200)
WARM_UP_S: Final = 1.5
HEAL_S: Final = 60.0
SETTLE_S: Final = 3.0
GROWTH_BYTES: Final = 64 * 1024 * 1024  # the simulated market remembers every price it has seen
SHOWN: Final = 10


class SoakPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Args: rate: faults a second."""

    duration_s: float = 60.0
    seed: int = 1
    rate: float = 1.0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: kept when `wrong` is empty."""

    name: str
    wrong: list[str]

    @property
    def kept(self) -> bool:
        return not self.wrong


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Of this process: monitor and exchange together."""

    rss_bytes: int
    descriptors: int
    tasks: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    plan: SoakPlan
    checks: list[Check]
    before: Usage
    after: Usage
    facts: dict[str, Any]

    @property
    def kept(self) -> bool:
        return all(check.kept for check in self.checks)


async def soak(plan: SoakPlan, tell: Callable[[str], None] = lambda text: None) -> Report:
    """Run one soak. Returns: the report; nothing is raised for a broken promise. `tell`: progress, for people."""
    with tempfile.TemporaryDirectory(prefix="orderflow-soak-") as folder:
        return await _Soak(plan, Path(folder) / "clients.jsonl", tell).run()


class _Soak:
    def __init__(self, plan: SoakPlan, log: Path, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._log = log
        self._tell = tell
        self._checks: list[Check] = []
        self._witnesses: dict[tuple[int, InstrumentId], Witness] = {}
        self._watched: dict[int, Watched] = {}
        self._breaking = trio.CancelScope()

    async def run(self) -> Report:
        known = catalogue_by_id()
        server_policy = ServerPolicy(client_log=self._log)
        config = SimConfig(instruments=tuple(known[key] for key in BOOKS), seed=self._plan.seed, server=server_policy)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_signals)
            server: SimServer = await nursery.start(serve, config)
            async with AsyncExitStack() as stack:
                for depth in DEPTHS:
                    for key in BOOKS:
                        self._witnesses[depth, key] = Witness(server, key, depth)
                    settings = quick_settings(server, [str(key) for key in BOOKS], depth)
                    diary = Diary(partial(self._judge, depth), now=lambda: server.now_ms() / 1000)
                    self._watched[depth] = await stack.enter_async_context(open_watched(settings, diary))
                before, after = await self._play(server)
            nursery.cancel_scope.cancel(reason="soak done")
        return self._report(before, after)

    async def _play(self, server: SimServer) -> tuple[Usage, Usage]:
        await self._until_live("all books live at first", 10.0)
        await trio.sleep(WARM_UP_S)
        before = usage()
        self._tell(f"{len(BOOKS) * len(DEPTHS)} books live; {self._plan.rate:g} faults a second from now on")
        await self._break(server)
        server.plan.clear()
        self._tell("faults off; waiting for every book to be live")
        await self._until_live("all books live after the faults", HEAL_S)
        server.pause()
        with trio.move_on_after(SETTLE_S):
            while self._differing(server):  # noqa: ASYNC110 - what is published still takes its way
                await trio.sleep(0.05)
        self._check("every book equals the exchange's, level by level", self._differing(server))
        self._check("all books live in the end", self._not_live())
        return before, await self._usage_at_rest(before)

    async def _break(self, server: SimServer) -> None:
        """Random faults for the planned time."""
        topics = [(key.category.value, f"orderbook.*.{key.symbol}") for key in BOOKS]
        topics += [(key.category.value, f"orderbook.{depth}.{key.symbol}") for key in BOOKS for depth in DEPTHS]
        chaos = Chaos(self._plan.seed, self._plan.rate, topics, RECIPES)
        with self._breaking, trio.move_on_after(self._plan.duration_s):
            await chaos.run(server.plan, lambda chosen: self._tell(f"  {chosen.story}"))

    async def _run_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The first Ctrl-C ends the faults and has everything checked, the second ends it all."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                if self._breaking.cancel_called:
                    raise KeyboardInterrupt
                self._tell("stopped: no more faults")
                self._breaking.cancel(reason="a signal")

    def _judge(self, depth: int, tick: MetricsTick) -> None:
        self._witnesses[depth, tick.instrument].judge(tick)

    # --- waiting

    async def _until_live(self, name: str, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while self._not_live():  # noqa: ASYNC110 - a condition over many books
                await trio.sleep(0.02)
        self._check(name, self._not_live())

    def _not_live(self) -> list[str]:
        return [
            f"{key} depth {depth} is {state}"
            for depth, watched in self._watched.items()
            for key, state in watched.monitor.engine.states().items()
            if state.value != "live"
        ]

    def _differing(self, server: SimServer) -> list[str]:
        return [
            f"depth {depth} {line}"
            for depth, watched in self._watched.items()
            for line in differences(watched.books(), server, depth)
        ]

    async def _usage_at_rest(self, before: Usage) -> Usage:
        """Sockets that linger, half-open connections that are given up: what is going away gets its time to go."""
        with trio.move_on_after(8.0):
            while (now := usage()).descriptors > before.descriptors or now.tasks > before.tasks:  # noqa: ASYNC110
                await trio.sleep(0.2)
        now = usage()
        self._check(
            "descriptors and tasks are back",
            [
                f"{name}: {getattr(before, name)} before, {getattr(now, name)} after"
                for name in ("descriptors", "tasks")
                if getattr(now, name) > getattr(before, name)
            ],
        )
        grown = now.rss_bytes - before.rss_bytes
        self._check("memory is bounded", [f"grown by {grown / 2**20:.1f} MiB"] if grown > GROWTH_BYTES else [])
        return now

    # --- the end

    def _check(self, name: str, wrong: Iterable[str]) -> None:
        self._checks.append(Check(name=name, wrong=list(wrong)))

    def _report(self, before: Usage, after: Usage) -> Report:
        ledger = ledgers.Ledger(self._log.read_bytes().splitlines())
        diaries = {str(depth): watched.diary for depth, watched in self._watched.items()}
        self._check("every gap was seen", ledger.gaps(diaries))
        self._check("links came up as often as connections were opened", ledger.reconnects(diaries.values()))
        self._check("one subscribe per topic and connection, resync or refusal", ledger.resubscribes())
        self._check("resyncs within their budget", ledger.resyncs(QUICK_LINK))
        waits = [line for diary in diaries.values() for line in ledgers.waits(diary, QUICK_RETRY)]
        self._check("waits between attempts within their bounds", waits)
        wrong = [line for witness in self._witnesses.values() for line in witness.wrong]
        self._check("no number from a wrong book", wrong)
        judged = sum(witness.judged for witness in self._witnesses.values())
        self._check("ticks were judged", [] if judged else ["none"])
        facts = {**ledgers.facts(ledger), "ticks_judged": judged, **self._counted()}
        return Report(plan=self._plan, checks=self._checks, before=before, after=after, facts=facts)

    def _counted(self) -> dict[str, Any]:
        """What the monitors say of it."""
        losses: dict[str, int] = {}
        counts = dict.fromkeys(("gaps", "resyncs", "refused", "duplicates", "crossed", "restarts", "stalls"), 0)
        for watched in self._watched.values():
            for loss in watched.diary.losses():
                losses[loss.reason] = losses.get(loss.reason, 0) + 1
            for book in watched.monitor.engine.books.values():
                for name in counts.keys() - {"stalls"}:
                    counts[name] += getattr(book.counters, name)
            counts["stalls"] += len(watched.diary.stalls)
        return {"losses": dict(sorted(losses.items())), **counts}


def usage() -> Usage:
    """Memory, descriptors and Trio tasks of this process (Linux; elsewhere what cannot be told is 0)."""
    try:
        rss = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        descriptors = len(os.listdir("/proc/self/fd"))
    except OSError:
        rss = descriptors = 0
    return Usage(rss_bytes=rss, descriptors=descriptors, tasks=trio.lowlevel.current_statistics().tasks_living)
