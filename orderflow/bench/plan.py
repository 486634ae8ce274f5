"""What one bench run measures, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from orderflow.bench.options import DEPTHS, STAGES
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    import argparse


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Sample counts are per round; `rate` is messages/s of everything that is not back to back."""

    stages: tuple[str, ...] = tuple(STAGES)
    depths: tuple[int, ...] = DEPTHS
    rate: float = 500.0
    clients: tuple[str, ...] = ("orderflow", "plain")  # of flood and paced; ours first
    rounds: int = 3
    seed: int = 7
    windows: int = 500  # distinct states of the simulated book; the messages walk through them to and fro
    hot: int = 4000  # messages back to back
    cold: int = 500  # messages with a pause before each
    ticks: int = 500
    flood: int = 60_000  # messages through a socket as fast as it goes; fewer of the longer ones of deeper books
    paced: int = 1500  # messages through a socket at `rate`
    watch_s: float = 4.0  # how long a process runs before its memory is read
    starts: int = 5  # processes started for each start-up figure


QUICK = Plan(
    depths=(50,), rounds=3, windows=150, hot=2000, cold=200, ticks=200, flood=30_000, paced=500, watch_s=1.5, starts=2
)


def make_plan(args: argparse.Namespace) -> Plan:
    """The plan that the options ask for. Raises: ConfigError for a rate or a number of rounds that cannot be."""
    problems = []
    if not 1 <= args.rate <= 20_000:
        problems.append(f"option --rate: {args.rate:g}: expected 1 to 20000 messages a second")
    if args.rounds is not None and not 1 <= args.rounds <= 1000:
        problems.append(f"option --rounds: {args.rounds}: expected 1 to 1000")
    if problems:
        raise ConfigError(*problems)
    base = QUICK if args.quick else Plan()
    return msgspec.structs.replace(
        base,
        stages=tuple(stage for stage in STAGES if args.only is None or stage in args.only),
        depths=tuple(sorted(set(args.depth))) if args.depth else base.depths,
        rate=args.rate,
        clients=(*base.clients, *(_peers() if args.peers else ())),
        rounds=args.rounds or base.rounds,
    )


def _peers() -> tuple[str, ...]:
    from orderflow.bench.rivals import installed

    return installed()
