"""The valid name a misspelt one was probably meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


_SHOWN = 8


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of `names` most like `word`; None when none is like it."""
    from difflib import get_close_matches  # needed only when something is wrong already

    found = get_close_matches(word[:200], sorted(names), n=1, cutoff=0.5)
    return found[0] if found else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """To append to a message: `; did you mean 'spread'?`, or what names there are when none is like `word`."""
    known = sorted(names)
    name = nearest(word, known)
    if name is not None:
        return f"; did you mean {name!r}?"
    more = ", ..." if len(known) > _SHOWN else ""
    return f"; known: {', '.join(known[:_SHOWN])}{more}" if known else ""
