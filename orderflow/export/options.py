"""The options of `orderflow export`, beside those of every command on a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

TABLES: Final = ("book", "trades", "liquidations", "tickers", "ticks", "alerts", "gaps")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=("parquet", "hftbacktest"), default="parquet", help="what to write (default parquet)"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="a new folder; it appears when all of it is there"
    )
    parser.add_argument(
        "--table", choices=TABLES, action="append", help="only this table of parquet's; repeatable (default all)"
    )
    parser.add_argument(
        "--feed-latency",
        metavar="MS",
        type=float,
        default=0.0,
        help="hftbacktest: from exchange to us, for recordings that hold no receive times (default 0)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
