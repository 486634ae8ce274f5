"""The frozen settings tree. What a setting is called in settings.toml is what it is called here.

`[default.feed]` decodes into `Settings.feed`, `ORDERFLOW_FEED__PING_INTERVAL_S` overrides one leaf.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from orderflow.config.secrets import Secret  # noqa: TC001 - msgspec resolves the annotation at run time
from orderflow.core.policy import (
    BookPolicy,
    ClockPolicy,
    Count,
    HttpPolicy,
    LinkPolicy,
    MetricsPolicy,
    Positive,
    QueuePolicy,
    RecordPolicy,
    RetryPolicy,
    WatchPolicy,
)
from orderflow.core.types import Category, InstrumentId, parse_instrument

Environment = Literal["mainnet", "testnet", "demo_trading", "sim"]


class Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every settings table."""


class BybitSettings(Frozen, frozen=True):
    """Where the exchange is. `{category}` is replaced; an empty private_ws_url or rest_url: not used."""

    public_ws_url: str = "wss://stream.bybit.com/v5/public/{category}"
    private_ws_url: str = "wss://stream.bybit.com/v5/private"
    rest_url: str = "https://api.bybit.com"
    allow_plain: bool = False  # ws:// and http:// to other machines: only for tests on a network you trust
    ca_file: str = ""  # extra PEM bundle to trust
    api_key: Secret | None = None
    api_secret: Secret | None = None  # HMAC secret, or an RSA private key in PEM form
    recv_window_ms: Annotated[int, Meta(ge=1, le=60_000)] = 5000
    auth_expires_s: Annotated[float, Meta(gt=0, le=300)] = 10.0
    rest_timeout_s: Positive = 5.0


class PluginSettings(Frozen, frozen=True):
    """Which plugins run, how far they are trusted. Any other key of [plugins] is a plugin's own table -> `tables`."""

    enabled: tuple[str, ...] = ("spread", "latency", "liquidity")
    folders: tuple[str, ...] = ()
    entry_points: bool = True
    max_failures: Count = 5  # in a row, then disabled
    budget_ms: Positive = 20.0  # one call; over it is warned about
    disable_over_ms: Positive = 1000.0  # one call; far over disables the plugin
    max_alerts_per_call: Count = 100
    isolated: tuple[str, ...] = ()  # each of these runs in a process of its own
    isolated_start_s: Positive = 10.0  # starting that process and loading the plugin
    isolated_answer_s: Positive = 5.0  # one call; over it the process is ended
    isolated_restarts: Annotated[int, Meta(ge=0, le=1000)] = 3  # then disabled
    isolated_memory_mb: Annotated[int, Meta(ge=0, le=10**7)] = 2048  # address space of that process; 0: no limit
    tables: dict[str, dict[str, Any]] = {}  # [plugins.<name>], typed by the plugin's own Config

    def __repr__(self) -> str:
        """Tables by name only: what is secret in them, only their plugin knows."""
        return f"PluginSettings(enabled={self.enabled}, folders={self.folders}, tables=of {sorted(self.tables)})"


class MetricsHttpSettings(HttpPolicy, frozen=True, kw_only=True):
    """Prometheus' /metrics. Reachable from other machines only with `allow_remote` and a token."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 0  # 0: none
    host: str = "127.0.0.1"
    allow_remote: bool = False
    allowed_hosts: tuple[str, ...] = ()  # more names clients may call this machine by
    token: Secret | None = None  # asked of every client when set


class SimSettings(Frozen, frozen=True):
    """The embedded exchange of `orderflow demo` and `orderflow sim`."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 7
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0  # 0: any free port


class ViewSettings(Frozen, frozen=True):
    """The live terminal view."""

    refresh_s: Annotated[float, Meta(ge=0.05, le=10)] = 0.25
    levels: Annotated[int, Meta(ge=1, le=50)] = 20


class Settings(Frozen, frozen=True):
    """The whole effective configuration of one run."""

    env: Environment = "mainnet"
    symbols: tuple[str, ...] = ("BTCUSDT",)  # `BTCUSDT` (in `category`) or `spot:BTCUSDT`
    category: Category = Category.LINEAR
    depth: Literal[1, 50, 200, 1000] = 50
    interval_s: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    duration_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  # 0: until stopped
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["human", "json"] = "human"
    emoji: Literal["auto", "always", "never"] = "auto"
    max_outage_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  # without the exchange: exit code 4; 0: never
    busy_poll: bool = False  # never let the event loop sleep: a whole core for less latency
    stop_timeout_s: Positive = 2.0
    stats_interval_s: Annotated[float, Meta(ge=0.1, le=86_400)] = 60.0
    bybit: BybitSettings = BybitSettings()
    feed: LinkPolicy = LinkPolicy()
    retry: RetryPolicy = RetryPolicy()
    book: BookPolicy = BookPolicy()
    metrics: MetricsPolicy = MetricsPolicy()
    clock: ClockPolicy = ClockPolicy()
    queues: QueuePolicy = QueuePolicy()
    watch: WatchPolicy = WatchPolicy()
    record: RecordPolicy = RecordPolicy()
    plugins: PluginSettings = PluginSettings()
    sim: SimSettings = SimSettings()
    view: ViewSettings = ViewSettings()
    metrics_http: MetricsHttpSettings = MetricsHttpSettings()

    @property
    def instruments(self) -> tuple[InstrumentId, ...]:
        """What `symbols` names, in that order."""
        return tuple(parse_instrument(symbol, self.category) for symbol in self.symbols)
