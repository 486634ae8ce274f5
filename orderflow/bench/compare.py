"""Two runs side by side, figure by figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderflow.bench.results import Figure, Key


_LEAST = 0.02  # of a change that is spoken of


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in both runs; a ratio above 1 is better now.

    Args:
        p99_ratio: None where a round is one value.
        noise: how far the rounds of a run lie apart, of the noisier run, as a share: a ratio within it says nothing.
    """

    stage: str
    name: str
    case: str
    depth: int | None
    rate: float | None
    unit: str
    before: float
    now: float
    ratio: float
    p99_ratio: float | None
    noise: float

    @property
    def matters(self) -> bool:
        """Whether it is more than the noise of the rounds, and not next to nothing."""
        noise = max(self.noise, _LEAST)
        return not 1 / (1 + noise) <= self.ratio <= 1 + noise


def compare(now: Sequence[Figure], before: Sequence[Figure]) -> list[Change]:
    """What was measured in both runs, in the order of now. Zeros and other units compare with nothing."""
    earlier: dict[Key, Figure] = {figure.key: figure for figure in before}
    pairs = ((figure, earlier.get(figure.key)) for figure in now)
    return [
        _change(figure, then)
        for figure, then in pairs
        if then is not None and then.unit == figure.unit and figure.shown.p50 > 0 and then.shown.p50 > 0
    ]


def _change(now: Figure, before: Figure) -> Change:
    def ratio(statistic: str) -> float:
        new: float = getattr(now.shown, statistic)
        old: float = getattr(before.shown, statistic)
        return new / old if now.more_is_better else old / new

    return Change(
        stage=now.stage,
        name=now.name,
        case=now.case,
        depth=now.depth,
        rate=now.rate,
        unit=now.unit,
        before=before.shown.p50,
        now=now.shown.p50,
        ratio=ratio("p50"),
        p99_ratio=ratio("p99") if now.is_distribution and min(now.shown.p99, before.shown.p99) > 0 else None,
        noise=round(max(now.noise, before.noise), 3),
    )
