"""`orderflow sim`: options, endpoints, exit codes."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orderflow.core.errors import ConfigError
from orderflow.sim.command import _other_backend, add_arguments, choose, main, tls_context

if TYPE_CHECKING:
    from pathlib import Path


def parse(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(options)


def test_symbols() -> None:
    assert [str(item.id) for item in choose("BTCUSDT, spot:BTCUSDT,inverse:BTCUSD", 2)] == [
        "linear:BTCUSDT",
        "spot:BTCUSDT",
        "inverse:BTCUSD",
        "linear:SIM0000USDT",
        "linear:SIM0001USDT",
    ]
    assert len(choose(None, 0)) > 5


@pytest.mark.parametrize(
    "options, problem",
    [
        (("--symbols", "NOPE,spot:X"), "--symbols: 'NOPE'"),
        (("--symbols", "option:BTCUSDT"), "--symbols"),
        (("--play", "missing.jsonl"), "--play: missing.jsonl"),
        (("--play", "missing.jsonl", "--speed", "fast"), "--speed"),
        (("--tls-cert", "missing.pem"), "--tls-cert"),
        (("--calibrate", "missing-folder"), "--calibrate"),
        (("--fault", "certificate"), "--tls"),
        (("--tls", "no/such/folder/ca.pem"), "--tls"),
        (("--tls", "ca.pem", "--tls-cert", "c.pem"), "--tls-cert"),
    ],
)
def test_usage_errors_name_the_option(
    options: tuple[str, ...], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(parse("--port", "0", *options)) == 2
    assert problem in capsys.readouterr().err


def test_a_bad_certificate(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    with pytest.raises(ConfigError):
        tls_context(tmp_path / "x.pem", None)
    assert tls_context(None, None) is None


@pytest.mark.socket
def test_it_serves_until_a_signal_and_ends_well() -> None:
    command = [sys.executable, "-m", "orderflow.sim.command", "--port", "0", "--symbols", "BTCUSDT", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert told["public"]["spot"] == f"ws://127.0.0.1:{told['port']}/v5/public/spot"
    assert told["environment"]["ORDERFLOW_BYBIT__REST_URL"] == told["rest"]


def test_a_folder_that_calibrates_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither an unrelated folder nor one level too deep passes for a comparison."""
    assert main(parse("--calibrate", str(tmp_path))) == 2
    assert "holds none of the recordings" in capsys.readouterr().err
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "spot-BTCUSDT-ob50-20260824.jsonl").touch()
    assert main(parse("--calibrate", str(streams))) == 2
    assert "expected the folder above" in capsys.readouterr().err


@pytest.mark.parametrize("shift", [False, True])
def test_recorded_timestamps_are_said_to_be_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shift: bool
) -> None:
    recording = tmp_path / "linear-one.jsonl"
    data = '{"s":"BTCUSDT","b":[["1","1"]],"a":[["2","1"]],"u":1,"seq":1}'
    recording.write_text(
        f'{{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1790000000000,"data":{data},"cts":1790000000000}}\n'
    )
    assert _other_backend(parse("--play", str(recording), *(["--shift-time"] if shift else []))) is not None
    assert ("--shift-time" in capsys.readouterr().err) is not shift
