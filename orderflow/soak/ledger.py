"""The exchange's own log of a soak, and what it proves against what the monitor counted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.core.types import LIVE, BookStateChanged, LinkChanged
from orderflow.sim.venue import decode_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orderflow.core.policy import LinkPolicy, RetryPolicy
    from orderflow.core.stats import Stats
    from orderflow.core.types import BookState
    from orderflow.soak.pace import Pace
    from orderflow.soak.watched import Diary

_SLACK_S: Final = 0.1
_FROZEN_MS: Final = 3_000  # no random fault freezes a connection for longer
_SEEN_S: Final = 1.0  # how soon a gap must be seen
_MOMENT_S: Final = 0.05  # what it takes to say or to hear something, of the time there is


class Event(msgspec.Struct):
    """One line of the exchange's log; what an event lacks is empty. `ts` in ms."""

    ts: int
    conn: str
    event: str
    text: str = ""
    topic: str = ""
    name: str = ""
    target: str = ""
    lost: int = 0
    code: int | None = None


class Connection:
    """All that happened on one connection."""

    def __init__(self) -> None:
        self.opened_ms = 0
        self.ended_ms: int | None = None
        self.endpoint = ""
        self.depths: set[str] = set()
        self.subscribed: dict[str, int] = defaultdict(int)
        self.left_ms: dict[str, list[int]] = defaultdict(list)
        self.refusals = 0
        self.black_holes = 0
        self.gaps: list[Event] = []
        self.frozen_ms: list[int] = []

    def take(self, event: Event) -> None:
        match event.event:
            case "open":
                self.opened_ms, self.endpoint = event.ts, event.target.rpartition("/")[2]
            case "end":
                self.ended_ms = event.ts
            case "text":
                self._request(event)
            case "gap":
                self.gaps.append(event)
            case "fault":
                if event.name in ("stall", "black-hole"):
                    self.frozen_ms.append(event.ts)
                self.black_holes += event.name == "black-hole"
                self.refusals += event.name == "refuse"

    def _request(self, event: Event) -> None:
        request = decode_request(event.text)
        if isinstance(request, str) or request.op not in ("subscribe", "unsubscribe"):
            return
        for topic in map(str, request.args or ()):
            self.depths.add(topic.split(".")[1])
            if request.op == "subscribe":
                self.subscribed[topic] += 1
            else:
                self.left_ms[topic].append(event.ts)

    def heard_at_once(self, ms: int) -> bool:
        """Whether what came then had not lain unread on a frozen connection."""
        return not any(0 <= ms - frozen_ms <= _FROZEN_MS for frozen_ms in self.frozen_ms)

    def lived_until(self, ms: float) -> bool:
        return self.ended_ms is None or self.ended_ms >= ms


