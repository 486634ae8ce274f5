"""The account's rows as the exchange writes them -> core rows. Used by the private connection and by REST.

Decimals stay text, after a check that they are decimals at all; unknown keys, absent keys, nulls and "" are tolerated.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from orderflow.core.errors import WireError
from orderflow.core.types import CoinBalance, ExecutionRow, OrderRow, PositionRow, PrivateRow, WalletRow

# A decimal, or nothing. An exponent of two digits is let through: the text is only kept, never expanded.
_Decimal = Annotated[str, Meta(pattern=r"\A(?:-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,2})?)?\Z")] | None
_Word = Annotated[str, Meta(max_length=200)] | None
_Whole = Annotated[int, Meta(ge=-(10**18), le=10**18)]
_Ms = _Whole | Annotated[str, Meta(pattern=r"\A(?:-?[0-9]{1,18})?\Z")] | None

T = TypeVar("T")


class _Wire(msgspec.Struct, rename="camel"):
    """Base of rows as they stand on the wire."""


class _Order(_Wire):
    category: _Word = None
    symbol: _Word = None
    order_id: _Word = None
    order_link_id: _Word = None
    side: _Word = None
    order_type: _Word = None
    time_in_force: _Word = None
    order_status: _Word = None
    price: _Decimal = None
    qty: _Decimal = None
    avg_price: _Decimal = None
    leaves_qty: _Decimal = None
    cum_exec_qty: _Decimal = None
    cum_exec_value: _Decimal = None
    reduce_only: bool | None = None
    cancel_type: _Word = None
    reject_reason: _Word = None
    created_time: _Ms = None
    updated_time: _Ms = None

    def row(self) -> OrderRow:
        return OrderRow(
            category=self.category or "",
            symbol=self.symbol or "",
            order_id=self.order_id or "",
            order_link_id=self.order_link_id or "",
            side=self.side or "",
            order_type=self.order_type or "",
            time_in_force=self.time_in_force or "",
            status=self.order_status or "",
            price=self.price or "",
            qty=self.qty or "",
            avg_price=self.avg_price or "",
            leaves_qty=self.leaves_qty or "",
            filled_qty=self.cum_exec_qty or "",
            filled_value=self.cum_exec_value or "",
            reduce_only=bool(self.reduce_only),
            cancel_type=self.cancel_type or "",
            reject_reason=self.reject_reason or "",
            created_ms=_whole(self.created_time),
            updated_ms=_whole(self.updated_time),
        )


class _Execution(_Wire):
    category: _Word = None
    symbol: _Word = None
    exec_id: _Word = None
    exec_type: _Word = None
    order_id: _Word = None
    order_link_id: _Word = None
    side: _Word = None
    exec_price: _Decimal = None
    exec_qty: _Decimal = None
    exec_value: _Decimal = None
    exec_fee: _Decimal = None
    fee_currency: _Word = None
    is_maker: bool | None = None
    leaves_qty: _Decimal = None
    closed_size: _Decimal = None
    exec_time: _Ms = None
    seq: _Ms = None

    def row(self) -> ExecutionRow:
        return ExecutionRow(
            category=self.category or "",
            symbol=self.symbol or "",
            exec_id=self.exec_id or "",
            exec_type=self.exec_type or "",
            order_id=self.order_id or "",
            order_link_id=self.order_link_id or "",
            side=self.side or "",
            price=self.exec_price or "",
            qty=self.exec_qty or "",
            value=self.exec_value or "",
            fee=self.exec_fee or "",
            fee_currency=self.fee_currency or "",
            maker=bool(self.is_maker),
            leaves_qty=self.leaves_qty or "",
            closed_size=self.closed_size or "",
            exec_ms=_whole(self.exec_time),
            seq=_whole(self.seq),
        )


class _Position(_Wire):
    category: _Word = None
    symbol: _Word = None
    position_idx: _Ms = None
    side: _Word = None
    size: _Decimal = None
    entry_price: _Decimal = None
    avg_price: _Decimal = None  # REST's name of entryPrice
    mark_price: _Decimal = None
    position_value: _Decimal = None
    leverage: _Decimal = None
    liq_price: _Decimal = None
    unrealised_pnl: _Decimal = None
    cur_realised_pnl: _Decimal = None
    position_status: _Word = None
    updated_time: _Ms = None
    seq: _Ms = None

    def row(self) -> PositionRow:
        return PositionRow(
            category=self.category or "",
            symbol=self.symbol or "",
            position_idx=_whole(self.position_idx) or 0,
            side=self.side or "",
            size=self.size or "",
            entry_price=self.entry_price or self.avg_price or "",
            mark_price=self.mark_price or "",
            value=self.position_value or "",
            leverage=self.leverage or "",
            liquidation_price=self.liq_price or "",
            unrealised_pnl=self.unrealised_pnl or "",
            realised_pnl=self.cur_realised_pnl or "",
            status=self.position_status or "",
            updated_ms=_whole(self.updated_time),
            seq=_whole(self.seq),
        )


class _Coin(_Wire):
    coin: _Word = None
    equity: _Decimal = None
    wallet_balance: _Decimal = None
    usd_value: _Decimal = None
    locked: _Decimal = None
    borrow_amount: _Decimal = None
    unrealised_pnl: _Decimal = None

    def row(self) -> CoinBalance:
        return CoinBalance(
            coin=self.coin or "",
            equity=self.equity or "",
            wallet_balance=self.wallet_balance or "",
            usd_value=self.usd_value or "",
            locked=self.locked or "",
            borrowed=self.borrow_amount or "",
            unrealised_pnl=self.unrealised_pnl or "",
        )


class _Wallet(_Wire):
    account_type: _Word = None
    total_equity: _Decimal = None
    total_wallet_balance: _Decimal = None
    total_margin_balance: _Decimal = None
    total_available_balance: _Decimal = None
    total_perp_upl: _Decimal = msgspec.field(name="totalPerpUPL", default=None)
    account_im_rate: _Decimal = msgspec.field(name="accountIMRate", default=None)
    account_mm_rate: _Decimal = msgspec.field(name="accountMMRate", default=None)
    coin: tuple[_Coin, ...] | None = None

    def row(self) -> WalletRow:
        return WalletRow(
            account_type=self.account_type or "",
            total_equity=self.total_equity or "",
            total_wallet_balance=self.total_wallet_balance or "",
            total_margin_balance=self.total_margin_balance or "",
            total_available_balance=self.total_available_balance or "",
            total_unrealised_pnl=self.total_perp_upl or "",
            initial_margin_rate=self.account_im_rate or "",
            maintenance_margin_rate=self.account_mm_rate or "",
            coins=tuple(coin.row() for coin in self.coin or ()),
        )


_DECODERS: Final[dict[str, msgspec.json.Decoder[tuple[_Order | _Execution | _Position | _Wallet, ...]]]] = {
    "order": msgspec.json.Decoder(tuple[_Order, ...]),
    "execution": msgspec.json.Decoder(tuple[_Execution, ...]),
    "position": msgspec.json.Decoder(tuple[_Position, ...]),
    "wallet": msgspec.json.Decoder(tuple[_Wallet, ...]),
}
TOPICS: Final = tuple(_DECODERS)


def decode_rows(topic: str, data: bytes | msgspec.Raw) -> tuple[PrivateRow, ...]:
    """The rows of one message (or REST list) of `topic`, one of TOPICS.

    Raises: WireError for anything that is not such rows.
    """
    return tuple(wire.row() for wire in decode(_DECODERS[topic], data, topic))


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, topic: str = "") -> T:
    """Decode, or WireError (`shape`: JSON of another form, `json`: no JSON)."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as exc:
        raise WireError("shape", str(exc), topic) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise WireError("json", type(exc).__name__, topic) from None


def _whole(value: int | str | None) -> int | None:
    return None if value is None or value == "" else int(value)
