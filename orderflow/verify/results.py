"""What a verification found, as values: for the report, for JSON, for the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from orderflow.core.types import Level

EXAMPLES: Final = 5
FINDINGS: Final = 100
"""So many are kept; all are counted."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something is wrong with the recording itself.

    `what`: `hash`, `size`, `missing`, `torn`, `block`, `header`, `foreign`, `version`, `empty`, `items`, `order`,
    `unexplained`.
    """

    what: str
    where: str
    detail: str


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. Levels are (price, size); None: no such level."""

    at_ms: int
    seq: int
    side: str
    book: Level | None
    reference: Level | None


class Comparison(msgspec.Struct, kw_only=True):
    """One book topic beside one reference. Counts are of sides (a touch) or of levels (a whole book).

    `between`: seen while the book topic was between two pushes, so not judged; `unjudged`: there was no proven book.
    """

    category: str
    book: str
    reference: str
    compared: int = 0
    differing: int = 0
    between: int = 0
    unjudged: int = 0
    worst_ticks: float = 0.0
    examples: list[Example] = []

    @property
    def ppm(self) -> float:
        return parts_per_million(self.differing, self.compared)

    def differs(self, example: Example, ticks: float) -> None:
        self.differing += 1
        self.worst_ticks = max(self.worst_ticks, ticks)
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


class BookResult(msgspec.Struct, kw_only=True):
    """One book topic, recomputed. `unproven`: deltas that continued nothing, of which no book can be made."""

    category: str
    topic: str
    messages: int = 0
    snapshots: int = 0
    gaps: int = 0
    duplicates: int = 0
    unproven: int = 0
    unknown_deletes: int = 0
    crossed: int = 0
    too_deep: int = 0


class Report(msgspec.Struct, kw_only=True):
    """All of it. `notes`: what a person should know and what is no fault of the recording."""

    paths: list[str]
    files: int = 0
    hashed: int = 0
    sessions: int = 0
    messages: int = 0
    items: int = 0
    blocks: int = 0
    bytes: int = 0
    gaps: int = 0
    missing_messages: int = 0
    refused: int = 0
    excluded: int = 0
    seconds: float = 0.0
    faults: int = 0
    findings: list[Finding] = []
    notes: list[str] = []
    books: list[BookResult] = []
    comparisons: list[Comparison] = []

    def fault(self, what: str, where: str, detail: str) -> None:
        self.faults += 1
        if len(self.findings) < FINDINGS:
            self.findings.append(Finding(what=what, where=where, detail=detail))

    @property
    def compared(self) -> int:
        return sum(comparison.compared for comparison in self.comparisons)

    @property
    def differing(self) -> int:
        return sum(comparison.differing for comparison in self.comparisons)

    def clean(self, allowed_ppm: float = 0.0) -> bool:
        """Nothing is damaged, and no comparison differs in more than `allowed_ppm` of what it compared."""
        return not self.faults and all(comparison.ppm <= allowed_ppm for comparison in self.comparisons)


def parts_per_million(part: int, whole: int) -> float:
    return part / whole * 1e6 if whole else 0.0
