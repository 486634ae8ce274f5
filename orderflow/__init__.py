"""orderflow: real-time order flow for Bybit, on Trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orderflow.export.views import open_recording as open_recording

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`orderflow.open_recording`, imported when it is first used."""
    if name == "open_recording":
        from orderflow.export.views import open_recording

        return open_recording
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
