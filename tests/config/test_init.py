from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from orderflow import bundled
from orderflow.config.init import init
from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.config.conftest import Folder

NAMES = ["settings.toml", ".secrets.toml"]


def test_both_files_are_written_and_load(folder: Folder) -> None:
    before = folder.load().settings
    old = os.umask(0)
    try:
        written = init(folder.path)
    finally:
        os.umask(old)
    assert sorted(path.name for path in written) == sorted(NAMES)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in written}
    assert modes == {"settings.toml": 0o644, ".secrets.toml": 0o600}
    loaded = folder.load()
    assert (loaded.settings, loaded.warnings) == (before, ())
    assert sorted(os.listdir(folder.path)) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten_without_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="exists; expected nothing there, or --force"):
        init(tmp_path)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"
    init(tmp_path, force=True)
    assert (tmp_path / name).read_text() != "mine"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("force", [True, False])
def test_links_are_never_written_through(tmp_path: Path, name: str, force: bool) -> None:
    (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        init(tmp_path, force=force)
    assert os.listdir(tmp_path) == [name]


def test_a_folder_of_that_name_or_none_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        init(tmp_path / "none")
    (tmp_path / "settings.toml").mkdir()
    with pytest.raises(ConfigError, match="is no file"):
        init(tmp_path, force=True)


def test_the_programs_own_settings_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "settings.toml"
    shutil.copy(bundled.settings_file(), own)
    text = own.read_text()
    monkeypatch.setattr(bundled, "settings_file", lambda: own)
    assert [path.name for path in init(tmp_path, force=True)] == [".secrets.toml"]
    assert own.read_text() == text
