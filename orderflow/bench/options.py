"""The options of `orderflow bench`; read at every `--help`, so this imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

STAGES: Final = {
    "book": "decode a delta, apply it, top-10 imbalance",
    "message": "one whole message: frame text to book, with every check",
    "tick": "one metrics tick, alone and with the bundled plugins",
    "flood": "socket to book over loopback as fast as it goes, beside a plain trio-websocket client",
    "paced": "socket to book at --rate: latency from the scheduled send time",
    "memory": "resident memory of `orderflow run` with 1 and 10 symbols",
    "startup": "exec to first live book, `orderflow --help`, imports",
}
DEPTHS: Final = (50, 200, 1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options. Everything is measured by default, which takes a few minutes; `--quick` takes well under one."""
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round of everything: a first impression")
    add("--json", action="store_true", help="print one JSON object with every figure of every round")
    add("--depth", type=int, nargs="+", choices=DEPTHS, metavar="N", help="book depths (default: 50 200 1000)")
    add("--rate", type=float, default=500.0, metavar="N", help="messages/s when cold or paced (default: %(default)g)")
    add("--rounds", type=int, metavar="N", help="rounds, of which the median is shown (default: 3; quick: 1)")
    add("--peers", action="store_true", help="flood and paced: every other client installed, in the same rounds")
    add("--only", nargs="+", choices=tuple(STAGES), metavar="STAGE", help="some of: " + ", ".join(STAGES))
