"""A small HTTP server for programs on this machine: hypercorn for the protocol, limits of our own around it.

hypercorn is the one maintained HTTP server that runs on Trio itself. What it leaves open is closed here: how many
connections there may be, how long one may take however slowly it reads or writes, and who may ask. One connection
serves one request. Imported only when something is to be served.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from orderflow.core.text import escape_text

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from orderflow.core.policy import HttpPolicy

    Page = Callable[[str], tuple[str, bytes]]
    Headers = Iterable[tuple[bytes, bytes]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_METHODS: Final = ("GET", "HEAD")
_VERSIONS: Final = ("1.0", "1.1")
_CLIENT: Final = "client"
_TEXT: Final = "text/plain; charset=utf-8"
_ALWAYS: Final = (
    (b"connection", b"close"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


class HttpStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to clients since start."""

    served: int
    refused: dict[str, int]  # by reason: host, origin, token, method, path, size, version, websocket, busy, request
    cut: int  # took too long
    failed: int  # ended by an error inside the HTTP library


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """Who may ask. Browsers send a page's name as Host and Origin, so neither other sites nor renamed hosts get in.

    Args: names: what clients may call this server, beside its own address; token: asked of everyone, "" for none.
    """

    names: frozenset[str] = LOOPBACK_NAMES
    token: str = ""

    def judge(self, headers: Headers, own_address: str) -> str:
        """Why a request is refused (host, origin, token); "": it is not."""
        found: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"authorization": []}
        for name, value in headers:
            if name.lower() in found:
                found[name.lower()].append(value.decode("latin-1").strip())
        hosts, origins, tokens = found.values()
        if len(hosts) != 1 or not self._is_ours(hosts[0], own_address):
            return "host"
        if any(origin.lower() != f"http://{hosts[0]}".lower() for origin in origins):
            return "origin"
        if self.token and not any(hmac.compare_digest(t.encode(), f"Bearer {self.token}".encode()) for t in tokens):
            return "token"
        return ""

    def _is_ours(self, host: str, own_address: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        if port and not (port.isascii() and port.isdigit()):
            return False
        name = name.removeprefix("[").removesuffix("]").rstrip(".").lower()
        return name in self.names or (name == own_address and _is_address(name))


class _Client(trio.abc.HalfCloseableStream):
    """One connection, as hypercorn is given it. Closing it ends all that hypercorn still waits for.

    Without that, a client whose nonsense was refused would hold its place until the time was up.
    """

    def __init__(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        self.socket = stream.socket
        self.has_asked = False  # a request could be read
        self.was_cut = False
        self._stream = stream
        self._scope = scope

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self.drop()
        await self._stream.aclose()

    def drop(self) -> None:
        self._scope.cancel()


class HttpServer:
    """Serves pages on a listening socket until cancelled.

    Args:
        listener: bound and listening; closed in the end.
        pages: path -> what makes it: called with the Accept header, returns (content type, body); must not block.
    """

    def __init__(self, listener: socket.socket, pages: Mapping[str, Page], guard: Guard, policy: HttpPolicy) -> None:
        self._listener = listener
        self._pages = pages
        self._guard = guard
        self._policy = policy
        self._config = Config()
        self._config.errorlog = log
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = policy.max_request_bytes
        self._config.keep_alive_timeout = 2 * policy.timeout_s  # `_cut` comes first
        self._app = wrap_app(self._answer, 0, "asgi")  # type: ignore[arg-type] # its types know only TypedDicts
        self._open = self._served = self._cut_off = self._failed = 0
        self._refused: dict[str, int] = {}

    async def run(self) -> NoReturn:
        """Serve for ever."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
        await trio.serve_listeners(self._connection, [listener])
        raise AssertionError("serve_listeners never returns")

    def statistics(self) -> HttpStatistics:
        return HttpStatistics(served=self._served, refused=dict(self._refused), cut=self._cut_off, failed=self._failed)

    # --- connections

    async def _connection(self, stream: trio.SocketStream) -> None:
        if self._open >= self._policy.max_connections:
            self._count_refusal("busy")
            stream.socket.close()
            return
        self._open += 1
        try:
            async with trio.open_nursery() as nursery:
                client = _Client(stream, nursery.cancel_scope)
                nursery.start_soon(self._cut, client)
                state = ConnectionState({_CLIENT: client})
                await TCPServer(self._app, self._config, WorkerContext(None), state, client)  # type: ignore[arg-type] # any stream will do
                client.drop()
            if not (client.has_asked or client.was_cut):
                self._count_refusal("request")
        except Exception as error:  # noqa: BLE001 - a client's nonsense and another's library: neither may end the program
            self._failed += 1
            log.warning("an HTTP connection failed: %s", escape_text(repr(error)))
        finally:
            self._open -= 1

    async def _cut(self, client: _Client) -> None:
        """End a connection that takes too long. hypercorn shields its sending: only a closed socket ends that."""
        try:
            await trio.sleep(self._policy.timeout_s)
            self._cut_off += 1
            client.was_cut = True
            client.drop()
        finally:
            client.socket.close()

    # --- requests

    async def _answer(self, scope: dict[str, Any], receive: object, send: Send) -> None:
        client: _Client = scope["state"][_CLIENT]
        client.has_asked = True
        if scope["http_version"] not in _VERSIONS:  # HTTP/2 would carry any number of requests at once
            self._count_refusal("version")
            client.drop()
            return
        own_address = (scope.get("server") or ("",))[0]
        reason = self._guard.judge(scope["headers"], own_address)
        if scope["type"] == "websocket":
            self._count_refusal(reason or "websocket")
            await send({"type": "websocket.close"})
            return
        method, page = scope["method"], self._pages.get(scope["path"])
        if _size(scope) > self._policy.max_request_bytes:  # h11 looks at the size of unfinished heads only
            reason, status = "size", 431
        elif reason:
            status = 401 if reason == "token" else 403
        elif method not in _METHODS:
            reason, status = "method", 405
        elif page is None:
            reason, status = "path", 404
        else:
            content_type, body = page(_header(scope["headers"], b"accept"))
            self._served += 1
            await _respond(send, 200, content_type, body)
            return
        self._count_refusal(reason)
        extra = {405: [(b"allow", b"GET, HEAD")], 401: [(b"www-authenticate", b"Bearer")]}.get(status, [])
        await _respond(send, status, _TEXT, f"{status} {reason}\n".encode(), extra)

    def _count_refusal(self, reason: str) -> None:
        self._refused[reason] = self._refused.get(reason, 0) + 1


async def _respond(
    send: Send, status: int, content_type: str, body: bytes, extra: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *_ALWAYS,
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _size(scope: dict[str, Any]) -> int:
    head = sum(len(name) + len(value) for name, value in scope["headers"])
    return head + len(scope.get("raw_path", b"")) + len(scope.get("query_string", b""))


def _header(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
