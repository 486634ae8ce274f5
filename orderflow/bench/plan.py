"""What one bench run measures, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from orderflow.bench.client import COMPARED
from orderflow.bench.options import DEFAULT_STAGES, DEPTHS, PEER_STAGES, QUICK_STAGES, STAGES
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    import argparse

BARE = ("trio-websocket", "trio")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Sample counts are per round; `rate` is messages/s of everything that is not back to back.

    Args:
        rates: of the paced stage at the first depth; deeper books are paced at `rate`.
        clients: of flood, paced and tls; ours first.
        peers_python: the interpreter of the rivals among them; "" is ours.
    """

    stages: tuple[str, ...] = DEFAULT_STAGES
    depths: tuple[int, ...] = DEPTHS
    rate: float = 500.0
    rates: tuple[float, ...] = (50.0, 500.0, 5000.0)
    clients: tuple[str, ...] = COMPARED
    peers_python: str = ""
    rounds: int = 3
    seed: int = 7
    windows: int = 500  # distinct states of the simulated book; the messages walk through them to and fro
    hot: int = 4000  # messages back to back
    cold: int = 400  # messages with a pause before each
    ticks: int = 400
    flood_s: float = 1.5  # how long floods last, whoever takes them, in a round
    flood: int = 60_000  # messages of a flood that one client takes alone
    paced_s: float = 3.0  # how long messages come at a fixed rate, in a round
    processes: int = 4  # of each client, in a round of either: where one happens to lie in memory shows in its figures
    watch_s: float = 3.0  # how long a process runs before its memory is read
    starts: int = 5  # processes started for each start-up figure
    crowd: int = 200  # symbols, plugins, ... of which the cost of one is worked out
    scale_s: float = 3.0  # how long many symbols are fed
    replay: int = 50_000  # messages of the recording that is replayed
    turns: int = 9  # of each way of a choice, in a round
    turn: int = 1000  # messages of such a turn


QUICK = Plan(
    stages=QUICK_STAGES, depths=(50,), rates=(500.0,), windows=150, hot=2000, cold=100, ticks=100, flood_s=0.3,
    flood=20_000,
    paced_s=1.0, processes=2, watch_s=1.0, starts=2, crowd=50, scale_s=1.0, replay=15_000,
    turns=5, turn=500,
)  # fmt: skip


def make_plan(args: argparse.Namespace) -> Plan:
    """The plan that the options ask for. Raises: ConfigError for values that cannot be and rivals that are not."""
    problems = []
    if args.rate is not None and not 1 <= args.rate <= 20_000:
        problems.append(f"option --rate: {args.rate:g}: expected 1 to 20000 messages a second")
    if args.rounds is not None and not 1 <= args.rounds <= 1000:
        problems.append(f"option --rounds: {args.rounds}: expected 1 to 1000")
    if args.peers_python is not None and not args.peers:
        problems.append("option --peers-python: nobody is compared; add --peers")
    if problems:
        raise ConfigError(*problems)
    plan = QUICK if args.quick else Plan()
    if args.peers:
        plan = _with_peers(plan, args.peers_python or "")
    changes: dict[str, object] = {}
    if args.only is not None:
        changes["stages"] = tuple(stage for stage in STAGES if stage in args.only)
    if args.depth:
        changes["depths"] = tuple(sorted(set(args.depth)))
    if args.rate is not None:
        changes |= {"rate": args.rate, "rates": (args.rate,)}
    if args.rounds is not None:
        changes["rounds"] = args.rounds
    return msgspec.structs.replace(plan, **changes)


def _with_peers(plan: Plan, python: str) -> Plan:
    """The stages in which clients are compared, with all of them, at one depth and one rate."""
    from orderflow.bench.field import find_rivals

    return msgspec.structs.replace(
        plan,
        stages=PEER_STAGES,
        depths=plan.depths[:1],
        rates=(plan.rate,),
        clients=(*plan.clients, *BARE, *find_rivals(python).rivals),
        peers_python=python,
    )
