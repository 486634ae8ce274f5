"""Settings, their documentation and the bundled file agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orderflow import bundled
from orderflow.config import schema
from orderflow.config.load import load
from orderflow.config.schema import Kind

ROOT = Path(__file__).parents[2]


def test_every_setting_says_what_it_expects_and_takes_its_own_default() -> None:
    for setting in schema.settings().values():
        assert setting.expected
        default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
        if setting.kind is not Kind.SECRET:
            assert setting.convert(default) == setting.default


def test_keys_of_variables_are_unique() -> None:
    assert len({setting.variable for setting in schema.settings().values()}) == len(schema.settings())
    assert schema.settings()["bybit.public_ws_url"].variable == "ORDERFLOW_BYBIT__PUBLIC_WS_URL"


@pytest.mark.parametrize("key", schema.settings())
def test_every_setting_is_documented_with_its_default_and_what_is_expected(key: str) -> None:
    setting = schema.settings()[key]
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    row = re.search(rf"^\| `{re.escape(key)}` \| (.*?) \| (.*?) \| .+ \|$", text, re.MULTILINE)
    assert row is not None, f"docs/configuration.md has no row for {key}"
    assert row[1] == schema.default_text(setting)
    assert row[2] == setting.expected


def test_the_documentation_knows_no_other_setting() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    section = text.partition("## Every setting")[2].partition("### Plugins' own tables")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(schema.settings())


def test_every_setting_but_the_secrets_stands_in_the_bundled_file() -> None:
    text = bundled.settings_file().read_text("utf-8")
    for key, setting in schema.settings().items():
        if setting.kind is not Kind.SECRET and key != "env":
            assert re.search(rf"^{key.rpartition('.')[2]} = ", text, re.MULTILINE), key


@pytest.mark.parametrize("env", schema.ENVIRONMENTS)
def test_the_documented_thresholds_are_the_bundled_ones(env: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    column = {"mainnet": 1, "demo_trading": 1, "testnet": 2, "sim": 3}[env]
    rows = [line.strip("| ").split(" | ") for line in text.split("\n") if re.match(r"\| `plugins\.\w+\.\w+` \|", line)]
    documented = {row[0].strip("`").removeprefix("plugins."): row[column] for row in rows}
    tables = load(env=env, environ={}, directory=tmp_path).settings.plugins.tables
    bundled_ones = {f"{name}.{key}": str(value).lower() for name, own in tables.items() for key, value in own.items()}
    assert documented == bundled_ones
