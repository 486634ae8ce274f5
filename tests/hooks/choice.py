"""`[plugins]` for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderflow.config.tree import PluginSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def choose(
    enabled: Sequence[str], *folders: Path, tables: Mapping[str, Any] | None = None, **limits: Any
) -> PluginSettings:
    """The real settings table, so that what the program passes to the host is what is tested."""
    return PluginSettings(
        enabled=tuple(enabled),
        folders=tuple(map(str, folders)),
        entry_points=False,
        tables=dict(tables or {}),
        **limits,
    )
