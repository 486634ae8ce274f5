"""dynaconf layers tables, and does nothing else."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from orderflow.config.cage import dynaconf_tokens, layer
from orderflow.config.origin import BUILT_IN, Document, Leaf, Tree

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
keys = st.sampled_from(["a", "b", "items", "keys", "get", "copy", "store", "feed", "x-1", "logger", "update"])
leaves = st.sampled_from([1, 2.5, True, "text", "@format {env[HOME]}", "@int 3", [], [1, 2], ["dynaconf_merge"], None])
trees = st.dictionaries(keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3)), max_size=3)
tables = st.dictionaries(st.sampled_from(["default", "testnet", "mainnet"]), trees, max_size=3)


def leafed(node: Any) -> Any:
    return {key: leafed(value) for key, value in node.items()} if isinstance(node, dict) else Leaf(node, BUILT_IN)


def plain(node: Any) -> Any:
    return {key: plain(value) for key, value in node.items()} if isinstance(node, dict) else node.value


def merge(over: Tree, under: Tree) -> None:
    """The oracle: tables key by key, anything else replaces."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            merge(value, under[key])
        else:
            under[key] = copy.deepcopy(value)


@given(st.lists(tables, max_size=3))
def test_layering_is_a_merge_key_by_key_and_no_value_is_touched(layers: list[dict[str, Tree]]) -> None:
    expected: Tree = {}
    for one in layers:
        merge(one.get("default", {}), expected)
        merge(one.get("testnet", {}), expected)
    documents = [Document("same name", {env: leafed(tree) for env, tree in one.items()}) for one in layers]
    assert plain(layer(documents, "testnet")) == expected


def test_keys_that_differ_in_case_are_one() -> None:
    upper = Document("a", {"default": {"plugins": {"spread": {"symbols": {"BTCUSDT": Leaf(1, BUILT_IN)}}}}})
    lower = Document("b", {"default": {"plugins": {"spread": {"symbols": {"btcusdt": Leaf(2, BUILT_IN)}}}}})
    assert plain(layer([upper, lower], "sim")) == {"plugins": {"spread": {"symbols": {"BTCUSDT": 2}}}}


def test_the_environment_of_the_process_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTAINLY_NOT_DYNACONFS", "1")
    before = dict(os.environ)
    layer([], "mainnet")
    assert dict(os.environ) == before


def test_the_words_it_would_evaluate_are_known() -> None:
    assert {"@format", "@jinja", "@json", "@int", "@merge", "@del", "@read_file"} <= dynaconf_tokens()


HOSTILE = {
    "SETTINGS_FILE_FOR_DYNACONF": "evil.toml",
    "SETTINGS_FILES_FOR_DYNACONF": "['evil.toml', 'evil.py']",
    "SETTINGS_MODULE": "evil",
    "DYNACONF_SETTINGS": "evil.py",
    "INCLUDES_FOR_DYNACONF": "['evil.toml']",
    "PRELOAD_FOR_DYNACONF": "['evil.toml', 'evil.py']",
    "SECRETS_FOR_DYNACONF": "evil.toml",
    "LOADERS_FOR_DYNACONF": "['evil']",
    "CORE_LOADERS_FOR_DYNACONF": "['PY', 'TOML']",
    "ENVVAR_PREFIX_FOR_DYNACONF": "EVIL",
    "ENVVAR_FOR_DYNACONF": "EVIL_FILE",
    "EVIL_FILE": "evil.toml",
    "EVIL_DEPTH": "1",
    "DYNACONF_DEPTH": "1",
    "ENV_FOR_DYNACONF": "testnet",
    "FORCE_ENV_FOR_DYNACONF": "testnet",
    "DEFAULT_ENV_FOR_DYNACONF": "testnet",
    "ENVIRONMENTS_FOR_DYNACONF": "false",
    "MERGE_ENABLED_FOR_DYNACONF": "false",
    "NESTED_SEPARATOR_FOR_DYNACONF": "_",
    "LOAD_DOTENV_FOR_DYNACONF": "true",
    "DOTENV_PATH_FOR_DYNACONF": ".env",
    "ROOT_PATH_FOR_DYNACONF": "deeper",
    "PROJECT_ROOT": "deeper",
    "VAULT_ENABLED_FOR_DYNACONF": "true",
    "REDIS_ENABLED_FOR_DYNACONF": "true",
    "REDIS_PORT_FOR_DYNACONF": "@int nonsense",
    "AUTO_CAST_FOR_DYNACONF": "@jinja {{ 1/0 }}",
    "FRESH_VARS_FOR_DYNACONF": "['depth']",
    "SYSENV_FALLBACK_FOR_DYNACONF": "true",
    "DEPTH": "1",
}
EVIL_TOML = "[default]\ndepth = 1\n[mainnet]\ndepth = 1\n"
EVIL_PY = "from pathlib import Path\nPath('ran').touch()\nDEPTH = 1\ndef post(settings=None): return {'DEPTH': 1}\n"
PROGRAM = """
import json, os, sys
from pathlib import Path
from orderflow.config.load import load
loaded = load()
print(json.dumps([loaded.settings.depth, loaded.settings.env, loaded.files]))
"""


def test_nothing_but_the_listed_files_counts_whatever_the_environment_and_the_folders_say(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    for folder in (inner, inner / "config", inner / "deeper"):
        folder.mkdir()
    for name in (
        "settings.local.toml",
        ".secrets.local.toml",
        "config/settings.toml",
        "deeper/settings.toml",
        "evil.toml",
    ):
        (inner / name).write_text(EVIL_TOML)
    for name in ("settings.toml", ".secrets.toml"):
        (tmp_path / name).write_text(EVIL_TOML)  # in the parent folder
    for name in ("dynaconf_hooks.py", "evil.py", "settings.py", "mainnet_settings.py", ".secrets.py"):
        (inner / name).write_text(EVIL_PY)
    (inner / ".env").write_text("ORDERFLOW_DEPTH=1\nDYNACONF_DEPTH=1\n")
    (inner / "settings.toml").write_text("[default]\ndepth = 200\n[testnet]\ndepth = 1\n")
    environ = {**os.environ, **HOSTILE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=inner,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [200, "mainnet", ["settings.toml (bundled)", "settings.toml"]]
    assert not (inner / "ran").exists()
