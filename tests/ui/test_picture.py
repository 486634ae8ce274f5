"""The SVG of a screen: well-formed, inert, blocks as rectangles."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from rich.segment import Segment

from orderflow.ui.cells import Picture, Theme, bar
from orderflow.ui.picture import CELL_W, picture_svg

NS = "{http://www.w3.org/2000/svg}"


def test_text_is_text_and_blocks_are_rectangles() -> None:
    line = [Segment("<script>&", Theme.bid), Segment(" a  b "), *bar(0.5, 4, Theme.ask), Segment("│")]
    root = ET.fromstring(picture_svg(Picture([line], 21), "<title>"))
    texts = [element.text or "" for element in root.iter(f"{NS}text")]
    assert texts == ["<title>", "<script>&", "a\u00a0\u00a0b"]
    assert not list(root.iter(f"{NS}script"))
    widths = [element.get("width") for element in root.iter(f"{NS}rect")][1:]
    assert widths == [f"{2 * CELL_W:.2f}", f"{0.12 * CELL_W:.2f}"]


def test_a_reversed_cell_has_its_colours_swapped() -> None:
    root = ET.fromstring(picture_svg(Picture([bar(0.25, 2, Theme.bid, leftward=True)], 2), "t"))
    fills = [element.get("fill") for element in root.iter(f"{NS}rect")][1:]
    assert fills == ["#3fb950", "#0d1117"]
