from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.config import schema
from orderflow.config.secrets import Secret
from orderflow.config.values import Refused, convert, free_value, from_text, is_loopback


def setting(key: str) -> schema.Setting:
    return schema.settings()[key]


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("depth", "200", 200),
        ("depth", "deep", "deep"),
        ("interval_s", "0.5", 0.5),
        ("interval_s", " 5 ", 5.0),
        ("interval_s", "1_0", "1_0"),
        ("interval_s", "٥", "٥"),  # a digit, but not ours
        ("interval_s", "0x10", "0x10"),
        ("feed.max_topics", "10", 10),
        ("feed.max_topics", "1e3", "1e3"),
        ("book.strict_sequence", "False", False),
        ("book.strict_sequence", "yes", True),
        ("book.strict_sequence", "2", "2"),
        ("symbols", "BTCUSDT, spot:ETHUSDT", ["BTCUSDT", "spot:ETHUSDT"]),
        ("symbols", '["BTCUSDT", "ETHUSDT"]', ["BTCUSDT", "ETHUSDT"]),
        ("symbols", "['BTCUSDT'", "['BTCUSDT'"),
        ("plugins.folders", "", []),
        ("bybit.api_key", "12345678", "12345678"),
        ("bybit.api_key", '"12345678"', "12345678"),
        ("bybit.api_key", "true", "true"),
        ("bybit.api_secret", '"a\\nb"', "a\nb"),
        ("sim.host", "127.0.0.1", "127.0.0.1"),
        ("log_level", "'debug'", "debug"),
    ],
)
def test_the_kind_of_the_setting_says_how_text_is_read(key: str, text: str, value: object) -> None:
    read = from_text(setting(key), text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["nan", "-inf", "Infinity"])
def test_text_that_is_no_finite_number_is_read_as_one_and_then_refused(text: str) -> None:
    number = from_text(setting("interval_s"), text)
    assert not math.isfinite(number)
    with pytest.raises(Refused, match="finite"):
        convert(setting("interval_s"), number)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_without_limits_lets_them_through_either(number: float) -> None:
    free = schema.Setting(key="x", kind=schema.Kind.NUMBER, type=float, default=0.0, expected="a finite number")
    with pytest.raises(Refused, match="finite"):
        convert(free, number)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1.5", 1.5),
        ("true", True),
        ("hello", "hello"),
        ("[1, 2]", [1, 2]),
        ('"5"', "5"),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_plugins_value_is_toml_where_it_is_toml(text: str, value: object) -> None:
    assert free_value(text) == value


@pytest.mark.parametrize(
    "key, value",
    [
        ("depth", True),
        ("depth", 50.0),
        ("depth", "50"),
        ("depth", 49),
        ("interval_s", True),
        ("interval_s", "5"),
        ("interval_s", 0.09),
        ("interval_s", math.nan),
        ("interval_s", math.inf),
        ("interval_s", 10**400),
        ("duration_s", -1),
        ("feed.max_topics", 1.0),
        ("feed.max_topics", 0),
        ("feed.max_topics", 10**30),
        ("feed.idle_timeout_s", -0.0),
        ("book.strict_sequence", 1),
        ("book.strict_sequence", "true"),
        ("symbols", "BTCUSDT"),
        ("symbols", []),
        ("symbols", [1]),
        ("symbols", ["BTC/USDT"]),
        ("symbols", ["option:BTC-26DEC25-100000-C"]),
        ("symbols", ["BTC-26DEC25-100000-C"]),
        ("symbols", ["futures:BTCUSDT"]),
        ("symbols", ["BTCUSDТ"]),  # the last letter is Cyrillic
        ("category", "option"),
        ("category", "futures"),
        ("bybit.public_ws_url", ""),
        ("bybit.public_ws_url", "https://stream.bybit.com"),
        ("bybit.public_ws_url", "stream.bybit.com"),
        ("bybit.public_ws_url", "wss://"),
        ("bybit.public_ws_url", "wss:///v5"),
        ("bybit.public_ws_url", "wss://host:99999/"),
        ("bybit.public_ws_url", "wss://host:0/"),
        ("bybit.public_ws_url", "wss://[::1/"),
        ("bybit.public_ws_url", "wss://ho st/"),
        ("bybit.public_ws_url", "wss://bybıt.com/"),
        ("bybit.public_ws_url", "wss://user:pass@host/"),
        ("bybit.public_ws_url", "wss://host/#x"),
        ("bybit.public_ws_url", "wss://host/{symbol}"),
        ("bybit.public_ws_url", "wss://host\n/"),
        ("bybit.public_ws_url", "wss://1.2.3/"),
        ("bybit.private_ws_url", "wss://host/{category}"),
        ("bybit.rest_url", "wss://host"),
        ("bybit.ca_file", "a\x1b[31m.pem"),
        ("bybit.api_key", 12345),
        ("bybit.api_key", "a b"),
        ("bybit.api_secret", "a\nb"),
        ("plugins.enabled", ["Spread"]),
        ("plugins.enabled", ["../evil"]),
        ("plugins.enabled", ["spread", "spread"]),
        ("plugins.folders", [""]),
        ("plugins.folders", ["."]),
        ("plugins.folders", ["./"]),
        ("sim.host", "not a host"),
        ("sim.port", 65_536),
        ("sim.seed", 2**63),
    ],
)
def test_impossible_values_are_refused(key: str, value: object) -> None:
    with pytest.raises(Refused):
        convert(setting(key), value)


