"""Where the files are that ship with the program: settings.toml, the bundled plugins, the example of a secrets file.

In a clone (also installed editable) they stand at the top level of the project, where people read and copy them; a
wheel carries the same files inside the package, in `orderflow/_bundled`.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from orderflow.core.errors import ConfigError

_PACKAGE: Final = Path(__file__).resolve().parent
_DISTRIBUTION: Final = "bybit-orderflow"


def settings_file() -> Path:
    """The bundled settings.toml. Raises: ConfigError when the installation is incomplete."""
    return _existing("settings.toml")


def plugins_folder() -> Path:
    """The folder of the bundled plugins. Raises: ConfigError when the installation is incomplete."""
    return _existing("plugins")


def secrets_example() -> Path:
    """The example of a .secrets.toml. Raises: ConfigError when the installation is incomplete."""
    return _existing("secrets.toml.example" if _root().name == "_bundled" else ".secrets.toml.example")


def is_bundled(path: Path) -> bool:
    """Whether `path` is, or lies in, what came with the program."""
    try:
        path.resolve().relative_to(_root())
    except (ValueError, OSError):
        return False
    return True


def _existing(name: str) -> Path:
    path = _root() / name
    if not path.exists():
        raise ConfigError(f"the installation is incomplete: {path} is missing; install {_DISTRIBUTION} again")
    return path


@cache
def _root() -> Path:
    """`orderflow/_bundled` of a wheel, or the top level of a clone."""
    return locate(_PACKAGE)


def locate(package: Path) -> Path:
    """The folder the bundled files stand in, for a package folder.

    A folder above the package counts as our clone only when its pyproject.toml names this project: beside an installed
    package stands site-packages, and a `plugins` or `settings.toml` in there is not ours.

    Raises: ConfigError when there is neither.
    """
    if (inside := package / "_bundled").is_dir():
        return inside
    if _is_our_project(package.parent):
        return package.parent
    raise ConfigError(
        f"the installation is incomplete: no bundled settings for {package}; install {_DISTRIBUTION} again"
    )


def _is_our_project(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("project")
    except (OSError, ValueError):  # tomllib's and unicode's errors are ValueErrors
        return False
    return isinstance(project, dict) and project.get("name") == _DISTRIBUTION
