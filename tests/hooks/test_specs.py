"""The contract of the hooks: complete, and what the pluggy markers say."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import FunctionType

import pytest

from orderflow.hooks import specs

SPECS = {name: thing for name, thing in vars(specs).items() if name.startswith("orderflow_")}
GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"


def test_the_table_of_hooks_is_the_specs() -> None:
    assert {name: next(iter(inspect.signature(spec).parameters)) for name, spec in SPECS.items()} == specs.HOOKS
    assert all(len(inspect.signature(spec).parameters) == 1 for spec in SPECS.values())
    assert all(hasattr(spec, "orderflow_spec") for spec in SPECS.values())


@pytest.mark.parametrize("name", SPECS)
def test_each_spec_says_everything(name: str) -> None:
    spec = SPECS[name]
    assert isinstance(spec, FunctionType)
    text = inspect.getdoc(spec) or ""
    for part in ("Called ", "budget", "If it raises", "Args: ", "Returns: ", "Since: ", "Example::", "@hookimpl"):
        assert part.lower() in text.lower(), part


@pytest.mark.parametrize("name", SPECS)
def test_each_example_runs(name: str, folder: Path) -> None:
    from orderflow.hooks.commands import check_plugins
    from tests.hooks.choice import choose
    from tests.hooks.plugin_files import HEAD, indented, write_plugin

    example = inspect.cleandoc((inspect.getdoc(SPECS[name]) or "").split("Example::")[1])
    setup = "        self.losses = self.fills = 0\n        self.outbox = __import__('queue').Queue()\n"
    setup += "        self.file = __import__('io').StringIO()\n\n"
    path = write_plugin(folder, "example", text=HEAD + setup + indented(example))
    assert check_plugins(choose(()), None, [path]).ok


@pytest.mark.parametrize("name", SPECS)
def test_the_guide_names_it(name: str) -> None:
    assert name in GUIDE.read_text("utf-8")