@pytest.mark.parametrize("value, said", [("option", True), ("options", True), ("futures", False)])
def test_who_wants_options_is_told_that_there_are_none(value: str, said: bool) -> None:
    with pytest.raises(Refused) as refused:
        convert(setting("category"), value)
    assert ("out of scope" in refused.value.expected) is said
    assert "linear, inverse or spot" in refused.value.expected


def test_every_impossible_symbol_of_a_list_is_named() -> None:
    with pytest.raises(Refused) as refused:
        convert(setting("symbols"), ["option:X", "BTCUSDT", "futures:ETHUSDT"])
    assert "'option:X'" in refused.value.expected
    assert "'futures:ETHUSDT'" in refused.value.expected
    assert "BTCUSDT'" not in refused.value.expected


@pytest.mark.parametrize(
    "key, value, converted",
    [
        ("interval_s", 5, 5.0),
        ("symbols", ["BTCUSDT", "spot:btcusdt", "inverse:BTCUSDZ25", "linear:BTC-26DEC25"], None),
        ("bybit.public_ws_url", "ws://127.0.0.1:9000/v5/public/{category}", None),
        ("bybit.public_ws_url", "wss://[::1]:9000/v5/public/linear?max_active_time=1m", None),
        ("bybit.public_ws_url", "wss://{category}.example.com", None),
        ("bybit.private_ws_url", "", None),
        ("bybit.rest_url", "", None),
        ("bybit.rest_url", "https://api.bytick.com", None),
        ("bybit.api_secret", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n", None),
        ("bybit.api_key", "", None),
        ("plugins.folders", ["plugins", "/srv/plugins", "../shared"], None),
    ],
)
def test_possible_values_are_taken(key: str, value: object, converted: object) -> None:
    result = convert(setting(key), value)
    if converted is not None:
        assert (result, type(result)) == (converted, type(converted))


def test_a_secret_is_wrapped_and_an_empty_one_is_none() -> None:
    assert convert(setting("bybit.api_key"), "abc") == Secret("abc")
    assert convert(setting("bybit.api_key"), "") is None


@pytest.mark.parametrize(
    "host, loopback",
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("LOCALHOST", True),
        ("localhost.evil.com", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("127.0.0.1.evil.com", False),
        ("", False),
    ],
)
def test_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(schema.settings())), anything)
def test_any_value_is_taken_or_refused_in_words(key: str, value: object) -> None:
    try:
        convert(setting(key), value)
        words = ""
    except Refused as refused:
        words = refused.expected
    assert words.isprintable()


@given(st.sampled_from(sorted(schema.settings())), st.text())
def test_any_text_is_read(key: str, text: str) -> None:
    from_text(setting(key), text)
    free_value(text)
