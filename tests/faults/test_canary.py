"""No secret in anything the program writes, in any mode, even when it crashes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from orderflow.record.reader import open_recording
from tests.faults.program import Exchange, Program, environment, free_port, nowhere

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        assert not re.search(rb"(?<!sha256 )(?<!sha256\":\")\b[0-9a-f]{64}\b", text), "what looks like a signature"


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


HANG = """
import time
from orderflow.api import *

class Plugin:
    class Config(PluginConfig):
        pass

    def __init__(self, config):
        pass

    @hookimpl
    def orderflow_tick(self, tick):
        time.sleep(1000)  # {secret} {token}
"""


def own_environment() -> dict[str, str]:
    return environment(
        ORDERFLOW_BYBIT__API_KEY=KEY, ORDERFLOW_BYBIT__API_SECRET=SECRET, ORDERFLOW_METRICS_HTTP__TOKEN=TOKEN
    )


def test_everything_switched_on(tmp_path: Path) -> None:
    """Signed in, recording, counted and scraped, at debug level: what is written, served and said of it later."""
    port, environ = free_port(), own_environment()
    with Exchange(keys={KEY: SECRET}) as exchange:
        urls = [text for text in exchange.options if not text.startswith("bybit.private_ws_url")][:-1]
        urls = [text for text in urls if text != "bybit.rest_url="]
        settings = [f"bybit.private_ws_url={exchange.server.private_url}", f"bybit.rest_url={exchange.server.rest_url}"]
        settings += ["stats_interval_s=0.2", "clock.interval_s=0.3", "interval_s=0.1"]
        options = [*urls[:-1], *(word for text in settings for word in ("--set", text))]
        options += ["--metrics-port", str(port), "--record", "tape", "--book-out", "books.json", "--log-level", "debug"]
        with Program(tmp_path, *options, environ=environ) as program:
            program.until_live()
            program.until(
                lambda event: event["event"] == "stats" and len(event["links"]) == 2 and event["links"][1]["up"]
            )
            program.send(signal.SIGUSR1)
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            asked.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            scraped = asked.getresponse().read()
            asked.close()
            listed = Path(f"/proc/{program.process.pid}/cmdline").read_bytes()
            assert program.stop()[0] == 0, program.stderr
        doctor = ["doctor", "--env", "sim", *options[: options.index("--metrics-port")], "--json"]
        del doctor[doctor.index("--symbol") : doctor.index("--symbol") + 2]
        later = [doctor, ["replay", "tape", "--json"], ["verify", "tape"]]
        running = [spawned(tmp_path, command, environ) for command in later]
        said = [process.communicate(timeout=60)[0] for process in running]
    assert b"orderflow_link_up" in scraped
    assert b'"private"' in b"".join(program.lines)
    assert b'"api key"' in said[0]
    out = b"".join(program.lines) + b"".join(program.errors)
    recorded = [repr(item).encode() for item in open_recording(tmp_path / "tape").items()]
    assert len(recorded) > 10
    check(out, scraped, listed, *said, *recorded)
    check_folder(tmp_path)


def spawned(folder: Path, command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*Program.COMMAND, *command], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_the_dump_of_a_program_that_hangs(tmp_path: Path, exchange: Exchange) -> None:
    """Exit code 70: the stack shows the plugin's line, and in it whatever somebody wrote there."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "plugin_with_bug.py").write_text(HANG.format(secret=SECRET, token=TOKEN))
    plugins = ["--set", "plugins.folders=plugins", "--set", "plugins.enabled=plugin_with_bug"]
    hang = ["--set", "watch.plugin_hang_s=0.5", "--interval", "0.1"]
    with Program(tmp_path, *exchange.options, *plugins, *hang, environ=own_environment()) as program:
        assert program.end() == 70, program.stderr
    assert "time.sleep(1000)  # *** ***" in program.stderr
    check(b"".join(program.lines) + b"".join(program.errors))


@pytest.mark.parametrize("key", ["bybit.api_key", "bybit.api_secret", "metrics_http.token"])
def test_a_command_line_is_no_place_for_secrets(tmp_path: Path, key: str) -> None:
    """Everybody sees it: refused, without being said again."""
    with Program(tmp_path, *nowhere(), "--set", f"{key}={SECRET}") as program:
        assert program.end() == 2
    assert "everybody sees a command line" in program.stderr
    check(b"".join(program.errors))


IN_TURN = """
import json, os, sys
import dynaconf, rich.console, trio
import orderflow.cli, orderflow.commands, orderflow.config.load, orderflow.config.show, orderflow.doctor.command
from orderflow.__main__ import entry

folder, commands = sys.argv[1], json.loads(sys.argv[2])
for number, words in enumerate(commands):
    if os.fork() == 0:
        out = os.open(f"{folder}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv[1:] = words
        entry()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
"""It imports everything, and forks a process for each command: none knows what another has learnt to mask."""


def in_turn(folder: Path, commands: list[list[str]], outputs: Path, environ: dict[str, str]) -> list[tuple[int, bytes]]:
    """Exit code and output of each command, run in `folder`. `outputs`: an empty folder to work in."""
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN, str(outputs), json.dumps(commands)],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=True,
    )
    codes = [int(word) for word in done.stdout.split()]
    return [(code, (outputs / str(number)).read_bytes()) for number, code in enumerate(codes)]


def test_other_commands(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> None:
    (tmp_path / "wrong.toml").write_text(
        f"[default.bybit]\napi_key = {json.dumps([KEY])}\napi_secrt = {json.dumps(SECRET)}\n"
    )
    commands = {
        ("config", "show"): 0,
        ("config", "show", "--json", "--origin"): 0,
        ("config", "check"): 0,
        ("config", "check", "--config", "wrong.toml"): 2,
        ("run", "--config", "wrong.toml"): 2,
        ("plugins", "list"): 0,
        ("doctor", "--env", "sim", *nowhere()[2:]): 4,
    }
    done = in_turn(tmp_path, [list(words) for words in commands], tmp_path_factory.mktemp("outputs"), environ)
    for (code, out), (words, expected) in zip(done, commands.items(), strict=True):
        assert code == expected, (words, out)
        assert out
        check(out)
    check_folder(tmp_path)
