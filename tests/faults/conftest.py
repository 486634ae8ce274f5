from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.program import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def exchange() -> Iterator[Exchange]:
    """One simulated exchange for all tests of this folder."""
    with Exchange() as exchange:
        yield exchange
