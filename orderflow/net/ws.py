"""One WebSocket link: opened under one deadline, ended for a named reason, never left hanging.

The only file that imports trio_websocket. Its errors, wsproto's and h11's never leave it.

    async with open_ws(url, on_batch, policy) as link:
        await link.send('{"op": "ping"}')
        await link.wait_closed()

Messages come by `on_batch`, all of one socket read at once. The block is cancelled when the link ends, and `open_ws`
then raises why, as one exception.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn, cast

import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError, RemoteProtocolError

from orderflow.core.errors import ConnectFailed, ConnectionLost, OrderflowError, ProtocolViolation, TransientFeedError
from orderflow.core.text import escape_text
from orderflow.net.dial import Endpoint, dial_tcp, make_ssl_context, parse_endpoint
from orderflow.net.tap import STALL_S, TappedStream, read_clocks
from orderflow.net.tls import start_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from orderflow.core.policy import LinkPolicy
    from orderflow.net.frames import FrameCutter
    from orderflow.net.tap import Clock, LinkStatistics, OnBatch

    Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]
    MakeTap = Callable[[trio.abc.Stream], TappedStream]
    Headers = Iterable[tuple[str, str]]
    _Connection = trio_websocket.WebSocketConnection

_LIBRARY_ERRORS: Final = (
    trio_websocket.HandshakeError,
    trio_websocket.ConnectionClosed,
    ProtocolError,
    h11.ProtocolError,
)
_NORMAL: Final = 1000

_default_ssl_context = cache(make_ssl_context)


class WebSocketLink:
    """An open link. Made by `open_ws`."""

    def __init__(
        self, connection: trio_websocket.WebSocketConnection, tap: TappedStream, send_timeout_s: float
    ) -> None:
        self._connection = connection
        self._tap = tap
        self._send_timeout_s = send_timeout_s

    async def send(self, message: str | bytes) -> None:
        """Send one message, text or binary. Cancelled or too slow, it drops the link: half a frame may have left.

        Raises: ConnectionLost, or whatever else ended the link.
        """
        try:
            with trio.fail_after(self._send_timeout_s):
                await self._connection.send_message(message)
        except trio.TooSlowError:
            lost = ConnectionLost(f"could not send for {self._send_timeout_s:g} s", reason="send")
            raise self._tap.fail(lost) from None
        except _LIBRARY_ERRORS as error:
            raise self._tap.lost() from error

    async def wait_closed(self) -> NoReturn:
        """Wait until the link ends.

        Raises: why it ended: ConnectionLost, ProtocolViolation, or what `on_batch` raised.
        """
        await self._tap.ended.wait()
        raise self._tap.lost()

    def statistics(self) -> LinkStatistics:
        """Counts so far, and when anything last came."""
        return self._tap.statistics()


@asynccontextmanager
async def open_ws(
    url: str,
    on_batch: OnBatch,
    policy: LinkPolicy,
    *,
    dial: Dial | None = None,
    ssl_context: ssl.SSLContext | None = None,
    extra_headers: Headers = (),
    clock: Clock = read_clocks,
    cutter: FrameCutter | None = None,
    answer_s: float = 0.0,
) -> AsyncIterator[WebSocketLink]:
    """Open a link for the time of the block; see the module's text.

    Args:
        url: ws:// or wss://.
        on_batch: called with (messages as UTF-8 bytes, wall clock ns, monotonic ns) for every read that completed
            messages, only while the block is open. Synchronous; an OrderflowError it raises ends the link.
        policy: `open_timeout_s` covers DNS, TCP, TLS and upgrade together; `close_timeout_s` bounds leaving.
        dial: makes the transport, TCP by default; TLS for wss:// goes on top of it either way.
        ssl_context: for wss://; by default one that verifies everything.
        clock: returns (wall clock ns, monotonic ns).
        cutter: new, with rules of its own; by default text only, `policy.max_message_bytes` long at most.
        answer_s: how long the block may go on sending after a violation of the peer's when messages came right before
            it. A feed has nothing to answer, so by default the link ends at once.

    Raises: ConnectFailed (reason: dns, refused, unreachable, tls, timeout, closed, garbage, stall) or UpgradeRefused
        on entry; afterwards what ended the link. Errors of the block leave ungrouped when there is just one.
    """
    opening = _Opening(parse_endpoint(url), policy, dial or dial_tcp, ssl_context)
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            drop = nursery.cancel_scope.cancel

            def tap(stream: trio.abc.Stream) -> TappedStream:
                return TappedStream(stream, on_batch, policy, clock, drop, cutter=cutter, answer_s=answer_s)

            link = await opening.run(nursery, tap, extra_headers)
            yield link
            opening.retire()
            nursery.cancel_scope.cancel(reason="link left")
    except BaseExceptionGroup as group:
        error = opening.one_error(group)
    finally:
        await opening.shut()
    if error is None:
        error = opening.failure
    if error is not None:
        raise error from error.__cause__


class _Opening:
    """The life of one stream: dialled, upgraded, shut. `stage` says what is being waited for."""

    def __init__(self, endpoint: Endpoint, policy: LinkPolicy, dial: Dial, context: ssl.SSLContext | None) -> None:
        self._endpoint = endpoint
        self._policy = policy
        self._dial = dial
        self._context = context
        self._stream: trio.abc.Stream | None = None
        self._tap: TappedStream | None = None
        self._is_open = False
        self._stage = f"no connection to {endpoint}"

    @property
    def failure(self) -> OrderflowError | None:
        return self._tap.failure if self._tap is not None else None

    def retire(self) -> None:
        if self._tap is not None:
            self._tap.retire()

    async def run(self, nursery: trio.Nursery, make_tap: MakeTap, headers: Headers) -> WebSocketLink:
        """Open under the one deadline."""
        timeout_s = self._policy.open_timeout_s
        try:
            with trio.fail_after(timeout_s) as scope:
                stream = await self._connect()
                tap = self._tap = make_tap(stream)
                connection = await self._upgrade(nursery, tap, headers)
        except trio.TooSlowError:
            late_s = trio.current_time() - scope.deadline
            if late_s > STALL_S:  # the answer may be here, unread: no verdict on the peer
                what = f"the program stood still for {late_s:.1f} s while connecting"
                raise ConnectFailed(what, reason="stall") from None
            received = f"; {self._tap.first_bytes()}" if self._tap is not None else ""
            raise ConnectFailed(f"{self._stage} after {timeout_s:g} s{received}", reason="timeout") from None
        self._is_open = True
        tap.release()
        return WebSocketLink(connection, tap, self._policy.send_timeout_s)

    async def _connect(self) -> trio.abc.Stream:
        endpoint = self._endpoint
        stream = self._stream = await self._dial(endpoint.host, endpoint.port)
        if endpoint.tls:
            self._stage = f"no TLS handshake with {endpoint}"
            stream = self._stream = await start_tls(stream, endpoint.host, self._context or _default_ssl_context())
        return stream

    async def _upgrade(self, nursery: trio.Nursery, tap: TappedStream, headers: Headers) -> _Connection:
        self._stage = "no answer to upgrade"
        return await trio_websocket.wrap_client_stream(
            nursery,
            cast("trio.SocketStream", tap),  # any stream will do, as its own documentation says
            self._endpoint.host_header,
            self._endpoint.target,
            extra_headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in headers],
        )

    async def shut(self) -> None:
        """Say goodbye if there is anybody to say it to, within the deadline; then close, whatever happened."""
        if self._stream is None:
            return
        if self._tap is not None and self._is_open:
            with trio.move_on_after(self._policy.close_timeout_s, shield=True):
                await self._tap.say_goodbye(self._close_code())
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def _close_code(self) -> int:
        return self.failure.close_code if isinstance(self.failure, ProtocolViolation) else _NORMAL

    def one_error(self, group: BaseExceptionGroup[BaseException]) -> BaseException:
        """The one error a group stands for; the group itself when it holds more, or only cancellation."""
        errors = [self._translate(leaf) for leaf in _leaves(group) if not isinstance(leaf, trio.Cancelled)]
        if len(errors) == 1:
            return errors[0]
        if not errors or not all(isinstance(error, OrderflowError) for error in errors):
            return group
        final = [error for error in errors if not isinstance(error, TransientFeedError)]
        return (final or [self.failure or errors[0]])[0]

    def _translate(self, error: BaseException) -> BaseException:
        """trio-websocket's reader task lets errors of three libraries out."""
        if not isinstance(error, _LIBRARY_ERRORS):
            return error
        cause = _remote_reason(error)
        translated: TransientFeedError
        if self._is_open or self._tap is None:
            translated = ConnectionLost(escape_text(str(cause)))
        else:
            what = f"upgrade answer not accepted: {escape_text(str(cause))}; {self._tap.first_bytes()}"
            translated = ConnectFailed(what, reason="garbage")
        translated.__cause__ = error
        return translated


def _remote_reason(error: BaseException) -> BaseException:
    """Refusing an answer, trio-websocket sends a refusal in turn, which h11 forbids: the reason is further down."""
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, RemoteProtocolError):
        reason = reason.__context__
    return reason or error


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
