"""Settings, plugins, disk, packages: what the doctor sees without a network."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

import pytest

from orderflow.doctor import local
from orderflow.doctor.findings import Blame, Status, exit_code

from .conftest import examine

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = {
    "bybit.public_ws_url": "ws://127.0.0.1:1/v5/public/{category}",
    "bybit.private_ws_url": "",
    "bybit.rest_url": "",
}


async def test_every_problem_of_the_settings_and_nothing_connected(place: Path) -> None:
    (place / "settings.toml").write_text(
        "[default]\ndepht = 50\ninterval_s = -1\nsymbols = ['\x7f']\n".replace("\x7f", "\\u001b")
    )
    report = await examine({"depth": "51"})
    findings = [check.finding for check in report.checks if check.name == "settings"]
    assert len(findings) == 4, findings
    assert all(check.status is Status.FAIL for check in report.checks if check.name == "settings")
    assert report.status("network") is report.status("plugins") is Status.SKIP
    assert report.status("python") is Status.PASS
    assert not any("\x1b" in finding for finding in findings)
    assert exit_code(report.checks) == Blame.SETTINGS


@pytest.mark.socket
async def test_secrets_that_others_can_read(place: Path) -> None:
    secrets = place / ".secrets.toml"
    secrets.write_text('[sim.bybit]\napi_key = "k1"\napi_secret = "s1"\n')
    secrets.chmod(0o644)
    report = await examine(NOWHERE)
    assert report["settings"].status is Status.WARN
    assert report["settings"].fix == "chmod 600 .secrets.toml"
    secrets.chmod(0o600)
    assert (await examine(NOWHERE)).status("settings") is Status.PASS


@pytest.mark.socket
async def test_half_of_the_credentials_or_unusable_ones(place: Path) -> None:
    (place / ".secrets.toml").write_text('[sim.bybit]\napi_key = "k1"\napi_secret = "-----BEGIN PRIVATE KEY-----"\n')
    (place / ".secrets.toml").chmod(0o600)
    report = await examine(NOWHERE)
    broken = [check for check in report.checks if check.status is Status.FAIL and check.name != "socket linear"]
    assert [check.blame for check in broken] == [Blame.SETTINGS]
    assert "BEGIN" not in "".join(check.finding + check.fix for check in report.checks)


@pytest.fixture
def plugin(place: Path) -> Path:
    """A file the settings enable as plugin `mine`."""
    folder = place / "mine"
    folder.mkdir(mode=0o755)
    return folder / "mine.py"


def write(plugin: Path, text: str) -> None:
    plugin.write_text(textwrap.dedent(text))
    plugin.chmod(0o644)


async def look_at(plugin: Path, text: str) -> list[tuple[Status, str]]:
    write(plugin, text)
    options = {**NOWHERE, "plugins.enabled": ["spread", "mine"], "plugins.folders": [str(plugin.parent)]}
    report = await examine(options)
    return [(check.status, check.finding) for check in report.checks if check.name == "plugins"]


@pytest.mark.socket
async def test_a_plugin_that_cannot_be_read(plugin: Path) -> None:
    ((status, finding),) = await look_at(plugin, "def broken(:\n")
    assert status is Status.FAIL
    assert str(plugin) in finding


@pytest.mark.socket
async def test_a_plugin_that_fails_when_called(plugin: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = """
        from orderflow.api import PluginConfig, hookimpl

        class Plugin:
            class Config(PluginConfig, frozen=True):
                pass

            def __init__(self, config):
                pass

            @hookimpl
            def orderflow_tick(self, tick):
                raise RuntimeError("no \\x1b[31m")
    """
    ((status, finding),) = await look_at(plugin, text)
    assert status is Status.FAIL
    assert "disabled" in finding
    assert "\x1b" not in finding


@pytest.mark.socket
async def test_a_plugin_that_is_not_there(plugin: Path) -> None:
    report = await examine({**NOWHERE, "plugins.enabled": ["spraed"]})
    assert report.status("plugins") is Status.FAIL
    assert "spraed" in report["plugins"].finding


async def test_a_folder_one_cannot_write_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = place / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    (check,) = await local.check_disk()
    assert check.status is Status.WARN


async def test_a_disk_that_is_nearly_full(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.status for check in await local.check_disk()] == [Status.PASS]
    monkeypatch.setattr(local, "LITTLE_BYTES", 1 << 80)
    assert [check.status for check in await local.check_disk()] == [Status.WARN]


@pytest.mark.parametrize(
    "requirement, status, words",
    [
        ("trio>=0.1", Status.PASS, "trio 0."),
        ("trio", Status.PASS, "trio 0."),
        ("trio>=999.0", Status.FAIL, "is older than 999.0"),
        ("no-such-package-at-all>=1", Status.FAIL, "not installed"),
        ("trio @ file:///x", Status.WARN, "cannot tell"),
    ],
)
async def test_packages(requirement: str, status: Status, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_requirements", lambda: [requirement])
    (check,) = await local.check_packages()
    assert check.status is status
    assert words in check.finding


def test_requirements_are_known_with_and_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "DISTRIBUTION", "not-installed-anywhere")
    names = {requirement.partition(">")[0] for requirement in local._requirements()}
    assert {"trio", "msgspec", "wsproto"} <= names


async def test_output_that_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as nowhere:
        monkeypatch.setattr("sys.__stdout__", nowhere)
        assert [check.status for check in await local.check_output("auto")] == [Status.PASS]
    assert [check.status for check in await local.check_output("auto")] == [Status.WARN]
    monkeypatch.setattr("sys.__stdout__", None)
    assert [check.status for check in await local.check_output("auto")] == [Status.WARN]
