"""The options of `orderflow soak`. Light: the command line imports it."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--duration", metavar="S", type=_positive, default=60.0, help="seconds of faults (default: %(default)g)")
    add("--seed", metavar="N", type=int, default=1, help="same seed, same faults and market (default: %(default)s)")
    add("--rate", metavar="R", type=_positive, default=1.0, help="faults a second (default: %(default)g)")
    add("--quiet", action="store_true", help="only the report")
    add("--json", action="store_true", help="print the report as JSON")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e7:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return value
