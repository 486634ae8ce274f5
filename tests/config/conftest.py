"""A folder to load settings from, and short ways of doing so."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from orderflow.config.load import Loaded, load
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Folder:
    """A working directory with settings in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        file = self.path / name
        file.write_text(textwrap.dedent(text), "utf-8")
        file.chmod(mode)
        return file

    def settings(self, text: str) -> Path:
        return self.write("settings.toml", text)

    def secrets(self, text: str, mode: int = 0o600) -> Path:
        return self.write(".secrets.toml", text, mode)

    def load(self, environ: Mapping[str, str] | None = None, **more: Any) -> Loaded:
        return load(environ=environ or {}, directory=self.path, **more)

    def problems(self, environ: Mapping[str, str] | None = None, **more: Any) -> tuple[str, ...]:
        """The problems of a load that must fail."""
        with pytest.raises(ConfigError) as caught:
            self.load(environ, **more)
        return caught.value.problems

    def problem(self, environ: Mapping[str, str] | None = None, **more: Any) -> str:
        """The one problem of a load that must fail."""
        problems = self.problems(environ, **more)
        assert len(problems) == 1, problems
        return problems[0]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
