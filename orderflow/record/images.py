"""Pictures of the engine: taken where a recording has a hole or begins a file, restored where a reader begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.core.types import LIVE, BookCounters, BookState
from orderflow.record.records import BookImage, Checkpoint

if TYPE_CHECKING:
    from orderflow.core.book import Book
    from orderflow.core.engine import Engine

CHAINED = frozenset({LIVE, BookState.STALE})


def take_checkpoint(engine: Engine, applied: int, recv_ns: int, mono_ns: int) -> Checkpoint:
    """Everything the engine knows, after `applied` queue items."""
    return Checkpoint(
        applied=applied,
        recv_ns=recv_ns,
        mono_ns=mono_ns,
        books=[_image(book) for book in engine.books.values()],
        facts=list(engine.facts.values()),
        offset=engine.clock_offset,
    )


def _image(book: Book) -> BookImage:
    levels = book.levels
    kept = book.state in CHAINED
    return BookImage(
        instrument=book.instrument,
        state=book.state,
        reason=book.reason,
        u=book.u,
        seq=book.seq,
        last_mono_ns=book.last_mono_ns,
        bids=levels.top_bids(len(levels.bids)) if kept else [],
        asks=levels.top_asks(len(levels.asks)) if kept else [],
        counters=book.counters.freeze(),
        coverage=book.coverage.state,
    )


def restore_checkpoint(engine: Engine, checkpoint: Checkpoint) -> None:
    """Put the engine where the checkpoint was taken; books it was not made for are left out."""
    for fact in checkpoint.facts:
        if fact.id in engine.books:
            engine.apply(fact)
    if checkpoint.offset is not None:
        engine.apply(checkpoint.offset)
    for image in checkpoint.books:
        book = engine.books.get(image.instrument)
        if book is not None:
            _restore(book, image)


def _restore(book: Book, image: BookImage) -> None:
    book.levels.replace(image.bids, image.asks)
    book.state, book.reason = image.state, image.reason
    book.u, book.seq, book.last_mono_ns = image.u, image.seq, image.last_mono_ns
    book.chained = image.state in CHAINED
    if image.coverage is not None:
        book.coverage.state = image.coverage
    for name in BookCounters.__struct_fields__:
        setattr(book.counters, name, getattr(image.counters, name))
