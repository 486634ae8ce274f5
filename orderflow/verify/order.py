"""The order of a recording: queue items one after the other, and times that do not go back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.record.reader import BlockStart, Damage
from orderflow.record.records import (
    FED_NOTHING,
    Checkpoint,
    Control,
    Frames,
    Gap,
    Given,
    Link,
    Refused,
    Tick,
    Timer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.record.reader import Item
    from orderflow.verify.results import Report


class Order:
    """Follows the records of one session. `where`: how to name the place that is read now."""

    def __init__(self, report: Report, where: Callable[[], str]) -> None:
        self._report = report
        self._where = where
        self.begin()

    def begin(self) -> None:
        """Another session."""
        self._items: int | None = None  # queue items recorded so far; None: not known here
        self._applied = 0
        self._mono_ns: dict[int, int] = {}
        self._unexpected = True  # the next count may be any: a beginning, or behind damage

    def take(self, item: Item) -> None:
        kind = type(item)
        if kind is Frames:
            self._frames(item)  # type: ignore[arg-type]  # told by `kind`
        elif kind is BlockStart:
            self._block(item)  # type: ignore[arg-type]  # told by its kind
        elif kind in (Timer, Tick, Given, Link):
            self._told(item.applied)  # type: ignore[union-attr]  # told by its kind
        elif kind is Control:
            self._count(1)
        elif kind is Refused:
            self._count(-1)
        elif kind is Gap:
            self._items = self._applied = (self._items or 0) + item.items  # type: ignore[union-attr, operator]  # told by its kind
        elif kind is Checkpoint:
            self._checkpoint(item)  # type: ignore[arg-type]  # told by its kind
        elif kind is Damage:
            self._unexpected = True

    def _count(self, by: int) -> None:
        self._report.items += by
        if self._items is not None:
            self._items += by

    def _frames(self, record: Frames) -> None:
        if record.fed != FED_NOTHING:
            self._count(1)
        before = self._mono_ns.get(record.connection)
        if before is not None and record.mono_ns < before:
            self._report.fault("order", self._where(), "messages of one connection that were received earlier follow")
        self._mono_ns[record.connection] = record.mono_ns

    def _block(self, block: BlockStart) -> None:
        if self._items != block.items and not self._unexpected:
            detail = f"{block.items} queue items were recorded before this block, {self._items} are there"
            self._report.fault("items", self._where(), detail)
        if self._items != block.items or self._unexpected:
            self._items = block.items
            self._applied = min(self._applied, block.items)
        self._unexpected = False

    def _told(self, applied: int) -> None:
        items = self._items
        if items is None:
            return
        if applied < self._applied or applied > items:
            detail = f"the engine had {applied} queue items of {items}, after {self._applied}"
            self._report.fault("order", self._where(), detail)
        self._applied = max(applied, self._applied)

    def _checkpoint(self, record: Checkpoint) -> None:
        self._told(record.applied)
        self._applied = record.applied
