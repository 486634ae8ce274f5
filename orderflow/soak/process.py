"""`orderflow run` as a process: stopped and continued, killed and started again, and what it leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

import orderflow
from orderflow.core.errors import RecordingError
from orderflow.core.types import BookDump, BookState, BookStateChanged, Category, InstrumentId, LinkChanged
from orderflow.record.reader import Damage, open_recording
from orderflow.soak.pace import BEAT_S, Pace, Queue
from orderflow.soak.usage import Usage, usage_of
from orderflow.soak.watched import QUICK_BOOK, QUICK_LINK, QUICK_RETRY, Diary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from orderflow.sim.server import SimServer

STALL_S: Final = 0.5
INTERVAL_S: Final = 0.1
STOP_LIMIT_S: Final = 2.0
END_LIMIT_S: Final = 60.0  # whatever the machine gives
LOST_S: Final = 1.0  # what a killed program may lose of its recording
BURST_S: Final = 0.9 * INTERVAL_S  # three ticks take an interval at least: the first may be late, no other early
_SEEN_S: Final = 1.0
_REST_S: Final = 5.0  # for a program that was started to come to rest
_SAMPLE_S: Final = 0.5


class Tick(msgspec.Struct):
    """A line of JSON with a tick, as far as it is judged."""

    ts: int
    category: str
    symbol: str
    state: str
    seq: int | None
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    liquidity_bid: float | None
    liquidity_ask: float | None
    book_age_ms: float | None

    @property
    def live(self) -> bool:
        return self.state == "live"


_tick: Final = msgspec.json.Decoder(Tick)


class Life:
    """One run of the program, from its start to its end."""

    def __init__(self, number: int, folder: Path, began_s: float) -> None:
        self.number = number
        self.began_s = began_s
        self.recording = folder / f"recording-{number}"
        self.stopped: list[tuple[float, float]] = []  # when it was surely stopped
        self.stalls: list[tuple[float, float]] = []  # when it said that it had stood still, and for how long
        self.ticks: dict[str, list[float]] = {}  # when ticks of each book were made, the newest few
        self.killed_s = inf  # when
        self.bursts: list[str] = []
        self.known_s: list[float] = []  # receipt of data that live ticks rest on
        self.rss: list[int] = []  # samples since it came to rest
        self.last: dict[str, Any] = {}  # its summary


class Program:
    """Runs the program over and over; `wrong` gathers what must not happen.

    Args: judge: told of each tick; now_s: the exchange's clock.
    """

    def __init__(
        self,
        server: SimServer,
        symbols: Sequence[str],
        depth: int,
        folder: Path,
        judge: Callable[[Tick], None],
        now_s: Callable[[], float],
    ) -> None:
        self.diary = Diary(now=now_s)
        self.pace = Pace(now_s)
        self.lives: list[Life] = []
        self.recorded: list[str] = []  # what is wrong with recordings
        self.ended: list[str] = []  # what is wrong with ends
        self.kills = 0
        self._symbols = symbols
        self._judge = judge
        self._now_s = now_s
        self._folder = folder
        self._books = folder / "books.json"
        self._options = _options(server, symbols, depth)
        self._process: trio.Process | None = None
        self._killed = False
        self._states: dict[str, str] = {}
        self._failed = ""

    @property
    def life(self) -> Life:
        return self.lives[-1]

    def not_live(self) -> list[str]:
        return [f"{key} is {self._states.get(key, 'unheard of')}" for key in self._symbols if not self._is_live(key)]

    def _is_live(self, key: str) -> bool:
        return self._states.get(key) == "live"

    # --- its lives

    async def run(self) -> None:
        """Until `end`: start it, read what it says, and start it again when it was killed."""
        while True:
            life = Life(len(self.lives), self._folder, trio.current_time())
            self.lives.append(life)
            self._states.clear()
            self._killed = False
            command = [sys.executable, "-m", "orderflow", "run", *self._options]
            command += ["--record", str(life.recording), "--book-out", str(self._books)]
            self._process = process = await trio.lowlevel.open_process(
                command,
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert process.stdout is not None
            assert process.stderr is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, process.stdout, life)
                nursery.start_soon(self._read_errors, process.stderr)
                await process.wait()
            if self._killed:
                await self._check_recording(life, self.pace)
                continue
            if process.returncode or not life.last:
                self.ended.append(f"it ended by itself with {process.returncode}: {self._failed[-500:]}")
            return

    async def _read(self, pipe: trio.abc.ReceiveStream, life: Life) -> None:
        rest = b""
        async for piece in pipe:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._hear(line, life)

    async def _read_errors(self, pipe: trio.abc.ReceiveStream) -> None:
        async for piece in pipe:
            self._failed = (self._failed + piece.decode("utf-8", "replace"))[-2000:]

    def _hear(self, line: bytes, life: Life) -> None:
        if line.startswith(b'{"event":"tick"'):
            self._hear_tick(_tick.decode(line), life)
            return
        event = msgspec.json.decode(line)
        at_s = event["ts"] / 1000
        match event["event"], event.get("kind"):
            case "feed", "link":
                self.diary.changes.append((at_s, msgspec.convert(event, LinkChanged)))
            case "feed", "book":
                key = f"{event['category']}:{event['symbol']}"
                self._states[key] = event["state"]
                self.diary.changes.append((at_s, _book_changed(event)))
            case "stall", _:
                life.stalls.append((at_s, event["length_s"]))
                if not Queue.counted:
                    self.pace.lose(at_s - event["length_s"], at_s)
            case "summary", _:
                life.last = event

    def _hear_tick(self, tick: Tick, life: Life) -> None:
        times = life.ticks.setdefault(f"{tick.category}:{tick.symbol}", [])
        times.append(tick.ts / 1000)
        if len(times) > 2:
            taken_s = times[-1] - times.pop(0)
            if taken_s < BURST_S:
                life.bursts.append(f"{tick.symbol}: three ticks within {taken_s:.3f} s")
        if tick.live and tick.book_age_ms is not None:
            life.known_s.append((tick.ts - tick.book_age_ms) / 1000)
            del life.known_s[:-2000]
        self._judge(tick)

    # --- trouble

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        process, life = self._process, self.life
        if process is None or process.returncode is not None:
            return
        began_s = self._now_s()
        process.send_signal(signal.SIGSTOP)
        from_s = self._now_s()
        try:
            await trio.sleep(seconds)
        finally:
            to_s = self._now_s()
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            life.stopped.append((from_s, to_s))
            self.pace.lose(began_s, self._now_s())

    def kill(self) -> None:
        """SIGKILL; `run` starts it again."""
        if self._process is not None and self._process.returncode is None:
            self._killed = True
            self.life.killed_s = self._now_s()
            self.kills += 1
            self._process.kill()

    async def torment(self, rng: Random, killing_s: float, tell: Callable[[str], None]) -> None:
        """Freezes and kills until cancelled: a freeze first, then a kill, then as the dice say.

        Args: killing_s: no more kills after so many seconds: the last life is long, or no leak would show.
        """
        until_s = trio.current_time() + killing_s
        for count in range(1_000_000):
            await trio.sleep(rng.uniform(1.0, 2.0) if count < 2 else rng.uniform(5.0, 15.0))
            if count == 1 or (count > 1 and rng.random() < 0.3 and trio.current_time() < until_s):
                tell("  the program: killed, and started again")
                self.kill()
            else:
                seconds = rng.uniform(0.8, 3.0) if count == 0 else rng.uniform(0.1, 3.0)
                tell(f"  the program: stopped for {seconds:.1f} s")
                await self.freeze(seconds)

    async def sample(self) -> None:
        """Its memory, twice a second, from when it has come to rest."""
        while True:
            await trio.sleep(_SAMPLE_S)
            if self.lives and trio.current_time() - self.life.began_s > _REST_S and (size := self.usage().rss_bytes):
                self.life.rss.append(size)

    # --- what it leaves behind

    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def usage(self) -> Usage:
        """Of its process, now."""
        return usage_of(self.pid() or 0)

    async def books(self, seconds: float = 20.0) -> list[BookDump]:
        """Its books as it writes them on SIGUSR1. One call at a time: a file comes for each, sooner or later."""
        assert self._process is not None
        self._books.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        with trio.move_on_after(seconds):
            while not self._books.exists():  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.02)
        return msgspec.json.decode(self._books.read_bytes(), type=list[BookDump]) if self._books.exists() else []

    async def end(self) -> None:
        """SIGTERM: exit code 0 within 2 s (of the time there was), a summary, nothing wrong with the recording."""
        if self._process is None:
            return
        began_s = self._now_s()
        self._process.terminate()
        with trio.move_on_after(END_LIMIT_S):
            await self._process.wait()
        await trio.sleep(2 * BEAT_S)  # what it lost in the end is known now
        took_s = self._now_s() - began_s - self.pace.lost_s(began_s, self._now_s())
        if self._process.returncode != 0:
            self.ended.append(f"exit code {self._process.returncode} after SIGTERM: {self._failed[-500:]}")
            self._process.kill()
        if took_s > STOP_LIMIT_S:
            self.ended.append(f"it took {took_s:.1f} s to stop")
        await trio.sleep(0.1)  # its last lines
        await self._check_recording(self.life, self.pace)

    async def _check_recording(self, life: Life, pace: Pace) -> None:
        now_s = self._now_s()
        wrong = await trio.to_thread.run_sync(partial(recording_faults, life, now_s, killed=self._killed, pace=pace))
        self.recorded += wrong
        await trio.to_thread.run_sync(partial(shutil.rmtree, life.recording, ignore_errors=True))


def recording_faults(life: Life, ended_s: float, *, killed: bool, pace: Pace) -> list[str]:
    """What is wrong with the recording of a run that ended then: damage but for a torn end, more lost than may be."""
    name = f"recording {life.number}"
    newest_s = 0.0
    wrong: list[str] = []
    try:
        recording = open_recording(life.recording)
        damages = [item for item in recording.items() if isinstance(item, Damage)]
        newest_s = max((message.recv_ns for message in recording.messages()), default=0) / 1e9
    except RecordingError as error:
        return [f"{name}: {error}"] if life.known_s else []
    wrong += [f"{name}: {damage}" for damage in damages if not (killed and damage.reason == "torn")]
    until_s = pace.before(ended_s, LOST_S) if killed else ended_s
    due = [known_s for known_s in life.known_s if known_s <= until_s]
    if due and newest_s < max(due) - 0.001:
        wrong.append(f"{name}: ends {max(due) - newest_s:.3f} s before data that a tick had shown")
    return wrong


def standstill_faults(lives: Sequence[Life], pace: Pace) -> list[str]:
    """Each stop that lasts is said, with its length, unless it was killed first; no ticks are made up for it.

    `pace`: of the program.
    """
    wrong = [f"run {life.number}: {burst}" for life in lives for burst in life.bursts]
    for life in lives:
        for from_s, to_s in life.stopped:
            length_s, until_s = to_s - from_s, pace.after(to_s, _SEEN_S)
            before_s = pace.lost_s(from_s - _SEEN_S, from_s)
            told = [
                said_s
                for at_s, said_s in life.stalls
                if to_s - 0.1 <= at_s <= until_s
                and -0.3 - said_s / 2 < said_s - length_s < 0.3 + said_s / 2 + before_s + pace.lost_s(to_s, at_s)
            ]
            if length_s > STALL_S + 0.2 and until_s < life.killed_s and not told:
                wrong.append(f"run {life.number}: stood still for {length_s:.1f} s at {from_s:.1f} and did not say so")
    return wrong


def _book_changed(event: dict[str, Any]) -> BookStateChanged:
    return BookStateChanged(
        instrument=InstrumentId(Category(event["category"]), event["symbol"]),
        old=BookState(event["old"]),
        new=BookState(event["state"]),
        reason=event["reason"],
        mono_ns=0,
        detail=event["detail"],
    )


def _options(server: SimServer, symbols: Sequence[str], depth: int) -> list[str]:
    settings: dict[str, object] = {
        "bybit.public_ws_url": server.public_url,
        "bybit.private_ws_url": "",
        "bybit.rest_url": server.rest_url,
        "plugins.enabled": "",
        "log_level": "error",
        "watch.stall_s": STALL_S,
        "clock.interval_s": 0.5,
        "clock.burst": 1,
        "record.keep_free_mb": 0,
    }
    for table, policy in (("feed", QUICK_LINK), ("retry", QUICK_RETRY), ("book", QUICK_BOOK)):
        settings |= {f"{table}.{key}": value for key, value in msgspec.structs.asdict(policy).items()}
    options = ["--env", "sim", "--depth", str(depth), "--interval", f"{INTERVAL_S}", "--log-format", "json"]
    for symbol in symbols:
        options += ["--symbol", symbol]
    for key, value in settings.items():
        options += ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
    return options


def _environment() -> dict[str, str]:
    """Ours without its settings; and this very package is the one that runs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ORDERFLOW_")}
    path = [str(Path(orderflow.__file__).parents[1]), kept.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
