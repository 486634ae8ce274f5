"""The promises a soak holds the program to, each a function from evidence to what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.stats import Stats  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.soak import ledger as ledgers
from orderflow.soak.causes import unexplained
from orderflow.soak.ledger import Ledger  # noqa: TC001 - the same
from orderflow.soak.pace import Pace  # noqa: TC001 - the same
from orderflow.soak.process import Life, standstill_faults
from orderflow.soak.usage import Usage, grown, kept_open
from orderflow.soak.watched import QUICK_LINK, QUICK_RETRY, Diary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Evidence(msgspec.Struct, kw_only=True):
    """All that is known at the end of a soak. Times in seconds of the exchange's clock; depths are text.

    Args:
        not_live: what was not live at first, after the faults, and in the end.
        differing: levels that are not the exchange's; wrong_numbers: ticks that were not true.
        judged: ticks held beside the truth, by depth.
        ledger: the exchange's log; stats: counters at the end of the monitors in this process, by depth.
        diaries, paces: what each program said and when it could not run, by depth.
        exchange_pace: when the exchange could not run.
        usage: (before, after) of this process and of the program in one of its own; rss: samples of the latter.
        jumps: how often a clock was set; steps: how often that was said, beyond what others noticed.
        lives, recorded, ended, kills: of the program in a process of its own (process.Program).
        faults_s: when faults began and ended.
    """

    not_live: tuple[list[str], list[str], list[str]]
    differing: list[str]
    wrong_numbers: list[str]
    judged: dict[str, int]
    ledger: Ledger
    stats: dict[str, Stats]
    diaries: dict[str, Diary]
    paces: dict[str, Pace]
    exchange_pace: Pace
    usage: list[tuple[Usage, Usage]]
    rss: list[int]
    jumps: int
    steps: int
    lives: list[Life]
    recorded: list[str]
    ended: list[str]
    kills: int
    links: int
    faults_s: tuple[float, float]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: kept when `wrong` is empty."""

    name: str
    wrong: list[str]

    @property
    def kept(self) -> bool:
        return not self.wrong


def _kept_open(it: Evidence) -> Iterator[str]:
    for before, after in it.usage:
        yield from kept_open(before, after)


def _waits(it: Evidence) -> Iterator[str]:
    for depth, diary in it.diaries.items():
        yield from ledgers.waits(diary, QUICK_RETRY, it.paces[depth], it.exchange_pace)


def _attempts(it: Evidence) -> Iterator[str]:
    lives = len(it.lives)
    yield from it.ledger.attempts(QUICK_RETRY, len(it.diaries) - 1 + lives, it.exchange_pace)
    last = list(it.diaries)[-1]
    for depth, diary in it.diaries.items():
        yield from ledgers.attempts(diary, QUICK_RETRY, it.paces[depth], lives if depth == last else 1)


def _causes(it: Evidence) -> Iterator[str]:
    for depth, diary in it.diaries.items():
        yield from unexplained(it.ledger, depth, diary, it.paces[depth], it.exchange_pace, *it.faults_s)


def _counters(it: Evidence) -> Iterator[str]:
    for depth, stats in it.stats.items():
        yield from it.ledger.uncounted(depth, stats)


def _judged(it: Evidence) -> Iterator[str]:
    yield from (f"none at depth {depth}" for depth, count in it.judged.items() if not count)


def _standstills(it: Evidence) -> Iterable[str]:
    return standstill_faults(it.lives, it.paces[list(it.paces)[-1]])


def _steps(it: Evidence) -> Iterator[str]:
    if it.jumps != it.steps:
        yield f"the clock was set {it.jumps} times, and {it.steps} times it was noticed"


PROOFS: Final[dict[str, Callable[[Evidence], Iterable[str]]]] = {
    "all books live at first": lambda it: it.not_live[0],
    "all books live after the faults": lambda it: it.not_live[1],
    "all books live in the end": lambda it: it.not_live[2],
    "every book equals the exchange's, level by level": lambda it: it.differing,
    "no number from a wrong book": lambda it: it.wrong_numbers,
    "ticks were judged": _judged,
    "every gap was seen": lambda it: it.ledger.gaps(it.diaries, it.paces, it.exchange_pace),
    "links came up as often as connections were opened": lambda it: it.ledger.reconnects(
        it.diaries.values(), it.kills * it.links
    ),
    "one subscribe per topic and connection, resync or refusal": lambda it: it.ledger.resubscribes(),
    "resyncs within their budget": lambda it: it.ledger.resyncs(QUICK_LINK, it.paces, it.exchange_pace),
    "counters know all that the exchange heard": _counters,
    "waits between attempts within their bounds": _waits,
    "attempts within their budget": _attempts,
    "every loss of a link has its cause at the exchange": _causes,
    "standstills are said, and no burst comes behind them": _standstills,
    "a set clock is noticed": _steps,
    "recordings read, killed ones to their last second": lambda it: it.recorded,
    "the program stops in time and in order": lambda it: it.ended,
    "descriptors and tasks are back": _kept_open,
    "memory is bounded": lambda it: grown(it.rss),
}


def prove(evidence: Evidence) -> list[Check]:
    """Every promise, in order."""
    return [Check(name=name, wrong=list(proof(evidence))) for name, proof in PROOFS.items()]
