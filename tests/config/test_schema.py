"""Settings, their documentation and the bundled file agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orderflow import bundled
from orderflow.config import schema
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
    rows = re.findall(r"^\| `([a-z_.]+)` \| .*? \| .*? \| .+ \|$", text, re.MULTILINE)
    assert sorted(rows) == sorted(schema.settings())


def test_every_setting_but_the_secrets_stands_in_the_bundled_file() -> None:
    text = bundled.settings_file().read_text("utf-8")
    for key, setting in schema.settings().items():
        if setting.kind is not Kind.SECRET and key != "env":
            assert re.search(rf"^{key.rpartition('.')[2]} = ", text, re.MULTILINE), key
