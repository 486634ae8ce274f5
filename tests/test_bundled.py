"""The bundled files are found from a clone, an editable installation and a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import msgspec
import pytest

from orderflow import bundled
from orderflow.core.errors import ConfigError

ROOT = Path(__file__).parents[1]
PROGRAM = """
from pathlib import Path
from orderflow import bundled
from orderflow.config.load import load
print(bundled.settings_file(), bundled.plugins_folder(), bundled.secrets_example(), sep="\\n")
assert load(env="testnet").settings.bybit.rest_url == "https://api-testnet.bybit.com"
assert (bundled.plugins_folder() / "spread.py").is_file()
assert bundled.secrets_example().is_file()
"""


def test_a_clone_uses_what_stands_at_its_top() -> None:
    assert bundled.settings_file() == ROOT / "settings.toml"
    assert bundled.plugins_folder() == ROOT / "plugins"
    assert bundled.secrets_example().read_text().startswith("# API keys")


def test_what_is_bundled() -> None:
    assert bundled.is_bundled(ROOT / "plugins" / "spread.py")
    assert not bundled.is_bundled(ROOT.parent)


def package(folder: Path) -> Path:
    (folder / "orderflow").mkdir(parents=True)
    return folder / "orderflow"


def test_a_wheels_own_copy_comes_first(tmp_path: Path) -> None:
    here = package(tmp_path)
    (here / "_bundled").mkdir()
    assert bundled.locate(here) == here / "_bundled"


@pytest.mark.parametrize(
    "project",
    [
        None,
        "",
        "[project]\nname = 'other'",
        "project = 5",
        "[project]",
        "not toml",
        "[project]\nname = ['bybit-orderflow']",
    ],
)
def test_a_folder_that_only_looks_like_ours_is_not_taken(tmp_path: Path, project: str | None) -> None:
    """Beside an installed package stand other people's files: a settings.toml there must not be read."""
    here = package(tmp_path)
    (tmp_path / "settings.toml").write_text("[default]\ndepth = 1")
    (tmp_path / "plugins").mkdir()
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(project)
    with pytest.raises(ConfigError, match="installation is incomplete"):
        bundled.locate(here)


def test_our_project_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "bybit-orderflow"')
    assert bundled.locate(package(tmp_path)) == tmp_path


def run(*command: object, cwd: Path) -> str:
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_wheel_brings_its_settings_and_plugins_along(tmp_path: Path) -> None:
    """Built and installed for real; what the package depends on comes from this environment through a .pth file."""
    pytest.importorskip("build", reason="building a wheel needs the extra 'dev'")
    pytest.importorskip("hatchling", reason="building offline needs hatchling installed")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("bybit_orderflow-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=tmp_path
    )
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "dependencies.pth").write_text(f"{Path(msgspec.__file__).parents[1]}\n")
    found = run(python, "-c", PROGRAM, cwd=tmp_path).split()
    assert found == [
        str(site / "orderflow" / "_bundled" / n) for n in ("settings.toml", "plugins", "secrets.toml.example")
    ]
    demo = ("-m", "orderflow", "demo", "--duration", "2", "--interval", "0.5", "--log-format", "json")
    assert '"event":"tick"' in run(python, *demo, cwd=tmp_path / "venv").replace(" ", "")
