"""[plugins.<name>]: typed, all problems at once with their full key paths, overrides per symbol."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from orderflow.core.types import Category, InstrumentId, Severity
from orderflow.hooks.configs import Configs, PluginConfig, build_configs, is_sensitive
from orderflow.hooks.thresholds import Above, Below

SPOT = InstrumentId(Category.SPOT, "BTCUSDT")
LINEAR = InstrumentId(Category.LINEAR, "BTCUSDT")
ETH = InstrumentId(Category.LINEAR, "ETHUSDT")


class Config(PluginConfig, frozen=True):
    level: Annotated[float, Meta(gt=0)] = 1.0
    names: tuple[str, ...] = ()
    severity: Severity = Severity.INFO
    on: bool = False


class Needy(PluginConfig, frozen=True, kw_only=True):
    url: str
    api_token: str = ""


def build(table: dict[str, Any], kind: type[msgspec.Struct] = Config) -> Configs[Any]:
    configs, problems = build_configs("p", kind, table)
    assert problems == []
    assert configs is not None
    return configs


def complaints(table: dict[str, Any], kind: type[msgspec.Struct] = Config) -> list[str]:
    configs, problems = build_configs("p", kind, table)
    assert configs is None
    return list(map(str, problems))


def test_defaults() -> None:
    assert build({}).default == Config()


def test_without_overrides_every_instrument_has_the_default() -> None:
    configs = Configs(Config(level=2.0))
    assert configs.of(SPOT) is configs.of(ETH) is configs.default
    assert "symbols" not in configs.table()


def test_a_table() -> None:
    config = build({"level": 2, "names": ["a"], "severity": "critical"}).default
    assert config == Config(level=2.0, names=("a",), severity=Severity.CRITICAL)


@pytest.mark.parametrize(
    "symbols, spot, linear, eth",
    [
        ({"BTCUSDT": {"level": 2}}, 2, 2, 9),
        ({"spot:BTCUSDT": {"level": 2}}, 2, 9, 9),
        ({"BTCUSDT": {"level": 2}, "spot:BTCUSDT": {"level": 3}}, 3, 2, 9),
        ({"Spot:btcusdt": {"level": 2}, "ethusdt": {"level": 4}}, 2, 9, 4),
        ({"BTCUSDT": {}}, 9, 9, 9),
        ({}, 9, 9, 9),
    ],
)
def test_overrides(symbols: dict[str, Any], spot: float, linear: float, eth: float) -> None:
    configs = build({"level": 9, "symbols": symbols})
    assert [configs.of(instrument).level for instrument in (SPOT, LINEAR, ETH)] == [spot, linear, eth]


def test_an_override_inherits_from_the_symbol_and_then_from_the_table() -> None:
    symbols = {"BTCUSDT": {"on": True}, "spot:BTCUSDT": {"level": 3}}
    configs = build({"names": ["a"], "level": 9, "symbols": symbols})
    assert configs.of(SPOT) == Config(names=("a",), on=True, level=3.0)
    assert configs.of(LINEAR) == Config(names=("a",), on=True, level=9.0)


@pytest.mark.parametrize(
    "table, expected",
    [
        ({"level": 0}, "plugins.p.level: got 0, expected float > 0.0"),
        ({"level": True}, "plugins.p.level: got True, expected float"),
        ({"level": "1"}, "plugins.p.level: got '1', expected float"),
        ({"level": math.nan}, "plugins.p.level: got nan, expected finite numbers"),
        ({"level": math.inf}, "plugins.p.level: got inf, expected finite numbers"),
        ({"names": "a"}, "plugins.p.names: got 'a', expected array"),
        ({"names": ["a", 1]}, "plugins.p.names[1]: got ['a', 1], expected str"),
        ({"names": [math.nan]}, "plugins.p.names: got [nan], expected finite numbers"),
        ({"severity": "loud"}, "plugins.p.severity: got 'loud', expected one of info, warning, critical"),
        ({"levle": 1}, "plugins.p.levle: unknown setting; did you mean 'level'?"),
        ({"symbols": 7}, "plugins.p.symbols: got 7, expected a table by symbol"),
        ({"symbols": {"BTCUSDT": 7}}, 'plugins.p.symbols."BTCUSDT": got 7, expected a table of settings'),
        ({"symbols": {"BTCUSDT": {"level": 0}}}, 'plugins.p.symbols."BTCUSDT".level: got 0, expected float > 0.0'),
        (
            {"symbols": {"option:BTC": {}}},
            "plugins.p.symbols.\"option:BTC\": 'option:BTC': options are out of scope; use linear, inverse or spot",
        ),
        ({"symbols": {"btcusdt": {}, "BTCUSDT": {}}}, 'plugins.p.symbols."BTCUSDT": BTCUSDT is given twice'),
    ],
)
def test_one_problem(table: dict[str, Any], expected: str) -> None:
    assert complaints(table) == [expected]


def test_all_problems_at_once() -> None:
    table = {"level": -1, "onn": True, "names": 3, "symbols": {"?": {}, "BTCUSDT": {"level": "x", "o": 1}}}
    keys = {text.split(":")[0] for text in complaints(table)}
    assert keys == {
        'plugins.p.symbols."?"',
        "plugins.p.level",
        "plugins.p.onn",
        "plugins.p.names",
        'plugins.p.symbols."BTCUSDT".level',
        'plugins.p.symbols."BTCUSDT".o',
    }


def test_hostile_keys_and_values_are_escaped() -> None:
    for text in complaints({"\x1b[2J": 1, "level": "\u202e" * 1000, "symbols": {"\x07": {}}}):
        assert text.isprintable()
        assert len(text) < 500


def test_a_value_whose_name_sounds_like_a_secret_is_never_shown() -> None:
    (missing, token) = sorted(complaints({"api_token": 12345}, Needy), reverse=True)
    assert missing == "plugins.p.url: missing; this plugin does not work without it"
    assert token == "plugins.p.api_token: got ***, expected str"
    shown = build({"url": "u", "api_token": "tellnoone", "symbols": {"BTCUSDT": {"url": "v"}}}, Needy).table()
    assert "tellnoone" not in str(shown)
    assert shown["symbols"]["BTCUSDT"] == {"url": "v", "api_token": "***"}


@pytest.mark.parametrize(
    "key", ["SECRET_of", "api_token", "password", "the_passphrase", "credentials", "Key", "webhook_url"]
)
def test_names_that_sound_like_a_secret(key: str) -> None:
    assert is_sensitive(key)
    assert not is_sensitive(key[:2])


class Account(PluginConfig, frozen=True):
    name: str = ""
    token: str = ""
    limit: float = 0.0


class Deep(PluginConfig, frozen=True):
    account: Account = Account()
    accounts: tuple[Account, ...] = ()
    plain: tuple[int, ...] = ()


def test_secrets_are_masked_at_any_depth() -> None:
    account = {"name": "me", "token": "tellnoone"}
    shown = build({"account": account, "accounts": [account, account], "plain": [1, 2]}, Deep).table()
    masked = {"name": "me", "token": "***", "limit": 0.0}
    assert shown == {"account": masked, "accounts": (masked, masked), "plain": (1, 2)}


WRONG = {"token": "tellnoone", "limit": "much"}


@pytest.mark.parametrize(
    "table", [{"account": WRONG}, {"accounts": [WRONG]}, {"symbols": {"BTCUSDT": {"account": WRONG}}}]
)
def test_a_secret_beside_a_wrong_value_is_not_shown(table: dict[str, Any]) -> None:
    (text,) = complaints(table, Deep)
    assert "tellnoone" not in text
    assert "'token': '***', 'limit': 'much'" in text
    assert text.endswith("expected float")


@pytest.mark.parametrize("symbols", [[WRONG], {"BTCUSDT": [WRONG]}])
def test_a_secret_in_the_wrong_place_is_not_shown(symbols: Any) -> None:
    (text,) = complaints({"symbols": symbols}, Deep)
    assert "tellnoone" not in text
    assert "'token': '***'" in text


class High(Above, frozen=True, kw_only=True):
    raise_above: float = 100.0


class Low(Below, frozen=True, kw_only=True):
    raise_below: float = 100.0


@pytest.mark.parametrize(
    "kind, table, raise_at, clear_at",
    [
        (High, {}, 100, 80),
        (High, {"clear_below": 99}, 100, 99),
        (High, {"raise_above": -10}, -10, -12),
        (Low, {}, 100, 120),
        (Low, {"raise_below": -10}, -10, -8),
        (Low, {"clear_above": 101}, 100, 101),
    ],
)
def test_levels(kind: type[msgspec.Struct], table: dict[str, Any], raise_at: float, clear_at: float) -> None:
    assert build(table, kind).default.levels()[1:] == (raise_at, clear_at)


@pytest.mark.parametrize("kind, key, wrong", [(High, "clear_below", 101), (Low, "clear_above", 99)])
def test_a_clear_level_on_the_wrong_side_is_found_also_where_it_meets_an_override(
    kind: type[msgspec.Struct], key: str, wrong: float
) -> None:
    (text,) = complaints({key: wrong}, kind)
    assert text.startswith("plugins.p: ")
    assert "do not go together" in text
    (text,) = complaints({"symbols": {"BTCUSDT": {key: wrong}}}, kind)
    assert text.startswith('plugins.p.symbols."BTCUSDT": ')


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(["level", "names", "severity", "on", "symbols"]) | st.text(max_size=8)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_any_table_gives_a_config_or_printable_problems(table: dict[str, Any]) -> None:
    configs, problems = build_configs("p", Config, table)
    assert (configs is None) == bool(problems)
    for problem in problems:
        assert str(problem).isprintable()
        assert str(problem).startswith("plugins.p")
    if configs is not None:
        assert math.isfinite(configs.of(SPOT).level)
