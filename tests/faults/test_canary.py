"""No secret in anything the program writes, in any mode, even when it crashes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.faults.program import Exchange, Program, environment, nowhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.socket

KEY = "CaNaRyKeY+7/x1"
SECRET = "s3CrEtCaNaRy=9&%z"
TOKEN = "ToKeNcAnArY*5!q"
CANARIES = (KEY, SECRET, TOKEN)

CRASH = """
import base64
from urllib.parse import quote

import orderflow.bybit.signing as signing
from orderflow.api import *

class Plugin:
    class Config(PluginConfig):
        pass

    def __init__(self, config):
        real = signing.Signer.ws_auth_args

        def wrong(self, expires_ms):
            key, secret = self._key.reveal(), self._secret.reveal()
            sent = [*map(str, real(self, expires_ms)), "\\x1b[2J"]
            encoded = base64.b64encode(secret.encode()).decode(), secret.encode().hex(), quote(secret, safe="")
            raise RuntimeError(f"a bug that shows everything: {key} {secret} {encoded} {sent} {secret!r}")

        signing.Signer.ws_auth_args = wrong

    @hookimpl
    def orderflow_tick(self, tick):
        pass
"""


def forbidden(value: str) -> Iterator[bytes]:
    """The value in every form it could take, and its first characters."""
    data = value.encode()
    yield data
    yield data[:6]
    yield data.hex().encode()
    yield base64.b64encode(data).rstrip(b"=")[:-1]
    yield base64.urlsafe_b64encode(data).rstrip(b"=")[:-1]
    yield quote(value, safe="").encode()
    yield json.dumps(value)[1:-1].encode()
    yield hashlib.sha256(data).hexdigest().encode()


def signatures(expires: str) -> Iterator[bytes]:
    yield hmac.new(SECRET.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest().encode()


def check(*texts: bytes) -> None:
    for text in texts:
        for canary in CANARIES:
            for form in forbidden(canary):
                assert form.lower() not in text.lower(), (form, text)
        for expires in re.findall(r"\d{13}", text.decode(errors="replace")):
            assert not any(signature in text for signature in signatures(expires))
        assert not re.search(rb"\b[0-9a-f]{64}\b", text), "what looks like a signature"


def check_folder(folder: Path) -> None:
    check(*(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in OURS))


OURS = {".secrets.toml", "wrong.toml", "plugin_with_bug.py"}


@pytest.fixture(params=["file", "environment"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The canaries, from either place secrets may come from."""
    if request.param == "environment":
        return environment(
            ORDERFLOW_BYBIT__API_KEY=KEY, ORDERFLOW_BYBIT__API_SECRET=SECRET, ORDERFLOW_METRICS_HTTP__TOKEN=TOKEN
        )
    file = tmp_path / ".secrets.toml"
    file.write_text(
        f"[default.bybit]\napi_key = {json.dumps(KEY)}\napi_secret = {json.dumps(SECRET)}\n"
        f"[default.metrics_http]\ntoken = {json.dumps(TOKEN)}\n"
    )
    file.chmod(0o600)
    return environment()


@pytest.mark.parametrize("options", [[], ["--log-format", "json", "--log-level", "debug"]], ids=["human", "debug json"])
def test_credentials_the_exchange_refuses(
    tmp_path: Path, exchange: Exchange, environ: dict[str, str], options: list[str]
) -> None:
    """A real sign-in over the wire, refused for good; books are written too."""
    urls = [text for text in exchange.options if not text.startswith("bybit.private_ws_url")][:-1]
    more = ["--set", f"bybit.private_ws_url={exchange.server.private_url}", "--book-out", str(tmp_path / "b.json")]
    command = ["run", "--env", "sim", *urls, *more, *options]
    with Program(tmp_path, command=command, environ=environ) as program:
        assert program.end() == 3, program.stderr
    out = b"".join(program.lines) + b"".join(program.errors)
    assert b"refused" in out
    check(out)
    check_folder(tmp_path)


def test_a_crash_with_everything_in_its_hands(tmp_path: Path, exchange: Exchange, environ: dict[str, str]) -> None:
    """A bug where a frame is signed: the traceback shows the signer, its secret and what was signed."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "plugin_with_bug.py").write_text(CRASH)
    urls = [text for text in exchange.options if not text.startswith("bybit.private_ws_url")][:-1]
    private = ["--set", f"bybit.private_ws_url={exchange.server.private_url}"]
    plugins = ["--set", "plugins.folders=plugins", "--set", "plugins.enabled=plugin_with_bug"]
    with Program(
        tmp_path, command=["run", "--env", "sim", *urls, *private, *plugins, "--log-level", "debug"], environ=environ
    ) as program:
        assert program.end() == 1, program.stderr
    out = b"".join(program.lines) + b"".join(program.errors)
    assert b"a bug that shows everything" in out
    assert b"\x1b" not in out
    check(out)


def test_other_commands(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "wrong.toml").write_text(
        f"[default.bybit]\napi_key = {json.dumps([KEY])}\napi_secrt = {json.dumps(SECRET)}\n"
    )
    commands = [
        ["config", "show"],
        ["config", "show", "--json", "--origin"],
        ["config", "check"],
        ["config", "check", "--config", "wrong.toml"],
        ["run", "--config", "wrong.toml"],
        ["plugins", "list"],
        ["doctor", "--env", "sim", *nowhere()[2:]],
    ]
    running = [
        subprocess.Popen(
            [*Program.COMMAND, *command], cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for command in commands
    ]
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert out
        check(out)
    check_folder(tmp_path)