class Ledger:
    """Connections by their id. Args: lines: of the client log."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        decoder = msgspec.json.Decoder(Event)
        self.connections: dict[str, Connection] = defaultdict(Connection)
        self.faults: dict[str, int] = defaultdict(int)
        self.troubles: list[Event] = []  # faults that happened
        self.attempts_ms: list[int] = []  # clients that asked for a connection, whatever they got
        for line in lines:
            event = decoder.decode(line)
            if event.event == "fault":
                self.faults[event.name] += 1
                self.troubles.append(event)
            if event.event in ("open", "tls") or (event.event == "botched" and event.target.startswith("/v5/public/")):
                self.attempts_ms.append(event.ts)
            if event.conn:
                self.connections[event.conn].take(event)
        self.opened = {key: it for key, it in self.connections.items() if it.opened_ms}

    def troubles_between(self, from_s: float, to_s: float) -> list[Event]:
        """Faults that happened between these times."""
        begin = bisect_left(self.troubles, from_s * 1000, key=lambda it: it.ts)
        return self.troubles[begin : bisect_right(self.troubles, to_s * 1000, key=lambda it: it.ts)]

    # --- proofs: each yields what is wrong

    def resubscribes(self) -> Iterator[str]:
        """Each topic is asked for once per connection, and once more per resync and refusal.

        And twice per black hole: it may have swallowed the unsubscribe of a resync and have ended before the subscribe,
        which the exchange then refuses, as subscribed already; of several topics each is then asked for by itself.
        """
        for key, link in self.opened.items():
            for topic, count in link.subscribed.items():
                if count > 1 + len(link.left_ms[topic]) + link.refusals + 2 * link.black_holes:
                    yield f"{key}: {topic} subscribed {count} times, left {len(link.left_ms[topic])} times"

    def resyncs(self, policy: LinkPolicy, paces: dict[str, Pace], exchange: Pace) -> Iterator[str]:
        """Never more often than the policy allows, as far as can be told from when it was heard.

        Exempt: what lay unread on a connection the exchange had frozen. The first of two requests is heard as much
        later as the program had no time to say it and the exchange none to listen.

        Args: paces: of the programs, by depth.
        """
        for key, link in self.opened.items():
            for topic, times in link.left_ms.items():
                told = [ms for ms in times if link.heard_at_once(ms)]
                pace = paces.get(topic.split(".")[1], exchange)
                for earlier, later in pairwise(told):
                    apart_s = (later - earlier) / 1000 + held_up_s(earlier / 1000, pace, exchange)
                    if apart_s < policy.resync_interval_s - _SLACK_S:
                        yield f"{key}: {topic} resynced twice within {later - earlier} ms"
                most = policy.resyncs_per_minute
                for first, last in zip(told, told[most:], strict=False):
                    if (last - first) / 1000 + held_up_s(first / 1000, pace, exchange) < 60 - _SLACK_S:
                        yield f"{key}: {topic} resynced more than {most} times in a minute"

    def attempts(self, policy: RetryPolicy, clients: int, exchange: Pace) -> Iterator[str]:
        """No window saw more attempts than the budgets of so many programs allow."""
        most = policy.attempts_per_window * clients
        for first, last in zip(self.attempts_ms, self.attempts_ms[most:], strict=False):
            apart_s = (last - first) / 1000 + held_up_s(first / 1000, exchange)
            if apart_s < policy.window_s - _SLACK_S:
                yield f"more than {most} attempts in {last - first} ms, from {first} on"

    def gaps(self, diaries: dict[str, Diary], paces: dict[str, Pace], exchange: Pace) -> Iterator[str]:
        """Every book that was live when it was shown a gap left `live` for it, within a second of the time there was.

        Exempt is only what cannot be seen: on a connection that ended before that second was over, and on one that was
        frozen, so that nothing was shown until later.

        Args: diaries, paces: of the programs, by depth; exchange: its pace.
        """
        histories = {depth: _histories(diary) for depth, diary in diaries.items()}
        for key, link in self.opened.items():
            for event in link.gaps:
                depth, symbol = event.topic.split(".")[1:]
                if depth not in diaries:
                    continue  # somebody else's
                patience_s = _patience_s(event.ts / 1000, paces[depth], exchange)
                if not link.lived_until(event.ts + patience_s * 1000):
                    continue  # cut before anybody could see it
                if not (link.heard_at_once(event.ts) and link.heard_at_once(event.ts + int(patience_s * 1000))):
                    continue  # frozen, so seen later
                states = histories[depth][link.endpoint, symbol]
                if not _saw_gap(states, event.ts / 1000, patience_s):
                    yield f"{key}: {event.topic} was shown a gap of {event.lost} at {event.ts} and stayed live"

    def uncounted(self, depth: str, stats: Stats) -> Iterator[str]:
        """Connections and resyncs that the exchange heard of and the program's own counters do not know.

        The other way round proves nothing: what was counted may have been lost on its way.
        """
        mine = [it for it in self.opened.values() if depth in it.depths]
        for link in stats.links:
            spoke = sum(it.endpoint == link.link for it in mine)
            if spoke > link.connects:
                yield f"{link.link} depth {depth}: {spoke} connections spoke, {link.connects} were counted"
        for book in stats.books:
            topic = f"orderbook.{depth}.{book.symbol}"
            heard = sum(len(it.left_ms.get(topic, ())) for it in mine if it.endpoint == book.category)
            if heard > sum(book.resyncs.values()):
                yield f"{book.category} {topic}: {heard} resyncs were heard, {sum(book.resyncs.values())} counted"

    def gap_count(self) -> int:
        return sum(len(link.gaps) for link in self.opened.values())

    def reconnects(self, diaries: Iterable[Diary], killed: int = 0) -> Iterator[str]:
        """Links came up as often as the exchange opened connections to the end.

        Exempt: one `up` per connection of each program that was killed before it could say so. `killed`: connections.
        """
        ups = sum(
            change.state == "up" for diary in diaries for _, change in diary.changes if isinstance(change, LinkChanged)
        )
        spoke = sum(bool(link.subscribed) for link in self.opened.values())
        if not spoke - killed <= ups <= len(self.opened):
            yield f"{ups} times up, but {len(self.opened)} connections opened and {spoke} subscribed on"


def _histories(diary: Diary) -> dict[tuple[str, str], list[tuple[float, BookState]]]:
    """(category, symbol) -> what its book became, and when."""
    found: dict[tuple[str, str], list[tuple[float, BookState]]] = defaultdict(list)
    for at_s, change in diary.changes:
        if isinstance(change, BookStateChanged):
            found[change.instrument.category.value, change.instrument.symbol].append((at_s, change.new))
    return found


def held_up_s(at_s: float, *paces: Pace) -> float:
    """By how much what was said or heard then may be late: each who had a part in it had its moment first."""
    return sum(at_s - pace.before(at_s, _MOMENT_S) for pace in set(paces))


def _patience_s(at_s: float, pace: Pace, exchange: Pace) -> float:
    """How long it may take: the exchange has its time to show what it decided then, the program its to see it."""
    shown_s = exchange.after(at_s, _SEEN_S / 2)
    return max(pace.after(shown_s, _SEEN_S / 2), pace.after(at_s, _SEEN_S)) - at_s


def _saw_gap(states: list[tuple[float, BookState]], at_s: float, patience_s: float) -> bool:
    """Whether the book was not live at that moment, or stopped being so soon after."""
    times = [when_s for when_s, _ in states]
    then = bisect_left(times, at_s - 0.002)
    if then and states[then - 1][1] is not LIVE:
        return True
    return any(new is not LIVE for _, new in states[then : bisect_right(times, at_s + patience_s)])


def waits(diary: Diary, policy: RetryPolicy, *paces: Pace) -> Iterator[str]:
    """The waits between attempts: within the ceiling of each attempt, and really waited.

    `paces`: of whoever tells of a loss and of whoever hears it: late, it makes the wait behind it look shorter.
    """
    down: dict[str, tuple[float, LinkChanged]] = {}
    for at_s, change in diary.changes:
        if not isinstance(change, LinkChanged):
            continue
        if change.state == "down":
            down[change.link] = at_s, change
            ceiling = min(policy.cap_s, policy.base_s * 2.0 ** (change.attempt - 1))
            if change.reason != "status" and not 0 <= (change.retry_s or 0.0) <= ceiling:
                yield f"{change.link}: a wait of {change.retry_s} s before attempt {change.attempt + 1}"
        elif change.state == "connecting" and change.link in down:
            since_s, last = down.pop(change.link)
            if at_s - since_s + held_up_s(since_s, *paces) < (last.retry_s or 0.0) - _SLACK_S:
                yield f"{change.link}: tried again {at_s - since_s:.3f} s after a loss, not {last.retry_s}"


def attempts(diary: Diary, policy: RetryPolicy, pace: Pace, lives: int = 1) -> Iterator[str]:
    """The budget over all links, as the program itself tells it; each of its `lives` begins with a fresh one.

    `pace`: of the program.
    """
    times = [at_s for at_s, it in diary.changes if isinstance(it, LinkChanged) and it.state == "connecting"]
    most = policy.attempts_per_window * lives
    for first_s, last_s in zip(times, times[most:], strict=False):
        if last_s - first_s + held_up_s(first_s, pace) < policy.window_s - _SLACK_S:
            yield f"more than {most} attempts in {last_s - first_s:.1f} s"


def facts(ledger: Ledger) -> dict[str, Any]:
    """Numbers for the report."""
    return {
        "connections": len(ledger.opened),
        "faults": dict(sorted(ledger.faults.items())),
        "gaps_shown": ledger.gap_count(),
    }
