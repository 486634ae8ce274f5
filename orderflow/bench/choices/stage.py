"""The stage: every choice in the order it is read."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from orderflow.bench.certificate import papers
from orderflow.bench.choices.collection import measure_collection
from orderflow.bench.choices.decoding import measure_decoding, measure_vetting
from orderflow.bench.choices.levels import measure_levels
from orderflow.bench.choices.path import measure_path, measure_stamps
from orderflow.bench.choices.sockets import measure_sockets
from orderflow.bench.choices.turns import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.bench.frames import Frames
    from orderflow.bench.plan import Plan
    from orderflow.bench.results import Figure


def measure_choices(plan: Plan, made: Callable[[int], Frames]) -> list[Figure]:
    """Every way of every choice, ours first; levels at each depth, the rest at the first.

    Args: made: the messages at a depth.
    Raises: WrongBook, LoopbackError, ProcessError when a way did not do its work.
    """
    pace = Pace(plan.rounds, plan.turns, plan.turn)
    depth = plan.depths[0]
    frames = made(depth)
    gc.freeze()  # as the program does
    try:
        figures = [*measure_sockets(plan, depth)]
        with papers() as tls:
            figures += measure_sockets(plan, depth, tls)
        figures += [*measure_decoding(frames, pace), *measure_vetting(frames, pace), *measure_path(frames, pace)]
        for each in plan.depths:
            figures += measure_levels(made(each), pace)
        figures += measure_stamps(frames, pace)
    finally:
        gc.unfreeze()
    return [*figures, *measure_collection(plan.rounds, plan.turns)]
