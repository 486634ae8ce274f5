"""docs/plugins.md is true: its plugins check, its test passes, its settings load, its commands do what it says."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from orderflow import api
from orderflow.config.tree import PluginSettings
from orderflow.hooks.commands import check_plugins, new_plugin
from orderflow.hooks.setup import set_up
from orderflow.hooks.thresholds import Above

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "plugins.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced code blocks of one language, without the indent of the list they stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", GUIDE, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands(head: str) -> list[list[str]]:
    """The words of every console line that begins with `$ <head>`."""
    lines = (line for block in blocks("console") for line in block.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"$ {head}")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory where step 1 of the guide has been taken."""
    monkeypatch.chdir(tmp_path)
    (words,) = commands("orderflow plugins new")
    assert (words[3], words[4]) == ("whale", "--folder")
    new_plugin(words[3], words[5])
    return tmp_path


def test_step_2_checks(place: Path) -> None:
    (words,) = commands("orderflow plugins check")
    assert check_plugins(PluginSettings(), None, words[3:]).ok


def test_step_3_enables_it(place: Path) -> None:
    (words,) = commands("export")
    variables = dict(word.split("=", 1) for word in words[1:])
    values = {name.removeprefix("ORDERFLOW_PLUGINS__").lower(): text for name, text in variables.items()}
    table = tomllib.loads("\n".join(f"{name} = {text}" for name, text in values.items()))
    setup = set_up(_settings(table), ROOT / "plugins")
    assert setup.problems == ()
    assert [plugin.name for plugin in setup.host.statistics().plugins] == ["whale"]


def test_step_4_keeps_it(place: Path) -> None:
    (text,) = blocks("toml")
    table = tomllib.loads(text)["default"]["plugins"]
    setup = set_up(_settings(table), ROOT / "plugins")
    assert setup.problems == ()
    assert [plugin.name for plugin in setup.host.statistics().plugins] == ["spread", "latency", "liquidity", "whale"]
    whale = setup.host.statistics().plugins[-1].config
    assert (whale["raise_above"], whale["symbols"]["spot:BTCUSDT"]["raise_above"]) == (0.4, 0.6)


def _settings(table: dict[str, Any]) -> PluginSettings:
    fields = set(PluginSettings.__struct_fields__)
    known = {key: value for key, value in table.items() if key in fields}
    tables = {key: value for key, value in table.items() if key not in fields}
    return PluginSettings(**known, tables=tables)


@pytest.mark.parametrize("text", [text for text in blocks("python") if "class Plugin" in text])
def test_every_plugin_of_the_guide_checks(place: Path, text: str) -> None:
    path = place / "example.py"
    path.write_text(text)
    path.chmod(0o644)
    report = check_plugins(PluginSettings(), None, [path])
    assert report.ok, report


def test_the_test_of_the_guide_passes(place: Path) -> None:
    (text,) = [text for text in blocks("python") if "def test_" in text]
    names: dict[str, Any] = {}
    exec(text, names)
    tests: list[Callable[[], None]] = [thing for name, thing in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_every_setting_is_named_with_its_default() -> None:
    for field in structs.fields(PluginSettings):
        if field.name != "tables":
            assert f"`{field.name}`" in GUIDE
    for name in ("max_failures", "budget_ms", "disable_over_ms", "max_alerts_per_call"):
        assert f"| `{name}` | {getattr(PluginSettings(), name):g} |" in GUIDE
    for field in structs.fields(Above):
        assert f"`{field.name}`" in GUIDE
    for name in ("for_s", "clear_for_s", "cooldown_s"):
        default = next(field.default for field in structs.fields(Above) if field.name == name)
        assert f"| `{name}` | {default:g} |" in GUIDE


def test_the_api_is_what_it_lists() -> None:
    assert all(hasattr(api, name) for name in api.__all__)
    public = {name for name in vars(api) if not name.startswith("_")} - {"annotations", "Annotated", "Meta"}
    assert public == set(api.__all__)
