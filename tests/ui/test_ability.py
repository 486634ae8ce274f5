"""Which terminals get the live view."""

from __future__ import annotations

import os

from orderflow.ui.ability import can_show
from tests.ui.test_terminal import terminal


def test_where_a_view_makes_sense() -> None:
    with terminal(80, 24) as (_, theirs):
        good = {"TERM": "xterm"}
        assert can_show(theirs, "utf-8", good)
        assert not can_show(theirs, "ascii", good)
        assert not can_show(theirs, "utf-8", {"TERM": "dumb"})
        assert not can_show(theirs, "utf-8", {})
    with terminal(40, 10) as (_, theirs):
        assert not can_show(theirs, "utf-8", good)
    reader, writer = os.pipe()
    assert not can_show(writer, "utf-8", good)
    os.close(reader)
    os.close(writer)
