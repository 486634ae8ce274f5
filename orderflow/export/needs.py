"""Libraries of optional extras: an error that says what to install."""

from __future__ import annotations

from importlib.util import find_spec

from orderflow.core.errors import ConfigError


def needs(extra: str, *libraries: str) -> None:
    """Raises: ConfigError naming the extra when a library is not installed."""
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{' and '.join(missing)} not installed: pip install 'bybit-orderflow[{extra}]'")
