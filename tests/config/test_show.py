from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from orderflow.config import schema
from orderflow.config.problems import mask_address
from orderflow.config.show import render, render_check

if TYPE_CHECKING:
    from tests.config.conftest import Folder

OWN = """
[default]
symbols = ["ETHUSDT"]
[default.plugins.whale]
webhook = "https://x.com/a"
url = "https://user:pw@hooks.x.com:8443/services/T0/B1?token=2#3"
levels = [1, 2.5, "three"]
options = [{ api_token = "x", name = "y" }]
symbols."spot:BTCUSDT".big = true
"""


def test_what_is_shown_is_toml_that_loads_to_the_same(folder: Folder) -> None:
    folder.settings("[default]\nsymbols = ['ETHUSDT']\nplugins.x.a = [1, 'b']\nplugins.x.symbols.'spot:X1'.c = 2")
    loaded = folder.load()
    shown = tomllib.loads(render(loaded))
    assert shown.pop("env") == "mainnet"
    del shown["bybit"]["api_key"], shown["bybit"]["api_secret"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in shown.items() if not isinstance(value, dict)]
    tables = render(loaded).partition("\n\n")[2].replace("\n[", "\n[default.").replace("[bybit]", "[default.bybit]", 1)
    folder.settings("\n".join(["[default]", *lines, tables]))
    assert folder.load().settings == loaded.settings


def test_every_setting_is_shown_with_its_origin(folder: Folder) -> None:
    folder.settings(OWN)
    text = render(folder.load({"ORDERFLOW_DEPTH": "1"}, options={"duration_s": "1"}), origin=True)
    shown = tomllib.loads(text)
    for key in schema.settings():
        node = shown
        for part in key.split("."):
            node = node[part]
    origins = {line.partition(" = ")[0]: line.rpartition("  # ")[2] for line in text.split("\n")}
    assert origins["symbols"] == "settings.toml:3"
    assert origins["depth"] == "ORDERFLOW_DEPTH"
    assert origins["duration_s"] == "--duration"
    assert origins["api_key"] == "default"
    assert origins['symbols."spot:BTCUSDT".big'] == "settings.toml:9"
    assert origins["raise_below"].startswith("settings.toml (bundled):")


def test_secrets_of_plugins_are_masked(folder: Folder) -> None:
    folder.settings(OWN)
    shown = json.loads(render(folder.load(), as_json=True))
    assert shown["settings"]["plugins"]["whale"] == {
        "webhook": "***",
        "url": "https://***@hooks.x.com:8443/***?token=***#***",
        "levels": [1, 2.5, "three"],
        "options": [{"api_token": "***", "name": "y"}],
        "symbols": {"spot:BTCUSDT": {"big": True}},
    }


def test_json_is_one_object_with_everything(folder: Folder) -> None:
    folder.settings(OWN)
    folder.secrets("[default.bybit]\napi_key = 'k'\napi_secret = 's'", 0o644)
    shown = json.loads(render(folder.load(), as_json=True, origin=True))
    assert shown["settings"]["bybit"]["api_key"] == "***"
    assert shown["settings"]["plugins"]["whale"]["options"] == [{"api_token": "***", "name": "y"}]
    assert shown["settings"]["category"] == "linear"
    assert shown["origins"]["symbols"] == {"source": "file", "name": "settings.toml", "line": 3, "environment": ""}
    assert shown["files"] == ["settings.toml (bundled)", "settings.toml", ".secrets.toml"]
    assert shown["warnings"] == [".secrets.toml can be read by others; run: chmod 600 .secrets.toml"]
    assert "origins" not in json.loads(render(folder.load(), as_json=True))


def test_whatever_the_secrets_file_says_is_masked(folder: Folder) -> None:
    folder.secrets("[default]\nlog_level = 'debug'\ninterval_s = 7\n[default.plugins.x]\nplain = [1]")
    shown = json.loads(render(folder.load(), as_json=True))["settings"]
    assert (shown["log_level"], shown["interval_s"], shown["plugins"]["x"]) == ("***", "***", {"plain": "***"})


def test_secrets_that_are_not_set_are_null(folder: Folder) -> None:
    assert json.loads(render(folder.load(), as_json=True))["settings"]["bybit"]["api_secret"] is None


def test_check(folder: Folder) -> None:
    folder.secrets("", 0o644)
    ok, warning = render_check(folder.load(env="testnet")).split("\n")
    assert ok == "OK: environment testnet; read settings.toml (bundled), .secrets.toml"
    assert warning.startswith("warning: .secrets.toml can be read by others")


@pytest.mark.parametrize(
    "text, masked",
    [
        ("plain text?a=b", "plain text?a=b"),
        ("wss://stream.bybit.com/v5/public/{category}", "wss://stream.bybit.com/v5/public/{category}"),
        ("https://u:p@h:1/p", "https://***@h:1/p"),
        ("https://h/p?a=1&b&c=2#f", "https://h/p?a=***&b=***&c=***#***"),
        ("https://[::1/u:p@x", "https://***"),
        ("https://u:p/w@h:1/p", "https://***"),
        ("wss://u:p?w@h", "wss://***"),
        ("wss://u:p#w@h", "wss://***"),
    ],
)
def test_addresses(text: str, masked: str) -> None:
    assert mask_address(text) == masked
