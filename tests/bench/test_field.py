"""Asking an interpreter what can be compared, and refusing what cannot."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from orderflow.bench.field import find_rivals
from orderflow.bench.rivals import RIVALS, Field, look_around
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

OURS = f"{platform.python_implementation()} {platform.python_version()}"


def _interpreter(folder: Path, body: str) -> str:
    """A program that stands in for a Python."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
    return str(path)


def _says(field: Field) -> str:
    return f"print({msgspec.json.encode(field).decode()!r})"


def test_another_interpreter_is_asked(tmp_path: Path) -> None:
    field = Field(python=OURS, rivals={"picows": "2.3"}, loop="uvloop 0.22")
    body = f"assert sys.argv[1:] == ['-m', 'orderflow.bench.rivals']\n{_says(field)}"
    assert find_rivals(_interpreter(tmp_path, body)) == field


@pytest.mark.parametrize(
    "body, told",
    [
        (_says(Field(python="CPython 2.7.18", rivals={"picows": "1"}, loop="asyncio")), "expected CPython"),
        (_says(Field(python=OURS, rivals={}, loop="asyncio")), "none is installed"),
        ("print('usage: something else')", "is no Python"),
        ("sys.exit('No module named msgspec \x1b[31m')", "cannot run a client: No module named msgspec"),
        ("sys.exit(3)", "no reason given"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, body: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_rivals(_interpreter(tmp_path, body))
    assert told in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a Python"):
        find_rivals(str(tmp_path / "none"))


def test_looking_around_finds_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"aiohttp", "pybit"}
    monkeypatch.setattr("orderflow.bench.rivals.find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr("orderflow.bench.rivals.metadata.version", lambda name: f"{name} 1.0")
    assert look_around() == Field(python=OURS, rivals={"aiohttp": "aiohttp 1.0", "pybit": "pybit 1.0"}, loop="asyncio")
    there |= {"uvloop", *RIVALS}
    field = look_around()
    assert (list(field.rivals), field.loop) == (list(RIVALS), "uvloop uvloop 1.0")
