"""The whole exception tree: a class names what happens next, its fields carry the facts.

Nothing parses a message to decide: messages are for people.
"""

from __future__ import annotations


class OrderflowError(Exception):
    """Root of everything this program raises on purpose."""


class ConfigError(OrderflowError):
    """Settings or usage are wrong: exit code 2 and nothing is connected.

    Args: problems: one line each (source, key, value, what was expected), at least one.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class MisuseError(OrderflowError):
    """Our own code broke a rule of our own code."""


class PluginError(OrderflowError):
    """A plugin cannot be loaded or used. `plugin` names it, `path` its file when it has one."""

    def __init__(self, plugin: str, reason: str, path: str = "") -> None:
        self.plugin = plugin
        self.reason = reason
        self.path = path
        super().__init__(f"plugin {plugin}: {reason}" + (f" ({path})" if path else ""))


class WireError(OrderflowError):
    """The peer sent a message that is not what the protocol allows; the message is refused whole.

    Args:
        reason: a short fixed word used as counter label: json, shape, number, topic, depth, symbol, size, ...
        detail: what was wrong, for people; may hold text from outside, escape it before showing.
        topic: the topic the message belonged to, when that much could be read ("" otherwise).
    """

    def __init__(self, reason: str, detail: str, topic: str = "") -> None:
        self.reason = reason
        self.detail = detail
        self.topic = topic
        super().__init__(f"{reason}: {detail}")


class TransientFeedError(OrderflowError):
    """The link is lost or cannot be had now: back off and connect again.

    `reason` is a short fixed word (counter label); `detail` is for people and may hold text from outside.
    """

    reason = "lost"

    def __init__(self, detail: str = "", *, reason: str | None = None) -> None:
        if reason is not None:
            self.reason = reason
        self.detail = detail
        super().__init__(f"{self.reason}: {detail}" if detail else self.reason)


class ConnectFailed(TransientFeedError):
    """No usable connection came up (dns, refused, unreachable, tls, timeout, closed, status, garbage)."""

    reason = "connect"


class UpgradeRefused(ConnectFailed):
    """The peer answered the WebSocket upgrade with another HTTP status.

    Args: status: HTTP status code; retry_after_s: what `Retry-After` asks for, if it could be understood.
    """

    reason = "status"

    def __init__(self, status: int, detail: str = "", retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(detail or f"HTTP {status} instead of an upgrade")


class ConnectionLost(TransientFeedError):
    """An open connection ended: end of stream, reset, a send that did not get through, or a close frame.

    Args: code: of the peer's close frame (1005: it carried none); None when there was no close frame.
    """

    reason = "closed"

    def __init__(self, detail: str = "", *, reason: str | None = None, code: int | None = None) -> None:
        self.code = code
        super().__init__(detail, reason=reason)


class ProtocolViolation(TransientFeedError):
    """The peer broke RFC 6455 or a limit of ours; `close_code` is what we close with (1002, 1007, 1009)."""

    reason = "protocol"

    def __init__(self, close_code: int, detail: str) -> None:
        self.close_code = close_code
        super().__init__(detail)


class HeartbeatLost(TransientFeedError):
    """No pong, or no frame at all, within the deadline."""

    reason = "heartbeat"


class SyncFailed(TransientFeedError):
    """A topic could not be brought in sync by resubscribing it: the link is dropped."""

    reason = "unstable"


class FeedOverrun(TransientFeedError):
    """Messages came faster than they were handled and the bounded queue is full."""

    reason = "overrun"


class FatalFeedError(OrderflowError):
    """Trying again cannot help: stop."""


class AuthRejected(FatalFeedError):
    """The exchange refused the credentials (exit code 3)."""


class RecordingError(OrderflowError):
    """A recording cannot be read (further), or written.

    Args: path: the file; offset: of the first byte that is wrong; reason: a short fixed word (empty, foreign, torn,
        version, header, block, missing, ...); detail: what is wrong, for people.
    """

    def __init__(self, path: str, offset: int, reason: str, detail: str) -> None:
        self.path = path
        self.offset = offset
        self.reason = reason
        self.detail = detail
        super().__init__(f"{path}: at byte {offset}: {detail}")
