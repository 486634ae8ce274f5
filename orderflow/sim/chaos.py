"""Random faults from a seed: `orderflow sim --faults random`, `orderflow demo --faults`, `orderflow soak`.

A schedule is drawn fault by fault: what, where, for how long. Each is bounded in time, so that clients can recover; the
same seed draws the same faults in the same order.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
import trio

from orderflow.sim.faultlist import CORRUPTIONS, KINDS, Fault, parse_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.sim.faultplan import FaultPlan

UNUSED_S: Final = 15.0
FAULTY: Final = KINDS["certificate"].choices["how"]

Topic = tuple[str, str]
"""(category, topic)"""


class Recipe(msgspec.Struct, frozen=True):
    """One random fault.

    Args:
        spec: as `parse_fault` reads it, with `{topic}` scope or `{category}` scope added, and places for numbers.
        scope: topic, category (every link of it), rest or tls.
        weight: how often, compared with the others.
        story: what an onlooker is told.
        span: (least, most) seconds for `{s}` in the spec.
    """

    spec: str
    scope: str
    weight: float
    story: str
    span: tuple[float, float] = (0.0, 0.0)


RECIPES: Final = (
    Recipe("drop", "topic", 6, "one message lost"),
    Recipe("drop:count=7", "topic", 3, "seven messages lost"),
    Recipe("duplicate", "topic", 2, "a message sent twice"),
    Recipe("late", "topic", 2, "an old message again"),
    Recipe("reorder", "topic", 2, "two messages in the wrong order"),
    Recipe("corrupt:how={corruption}", "topic", 5, "a spoilt message ({corruption})"),
    Recipe("foreign", "topic", 1, "a message of another symbol"),
    Recipe("cross:seconds={s}", "topic", 3, "a crossed book", (0.2, 2.5)),
    Recipe("lock:seconds={s}", "topic", 2, "a locked book", (0.2, 2.5)),
    Recipe("unknown-delete", "topic", 1, "a delete of a level that never was"),
    Recipe("overfull", "topic", 1, "more levels than the depth"),
    Recipe("restart", "topic", 1, "the exchange restarts a book at u = 1"),
    Recipe("restart-delta", "topic", 1, "a delta with u = 1"),
    Recipe("resnapshot", "topic", 2, "a snapshot in mid-stream"),
    Recipe("empty-side:seconds={s}", "topic", 1, "one side of a book empty", (0.2, 2.0)),
    Recipe("mute:for={s}", "topic", 2, "one topic silent", (1.0, 4.0)),
    Recipe("extra:for={s}", "topic", 1, "keys and topics nobody knows", (0.5, 2.0)),
    Recipe("reset", "category", 3, "TCP reset"),
    Recipe("eof", "category", 2, "connection closed without a word"),
    Recipe("close:code=1012", "category", 2, "close frame 1012"),
    Recipe("torn", "category", 2, "reset in the middle of a frame"),
    Recipe("half-close", "category", 1, "half-closed connection"),
    Recipe("bad-utf8", "category", 1, "a frame that is not UTF-8"),
    Recipe("bad-frame", "category", 1, "a frame with a reserved opcode"),
    Recipe("oversized", "category", 0.5, "a message of 5 MiB"),
    Recipe("stall:seconds={s}", "category", 2, "silence, then everything at once", (0.5, 2.0)),
    Recipe("pings:rate=200,seconds={s}", "category", 1, "200 pings a second", (0.5, 1.5)),
    Recipe("kick:delay=0.1,for={s}", "category", 1, "the exchange accepts and kicks", (1.0, 3.0)),
    Recipe("http:status=503,n=2,for=60", "category", 1, "HTTP 503 to the next upgrades"),
    Recipe("hangup:n=1,for=60", "category", 1, "hang-up during the next upgrade"),
    Recipe("garbage:n=1,for=60", "category", 1, "garbage in answer to the next upgrade"),
    Recipe("ack-lost:for={s}", "category", 1, "acks lost", (2.0, 5.0)),
    Recipe("ack-foreign:for={s}", "category", 1, "acks with foreign ids", (2.0, 5.0)),
    Recipe("ack-late:delay=0.5,for={s}", "category", 1, "late acks", (2.0, 5.0)),
    Recipe("no-snapshot:n=1,for=30", "topic", 1, "the next snapshot lost"),
    Recipe("refuse:n=1,for=60", "topic", 0.5, "the next subscribe refused"),
    Recipe("flood:rate=2000,seconds={s}", "topic", 1, "2000 extra messages a second", (0.3, 1.0)),
    Recipe("rest-http:status=503,for={s}", "rest", 0.5, "REST answers 503", (2.0, 5.0)),
    Recipe("rest-garbage:for={s}", "rest", 0.5, "REST answers garbage", (2.0, 5.0)),
)


TLS_RECIPES: Final = (
    Recipe("certificate:how={certificate},for={s}", "tls", 2, "a bad certificate ({certificate})", (1.0, 4.0)),
)
"""For an exchange that makes its own certificates (`--tls`)."""

OUTAGES: Final = (
    Recipe("reset-upgrade:for={s}", "category", 1, "no upgrade comes through", (2.0, 8.0)),
    Recipe("silent:n=1,for=60", "category", 1, "silence in answer to the next upgrade"),
    Recipe("pong-lost:for={s}", "category", 1, "no pongs", (1.0, 3.0)),
    Recipe("black-hole:seconds={s}", "category", 1, "everything swallowed", (0.5, 3.0)),
    Recipe("goodbye", "category", 1, "a close frame, and then more data"),
)
"""For clients with short deadlines."""


def watchable() -> tuple[Recipe, ...]:
    """Those whose consequences an onlooker can see, for the demo."""
    seen = (
        "drop:",
        "corrupt",
        "cross",
        "mute",
        "reset",
        "torn",
        "close",
        "overfull",
        "stall",
        "http",
        "restart-",
    )
    return tuple(recipe for recipe in RECIPES if recipe.spec.startswith(seen))


class Chosen(msgspec.Struct, frozen=True):
    """One drawn fault: its spec, and what an onlooker is told."""

    fault: Fault
    story: str


class Chaos:
    """Draws faults. Args: topics: what may be hit, at least one; rate: faults a second, on average."""

    def __init__(self, seed: int, rate: float, topics: Sequence[Topic], recipes: Sequence[Recipe] = RECIPES) -> None:
        self._rng = random.Random(seed)
        self._rate = rate
        self._topics = list(topics)
        self._recipes = list(recipes)

    def draw(self) -> Chosen:
        """The next fault."""
        rng = self._rng
        (recipe,) = rng.choices(self._recipes, [recipe.weight for recipe in self._recipes])
        category, topic = rng.choice(self._topics)
        numbers = {"s": f"{rng.uniform(*recipe.span):.2f}", "corruption": rng.choice(CORRUPTIONS)}
        numbers["certificate"] = rng.choice(FAULTY)
        spec = recipe.spec.format(**numbers)
        scope = {
            "topic": f"category={category},topic={topic}",
            "category": f"category={category}",
            "rest": "",
            "tls": "",
        }
        if scope[recipe.scope]:
            spec += f"{',' if ':' in spec else ':'}{scope[recipe.scope]}"
        where = {"topic": f"{category} {topic}", "category": f"{category} link", "rest": "REST", "tls": "TLS"}[
            recipe.scope
        ]
        fault = parse_fault(spec)
        if fault.for_s == math.inf:  # where nobody is connected it must not wait for ever, nor pile up
            fault = msgspec.structs.replace(fault, for_s=UNUSED_S)
        return Chosen(fault, f"{where}: {recipe.story.format(**numbers)}")

    def pause_s(self) -> float:
        """Until the next: half to one and a half of the mean."""
        return self._rng.uniform(0.5, 1.5) / self._rate

    async def run(self, plan: FaultPlan, tell: Callable[[Chosen], None] = lambda chosen: None) -> NoReturn:
        """Arm fault after fault until cancelled; `tell` hears of each."""
        while True:
            await trio.sleep(self.pause_s())
            chosen = self.draw()
            plan.add(chosen.fault)
            tell(chosen)
