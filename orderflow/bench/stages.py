"""The stages in order: each gives its figures, one call a stage."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from orderflow.bench.frames import Frames
from orderflow.bench.inprocess import Pause, no_wait, time_messages, time_parts, time_ticks
from orderflow.bench.results import Figure, Spread, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orderflow.bench.frames import FrameFacts
    from orderflow.bench.plan import Plan
    from orderflow.core.types import MetricsTick
    from orderflow.hooks.host import PluginHost

    Tell = Callable[[str], None]

_Key = tuple[str, str]
"""(name, case)"""


class Bench:
    """Runs a plan. Args: tell: told what is being measured, for people who wait."""

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self._plan = plan
        self._tell = tell
        self._frames: dict[int, Frames] = {}

    def run(self) -> list[Figure]:
        """Every stage of the plan. Raises: OrderflowError when something measured did not do its work."""
        stages: Mapping[str, Callable[[], list[Figure]]] = {
            "book": self._book,
            "message": self._message,
            "tick": self._tick,
            "flood": self._flood,
            "paced": self._paced,
            "profile": self._profile,
            "tls": self._tls,
            "memory": self._memory,
            "startup": self._startup,
            "cost": self._cost,
            "scale": self._scale,
            "record": self._record,
            "replay": self._replay,
            "choices": self._choices,
        }
        figures: list[Figure] = []
        for name in self._plan.stages:
            self._tell(name)
            figures += stages[name]()
        return figures

    def frame_facts(self) -> list[FrameFacts]:
        """What the messages at each depth of the plan are like."""
        return [self._made(depth).facts() for depth in self._plan.depths]

    def _made(self, depth: int) -> Frames:
        if depth not in self._frames:
            self._frames[depth] = Frames(depth, self._plan.windows, self._plan.seed)
        return self._frames[depth]

    # --- in this process

    def _book(self) -> list[Figure]:
        figures: list[Figure] = []
        for depth in self._plan.depths:
            frames = self._made(depth)
            rounds: dict[_Key, list[Spread]] = defaultdict(list)
            for _ in range(self._plan.rounds):
                for case, count, wait in self._temperatures():
                    for name, spans in time_parts(frames, count, wait).items():
                        rounds[name, case].append(spread(spans))
            figures += self._figures("book", rounds, depth)
        return figures

    def _message(self) -> list[Figure]:
        figures: list[Figure] = []
        for depth in self._plan.depths:
            frames = self._made(depth)
            rounds: dict[_Key, list[Spread]] = defaultdict(list)
            for _ in range(self._plan.rounds):
                for case, count, wait in self._temperatures():
                    rounds["message", case].append(spread(time_messages(frames, count, wait)))
            figures += self._figures("message", rounds, depth)
        return figures

    def _tick(self) -> list[Figure]:
        host, encode = _sinks()
        kinds: tuple[tuple[str, PluginHost | None, Callable[[MetricsTick], str] | None], ...] = (
            ("tick", None, None),
            ("tick, plugins", host, None),
            ("tick, plugins, line", host, encode),
        )
        depth = self._plan.depths[0]
        frames = self._made(depth)
        rounds: dict[_Key, list[Spread]] = defaultdict(list)
        for _ in range(self._plan.rounds):
            for name, plugins, line in kinds:
                for case, count, wait in self._temperatures(self._plan.ticks):
                    rounds[name, case].append(spread(time_ticks(frames, count, wait, plugins, line)))
        return self._figures("tick", rounds, depth)

    def _temperatures(self, hot: int | None = None) -> Iterator[tuple[str, int, Callable[[], None]]]:
        yield "hot", hot or self._plan.hot, no_wait
        yield COLD, self._plan.cold, Pause(self._plan.rate)

    def _figures(self, stage: str, rounds: Mapping[_Key, Sequence[Spread]], depth: int) -> list[Figure]:
        return [
            Figure(
                stage=stage,
                name=name,
                case=case,
                unit="us",
                rounds=tuple(spreads),
                depth=depth,
                rate=self._plan.rate if case == COLD else None,
            )
            for (name, case), spreads in rounds.items()
        ]

    # --- in processes of their own

    def _flood(self) -> list[Figure]:
        from orderflow.bench.loopback import measure_flood

        return [figure for depth in self._plan.depths for figure in measure_flood(self._plan, depth)]

    def _paced(self) -> list[Figure]:
        from orderflow.bench.loopback import measure_paced

        return [figure for depth in self._plan.depths for figure in measure_paced(self._plan, depth)]

    def _profile(self) -> list[Figure]:
        from orderflow.bench.profile import measure_profile

        return measure_profile(self._plan)

    def _tls(self) -> list[Figure]:
        from orderflow.bench.loopback import measure_tls

        return measure_tls(self._plan)

    def _memory(self) -> list[Figure]:
        from orderflow.bench.processes import measure_memory

        return measure_memory(self._plan)

    def _record(self) -> list[Figure]:
        from orderflow.bench.recording import measure_recorder

        return measure_recorder(self._plan)

    def _replay(self) -> list[Figure]:
        from orderflow.bench.recording import measure_replay

        return measure_replay(self._plan, self._made(self._plan.depths[0]))

    def _startup(self) -> list[Figure]:
        from orderflow.bench.processes import measure_startup

        return measure_startup(self._plan)

    def _cost(self) -> list[Figure]:
        from orderflow.bench.cost import measure_cost

        return measure_cost(self._plan)

    def _scale(self) -> list[Figure]:
        from orderflow.bench.scale import measure_scale

        return measure_scale(self._plan)

    def _choices(self) -> list[Figure]:
        from orderflow.bench.choices.stage import measure_choices

        return measure_choices(self._plan, self._made)


COLD: Final = "cold"


def _sinks() -> tuple[PluginHost, Callable[[MetricsTick], str]]:
    """The bundled plugins with their default settings, and the writer of JSON lines."""
    from orderflow import bundled
    from orderflow.config.tree import PluginSettings
    from orderflow.hooks.setup import set_up
    from orderflow.ui.jsonlines import encode_tick

    setup = set_up(PluginSettings(entry_points=False), bundled.plugins_folder())
    setup.check_settings()
    return setup.host, encode_tick
