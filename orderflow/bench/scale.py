"""Many symbols in the whole program: whether ticks disturb the feed, and whether it keeps up.

Each run is `app.Monitor` in a process of its own, with ticks, the bundled plugins and JSON lines, all topics on one
connection; the messages are those of the other stages, the topics at different places of the period.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from orderflow.bench.loopback import latencies, open_server
from orderflow.bench.results import Figure, Spread, single, spread
from orderflow.bench.subject import many_symbols

if TYPE_CHECKING:
    from orderflow.bench.loopback import Run, Server
    from orderflow.bench.plan import Plan

_DEPTH: Final = 50
_NEVER_S: Final = 3600.0
_MS: Final = 1e-6  # of a nanosecond


class Crowd(NamedTuple):
    """So many symbols, messages a second in all, seconds between ticks (0: none)."""

    symbols: int
    rate: float
    interval_s: float

    @property
    def case(self) -> str:
        ticks = f"ticks every {self.interval_s:g} s" if self.interval_s else "no ticks"
        return f"{self.symbols} symbols, {ticks}"


BESIDE_TICKS: Final = (Crowd(50, 500, 0), Crowd(50, 500, 0.1))
"""The feed with and without ticks as often as they come, in alternating rounds."""
QUIET_MARKET: Final = Crowd(100, 1000, 1.0)
"""Ten messages a second and symbol, which is what recordings of a quiet linear market show."""
WHOLE_EXCHANGE: Final = (Crowd(700, 4000, 1.0), Crowd(700, 9000, 1.0))
"""Every linear topic on one connection, at the exchange's measured rate and at its peak."""


def measure_scale(plan: Plan) -> list[Figure]:
    """Latency from the scheduled send time, processor share, queue and lag of each crowd.

    Raises: LoopbackError when a message is lost or a book is not the server's.
    """
    runs: dict[Crowd, list[Run]] = defaultdict(list)
    with open_server(_DEPTH, plan.windows, plan.seed) as server:
        for _ in range(plan.rounds):
            for crowd in (*BESIDE_TICKS, QUIET_MARKET, *WHOLE_EXCHANGE):
                runs[crowd].append(_run(server, crowd, plan.scale_s))
    return [figure for crowd, found in runs.items() for figure in _figures(crowd, found)]


def _run(server: Server, crowd: Crowd, seconds: float) -> Run:
    count = round(crowd.rate * seconds)
    symbols = many_symbols(crowd.symbols)
    return server.run("program", count, crowd.rate, symbols=symbols, interval_s=crowd.interval_s or _NEVER_S)


def _in_ms(us: Spread) -> Spread:
    return Spread(count=us.count, **{name: getattr(us, name) / 1000 for name in ("p50", "p99", "p999", "max")})


def _figures(crowd: Crowd, runs: list[Run]) -> list[Figure]:
    outcomes = [run.outcome for run in runs]
    found: tuple[tuple[str, str, list[Spread]], ...] = (
        ("sent to book", "ms", [spread(latencies(run), _MS) for run in runs]),
        ("server late", "ms", [_in_ms(run.report.late) for run in runs if run.report.late is not None]),
        ("processor share", "%", [single(one.cpu_s / one.wall_s * 100) for one in outcomes]),
        ("events that waited", "", [single(one.queue_peak) for one in outcomes]),
        ("event loop late", "ms", [single(one.lag_s * 1000) for one in outcomes]),
        ("resident memory", "MB", [single(one.resident_mb) for one in outcomes]),
    )
    return [
        Figure(
            stage="scale", name=name, case=crowd.case, unit=unit, rounds=tuple(rounds), depth=_DEPTH, rate=crowd.rate
        )
        for name, unit, rounds in found
    ]
