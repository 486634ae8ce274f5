"""TLS of the exchange with certificates of its own making: a good one, and the ones no client may accept.

Everything is made anew at each start, lives in memory, and is signed by an authority that signs nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class OwnTls:
    """`context` is for the listener; `faulty` is asked at each handshake what shall be wrong: `name` (another host's),
    `expired`, `early` (not begun), `unknown` (of an authority nobody trusts), or "" for the good one.

    Args: host: the name or address clients will use.
    """

    def __init__(self, host: str) -> None:
        from orderflow.sim.certificates import DAY, Authority

        self._host = host
        self._authority = Authority()
        self._wrong: dict[str, ssl.SSLContext] = {}
        self.faulty: Callable[[], str] = lambda: ""
        self.context = self._authority.issue(host, -DAY, 365 * DAY)
        self.context.sni_callback = self._choose

    @property
    def authority_pem(self) -> bytes:
        return self._authority.pem

    def _choose(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        """Called by `ssl` in the middle of every handshake, with or without a name in it."""
        way = self.faulty()
        if way:
            if way not in self._wrong:
                self._wrong[way] = self._misissue(way)
            handshake.context = self._wrong[way]

    def _misissue(self, way: str) -> ssl.SSLContext:
        from orderflow.sim.certificates import DAY, Authority

        match way:
            case "name":
                return self._authority.issue("elsewhere.invalid", -DAY, 365 * DAY)
            case "expired":
                return self._authority.issue(self._host, -2 * DAY, -DAY)
            case "early":
                return self._authority.issue(self._host, DAY, 2 * DAY)
            case _:
                return Authority().issue(self._host, -DAY, 365 * DAY)
