"""The valid name a misspelt one was probably meant to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of `names` most like `word`; None when there are none."""
    from difflib import get_close_matches  # needed only when something is wrong already

    found = get_close_matches(word[:200], sorted(names), n=1, cutoff=0.0)
    return found[0] if found else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'spread'?` to append to a message; empty when there is nothing to suggest."""
    name = nearest(word, names)
    return "" if name is None else f"; did you mean {name!r}?"
