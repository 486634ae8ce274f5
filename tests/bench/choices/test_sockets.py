"""The whole path otherwise, over sockets, and the stage as a whole."""

from __future__ import annotations

import gc
import json
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest

from orderflow.bench import plan
from orderflow.bench.choices import sockets
from orderflow.bench.client import Job, Sheet, keep_book
from orderflow.bench.command import main
from orderflow.bench.loopback import LoopbackError, open_server
from orderflow.bench.options import add_arguments
from orderflow.bench.ratios import BUSY, OURS

if TYPE_CHECKING:
    import argparse

TINY = msgspec.structs.replace(
    plan.QUICK, rounds=1, windows=8, flood=2000, paced_s=0.1, rate=1000.0, turns=1, turn=40, depths=(50,)
)
