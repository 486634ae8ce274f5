"""How a problem reads: `source: key = value: what was expected`. Secrets and unknown things show no value."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from orderflow.config.secrets import MASK, Secret
from orderflow.core.nearest import nearest
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderflow.config.origin import Origin

_SHOWN: Final = 80  # most characters of a value in a problem


def problem(origin: Origin | str, key: str, expected: str, shown: str = "") -> str:
    """One problem line. `shown`: the value for people (`value_text`); "": not to be shown."""
    value = f" = {shown}" if shown else ""
    return f"{origin}: {escape_text(key)}{value}: {expected}"


def suggest(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'depth'?` to append to a problem, when one of `names` is like `word`."""
    name = nearest(word, names)
    return "" if name is None else f"; did you mean {name!r}?"


def value_text(value: Any, limit: int = _SHOWN) -> str:
    """A setting's value as people write it in TOML: safe for a terminal, and at most `limit` characters long."""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, str):
        return f'"{escape_text(mask_address(value), limit)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    if isinstance(value, list | tuple):
        return escape_text("[" + ", ".join(value_text(item, limit) for item in value[:limit]) + "]", limit)
    if isinstance(value, int) and value.bit_length() > 256:  # turning it into digits could take minutes
        return "a whole number of more than 77 digits"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return escape_text(str(value), limit)


def mask_address(text: str, *, path: bool = False) -> str:
    """An address with its user name, password, query values and fragment as `***`; other text as it is.

    Args: path: mask the path too (a webhook's secret is in it).
    """
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return text.partition("://")[0] + "://" + MASK
    if "@" in parts.path + parts.query + parts.fragment:  # a password with a / in it looks like host and path
        return f"{parts.scheme}://{MASK}"
    netloc = f"{MASK}@{host}" if "@" in parts.netloc else host
    query = "&".join(f"{name.partition('=')[0]}={MASK}" for name in parts.query.split("&")) if parts.query else ""
    shown_path = f"/{MASK}" if path and parts.path.strip("/") else parts.path
    return urlunsplit((parts.scheme, netloc, shown_path, query, MASK if parts.fragment else ""))
