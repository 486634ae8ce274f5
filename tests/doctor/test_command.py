"""The command as people run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CANARY = "canary7secret4value"
CANARY_KEY = "canaryKEY0123456"


def doctor(place: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "orderflow", "doctor", "--env", "sim", *words],
        cwd=place,
        env={**clean, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.socket
def test_no_exchange_and_no_secret_shown(tmp_path: Path) -> None:
    """Canaries in every place that takes a secret, whichever way the output goes."""
    (tmp_path / ".secrets.toml").write_text(f'[sim.bybit]\napi_key = "{CANARY_KEY}"\napi_secret = "{CANARY}"\n')
    urls = ["--set=bybit.public_ws_url=ws://127.0.0.1:1/{category}", "--set=bybit.private_ws_url=ws://127.0.0.1:1/"]
    words = [*urls, "--set=bybit.rest_url=http://127.0.0.1:1", "--set=log_level=debug"]
    text = doctor(tmp_path, *words)
    data = doctor(tmp_path, *words, "--json")
    assert text.returncode == data.returncode == 4
    assert text.stderr == data.stderr == ""
    report = json.loads(data.stdout)
    assert report["ok"] is False
    assert report["exit_code"] == 4
    assert all(set(check) == {"name", "status", "finding", "fix", "took_ms"} for check in report["checks"])
    assert {check["name"]: check["status"] for check in report["checks"]}["private"] == "fail"
    assert all(check["fix"] for check in report["checks"] if check["status"] in ("warn", "fail"))
    for shown in (text.stdout, data.stdout):
        assert CANARY not in shown
        assert CANARY_KEY not in shown


def test_bad_settings_show_no_secret_either(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json", ORDERFLOW_BYBIT__API_KEY=f"bad \x1b {CANARY}", ORDERFLOW_DEPTH="x")
    assert done.returncode == 2
    assert not any(CANARY in part for part in (done.stdout, done.stderr))
    assert json.loads(done.stdout)["exit_code"] == 2


@pytest.mark.socket
def test_ctrl_c_ends_it_without_a_verdict(tmp_path: Path) -> None:
    """A server that says nothing keeps it waiting, so the signal comes in the middle."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        urls = [f"--set=bybit.public_ws_url=ws://127.0.0.1:{port}/{{category}}", "--set=bybit.rest_url="]
        running = subprocess.Popen(
            [sys.executable, "-m", "orderflow", "doctor", *urls],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        running.send_signal(signal.SIGINT)
        with connection:
            shown = running.communicate(timeout=10)
    assert running.returncode == 130
    assert shown == (b"", b"")
