"""The JSON ping of a connection, sans-IO: when one is due, and when silence is a verdict. Public and private alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.core.errors import HeartbeatLost
from orderflow.core.units import seconds_to_ns

if TYPE_CHECKING:
    from orderflow.core.policy import LinkPolicy


class Heartbeat:
    """One ping at a time: the next is due only after the pong of the last, so a peer cannot put off the verdict.

    The owner sets `last_frame_ns` whenever anything came, and calls `on_time` no later than `due_ns`.
    """

    __slots__ = ("_ping_due_ns", "_policy", "_pong_due_ns", "last_frame_ns", "pongs")

    def __init__(self, policy: LinkPolicy) -> None:
        self.last_frame_ns = 0
        self.pongs = 0
        self._policy = policy
        self._ping_due_ns = 0
        self._pong_due_ns: int | None = None

    def start(self, mono_ns: int) -> None:
        """The connection is up."""
        self.last_frame_ns = mono_ns
        self._ping_due_ns = mono_ns + seconds_to_ns(self._policy.ping_interval_s)

    def pong(self) -> None:
        """The peer answered."""
        self.pongs += 1
        self._pong_due_ns = None

    @property
    def due_ns(self) -> int:
        idle_ns = self.last_frame_ns + seconds_to_ns(self._policy.idle_timeout_s)
        return min(idle_ns, self._ping_due_ns if self._pong_due_ns is None else self._pong_due_ns)

    def on_time(self, mono_ns: int) -> bool:
        """Returns: whether a ping must be sent now. Raises: HeartbeatLost."""
        policy = self._policy
        if self._pong_due_ns is not None and mono_ns >= self._pong_due_ns:
            raise HeartbeatLost(f"no pong in {policy.pong_timeout_s:g} s", reason="pong")
        if mono_ns - self.last_frame_ns >= seconds_to_ns(policy.idle_timeout_s):
            raise HeartbeatLost(f"no frame in {policy.idle_timeout_s:g} s", reason="idle")
        if self._pong_due_ns is not None or mono_ns < self._ping_due_ns:
            return False
        self._ping_due_ns = mono_ns + seconds_to_ns(policy.ping_interval_s)
        self._pong_due_ns = mono_ns + seconds_to_ns(policy.pong_timeout_s)
        return True

    def forgive(self, mono_ns: int) -> None:
        """We stood still until now: the peer gets its whole time again."""
        self.last_frame_ns = mono_ns
        if self._pong_due_ns is not None:
            self._pong_due_ns = mono_ns + seconds_to_ns(self._policy.pong_timeout_s)
