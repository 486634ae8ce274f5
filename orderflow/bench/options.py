"""The options of `orderflow bench`; read at every `--help`, so this imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

CHOICES: Final = "choices"
STAGES: Final = {
    "book": "decode a delta, apply it, top-10 imbalance",
    "message": "one whole message: frame text to book, with every check",
    "tick": "one metrics tick, alone and with the bundled plugins",
    "flood": "socket to book over loopback as fast as it goes, beside a plain trio-websocket client",
    "paced": "socket to book at a fixed rate: latency from the scheduled send time",
    "profile": "where the time goes: the way of a message step by step, by itself and in a flood",
    "tls": "flood and paced over wss://, with an authority made for the run",
    "memory": "resident memory of `orderflow run`",
    "startup": "exec to first live book, `orderflow --help`, imports",
    "cost": "what one more symbol, tick, plugin or alert rule costs",
    "scale": "the whole program with many symbols: ticks beside the feed, processor share, nothing lost",
    "record": "what recording a run costs at 5,000 messages/s, beside the same run without",
    "replay": "a recording through books, metrics, plugins and alerts, beside decoding alone",
    CHOICES: "what shaped the program: our way of something beside other ways, in turns (only with --only)",
}
DEFAULT_STAGES: Final = tuple(name for name in STAGES if name != CHOICES)
"""Of a run without `--only`; the last one says why things are as they are, not how fast they are."""
QUICK_STAGES: Final = tuple(
    name for name in DEFAULT_STAGES if name not in ("profile", "tls", "cost", "scale", "record")
)
PEER_STAGES: Final = ("flood", "paced", "tls")
"""Those in which clients are compared."""
DEPTHS: Final = (50, 200, 1000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options. By default all but `choices` is measured, in a few minutes; with `--quick` in well under one."""
    add = parser.add_argument
    add("--quick", action="store_true", help="short rounds at depth 50, no profile, tls, cost, scale, record")
    add("--only", nargs="+", choices=tuple(STAGES), metavar="STAGE", help="some of: " + ", ".join(STAGES))
    add("--depth", type=int, nargs="+", choices=DEPTHS, metavar="N", help="book depths (default: 50 200 1000)")
    add("--rate", type=float, metavar="N", help="messages/s when cold or paced (default: 500; paced also 50 and 5000)")
    add("--rounds", type=int, metavar="N", help="rounds, of which the median is shown (default: 3)")
    add("--peers", action="store_true", help="compare every other client that is installed, in the same rounds")
    add("--peers-python", metavar="FILE", help="the interpreter they are installed for (default: this one)")
    add("--json", action="store_true", help="print one JSON object with every figure of every round")
    add("--markdown", action="store_true", help="print tables for a document")
    add("--compare", metavar="FILE", help="ratios to an earlier run, as --json printed it")
    add("--report", metavar="FILE", help="measure nothing: show an earlier run (--only: in part), as --json printed it")
