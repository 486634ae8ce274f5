"""What comes back from httpx: bodies of bounded size, and its errors as ours."""

from __future__ import annotations

import socket
import ssl
import zlib
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from orderflow.bybit.rest import RestError, RestRefused, RestUnavailable
from orderflow.core.errors import WireError
from orderflow.core.text import escape_text

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import httpx

T = TypeVar("T")

MAX_BODY_BYTES: Final = 16 * 1024 * 1024


async def read_body(response: httpx.Response) -> bytes:
    """The whole body, decompressed, but never more than MAX_BODY_BYTES of it."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise WireError("shape", f"content-encoding {escape_text(encoding, 40)}")
    body = _Body(gzipped=encoding == "gzip")
    # Leaving the loop early would leave httpx's generators to the garbage collector; a cancellation unwinds them.
    with trio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            if not body.take(chunk):
                scope.cancel()
    return body.finish()


class _Body:
    """Collects a body of bounded size."""

    def __init__(self, *, gzipped: bool) -> None:
        self._unzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if gzipped else None
        self._data = bytearray()
        self._failure: WireError | None = None

    def take(self, chunk: bytes) -> bool:
        """Whether more is wanted."""
        if self._failure is not None:
            return False
        room = MAX_BODY_BYTES + 1 - len(self._data)
        try:
            self._data += chunk if self._unzip is None else self._unzip.decompress(chunk, room)
        except zlib.error:
            self._failure = WireError("shape", "body is no gzip")
        if len(self._data) > MAX_BODY_BYTES:
            self._failure = WireError("size", f"body over {MAX_BODY_BYTES} bytes")
        return self._failure is None

    def finish(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self._unzip is not None and not self._unzip.eof:
            raise RestUnavailable("body cut short", reason="closed")
        return bytes(self._data)


async def translated(work: Awaitable[T], nonsense: str) -> T:
    """Await `work`, with httpx's errors as ours; `nonsense` is the reason when the peer breaks HTTP meanwhile.

    Ours leave from outside the handler, so that nothing of httpx's error, which holds the signed request, is kept.
    """
    import httpx

    failure: RestError
    try:
        return await work
    except httpx.HTTPError as error:
        failure = _translate(error, nonsense)
    except httpx.InvalidURL:
        failure = RestRefused("not a usable address", reason="redirect", ret_code=0)
    raise failure


def _translate(error: httpx.HTTPError, nonsense: str) -> RestUnavailable:
    """httpx's error as ours, named after what is at the bottom of it."""
    import h11
    import httpx

    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return RestUnavailable(escape_text(cause.strerror or str(cause)), reason="dns")
        if isinstance(cause, ssl.SSLError):
            text = getattr(cause, "verify_message", "") or cause.reason or str(cause)
            return RestUnavailable(escape_text(text), reason="tls")
        if isinstance(cause, ConnectionRefusedError):
            return RestUnavailable("connection refused", reason="refused")
        if isinstance(cause, h11.RemoteProtocolError):
            return RestUnavailable(escape_text(str(cause)), reason=nonsense)
    reason = "connect" if isinstance(error, httpx.ConnectError) else "closed"
    return RestUnavailable(escape_text(str(error) or type(error).__name__), reason=reason)


def _causes(error: BaseException) -> list[BaseException]:
    """An error and all that led to it, outermost first."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        current = waiting.pop(0)
        if any(current is known for known in seen):
            continue
        seen.append(current)
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        waiting.extend(cause for cause in (current.__cause__, current.__context__) if cause is not None)
    return seen
