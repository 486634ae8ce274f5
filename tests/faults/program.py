"""The whole program as a process, and a small exchange for it to talk to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.faultlist import parse_fault
from orderflow.sim.flood import FloodBackend
from orderflow.sim.server import ServerPolicy, SimConfig, SimServer, serve, serve_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
NOWHERE = "ws://127.0.0.1:1/{category}"


def environment(**more: str) -> dict[str, str]:
    """What a process of ours gets: nothing of the tester's settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ORDERFLOW_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | more


def queued_s(task: int | str = "self") -> float:
    """How long the first thread of a process (of ours) has waited for a processor; 0 where no kernel counts it."""
    try:
        return int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


class Stopwatch:
    """Seconds that a process (and we, who look at it) had: what a busy machine gave to others is not counted."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began_s = self._now_s()

    def _now_s(self) -> float:
        return time.monotonic() - queued_s(self._pid) - queued_s()

    def until_end(self, timeout_s: float = 20) -> float:
        """Wait for the end of the process, which somebody must still ask for its exit code."""
        deadline = time.monotonic() + timeout_s
        while os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            assert time.monotonic() < deadline, f"does not end in {timeout_s:g} s"
            time.sleep(0.002)
        return self._now_s() - self._began_s


class Program:
    """`orderflow run` in a folder of its own. `events` has what it wrote, as JSON lines, so far."""

    COMMAND = (sys.executable, "-m", "orderflow")

    def __init__(
        self,
        folder: Path,
        *options: str,
        command: Sequence[str] = ("run", "--env", "sim", "--log-format", "json"),
        environ: dict[str, str] | None = None,
        **popen: Any,
    ) -> None:
        popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | popen
        self.process = subprocess.Popen(
            [*self.COMMAND, *command, *options],
            cwd=folder,
            env=environ or environment(),
            **popen,
        )
        self.lines: list[bytes] = []
        self.errors: list[bytes] = []
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, into), daemon=True)
            for pipe, into in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
            if pipe is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: Any, into: list[bytes]) -> None:
        with pipe:
            for line in pipe:
                with self._changed:
                    into.append(line)
                    self._changed.notify_all()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.lines)]

    @property
    def stderr(self) -> str:
        return b"".join(self.errors).decode()

    def until(self, found: Callable[[dict[str, Any]], object], timeout_s: float = 20, since: int = 0) -> dict[str, Any]:
        """The first event (from line `since` on) that is looked for; waits for it."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self.lines[since:]:
                    event: dict[str, Any] = json.loads(line)
                    if found(event):
                        return event
                since = max(since, len(self.lines))
                left = deadline - time.monotonic()
                assert left > 0, f"never came; stderr: {self.stderr[-3000:]}; stdout: {self.lines[-3:]}"
                assert self._changed.wait(left) or time.monotonic() < deadline + 1

    def until_live(self) -> dict[str, Any]:
        return self.until(lambda event: event["event"] == "feed" and event.get("state") == "live")

    def until_said(self, text: str, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while text not in self.stderr:
                assert time.monotonic() < deadline, self.stderr
                self._changed.wait(0.5)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout_s: float = 20) -> int:
        """Wait for its end. Returns: the exit code; a signal's number negative."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(10)
        return code

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20) -> tuple[int, float]:
        """Send a signal and wait. Returns: (exit code, seconds it took, without those the machine was busy)."""
        watch = Stopwatch(self.process.pid)
        self.send(number)
        took_s = watch.until_end(timeout_s)
        return self.end(timeout_s), took_s

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()


class Exchange:
    """The simulated exchange in a thread of its own."""

    def __init__(
        self,
        *symbols: str,
        client_log: Path | None = None,
        flood: bool = False,
        keys: dict[str, str] | None = None,
    ) -> None:
        known = {str(key): item for key, item in catalogue_by_id().items()}
        self._instruments = tuple(known[symbol] for symbol in symbols or ("linear:BTCUSDT",))
        self._flood = flood
        self._policy = ServerPolicy(client_log=client_log, **({"keys": keys} if keys else {}))
        self._scope: trio.CancelScope | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._up = threading.Event()
        self.server: SimServer
        self._thread = threading.Thread(target=trio.run, args=(self._serve,), daemon=True)

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            self._scope, self._token = nursery.cancel_scope, trio.lowlevel.current_trio_token()
            if self._flood:
                backend = FloodBackend.prepare(self._instruments, 50, None, 7)
                self.server = await nursery.start(partial(serve_backend, backend, self._policy))
            else:
                config = SimConfig(instruments=self._instruments, server=self._policy)
                self.server = await nursery.start(serve, config)
            self._up.set()

    @property
    def options(self) -> list[str]:
        """Command line options that point the program here, without REST and the private stream."""
        url = self.server.public_url
        return [
            "--symbol",
            "BTCUSDT",
            "--set",
            f"bybit.public_ws_url={url}",
            "--set",
            "bybit.rest_url=",
            "--set",
            "bybit.private_ws_url=",
        ]

    def __enter__(self) -> Exchange:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def arm(self, spec: str) -> None:
        """Play a fault from now on (docs/simulator.md)."""
        assert self._token is not None
        self._token.run_sync_soon(self.server.plan.add, parse_fault(spec))

    def close(self) -> None:
        """Go away, without a word to anybody."""
        assert self._token is not None
        assert self._scope is not None
        if self._thread.is_alive():
            self._token.run_sync_soon(self._scope.cancel)
            self._thread.join(10)

    def __exit__(self, *exc: object) -> None:
        self.close()


def free_port() -> int:
    """Of this machine, where nobody listened a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def nowhere() -> list[str]:
    """Options that point the program at a port where nobody listens."""
    return [
        "--symbol",
        "BTCUSDT",
        "--set",
        f"bybit.public_ws_url={NOWHERE}",
        "--set",
        "bybit.rest_url=",
        "--set",
        "bybit.private_ws_url=",
    ]


def alive_children(pid: int) -> Iterator[int]:
    """Processes whose parent is `pid`."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            yield int(status.parent.name)
