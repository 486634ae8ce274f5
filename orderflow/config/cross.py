"""Checks that need more than one setting."""

from __future__ import annotations

import os
from ipaddress import ip_address
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orderflow.config.origin import BUILT_IN, Origin, Source
from orderflow.config.problems import problem, value_text
from orderflow.config.values import PLACEHOLDER, is_plain_and_remote
from orderflow.core.types import parse_instrument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orderflow.config.tree import Settings

_START: Final = "plugins.isolated_start_s"

_ORDER: Final = (
    ("feed.ping_interval_s", "feed.idle_timeout_s", "less than"),  # else a quiet, healthy link is taken for dead
    ("feed.pong_timeout_s", "feed.idle_timeout_s", "less than"),
    ("retry.base_s", "retry.cap_s", "at most"),
    ("retry.refused_pause_s", "retry.refused_cap_s", "at most"),
    ("clock.interval_s", "clock.window_s", "at most"),
    ("watch.stall_s", "watch.hang_s", "less than"),
    ("stop_timeout_s", "watch.stop_hang_s", "less than"),
    (_START, "watch.hang_s", "less than"),  # else the watchdog ends the program before
    ("plugins.budget_ms", "plugins.disable_over_ms", "at most"),
)


class Cross(msgspec.Struct, frozen=True):
    """The whole tree with its origins. `refused` keys have a problem already, so nothing is said about them again."""

    settings: Settings
    origins: Mapping[str, Origin]
    refused: set[str]

    def problems(self) -> Iterator[str]:
        """One line for every contradiction."""
        yield from self._order()
        yield from self._credentials()
        yield from self._addresses()
        if (file := self.settings.bybit.ca_file) and not os.path.isfile(file):
            yield self._problem("bybit.ca_file", "expected the path of a file that exists", show=True)
        yield from self._symbols()
        yield from self._metrics_http()

    def _order(self) -> Iterator[str]:
        for low, high, words in _ORDER:
            if self._refused(low, high) or (low == _START and not self.settings.plugins.isolated):
                continue
            small, large = self._value(low), self._value(high)
            if not (small < large if words == "less than" else small <= large):
                expected = f"expected {words} {high}, which is {value_text(large)} ({self._origin(high)})"
                yield self._problem(low, expected, show=True)

    def _credentials(self) -> Iterator[str]:
        pair = ("bybit.api_key", "bybit.api_secret")
        if self._refused(*pair):
            return
        for here, other in (pair, pair[::-1]):
            if self._value(here) and not self._value(other):
                yield self._problem(here, f"expected {other} as well: one is no use without the other")

    def _addresses(self) -> Iterator[str]:
        bybit = self.settings.bybit
        for key in ("bybit.public_ws_url", "bybit.private_ws_url", "bybit.rest_url"):
            if (
                self._refused(key, "bybit.allow_plain")
                or bybit.allow_plain
                or not is_plain_and_remote(self._value(key))
            ):
                continue
            secure = "https" if self._value(key).startswith("http:") else "wss"
            expected = f"expected {secure}:// for another machine, or bybit.allow_plain = true"
            yield self._problem(key, expected, show=True)

    def _metrics_http(self) -> Iterator[str]:
        """Nobody else reads our counters unless that is wanted, and then only with a token."""
        keys = ("metrics_http.host", "metrics_http.allow_remote", "metrics_http.token")
        if self._refused(*keys):
            return
        host, allowed, token = map(self._value, keys)
        try:
            loopback = host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            yield self._problem(keys[0], "expected an IP address of this machine, or localhost", show=True)
            return
        if not loopback and not (allowed and token):
            expected = "expected 127.0.0.1 or ::1; for others metrics_http.allow_remote = true and metrics_http.token"
            yield self._problem(keys[0], expected, show=True)

    def _symbols(self) -> Iterator[str]:
        if self._refused("symbols", "category"):
            return
        instruments = [parse_instrument(symbol, self.settings.category) for symbol in self.settings.symbols]
        twice = sorted({str(one) for one in instruments if instruments.count(one) > 1})
        if twice:
            yield self._problem("symbols", f"expected every symbol once; {', '.join(twice)} is there twice", show=True)
        categories = sorted({one.category for one in instruments})
        url = "bybit.public_ws_url"
        if len(categories) > 1 and not self._refused(url) and PLACEHOLDER not in self._value(url):
            expected = f"expected {PLACEHOLDER} in it: symbols of {' and '.join(categories)} are asked for"
            yield self._problem(url, expected, show=True)

    def _problem(self, key: str, expected: str, *, show: bool = False) -> str:
        origin = self._origin(key)
        shown = value_text(self._value(key)) if show and origin.source is not Source.SECRETS else ""
        return problem(origin, key, expected, shown)

    def _refused(self, *keys: str) -> bool:
        return not self.refused.isdisjoint(keys)

    def _value(self, key: str) -> Any:
        return attrgetter(key)(self.settings)

    def _origin(self, key: str) -> Origin:
        return self.origins.get(key, BUILT_IN)
