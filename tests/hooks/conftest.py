from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder only its owner may write to."""
    path = tmp_path / "mine"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    return path
