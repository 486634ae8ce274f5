"""What a recording of some files will hold, decided before it is written: instruments, connections, books."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text
from orderflow.foreign.facts import Decimals, derived_fact
from orderflow.foreign.merge import Clock, choose_clock, span_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orderflow.core.types import Category, Instrument, InstrumentId
    from orderflow.foreign.source import Source, Span, Survey

OVERLAP_NS: Final = 60_000_000_000
"""Files of one topic may share this much: a day's archive ends with a snapshot of the next day."""


class Connection(msgspec.Struct):
    """One connection of the recording. `books`: (symbol, depth) of what a replay will apply."""

    number: int
    link: str
    category: Category
    books: list[tuple[str, int]] = []


class Plan(msgspec.Struct, kw_only=True):
    """Everything a recording begins with."""

    clock: Clock
    first_ns: int
    last_ns: int
    session: bytes  # 16 bytes that name the content: the same files and options give the same recording
    depth: int
    instruments: list[InstrumentId]
    facts: list[Instrument]
    inferred: list[InstrumentId]  # whose facts were read off their numbers
    connections: dict[tuple[Category, str], Connection]
    fed: set[tuple[Category, str]]  # book topics that a replay applies
    passed_over: list[str]  # book topics that it does not: a deeper book of the same instrument is there


def make_plan(
    sources: Sequence[Source],
    surveys: Sequence[Survey],
    known: Mapping[InstrumentId, Instrument],
    clock: Clock | None = None,
) -> Plan:
    """Raises: ConfigError when two files tell the same, or a receive clock is asked for that is not there."""
    if clock == "receive" and not all(found.received for found in surveys):
        lacking = next(source.path.name for source, found in zip(sources, surveys, strict=True) if not found.received)
        raise ConfigError(f"--clock receive: {lacking} has no receive times")
    chosen = clock or choose_clock(surveys)
    refuse_doubles(sources, surveys)
    spans = [span_of(found, chosen) for found in surveys]
    fed, passed_over = choose_books(surveys)
    decimals = _decimals(surveys)
    instruments = sorted({key for key, _ in fed.values()}) or sorted(decimals)
    facts, inferred = _facts(instruments, decimals, known)
    return Plan(
        clock=chosen,
        first_ns=min(span.first_ns for span in spans),
        last_ns=max(span.last_ns for span in spans),
        session=_name(surveys, chosen),
        depth=max((depth for _, depth in fed.values()), default=50),
        instruments=instruments,
        facts=facts,
        inferred=inferred,
        connections=_connect(surveys, fed),
        fed=set(fed),
        passed_over=passed_over,
    )


def _name(surveys: Sequence[Survey], clock: Clock) -> bytes:
    told = repr([(found.messages, found.crc, found.exchange.first_ns) for found in surveys]) + clock
    return hashlib.blake2b(told.encode(), digest_size=16).digest()


def refuse_doubles(sources: Sequence[Source], surveys: Sequence[Survey]) -> None:
    """Raises: ConfigError when two files hold the same topic at the same time: trades would count twice."""
    seen: dict[tuple[Category, str], list[tuple[Span, Source]]] = {}
    for source, found in zip(sources, surveys, strict=True):
        for topic, count in found.topics.items():
            others = seen.setdefault((topic.category, topic.name), [])
            for span, other in others:
                if other is not source and _overlap(span, count.span) >= min(OVERLAP_NS, _length(count.span)):
                    names = " and ".join(escape_text(file.path.name, 100) for file in (other, source))
                    raise ConfigError(
                        f"import: {names} both have {topic.category} {topic.name} of the same time: leave one out"
                    )
            others.append((count.span, source))


def _overlap(one: Span, other: Span) -> int:
    return min(one.last_ns, other.last_ns) - max(one.first_ns, other.first_ns)


def _length(span: Span) -> int:
    return span.last_ns - span.first_ns


def choose_books(
    surveys: Sequence[Survey],
) -> tuple[dict[tuple[Category, str], tuple[InstrumentId, int]], list[str]]:
    """Of each instrument the deepest book at any time. Returns: those topics; names of the others."""
    spans: dict[tuple[Category, str], list[Span]] = {}
    books: dict[tuple[Category, str], tuple[InstrumentId, int]] = {}
    for found in surveys:
        for topic, count in found.topics.items():
            parsed = topic.parsed()
            if parsed is not None and parsed[1]:
                books[topic.category, topic.name] = parsed
                spans.setdefault((topic.category, topic.name), []).append(count.span)
    fed: dict[tuple[Category, str], tuple[InstrumentId, int]] = {}
    passed_over: list[str] = []
    for key in sorted(books, key=lambda key: (-books[key][1], key)):
        rivals = [span for other in fed if fed[other][0] == books[key][0] for span in spans[other]]
        if any(_overlap(mine, theirs) > OVERLAP_NS for mine in spans[key] for theirs in rivals):
            passed_over.append(f"{key[0]} {key[1]}")
        else:
            fed[key] = books[key]
    return fed, passed_over


def _decimals(surveys: Sequence[Survey]) -> dict[InstrumentId, Decimals]:
    seen: dict[InstrumentId, Decimals] = {}
    for found in surveys:
        for topic, count in found.topics.items():
            parsed = topic.parsed()
            if parsed is not None:
                seen.setdefault(parsed[0], Decimals()).merge(count.decimals)
    return seen


def _facts(
    instruments: Sequence[InstrumentId],
    decimals: Mapping[InstrumentId, Decimals],
    known: Mapping[InstrumentId, Instrument],
) -> tuple[list[Instrument], list[InstrumentId]]:
    facts: list[Instrument] = []
    inferred: list[InstrumentId] = []
    for key in instruments:
        fact = known.get(key)
        if fact is None:
            fact = derived_fact(key, decimals.get(key, Decimals()))
            inferred.append(key)
        if fact is not None:
            facts.append(fact)
    return facts, inferred


def _connect(
    surveys: Sequence[Survey], fed: Mapping[tuple[Category, str], tuple[InstrumentId, int]]
) -> dict[tuple[Category, str], Connection]:
    """A connection for each that the recorders named, and one per category for files that name none.

    So the archives of following days are one connection, and a book goes on over midnight.
    """
    connections: dict[tuple[Category, str], Connection] = {}
    for topic in sorted({topic for found in surveys for topic in found.topics}):
        key = topic.category, topic.connection
        connection = connections.get(key)
        if connection is None:
            link = topic.category.value + (f" {escape_text(topic.connection, 60)}" if topic.connection else "")
            connection = connections[key] = Connection(len(connections) + 1, link, topic.category, [])
        if (topic.category, topic.name) in fed:
            instrument, depth = fed[topic.category, topic.name]
            connection.books.append((instrument.symbol, depth))
    return connections
