"""A verification for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from orderflow.core.text import escape_text, plain_decimal
from orderflow.verify.results import parts_per_million

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderflow.core.types import Level
    from orderflow.verify.results import BookResult, Comparison, Example, Report


def format_report(report: Report, *, clean: bool) -> str:
    """Lines for people; everything that is not ours is escaped."""
    return "\n".join(_lines(report, clean)) + "\n"


def _lines(report: Report, clean: bool) -> Iterator[str]:
    yield (
        f"{_count(report.files, 'file')}, {_count(report.sessions, 'session')}, {report.messages} messages in "
        f"{report.seconds:.1f} s; {report.hashed} of the files have their manifest's hash; "
        f"{_count(report.blocks, 'block')} and {_count(report.items, 'queue item')} read"
    )
    for finding in report.findings:
        yield f"WRONG {finding.what}: {escape_text(finding.where, 300)}: {escape_text(finding.detail, 300)}"
    if report.faults > len(report.findings):
        yield f"WRONG ... and {report.faults - len(report.findings)} more"
    for note in report.notes:
        yield f"note: {escape_text(note, 400)}"
    if report.gaps:
        yield f"note: {_count(report.gaps, 'gap')} that the recorder wrote down, {report.missing_messages} messages"
    if report.refused:
        yield f"note: {_count(report.refused, 'message')} could not be read"
    if report.excluded:
        yield f"note: {_count(report.excluded, 'message')} of RPI books left out: no other book holds those orders"
    for book in sorted(report.books, key=lambda book: (book.category, book.topic)):
        yield _book(book)
        for one in report.comparisons:
            if (one.category, one.book) == (book.category, book.topic):
                yield _comparison(one)
                yield from (f"      {_example(example)}" for example in one.examples)
    if not any(one.compared for one in report.comparisons):
        yield "nothing to compare the books with: record --topic tickers --topic orderbook.1, or --rest-books 60"
    yield f"{'clean' if clean else 'NOT clean'}: {_totals(report)}"


def _totals(report: Report) -> str:
    return (
        f"{_count(report.faults, 'fault')}; {report.compared} values compared, {report.differing} differ "
        f"({parts_per_million(report.differing, report.compared):.0f} ppm)"
    )


def _book(book: BookResult) -> str:
    parts = [f"{escape_text(book.category)} {escape_text(book.topic)}: {book.messages} messages"]
    parts.append(_count(book.snapshots, "snapshot"))
    for name in ("gaps", "duplicates", "unproven", "unknown_deletes", "crossed", "too_deep"):
        count = getattr(book, name)
        if count:
            parts.append(f"{name.replace('_', ' ')} {count}")
    return ", ".join(parts)


def _comparison(one: Comparison) -> str:
    text = f"    {escape_text(one.reference)}: {one.compared} compared, {one.differing} differ ({one.ppm:.0f} ppm)"
    if one.worst_ticks:
        text += f", worst {one.worst_ticks:g} ticks"
    if one.between:
        text += f"; {one.between} between two pushes ({parts_per_million(one.between, one.compared):.0f} ppm)"
    if one.unjudged:
        text += f"; {one.unjudged} not judged"
    return text


def _example(example: Example) -> str:
    from orderflow.ui.line import format_clock

    book, told = _level(example.book), _level(example.reference)
    return f"{format_clock(example.at_ms)} seq {example.seq} {example.side}: book {book}, reference {told}"


def _level(level: Level | None) -> str:
    return f"{plain_decimal(level[0])} x {plain_decimal(level[1])}" if level is not None else "none"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def encode_report(report: Report, *, clean: bool) -> str:
    """The whole report as one JSON object, with `clean` and each comparison's `ppm`."""
    fields = msgspec.to_builtins(report)
    fields["clean"] = clean
    fields["compared"], fields["differing"] = report.compared, report.differing
    fields["ppm"] = parts_per_million(report.differing, report.compared)
    for told, one in zip(fields["comparisons"], report.comparisons, strict=True):
        told["ppm"] = one.ppm
        told["between_ppm"] = parts_per_million(one.between, one.compared)
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"
