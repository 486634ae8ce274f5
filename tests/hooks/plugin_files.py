"""Plugin files for tests: a good one, and a way to write any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """\
from orderflow.api import *
from orderflow.api import Above

class Plugin:
    class Config(PluginConfig):
        limit: Positive = 1.0

    def __init__(self, config):
        self.config = config
        self.seen = []

"""

GOOD = """\
    @hookimpl
    def orderflow_tick(self, tick):
        self.seen.append(tick)
        return [notice(tick, "seen", "saw it")]
"""


def indented(body: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in body.strip("\n").splitlines())


def write_plugin(folder: Path, name: str, body: str = "", *, text: str | None = None) -> Path:
    """Write `name`.py: the usual head and `body` as methods, or `text` as it is. Returns its path."""
    path = folder / f"{name}.py"
    path.write_text(text if text is not None else HEAD + (indented(body) if body else GOOD))
    path.chmod(0o644)
    return path


def tick_hook(*lines: str) -> str:
    """A plugin body whose orderflow_tick is these lines."""
    return "@hookimpl\ndef orderflow_tick(self, tick):\n" + "".join(f"    {line}\n" for line in lines)
