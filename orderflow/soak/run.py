"""One soak: warm up, break things for a while, let them heal, then hold all beside the exchange's records.

Three monitors watch the same books at three depths, so that their connections can be told apart:

    depth 50     in this process, over wss with certificates that are wrong now and then
    depth 200    in this process, with a wall clock that somebody sets now and then
    depth 1000   `orderflow run` as a process of its own: recording, stopped and continued, killed and started again
"""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from orderflow.core.policy import WatchPolicy
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.chaos import OUTAGES, RECIPES, TLS_RECIPES, Chaos
from orderflow.sim.server import PUBLIC_PATH, ServerPolicy, SimConfig, SimServer, serve
from orderflow.sim.tls import OwnTls
from orderflow.soak.compare import Difference, differences
from orderflow.soak.ledger import Ledger, facts
from orderflow.soak.pace import Pace
from orderflow.soak.process import STALL_S, Program, Tick
from orderflow.soak.proofs import Check, Evidence, prove
from orderflow.soak.usage import Usage, growth, usage
from orderflow.soak.watched import Diary, SetClock, Watched, open_watched, quick_settings
from orderflow.soak.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.config.tree import Settings
    from orderflow.core.types import MetricsTick

BOOKS: Final = (
    InstrumentId(Category.LINEAR, "BTCUSDT"),
    InstrumentId(Category.LINEAR, "ETHUSDT"),
    InstrumentId(Category.INVERSE, "BTCUSD"),
    InstrumentId(Category.SPOT, "BTCUSDT"),
)
OVER_TLS, OF_SET_CLOCK, OF_ITS_OWN = 50, 200, 1000
DEPTHS: Final = (OVER_TLS, OF_SET_CLOCK, OF_ITS_OWN)
WARM_UP_S: Final = 2.5
START_S: Final = 30.0
HEAL_S: Final = 90.0  # a spent budget of attempts alone takes half a minute
SETTLE_S: Final = 10.0
LAST_S: Final = 15.0
REST_S: Final = 10.0
PATIENCE: Final = 4  # of a machine that gives less than one second of four, nobody can say what it would have become
SHOWN: Final = 10


class SoakPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Args: rate: faults a second."""

    duration_s: float = 60.0
    seed: int = 1
    rate: float = 1.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`before`, `after`: of this process; `facts`: numbers, by name; `unsure`: what there was no time to judge.

    folder: with the exchange's log (clients.jsonl), the program's output and recordings, when a promise was broken.
    """

    plan: SoakPlan
    checks: list[Check]
    unsure: list[str]
    before: Usage
    after: Usage
    facts: dict[str, Any]
    folder: str = ""

    @property
    def kept(self) -> bool:
        return all(check.kept for check in self.checks)


async def soak(plan: SoakPlan, tell: Callable[[str], None] = lambda text: None) -> Report:
    """Run one soak. Returns: the report; nothing is raised for a broken promise. `tell`: progress, for people."""
    folder = Path(tempfile.mkdtemp(prefix="orderflow-soak-"))
    report = None
    try:
        report = await _Soak(plan, folder, tell).run()
    finally:
        if report is None or report.kept:
            shutil.rmtree(folder, ignore_errors=True)
    return report if report.kept else msgspec.structs.replace(report, folder=str(folder))


