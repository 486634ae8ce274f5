"""What a real run has in memory: nothing heavy that it does not use."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from orderflow.bench.processes import local_exchange
from orderflow.bench.spawn import child_environment

if TYPE_CHECKING:
    from pathlib import Path

RUN: Final = """
import sys
from orderflow.cli import main
code = main(["run", "--symbol", "BTCUSDT", "--interval", "0.1", "--duration", "0.8", *sys.argv[1:]])
print("exit", code, *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""
HEAVY: Final = frozenset(
    {
        "asyncio",  # another event loop
        "cryptography",  # signs: only with credentials
        "hypercorn",  # serves: only with a metrics port
        "prometheus_client",
        "rich",  # draws: only the live view
        "multiprocessing",
        "numpy",
        "pandas",
        "pyarrow",  # exports
        "shtab",  # completes shells
        "sqlite3",
        "unittest",
    }
)
BY_REST: Final = frozenset({"httpx", "httpcore", "anyio", "h2", "zstandard"})
"""Instruments and the exchange's clock come over REST; imported in a thread once the feed runs."""
REAL: Final = frozenset({"dynaconf", "msgspec", "pluggy", "trio", "trio_websocket"})
"""Settings, messages, plugins, tasks, the WebSocket: each is used before the first message."""


@pytest.mark.socket
@pytest.mark.parametrize("rest", [True, False])
def test_a_run_has_nothing_heavy_in_memory(rest: bool, tmp_path: Path) -> None:
    with local_exchange(1) as (environment, _):
        changes = {} if rest else {"ORDERFLOW_BYBIT__REST_URL": '""'}
        done = subprocess.run(
            [sys.executable, "-c", RUN, "--log-format", "json" if rest else "human"],
            env=child_environment({**environment, **changes}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    words = done.stderr.splitlines()[-1].split()
    loaded = set(words[2:])
    assert words[:2] == ["exit", "0"]
    assert loaded >= REAL
    assert loaded & (HEAVY if rest else HEAVY | BY_REST) == set()
