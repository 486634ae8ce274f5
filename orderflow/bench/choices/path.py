"""Ways to take a socket's reads through the path in a flood, without the socket: cutter, protocol, engine."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING, Final

from orderflow.bench.choices.bytecodes import counted_codes
from orderflow.bench.choices.turns import Pace, take_turns
from orderflow.bench.inprocess import WrongBook, check_book, make_engine, make_protocol
from orderflow.bench.options import CHOICES
from orderflow.bench.results import Figure, single
from orderflow.bench.subject import INSTRUMENT
from orderflow.core.latency import STAMPS_FOLD_AT, MessageHops
from orderflow.core.policy import LinkPolicy
from orderflow.net.frames import FrameCutter
from orderflow.net.tap import read_clocks
from orderflow.sim.connection import text_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.bench.frames import Frames
    from orderflow.core.latency import Stamps

_OURS: Final = 32  # net/tap.py
_FEW: Final = 8
_WHOLE: Final = 1 << 30
_OFTEN: Final = gc.get_threshold()
_SELDOM: Final = (10_000, *_OFTEN[1:])
_UNFOLDED: Final = 100  # stamps of which neither way folds any: what is in a message's way
_WALL_NS: Final = 1_790_000_000_000_000_000
_NEVER: Final = (0, *_OFTEN[1:])


class Path:
    """From the bytes of a read to the book, so many messages at a time."""

    def __init__(self, frames: Frames, together: int = _OURS, collect: tuple[int, ...] = _OFTEN) -> None:
        policy = LinkPolicy()
        self.engine = make_engine(frames.depth)
        self._protocol = make_protocol(frames.depth)
        self._cutter = FrameCutter(policy.max_message_bytes)
        self._together = together
        self._collect = collect
        self.take([text_frame(frames.snapshot)])

    def take(self, reads: list[bytes]) -> None:
        feed, receive, apply_all = self._cutter.feed, self._protocol.receive, self.engine.apply_all
        together = self._together
        gc.set_threshold(*self._collect)
        try:
            for data in reads:
                stamps = read_clocks()
                messages = feed(data)
                for start in range(0, len(messages), together):
                    apply_all(receive(messages[start : start + together], *stamps))
        finally:
            gc.set_threshold(*_OFTEN)


def measure_path(frames: Frames, pace: Pace) -> list[Figure]:
    """How many messages are handed on together; how often the garbage collector runs. Raises: WrongBook."""
    choices: dict[str, dict[str, Path]] = {
        "reads to book": {
            f"{_OURS} messages at a time": Path(frames),
            f"{_FEW} at a time": Path(frames, _FEW),
            "a whole read": Path(frames, _WHOLE),
        },
        "reads to book, garbage": {
            f"looked for every {_OFTEN[0]} objects": Path(frames),
            f"every {_SELDOM[0]}": Path(frames, collect=_SELDOM),
            "never": Path(frames, collect=_NEVER),
        },
    }
    figures: list[Figure] = []
    for name, paths in choices.items():
        figures += take_turns(
            name, {way: path.take for way, path in paths.items()}, _reads(frames, pace.messages), pace, frames.depth
        )
        for path in paths.values():
            check_book(frames, pace.total, path.engine)
    return figures


def _reads(frames: Frames, count: int) -> Callable[[int], list[bytes]]:
    """What a full socket buffer gives, read by read."""
    size = LinkPolicy().receive_bytes

    def work(number: int) -> list[bytes]:
        data = b"".join(text_frame(raw) for raw in frames.deltas(count, number * count))
        return [data[start : start + size] for start in range(0, len(data), size)]

    return work


def measure_stamps(frames: Frames, pace: Pace) -> list[Figure]:
    """A message's stamps into its three histograms. Raises: WrongBook when the percentiles differ."""
    takes = {"folded in bulk": _fold_in_bulk, "recorded one by one": _record_each}
    hops = {name: MessageHops() for name in takes}
    ways = {name: partial(take, hops[name]) for name, take in takes.items()}
    figures = take_turns("stamps", ways, lambda number: _stamps(pace.messages, number), pace, frames.depth)
    few = _stamps(_UNFOLDED, 0)
    for name, take in takes.items():
        with counted_codes() as codes:
            take(MessageHops(), few)
        rounds = (single(codes.all / _UNFOLDED),)
        figures.append(Figure(stage=CHOICES, name="byte codes of stamps, unfolded", case=name, unit="", rounds=rounds))
    bulk, each = hops.values()
    bulk.fold(0)
    for name in ("gateway_to_socket", "engine_to_gateway", "socket_to_book"):
        if getattr(bulk, name).percentiles() != getattr(each, name).percentiles():
            raise WrongBook(f"stamps: {name} of {INSTRUMENT.symbol} differs between bulk and one by one")
    return figures


def _stamps(count: int, number: int) -> list[Stamps]:
    """As they come: some milliseconds on the way, some tens of microseconds to the book."""
    found: list[Stamps] = []
    for at in range(number * count, (number + 1) * count):
        recv_ns, came_ns = _WALL_NS + at * 10_000, at * 10_000
        sent_ms = recv_ns // 1_000_000 - at * 7 % 50
        found.append((recv_ns, sent_ms, sent_ms - at * 3 % 20, came_ns, came_ns + at * 611 % 90_000))
    return found


def _fold_in_bulk(hops: MessageHops, stamps: list[Stamps]) -> None:
    """As the engine does it."""
    for recv_ns, sent_ms, matched_ms, came_ns, done_ns in stamps:
        kept = hops.stamps
        kept.append((recv_ns, sent_ms, matched_ms, came_ns, done_ns))
        if len(kept) >= STAMPS_FOLD_AT:
            hops.fold(0)


def _record_each(hops: MessageHops, stamps: list[Stamps]) -> None:
    for recv_ns, sent_ms, matched_ms, came_ns, done_ns in stamps:
        hops.gateway_to_socket.record((recv_ns - sent_ms * 1_000_000) // 1000)
        if matched_ms is not None:
            hops.engine_to_gateway.record((sent_ms - matched_ms) * 1000)
        if done_ns is not None:
            hops.socket_to_book.record((done_ns - came_ns) // 1000)
