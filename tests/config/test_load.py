"""Precedence, and everything that can be wrong, over file, secrets, environment and options."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orderflow import bundled
from orderflow.config import schema
from orderflow.config.init import settings_template
from orderflow.config.load import Loaded, load
from orderflow.config.origin import Source
from orderflow.config.show import render, render_check
from orderflow.config.tree import Settings
from orderflow.core.errors import ConfigError
from orderflow.core.types import Category, InstrumentId

if TYPE_CHECKING:
    from tests.config.conftest import Folder

ROOT = Path(__file__).parents[2]
CANARY = "cAnArY7s3cr3tZ"
UNENCRYPTED = "ws://10.0.0.1:9000/{category}"


# --- what is in force ------------------------------------------------------------------------------------------------


def test_the_bundled_settings_are_the_programs_defaults(folder: Folder) -> None:
    loaded = folder.load()
    plugins = msgspec.structs.replace(loaded.settings.plugins, tables={})
    assert msgspec.structs.replace(loaded.settings, plugins=plugins) == Settings()
    unlisted = {key for key, origin in loaded.origins.items() if origin.source is Source.DEFAULT}
    assert unlisted == {"env", "bybit.api_key", "bybit.api_secret", "metrics_http.token"}
    assert loaded.files == ("settings.toml (bundled)",)


@pytest.mark.parametrize(
    "env, public, private, rest",
    [
        ("mainnet", "wss://stream.bybit.com/", "wss://stream.bybit.com/", "https://api.bybit.com"),
        (
            "testnet",
            "wss://stream-testnet.bybit.com/",
            "wss://stream-testnet.bybit.com/",
            "https://api-testnet.bybit.com",
        ),
        ("demo_trading", "wss://stream.bybit.com/", "wss://stream-demo.bybit.com/", "https://api-demo.bybit.com"),
        ("sim", "ws://127.0.0.1:9000/", "ws://127.0.0.1:9000/", "http://127.0.0.1:9000"),
    ],
)
def test_environments(folder: Folder, env: str, public: str, private: str, rest: str) -> None:
    by_option, by_variable = folder.load(env=env).settings, folder.load({"ORDERFLOW_ENV": env}).settings
    assert by_option == by_variable
    assert by_option.env == env
    assert by_option.bybit.public_ws_url == f"{public}v5/public/{{category}}"
    assert by_option.bybit.private_ws_url == f"{private}v5/private"
    assert by_option.bybit.rest_url == rest


def test_thresholds_of_the_bundled_plugins(folder: Folder) -> None:
    main, test = folder.load().settings.plugins.tables, folder.load(env="testnet").settings.plugins.tables
    assert main["spread"] == {"raise_above": 0.8}
    assert main["latency"]["raise_above"] == 150
    assert main["liquidity"] == {"raise_below": 5}
    assert test["spread"]["raise_above"] > 0.8
    assert test["liquidity"]["raise_below"] < 5


LAYERS = ("file", "file testnet", "secrets", "secrets testnet", "environment", "option")


@pytest.mark.parametrize("top", range(len(LAYERS)))
def test_later_sources_win(folder: Folder, top: int) -> None:
    """Each layer up to `top` sets the interval to its own number; the highest counts."""
    texts = [f"interval_s = {number + 1}.0\n" if number <= top else "" for number in range(4)]
    folder.settings(f"[default]\n{texts[0]}[testnet]\n{texts[1]}[mainnet]\ninterval_s = 99.0")
    folder.secrets(f"[default]\n{texts[2]}[testnet]\n{texts[3]}[sim]\ninterval_s = 99.0")
    environ = {"ORDERFLOW_ENV": "testnet"} | ({"ORDERFLOW_INTERVAL_S": "5"} if top >= 4 else {})
    options = {"interval_s": "6"} if top >= 5 else {"interval_s": None}
    loaded = folder.load(environ, options=options)
    assert loaded.settings.interval_s == top + 1
    assert (
        str(loaded.origins["interval_s"])
        == [
            "settings.toml:2",
            "settings.toml:4 [testnet]",
            ".secrets.toml:2",
            ".secrets.toml:4 [testnet]",
            "ORDERFLOW_INTERVAL_S",
            "--interval",
        ][top]
    )


def test_tables_merge_key_by_key_and_lists_are_replaced_whole(folder: Folder) -> None:
    folder.settings("""
        [default]
        symbols = ["ETHUSDT", "XRPUSDT"]
        [default.feed]
        idle_timeout_s = 60
        [default.plugins.spread.symbols.BTCUSDT]
        raise_above = 0.3
        [default.plugins.whale]
        sizes = [1, 2]
    """)
    settings = folder.load({"ORDERFLOW_PLUGINS__SPREAD__SYMBOLS__BTCUSDT__FOR_S": "2"}).settings
    assert settings.symbols == ("ETHUSDT", "XRPUSDT")
    assert (settings.feed.idle_timeout_s, settings.feed.ping_interval_s) == (60.0, 20.0)
    assert settings.plugins.tables["spread"] == {
        "raise_above": 0.8,
        "symbols": {"BTCUSDT": {"raise_above": 0.3, "for_s": 2}},
    }
    assert settings.plugins.tables["whale"] == {"sizes": [1, 2]}
    assert settings.plugins.tables["latency"]["raise_above"] == 150


def test_a_file_named_by_option_takes_the_place_of_the_one_in_the_folder(folder: Folder) -> None:
    folder.settings("[default]\ndepth = 1\ninterval_s = 7")
    other = folder.write("other.toml", "[default]\ndepth = 200")
    loaded = folder.load(settings_file=other)
    assert (loaded.settings.depth, loaded.settings.interval_s) == (200, 5.0)
    assert folder.load(settings_file=Path("other.toml")).settings == loaded.settings
    assert folder.problem(settings_file=Path("none.toml")).startswith("none.toml: no such file")


def test_in_a_clone_its_settings_count_once() -> None:
    loaded = load(environ={}, directory=ROOT)
    assert loaded.files[0] == "settings.toml"
    assert loaded.files.count("settings.toml") == 1


@pytest.mark.parametrize(
    "environ, key, value",
    [
        ({"ORDERFLOW_SYMBOLS": "ETHUSDT,spot:BTCUSDT"}, "symbols", ("ETHUSDT", "spot:BTCUSDT")),
        ({"ORDERFLOW_SYMBOLS": '["ETHUSDT"]'}, "symbols", ("ETHUSDT",)),
        ({"ORDERFLOW_DEPTH": "1000"}, "depth", 1000),
        ({"ORDERFLOW_DEPTH": ""}, "depth", 50),
        ({"ORDERFLOW_CATEGORY": "inverse"}, "category", Category.INVERSE),
        ({"ORDERFLOW_BOOK__STRICT_SEQUENCE": "False"}, "book.strict_sequence", False),
        ({"ORDERFLOW_FEED__PONG_TIMEOUT_S": "2.5"}, "feed.pong_timeout_s", 2.5),
        ({"ORDERFLOW_BYBIT__REST_URL": ""}, "bybit.rest_url", ""),
        (
            {"ORDERFLOW_BYBIT__PUBLIC_WS_URL": "ws://127.0.0.1:9000/v5/public/{category}"},
            "bybit.public_ws_url",
            "ws://127.0.0.1:9000/v5/public/{category}",
        ),
        (
            {"ORDERFLOW_BYBIT__PUBLIC_WS_URL": UNENCRYPTED, "ORDERFLOW_BYBIT__ALLOW_PLAIN": "true"},
            "bybit.public_ws_url",
            UNENCRYPTED,
        ),
        ({"ORDERFLOW_ENV": ""}, "env", "mainnet"),
        ({"ORDERFLOW_ENV": "demo-trading"}, "env", "demo_trading"),
        ({"UNRELATED": "1", "orderflow_depth": "1"}, "depth", 50),
    ],
)
def test_variables(folder: Folder, environ: dict[str, str], key: str, value: object) -> None:
    settings: Any = folder.load(environ).settings
    for part in key.split("."):
        settings = getattr(settings, part)
    assert settings == value


def test_options_may_be_text_or_values(folder: Folder) -> None:
    options = {"symbols": ("ETHUSDT", "spot:BTCUSDT"), "depth": 200, "category": Category.INVERSE, "interval_s": "0.1"}
    settings = folder.load(options={**options, "duration_s": None, "plugins.spread.raise_above": "2"}).settings
    assert settings.instruments == (InstrumentId(Category.INVERSE, "ETHUSDT"), InstrumentId(Category.SPOT, "BTCUSDT"))
    assert (settings.depth, settings.interval_s, settings.duration_s) == (200, 0.1, 0.0)
    assert settings.plugins.tables["spread"]["raise_above"] == 2


@pytest.mark.parametrize("digits", ["12345678", "0012", "1e5", "true", "0x10"])
def test_secrets_that_look_like_numbers_stay_text(folder: Folder, digits: str) -> None:
    bybit = folder.load({"ORDERFLOW_BYBIT__API_KEY": digits, "ORDERFLOW_BYBIT__API_SECRET": digits}).settings.bybit
    assert bybit.api_key is not None
    assert bybit.api_key.reveal() == digits


def test_keys_of_one_environment_do_not_reach_another(folder: Folder) -> None:
    folder.secrets(f'[testnet.bybit]\napi_key = "{CANARY}"\napi_secret = "{CANARY}"')
    assert folder.load().settings.bybit.api_key is None
    assert folder.load(env="testnet").settings.bybit.api_key


def test_names_do_not_care_for_case(folder: Folder) -> None:
    folder.settings("[DEFAULT]\nDEPTH = 200\n[Default.Feed]\nPing_Interval_S = 10")
    settings = folder.problems()  # [DEFAULT] and [Default] are two tables for TOML, and one for us
    assert any("once" in problem for problem in settings)
    folder.settings("[DEFAULT]\nDEPTH = 200\nFeed.Ping_Interval_S = 10")
    assert (folder.load().settings.depth, folder.load().settings.feed.ping_interval_s) == (200, 10.0)


# --- what is wrong ---------------------------------------------------------------------------------------------------

FILE_PROBLEMS = [
    ("[default]\ndept = 1", "settings.toml:2: dept: unknown setting; did you mean 'depth'?"),
    (
        "[default.feed]\nping_intervall_s = 1",
        "settings.toml:2: feed.ping_intervall_s: unknown setting; did you mean 'feed.p",
    ),
    ("[default.feeed]\nx = 1", "settings.toml:1: feeed: unknown setting; did you mean 'feed'?"),
    ("[tesnet]\nx = 1", "settings.toml:1: tesnet: unknown environment; did you mean 'testnet'?"),
    ("[global]\ndepth = 1", "settings.toml:1: global: unknown environment"),
    ("depth = 1", "settings.toml:1: depth: expected in an environment's table: write [default] above it"),
    ("[bybit]\nrest_url = ''", "settings.toml:1: bybit: expected in an environment's table: write [default.bybit]"),
    ("default = 1", "settings.toml:1: default: expected a table"),
    ("[default]\nuse_testnet = true", "unknown setting; here it is the environment, chosen with --env testnet"),
    ("[default]\nenv = 'testnet'", "settings.toml:2: env: the environment is chosen with --env or ORDERFLOW_ENV"),
    ("[default]\ndepth = '50'", 'settings.toml:2: depth = "50": expected 1, 50, 200 or 1000'),
    ("[default]\ndepth = true", "settings.toml:2: depth = true: expected 1, 50, 200 or 1000"),
    (
        "[default]\ninterval_s = '5'",
        'settings.toml:2: interval_s = "5": expected a finite number >= 0.1 and <= 3600, without',
    ),
    ("[default]\ninterval_s = nan", "settings.toml:2: interval_s = nan: expected a finite number"),
    ("[default]\ninterval_s = -inf", "settings.toml:2: interval_s = -inf: expected a finite number"),
    ("[default]\ninterval_s = 1979-05-27", "settings.toml:2: interval_s = 1979-05-27: expected a finite number"),
    ("[testnet.retry]\nbase_s = -1", "settings.toml:2 [testnet]: retry.base_s = -1: expected a finite number > 0"),
    ("[default]\nfeed = 5", "settings.toml:2: feed: expected a table: set its keys, such as feed.open_timeout_s"),
    ("[default.depth]\nx = 5", "settings.toml:1: depth: expected 1, 50, 200 or 1000, not a table"),
    ("[default]\nDepth = 1\ndepth = 50", "settings.toml:2: depth: expected this key once"),
    ("[default]\nsymbols = ['option:X-1']", "options are out of scope"),
    ("[default]\nsymbols = ['BTCUSDT', 'linear:btcusdt']", "expected every symbol once; linear:BTCUSDT is there twice"),
    (
        "[default.bybit]\nrest_url = 'http://10.0.0.1'",
        "expected https:// for another machine, or bybit.allow_plain = true",
    ),
    (
        "[default.feed]\nping_interval_s = 30",
        "expected less than feed.idle_timeout_s, which is 30.0 (settings.toml (bundled)",
    ),
    (
        "[default.retry]\ncap_s = 0.5",
        "retry.base_s = 1.0: expected at most retry.cap_s, which is 0.5 (settings.toml:2)",
    ),
    ("[default.plugins]\nspread = 1", "settings.toml:2: plugins.spread: expected a plugin's table"),
    (
        "[default.plugins]\nenable = ['x']",
        "plugins.enable: expected a plugin's table, or a setting of [plugins]; did you mea",
    ),
    ("[default.plugins.spread]\nx = nan", "settings.toml:2: plugins.spread.x = nan: expected a finite number"),
    (
        "[default.plugins.spread]\nhook_token = nan",
        "settings.toml:2: plugins.spread.hook_token: expected a finite number",
    ),
    ("[default.plugins.spread]\n'a b' = 1", "plugins.spread.a b: expected a name of letters"),
    ("[default.plugins.spread]\na.b.c.d.e.f.g.h = 1", "expected at most 8 tables inside one another"),
    ("[default.plugins.spread]\nx = [[[[[[[[[[1]]]]]]]]]]", "expected at most 8 lists inside one another"),
    ("[default\n", "settings.toml:1: not TOML: "),
    ("[default]\n\ndepth = \n", "settings.toml:3: not TOML: "),
    ("[default]\ndepth = 1\ndepth = 2\n", "settings.toml:3: not TOML: "),
    ("x = " + "[" * 5000, "settings.toml: not usable: nested too deeply"),
    ("[default]\nx = " + "1" * 5000, "settings.toml: not TOML: "),
]


@pytest.mark.parametrize("text, problem", FILE_PROBLEMS, ids=[repr(text[:40]) for text, _ in FILE_PROBLEMS])
def test_problems_of_a_file(folder: Folder, text: str, problem: str) -> None:
    folder.settings(text)
    assert problem in folder.problem()


@pytest.mark.parametrize(
    "environ, problem",
    [
        ({"ORDERFLOW_SYMBOL": "X"}, "ORDERFLOW_SYMBOL: symbol: unknown setting; here it is symbols"),
        ({"ORDERFLOW_DEPHT": "1"}, "ORDERFLOW_DEPHT: depht: unknown setting; did you mean 'ORDERFLOW_DEPTH'?"),
        ({"ORDERFLOW_BYBIT_REST_URL": "1"}, "did you mean 'ORDERFLOW_BYBIT__REST_URL'?"),
        ({"ORDERFLOW_DEPTH": "51"}, "ORDERFLOW_DEPTH: depth = 51: expected 1, 50, 200 or 1000"),
        ({"ORDERFLOW_INTERVAL_S": "nan"}, "ORDERFLOW_INTERVAL_S: interval_s = nan: expected a finite number"),
        ({"ORDERFLOW_INTERVAL_S": "soon"}, 'ORDERFLOW_INTERVAL_S: interval_s = "soon": expected a finite number'),
        (
            {"ORDERFLOW_ENV": "tesnet"},
            'ORDERFLOW_ENV: env = "tesnet": expected mainnet, testnet, demo_trading or sim; did',
        ),
        (
            {"ORDERFLOW_BYBIT": "{rest_url = ''}"},
            "ORDERFLOW_BYBIT: bybit: is a table; expected ORDERFLOW_BYBIT__ and one",
        ),
        ({"ORDERFLOW_PLUGINS__SPREAD": "{}"}, "is a table; expected ORDERFLOW_PLUGINS__SPREAD__ and one of its keys"),
        ({"ORDERFLOW_PLUGINS__SPREAD__A": "1", "ORDERFLOW_PLUGINS__SPREAD__A__B": "2"}, "which has a value itself"),
        ({"ORDERFLOW_Depth": "50", "ORDERFLOW_DEPTH": "50"}, "expected this key once"),
        ({"ORDERFLOW_BYBIT__CA_FILE": "/none"}, 'bybit.ca_file = "/none": expected the path of a file that exists'),
        ({"ORDERFLOW_BYBIT__API_KEY": "k"}, "bybit.api_key: expected bybit.api_secret as well"),
        ({"ORDERFLOW_BYBIT__API_SECRET": "s"}, "bybit.api_secret: expected bybit.api_key as well"),
        ({"ORDERFLOW_BYBIT__PUBLIC_WS_URL": UNENCRYPTED}, "expected wss:// for another machine"),
        (
            {"ORDERFLOW_BYBIT__PUBLIC_WS_URL": "wss://h/linear", "ORDERFLOW_SYMBOLS": "BTCUSDT,spot:BTCUSDT"},
            "expected {category} in it: symbols of linear and spot are asked for",
        ),
        ({"ORDERFLOW_SYMBOLS__0": "X"}, "ORDERFLOW_SYMBOLS__0: symbols.0: unknown setting"),
        ({"ORDERFLOW_": "X"}, "ORDERFLOW_: : unknown setting"),
        ({"ORDERFLOW_LOG_LEVEL": "de\x1b[31mbug"}, r'log_level = "de\x1b[31mbug": expected debug'),
    ],
)
def test_problems_of_variables(folder: Folder, environ: dict[str, str], problem: str) -> None:
    assert problem in folder.problem(environ)


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"depth": "49"}, "--depth: depth = 49: expected 1, 50, 200 or 1000"),
        ({"symbols": ("BTC/USDT",)}, "--symbol: symbols = "),
        ({"interval_s": 0}, "--interval: interval_s = 0: expected a finite number"),
        ({"dpeth": 1}, "--set: dpeth: unknown setting; did you mean 'depth'?"),
        (
            {"bybit.api_key": CANARY},
            "expected in .secrets.toml or ORDERFLOW_BYBIT__API_KEY: everybody sees a command line",
        ),
        ({"env": "mars"}, '--env: env = "mars": expected mainnet'),
    ],
)
def test_problems_of_options(folder: Folder, options: dict[str, Any], problem: str) -> None:
    assert problem in folder.problem(options=options)


def test_all_problems_come_at_once(folder: Folder) -> None:
    folder.settings("[default]\ndept = 1\ninterval_s = -1\n[testnet.feed]\nmax_topics = 0\n[mars]\n")
    folder.secrets("[default.bybit]\napi_key = 5")
    problems = folder.problems({"ORDERFLOW_DEPTH": "3", "ORDERFLOW_X": "1"}, options={"symbols": ()}, env="pluto")
    starts = ["--env", "settings.toml:2", "settings.toml:3", "settings.toml:5 [testnet]", "settings.toml:6"]
    starts += [".secrets.toml:2", "ORDERFLOW_DEPTH", "ORDERFLOW_X", "--symbol"]
    assert [problem.partition(": ")[0] for problem in problems] == starts


def test_a_problem_is_not_told_twice(folder: Folder) -> None:
    folder.settings("[default.retry]\nbase_s = 'x'\ncap_s = 0.1\n[default.bybit]\napi_key = 'k'\napi_secret = 5")
    assert len(folder.problems()) == 2


# --- hostile settings ------------------------------------------------------------------------------------------------

TOKENS = [
    "@format {env[HOME]}",
    "@jinja {{ 1 + 1 }}",
    "@json [1]",
    "@int 50",
    "@merge x",
    "@del",
    "@read_file /etc/passwd",
]


@pytest.mark.parametrize("token", [*TOKENS, "@none", "@insert 0 x", "@get depth", "@format\tx"])
def test_nothing_is_ever_evaluated(folder: Folder, token: str) -> None:
    word = token.split()[0]
    keys = ("log_level", "bybit.rest_url", "bybit.api_key", "interval_s", "plugins.spread.note")
    variables = {schema.variable_name(tuple(key.split("."))): key for key in keys}
    nested = f"plugins.spread.x = [1, {{ y = [{json.dumps(token)}] }}]"
    folder.settings("\n".join(["[default]", *(f"{key} = {json.dumps(token)}" for key in keys), nested]))
    *in_file, in_list = folder.problems()
    for key, problem in zip(keys, in_file, strict=True):
        assert f": {key}: begins with {word}, which is never evaluated" in problem
    assert f"plugins.spread.x: begins with {word}" in in_list
    folder.settings("")
    *in_environment, in_option = folder.problems(
        dict.fromkeys(variables, token), options={"symbols": ("BTCUSDT", token)}
    )
    for (variable, key), problem in zip(sorted(variables.items()), sorted(in_environment), strict=True):
        assert f"{variable}: {key}: begins with {word}, which is never evaluated" in problem
    assert f"symbols: begins with {word}" in in_option


def test_a_plugins_text_may_begin_with_a_sign_that_is_no_token(folder: Folder) -> None:
    folder.settings("[default.plugins.telegram]\nchannel = '@formatters'")
    assert folder.load().settings.plugins.tables["telegram"] == {"channel": "@formatters"}


@pytest.mark.parametrize(
    "key",
    [
        "dynaconf_merge",
        "dynaconf_include",
        "DYNACONF_MERGE",
        "includes_for_dynaconf",
        "symbols__merge",
        "feed__max_topics",
        "dynaconf_dotted_lookup",
        "_dynaconf_reset",
        "__class__",
        "loaders_for_dynaconf",
    ],
)
def test_names_that_mean_something_to_dynaconf_are_refused(folder: Folder, key: str) -> None:
    tables = ("default", "default.feed", "default.plugins.spread")
    inside = "".join(f"[{table}]\n{key} = true\n" for table in tables)
    folder.settings(f"{key} = true\n{inside}[default.plugins.{key}]\nx = 1")
    outside, *others = folder.problems()
    assert "outside of any environment's table" in outside
    assert len(others) == len(tables) + 1
    assert all("reserved, and never obeyed" in problem for problem in others)


def test_merge_words_in_lists_are_plain_texts(folder: Folder) -> None:
    folder.settings(
        "[default]\nplugins.folders = ['dynaconf_merge', 'mine']\nplugins.enabled = ['dynaconf_merge_unique']"
    )
    plugins = folder.load().settings.plugins
    assert (plugins.folders, plugins.enabled) == (("dynaconf_merge", "mine"), ("dynaconf_merge_unique",))


def test_control_characters_never_reach_a_terminal(folder: Folder) -> None:
    folder.settings('[default]\n"\\u001b[2J" = 1\nlog_level = "\\u202e\\u0007"\n["\\u001b]0;x\\u0007"]\n')
    text = "\n".join(folder.problems({"ORDERFLOW_\x1b[31m": "x"}, options={"\x1b": 1}, env="\x1b"))
    assert all(line.isprintable() for line in text.split("\n"))
    assert r"\x1b[2j" in text


# --- secrets ---------------------------------------------------------------------------------------------------------


def spoken(folder: Folder, environ: dict[str, str], **more: Any) -> str:
    """Everything a load says in any way, successful or not."""
    try:
        loaded = folder.load(environ, **more)
    except ConfigError as exc:
        return "".join(traceback.format_exception(exc)) + repr(exc) + repr(exc.problems) + repr(exc.__context__)
    shown = [render(loaded, origin=origin, as_json=as_json) for origin in (True, False) for as_json in (True, False)]
    return "\n".join([*shown, render_check(loaded), repr(loaded.settings), str(loaded.settings.bybit)])


SECRET_FILES = [
    f'[default.bybit]\napi_key = "{CANARY}"\napi_secret = "{CANARY}"',
    f'[default.bybit]\napi_key = "{CANARY} x"\napi_secret = "{CANARY}\\u0000"',
    f'[default.bybit]\napi_key = ["{CANARY}"]\napi_secret = {{ x = "{CANARY}" }}',
    f'[default.bybit]\napi_kye = "{CANARY}"\nrest_url = "{CANARY}"\npublic_ws_url = "wss://{CANARY}@host/"',
    f'[default]\nsymbols = ["{CANARY}/"]\nlog_level = "{CANARY}"\nplugins.enabled = ["{CANARY}"]',
    f'[default]\nsymbols = ["X1", "linear:X1"]\n[default.plugins.x]\nwebhook = "{CANARY}"\nother = ["{CANARY}"]',
    f'[default.bybit]\napi_secret = "{CANARY}',
    f"[default.bybit]\napi_secret = {CANARY}\n",
    f'[default.bybit]\napi_secret = "@format {CANARY}"\napi_key = "@{CANARY}"',
    f'api_secret = "{CANARY}"',
]


@pytest.mark.parametrize("text", SECRET_FILES)
def test_no_value_of_the_secrets_file_is_ever_shown(folder: Folder, text: str) -> None:
    folder.secrets(text)
    assert CANARY not in spoken(folder, {})


@pytest.mark.parametrize("text", SECRET_FILES[:4])
def test_no_secret_that_stands_in_the_wrong_file_is_ever_shown(folder: Folder, text: str) -> None:
    folder.settings(text.partition("\nrest_url")[0])
    assert CANARY not in spoken(folder, {})


@pytest.mark.parametrize(
    "environ",
    [
        {"ORDERFLOW_BYBIT__API_KEY": CANARY, "ORDERFLOW_BYBIT__API_SECRET": CANARY},
        {"ORDERFLOW_BYBIT__API_KEY": CANARY},
        {"ORDERFLOW_BYBIT__API_SECRET": f"{CANARY}\x00"},
        {"ORDERFLOW_BYBIT__API_SECRT": CANARY},
        {"ORDERFLOW_API_SECRET": CANARY},
        {"ORDERFLOW_BYBIT": f"{{api_secret = '{CANARY}'}}"},
        {"ORDERFLOW_BYBIT__REST_URL": f"https://user:{CANARY}@host/"},
        {"ORDERFLOW_BYBIT__REST_URL": f"ftp://user:{CANARY}@host/?token={CANARY}#{CANARY}"},
        {"ORDERFLOW_PLUGINS__TELEGRAM__TOKEN": CANARY, "ORDERFLOW_PLUGINS__X__URL": f"https://hooks.x.com/{CANARY}"},
        {"ORDERFLOW_PLUGINS__TELEGRAM__TOKEN": f"@int {CANARY}"},
    ],
)
def test_no_secret_of_the_environment_is_ever_shown(folder: Folder, environ: dict[str, str]) -> None:
    assert CANARY not in spoken(folder, environ)
    assert CANARY not in spoken(folder, {**environ, "ORDERFLOW_DEPTH": "3"})  # a problem elsewhere


def test_no_secret_on_the_command_line_is_ever_shown(folder: Folder) -> None:
    assert CANARY not in spoken(folder, {}, options={"bybit.api_secret": CANARY})


@pytest.mark.parametrize("mode, warned", [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o666, True)])
def test_a_secrets_file_others_can_read_is_warned_about(folder: Folder, mode: int, warned: bool) -> None:
    folder.secrets("", mode)
    expected = (".secrets.toml can be read by others; run: chmod 600 .secrets.toml",) if warned else ()
    assert folder.load().warnings == expected


def test_settings_others_can_write_and_secrets_in_the_wrong_file_are_warned_about(folder: Folder) -> None:
    folder.settings("[default.bybit]\napi_key = 'k'\napi_secret = 's'").chmod(0o666)
    first, *others = folder.load().warnings
    assert "can be written by anyone; run: chmod o-w" in first
    assert others == [f"settings.toml:{n}: bybit.api_{k} belongs in .secrets.toml, which git ignores" for n, k in
                      ((2, "key"), (3, "secret"))]  # fmt: skip


# --- anything at all -------------------------------------------------------------------------------------------------

names = st.sampled_from([*schema.settings(), *schema.tables(), "plugins.spread", "plugins.x", "x", "env"])
plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
texts = plain_text | st.sampled_from(["BTCUSDT", "wss://h/{category}", "spot", "@format {x}", "dynaconf_merge", "info"])
numbers = st.integers() | st.floats() | st.sampled_from([1, 50, 0.5])
toml_values = st.recursive(
    st.booleans() | numbers | texts | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
trees = st.dictionaries(
    st.sampled_from(["default", "testnet", "mainnet", "mars"]),
    st.dictionaries(
        names.map(lambda name: tuple(name.split("."))) | texts.map(lambda text: (text,)), toml_values, max_size=4
    ),
    max_size=3,
)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def toml_file(tree: dict[str, dict[tuple[str, ...], Any]]) -> str:
    lines = []
    for env, table in tree.items():
        lines.append(f"[{env}]")
        lines += [".".join(toml(part) for part in path) + f" = {toml(value)}" for path, value in table.items()]
    return "\n".join(lines)


def outcome(folder: Folder, **more: Any) -> Loaded | tuple[str, ...]:
    try:
        return folder.load(**more)
    except ConfigError as exc:
        return exc.problems


def check_outcome(folder: Folder, **more: Any) -> None:
    result = outcome(folder, **more)
    if isinstance(result, tuple):
        assert result
        assert all(problem.isprintable() and len(problem) < 1500 for problem in result)
        return
    for table in (result.settings.feed, result.settings.retry, result.settings.queues):
        assert msgspec.convert(msgspec.to_builtins(table), type(table)) == table
    json.loads(render(result, origin=True, as_json=True))
    tomllib.loads(render(result, origin=True))


some = hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@some
@given(trees, trees)
def test_any_tree_gives_settings_or_a_config_error(folder: Folder, tree: Any, secret_tree: Any) -> None:
    folder.settings(toml_file(tree))
    folder.secrets(toml_file(secret_tree))
    check_outcome(folder)


@some
@given(st.binary(max_size=200))
def test_any_bytes_give_settings_or_a_config_error(folder: Folder, raw: bytes) -> None:
    (folder.path / "settings.toml").write_bytes(raw)
    check_outcome(folder)


@some
@given(st.dictionaries(names | texts, toml_values, max_size=4), st.dictionaries(names | texts, texts, max_size=4))
def test_any_options_and_variables_give_settings_or_a_config_error(
    folder: Folder, options: dict[str, Any], variables: dict[str, str]
) -> None:
    environ = {schema.variable_name(tuple(name.split("."))): text for name, text in variables.items()}
    check_outcome(folder, options=options, environ=environ)


# --- cost ------------------------------------------------------------------------------------------------------------


def test_the_package_is_light_until_it_loads() -> None:
    """dynaconf costs more to import than all of the rest: only a load pays for it, once."""
    program = "import sys, orderflow.config.load, orderflow.config.show; print('dynaconf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_template_of_config_init_is_the_bundled_file_with_nothing_set(folder: Folder) -> None:
    folder.settings(settings_template())
    assert folder.load().settings == load(environ={}, directory=folder.path / "nowhere").settings
    shown = settings_template().replace("\n# ", "\n")
    assert all(f"\n{line.split(' = ')[0]} = " in shown for line in bundled.settings_file().read_text().split("\n")
               if line[:1].isalpha())  # fmt: skip


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load(environ={}).files == ("settings.toml (bundled)",)


@pytest.mark.parametrize("key", ["bybit.rest_url", "feed.ack_timeout_s", "view.levels", "emoji"])
def test_a_setting_without_an_option_of_its_own_is_named_after_set(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={}, directory=tmp_path, options={key: "\x00"})
    assert all(problem.startswith(f"--set: {key} ") for problem in caught.value.problems)


def test_how_long_isolated_plugins_take_to_start_matters_only_where_there_are_some(folder: Folder) -> None:
    options = {"watch.hang_s": "5", "watch.stall_s": "1"}
    assert folder.load(options=options).settings.watch.hang_s == 5
    assert "plugins.isolated_start_s = 10.0: expected less than watch.hang_s" in folder.problem(
        options={**options, "plugins.isolated": "spread"}
    )
