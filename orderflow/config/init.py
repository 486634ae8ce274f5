"""`config init`: settings files of one's own to start from."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from orderflow import bundled
from orderflow.config.sources import SECRETS_NAME, SETTINGS_NAME, same_file
from orderflow.core.errors import ConfigError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from pathlib import Path

_VALUE: Final = re.compile(r"^(?=[a-z_]+ = )", re.MULTILINE)
_HEADER: Final = """\
# Settings of orderflow for this folder: every setting with its default. Take the `# ` away from what you change.
# docs/configuration.md explains them; `orderflow config show --origin` says what is in force, and why.
#
# [default.x] counts always, [testnet.x] on top of it when the environment is testnet (--env, ORDERFLOW_ENV).
# API keys belong into .secrets.toml.

"""


def init(directory: Path, *, force: bool = False) -> list[Path]:
    """Write settings.toml, every value a comment, and .secrets.toml, for its owner only (mode 0600).

    In a clone of this project settings.toml is the program's own and stays as it is: it is there to be edited.

    Args: force: replace files that exist.
    Returns: the files written.
    Raises: ConfigError, before anything is written: a file exists or is a symbolic link. Or the folder cannot be
        written to.
    """
    files = {directory / SECRETS_NAME: (bundled.secrets_example().read_text("utf-8"), 0o600)}
    if not same_file(directory / SETTINGS_NAME, bundled.settings_file()):
        files[directory / SETTINGS_NAME] = (settings_template(), 0o644)
    problems = [reason for path in files if (reason := _obstacle(path, force=force))]
    if problems:
        raise ConfigError(*problems)
    for path, (text, mode) in files.items():
        try:
            _write(path, text, mode)
        except OSError as exc:
            raise ConfigError(f"{_shown(path)}: cannot be written: {exc.strerror or 'error'}") from None
    return list(files)


def settings_template() -> str:
    """The bundled settings.toml with every value commented out and a header of its own."""
    text = bundled.settings_file().read_text("utf-8")
    return _HEADER + _VALUE.sub("# ", text[text.index("[default]") :])


def _obstacle(path: Path, *, force: bool) -> str | None:
    """Why `path` must not be written."""
    if path.is_symlink():
        return f"{_shown(path)}: is a symbolic link; expected a file or nothing"
    if not path.exists():
        return None
    if not path.is_file():
        return f"{_shown(path)}: is no file; expected a file or nothing"
    return None if force else f"{_shown(path)}: exists; expected nothing there, or --force to replace it"


def _write(path: Path, text: str, mode: int) -> None:
    """Write beside and rename: whole or not at all, with `mode` from the first byte on, through no link."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _shown(path: Path) -> str:
    return escape_text(str(path), limit=300)
