"""The control port: HTTP under `/sim/` on the exchange's own port, to arm faults and to look behind the scenes.

Only for this machine: other addresses, foreign `Host` names and requests of web pages (`Origin`) are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

import msgspec

from orderflow.core.errors import ConfigError
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.faultlist import Stage, kinds_table, parse_fault
from orderflow.sim.rest import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.sim.backend import TrueBook
    from orderflow.sim.faultplan import FaultPlan

CONTROL_PATH: Final = "/sim/"
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
DEEPEST: Final = 1000


class Controlled(Protocol):
    """The server, as far as the control port needs it."""

    paused: bool
    makes_certificates: bool

    @property
    def plan(self) -> FaultPlan: ...

    def true_book(self, instrument: InstrumentId, depth: int) -> TrueBook: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def statistics(self) -> Any: ...


class Refused(Exception):
    """Becomes an HTTP status with this text."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class Control:
    """Answers requests under `/sim/` (docs/simulator.md)."""

    def __init__(self, server: Controlled) -> None:
        self._server = server
        self._routes: dict[tuple[str, str], Callable[[dict[str, str], str], Any]] = {
            ("GET", "faults"): lambda query, body: self._listing(),
            ("POST", "faults"): self._arm,
            ("DELETE", "faults"): self._disarm,
            ("GET", "kinds"): lambda query, body: kinds_table(),
            ("POST", "pause"): lambda query, body: self._pause(paused=True),
            ("POST", "resume"): lambda query, body: self._pause(paused=False),
            ("GET", "book"): self._book,
            ("GET", "statistics"): lambda query, body: self._statistics(),
        }

    def respond(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, *, local: bool
    ) -> Response:
        """The JSON answer to one request. Never raises."""
        try:
            _check_origin({name.lower(): value for name, value in headers}, local=local)
            parts = urlsplit(target)
            path = parts.path.removeprefix(CONTROL_PATH).strip("/")
            route = self._routes.get((method, path.partition("/")[0]))
            if route is None:
                known = ", ".join(f"{verb} {CONTROL_PATH}{name}" for verb, name in self._routes)
                raise Refused(404, f"there are: {known}")
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
            query["path"] = path.partition("/")[2]
            return _json(200, route(query, body.decode("utf-8", "replace")))
        except Refused as refused:
            return _json(refused.status, {"error": str(refused)})
        except ConfigError as error:
            return _json(400, {"error": str(error)})

    def _plan(self) -> FaultPlan:
        try:
            return self._server.plan
        except TypeError as error:
            raise Refused(409, str(error)) from error

    def _listing(self) -> dict[str, Any]:
        plan = self._plan()
        return {"faults": plan.listing(), "happened": plan.counts}

    def _arm(self, query: dict[str, str], body: str) -> dict[str, Any]:
        faults = [parse_fault(spec) for spec in _specs(body)]
        if not faults:
            raise Refused(400, "the body holds one fault per line, such as drop:topic=orderbook.50.BTCUSDT,n=1")
        if any(fault.kind.stage is Stage.TLS for fault in faults) and not self._server.makes_certificates:
            raise Refused(409, "this exchange makes no certificates: start it with --tls")
        plan = self._plan()
        return {"armed": [{"number": plan.add(fault), "fault": str(fault)} for fault in faults]}

    def _disarm(self, query: dict[str, str], body: str) -> dict[str, Any]:
        plan = self._plan()
        number = query["path"]
        if not number:
            plan.clear()
            return {"faults": plan.listing()}
        if not number.isdecimal() or not plan.remove(int(number)):
            raise Refused(404, "no armed fault has this number")
        return {"faults": plan.listing()}

    def _pause(self, *, paused: bool) -> dict[str, Any]:
        (self._server.pause if paused else self._server.resume)()
        return {"paused": paused}

    def _book(self, query: dict[str, str], body: str) -> dict[str, Any]:
        category, symbol, depth = query.get("category", ""), query.get("symbol", ""), query.get("depth", "50")
        if category not in tuple(Category) or not depth.isdecimal() or not 1 <= int(depth[:9]) <= DEEPEST:
            raise Refused(400, "expected category=linear|inverse|spot, symbol=... and depth=1...1000")
        try:
            book = self._server.true_book(InstrumentId(Category(category), symbol), int(depth))
        except KeyError:
            raise Refused(404, "no such symbol here") from None
        return {"category": category, "symbol": symbol, **msgspec.to_builtins(book)}

    def _statistics(self) -> dict[str, Any]:
        return {**msgspec.to_builtins(self._server.statistics()), "paused": self._server.paused}


def _check_origin(headers: dict[str, str], *, local: bool) -> None:
    """No other machine, and no web page that runs on this one."""
    host = headers.get("host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if not local or name.lower() not in LOCAL_HOSTS or "origin" in headers:
        raise Refused(403, "the control port is for programs on this machine")


def _specs(body: str) -> list[str]:
    """One spec per line, or a JSON list of them."""
    if body.lstrip().startswith("["):
        try:
            return msgspec.json.decode(body, type=list[str])
        except msgspec.DecodeError as error:
            raise Refused(400, f"not a JSON list of texts: {error}") from None
    return [line.strip() for line in body.splitlines() if line.strip()]


def _json(status: int, value: Any) -> Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
    return Response(status, (("Content-Type", "application/json"), ("Cache-Control", "no-store")), body)
