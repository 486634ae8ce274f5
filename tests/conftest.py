"""What all tests share."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from orderflow.logs import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator

# Compiled files are kept even where the environment says otherwise: a hundred processes of ours are started, and each
# would compile all of the program again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A loaded machine is no failure: neither a slow example nor slow making of examples says anything about the program.
# Fewer than half of Hypothesis's usual examples keep the suite short; HYPOTHESIS_EXAMPLES=1000 asks for more.
settings.register_profile(
    "orderflow",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "40")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("orderflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that wait (`socket`, `slow`) come first: the end of the run is many short tests."""
    waiting = {item.path for item in items if any(item.get_closest_marker(name) for name in ("socket", "slow"))}
    items.sort(key=lambda item: item.path not in waiting)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A test that runs a whole command sets up its log, which must not tell of the next one."""
    loggers = [logging.getLogger(name) for name in (None, "orderflow", *QUIET)]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