class _Soak:
    def __init__(self, plan: SoakPlan, folder: Path, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._folder = folder
        self._log = folder / "clients.jsonl"
        self._tell = tell
        self._clock = SetClock()
        self._breaking = trio.CancelScope()
        self._witnesses: dict[tuple[int, InstrumentId], Witness] = {}
        self._watched: dict[int, Watched] = {}
        self._server: SimServer
        self._program: Program
        self._pace: Pace
        self._unsure: list[str] = []
        self._broke_s = 0.0  # how long there were faults, of the time there was

    async def run(self) -> Report:
        known = catalogue_by_id()
        policy = ServerPolicy(client_log=self._log)
        config = SimConfig(instruments=tuple(known[key] for key in BOOKS), seed=self._plan.seed, server=policy)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_signals)
            self._server = await nursery.start(serve, config)
            self._pace = Pace(self._now_s)
            nursery.start_soon(self._pace.run)
            settings = await nursery.start(self._serve_tls)
            self._witnesses = {(depth, key): Witness(self._server, key, depth) for depth in DEPTHS for key in BOOKS}
            async with AsyncExitStack() as stack:
                await self._open(stack, OVER_TLS, settings)
                await self._open(stack, OF_SET_CLOCK, quick_settings(self._server, _names(), OF_SET_CLOCK), self._clock)
                self._program = Program(self._server, _names(), OF_ITS_OWN, self._folder, self._judge_line, self._now_s)
                nursery.start_soon(self._program.run)
                nursery.start_soon(self._program.sample)
                nursery.start_soon(self._program.pace.watch, self._program.pid)
                evidence = await self._play()
            nursery.cancel_scope.cancel(reason="soak done")
        return self._report(evidence)

    # --- the stage

    async def _serve_tls(self, task_status: trio.TaskStatus[Settings]) -> None:
        """A second door to the same exchange, with TLS. Starts with settings for who uses it."""
        server = self._server
        tls = OwnTls("127.0.0.1")
        tls.faulty = server.plan.certificate
        authority = self._folder / "authority.pem"
        authority.write_bytes(tls.authority_pem)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        settings = quick_settings(server, _names(), OVER_TLS)
        bybit = msgspec.structs.replace(
            settings.bybit,
            public_ws_url=f"wss://127.0.0.1:{port}{PUBLIC_PATH}{{category}}",
            rest_url=f"https://127.0.0.1:{port}",
            ca_file=str(authority),
        )
        task_status.started(msgspec.structs.replace(settings, bybit=bybit))
        await trio.serve_listeners(server.serve_stream, [trio.SSLListener(listener, tls.context)])

    async def _open(self, stack: AsyncExitStack, depth: int, settings: Settings, clock: SetClock | None = None) -> None:
        diary = Diary(partial(self._judge, depth), now=self._now_s)
        settings = msgspec.structs.replace(settings, watch=WatchPolicy(stall_s=STALL_S))  # as short as its deadlines
        opened = open_watched(settings, diary, clock) if clock else open_watched(settings, diary)
        self._watched[depth] = await stack.enter_async_context(opened)

    def _now_s(self) -> float:
        return self._server.now_ms() / 1000

    def _judge(self, depth: int, tick: MetricsTick) -> None:
        self._witnesses[depth, tick.instrument].judge(tick)

    def _judge_line(self, tick: Tick) -> None:
        self._witnesses[OF_ITS_OWN, InstrumentId(Category(tick.category), tick.symbol)].judge(tick)

    # --- the play

    async def _play(self) -> Evidence:
        server, program = self._server, self._program
        first = await self._until_live(START_S)
        await trio.sleep(WARM_UP_S)
        before, of_program, began_s = usage(), program.usage(), self._now_s()
        books = len(BOOKS) * len(DEPTHS)
        self._tell(f"{books} books live; {self._plan.rate:g} faults a second from now on")
        await self._break()
        self._broke_s = self._had_s(began_s)
        server.plan.clear()
        self._tell("faults off; waiting for every book to be live")
        healed = await self._until_live(HEAL_S)
        ended_s = self._now_s()
        server.pause()
        differing = await self._settle()
        server.resume()  # books that stood still for long are stale, and rightly so
        last = await self._until_live(LAST_S)
        spans = [(one, await self._at_rest(look, one)) for look, one in ((usage, before), (program.usage, of_program))]
        await program.end()
        return self._evidence((first, healed, last), differing, spans, (began_s, ended_s))

    async def _break(self) -> None:
        """Random faults for the planned time, and what nobody at the exchange has to do with."""
        topics = [(key.category.value, f"orderbook.*.{key.symbol}") for key in BOOKS]
        topics += [(key.category.value, f"orderbook.{depth}.{key.symbol}") for key in BOOKS for depth in DEPTHS]
        chaos = Chaos(self._plan.seed, self._plan.rate, topics, (*RECIPES, *TLS_RECIPES, *OUTAGES))
        rng = random.Random(f"{self._plan.seed}:trouble")
        with self._breaking, trio.move_on_after(self._plan.duration_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._program.torment, rng, self._plan.duration_s / 3, self._tell)
                nursery.start_soon(self._set_clock, rng)
                await chaos.run(self._server.plan, lambda chosen: self._tell(f"  {chosen.story}"))

    async def _set_clock(self, rng: random.Random) -> None:
        while True:
            await trio.sleep(rng.uniform(3.0, 12.0))
            by_s = rng.choice((-1, 1)) * 10 ** rng.uniform(0.0, 4.0)
            self._tell(f"  a clock set by {by_s:+.1f} s")
            self._clock.jump(by_s)

    async def _run_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The first Ctrl-C ends the faults and has everything checked, the second ends it all."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                if self._breaking.cancel_called:
                    raise KeyboardInterrupt
                self._tell("stopped: no more faults")
                self._breaking.cancel(reason="a signal")

    # --- waiting

    async def _until_live(self, seconds: float) -> list[str]:
        """What is not live after so many seconds of the time there was."""
        began_s = self._now_s()
        while wrong := self._not_live():
            if self._is_over(began_s, seconds):
                return self._unless_starved(began_s, seconds, wrong)
            await trio.sleep(0.05)
        return []

    def _is_over(self, since_s: float, seconds: float) -> bool:
        """Whether there was so much time since then; or the machine gives too little, and waiting ends all the same."""
        return self._had_s(since_s) > seconds or self._now_s() - since_s > PATIENCE * seconds

    def _had_s(self, since_s: float) -> float:
        """The time there was since then for whoever had least."""
        now_s = self._now_s()
        return now_s - since_s - max(pace.lost_s(since_s, now_s) for pace in (self._pace, self._program.pace))

    def _unless_starved(self, since_s: float, seconds: float, wrong: list[str]) -> list[str]:
        """What is wrong, where there was the time to get it right; else it is not judged, and said to be so."""
        had_s, whole_s = self._had_s(since_s), self._now_s() - since_s
        if had_s > seconds:
            return wrong
        self._unsure += [f"the machine gave {had_s:.1f} s of {whole_s:.0f}: {text}" for text in wrong]
        return []

    def _not_live(self) -> list[str]:
        wrong = [
            f"{key} depth {depth} is {state}"
            for depth, watched in self._watched.items()
            for key, state in watched.monitor.engine.states().items()
            if state.value != "live"
        ]
        return wrong + [f"{text} (depth {OF_ITS_OWN})" for text in self._program.not_live()]

    async def _settle(self) -> list[str]:
        """Levels that still differ once the market stands still and what was published has had time to arrive.

        A book that has got as far as the exchange's and differs is wrong, though a resync would make it right again.
        """
        began_s = self._now_s()
        while True:
            found = await self._differing()
            certain = [it.text for it in found if not it.late]
            if certain or not found:
                return certain
            if self._is_over(began_s, SETTLE_S):
                return self._unless_starved(began_s, SETTLE_S, [it.text for it in found])
            await trio.sleep(0.1)

    async def _differing(self) -> list[Difference]:
        books = {depth: watched.books() for depth, watched in self._watched.items()}
        books[OF_ITS_OWN] = await self._program.books()
        found = [it for depth in DEPTHS for it in differences(books[depth], self._server, depth)]
        missing = [depth for depth in DEPTHS if len(books[depth]) < len(BOOKS)]
        return found + [Difference(f"depth {depth}: {len(books[depth])} books", late=True) for depth in missing]

    async def _at_rest(self, look: Callable[[], Usage], before: Usage) -> Usage:
        """Sockets that linger, half-open connections that are given up: what is going away gets its time to go."""
        began_s = self._now_s()
        while (now := look()).descriptors > before.descriptors or now.tasks > before.tasks:
            if self._is_over(began_s, REST_S):
                return now if self._unless_starved(began_s, REST_S, [f"{before} before, {now} now"]) else before
            await trio.sleep(0.2)
        return now

    # --- the end

    def _evidence(
        self,
        not_live: tuple[list[str], list[str], list[str]],
        differing: list[str],
        spans: list[tuple[Usage, Usage]],
        faults_s: tuple[float, float],
    ) -> Evidence:
        program = self._program
        stats = {depth: watched.monitor.stats() for depth, watched in self._watched.items()}
        judged = dict.fromkeys(map(str, DEPTHS), 0)
        for (depth, _), witness in self._witnesses.items():
            judged[str(depth)] += witness.judged
        return Evidence(
            not_live=not_live,
            differing=differing,
            wrong_numbers=[line for witness in self._witnesses.values() for line in witness.wrong],
            judged=judged,
            ledger=Ledger(self._log.read_bytes().splitlines()),
            stats={str(depth): told for depth, told in stats.items()},
            diaries={**{str(key): it.diary for key, it in self._watched.items()}, str(OF_ITS_OWN): program.diary},
            paces={**{str(key): self._pace for key in self._watched}, str(OF_ITS_OWN): program.pace},
            exchange_pace=self._pace,
            usage=spans,
            rss=program.life.rss,
            jumps=self._clock.jumps,
            steps=stats[OF_SET_CLOCK].clock_steps - stats[OVER_TLS].clock_steps,
            lives=program.lives,
            recorded=program.recorded,
            ended=program.ended,
            kills=program.kills,
            links=len({key.category for key in BOOKS}),
            faults_s=faults_s,
        )

    def _report(self, evidence: Evidence) -> Report:
        before, after = evidence.usage[0]
        numbers = {**facts(evidence.ledger), **self._counted(evidence)}
        return Report(
            plan=self._plan, checks=prove(evidence), unsure=self._unsure, before=before, after=after, facts=numbers
        )

    def _counted(self, evidence: Evidence) -> dict[str, Any]:
        """What the monitors say of it, and what was done to them."""
        losses: dict[str, int] = {}
        for diary in evidence.diaries.values():
            for loss in diary.losses():
                losses[loss.reason] = losses.get(loss.reason, 0) + 1
        counts = dict.fromkeys(("gaps", "resyncs", "refused", "duplicates", "crossed", "restarts"), 0)
        for watched in self._watched.values():
            for book in watched.monitor.engine.books.values():
                for name in counts:
                    counts[name] += getattr(book.counters, name)
        return {
            **counts,
            "losses": dict(sorted(losses.items())),
            "ticks_judged": sum(evidence.judged.values()),
            "freezes": sum(len(life.stopped) for life in evidence.lives),
            "kills": evidence.kills,
            "clock_jumps": evidence.jumps,
            "stalls": sum(len(watched.diary.stalls) for watched in self._watched.values()),
            "had_s": round(self._broke_s, 1),
            "longest_starved_s": round(self._pace.longest_s(), 3),
            "starved_s": [round(pace.all_s(), 1) for pace in (self._pace, self._program.pace)],
            "halts": self._server.statistics().halts,
            "program_rss": [evidence.rss[len(evidence.rss) // 4], evidence.rss[-1]] if evidence.rss else [],
            "program_growth": growth(evidence.rss),
        }


def _names() -> list[str]:
    return [str(key) for key in BOOKS]
