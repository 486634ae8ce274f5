"""The private protocol against tables, against the simulated exchange's side, and against anything at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.bybit.account import TOPICS, decode_rows
from orderflow.bybit.private import BadMessage, PrivateEvent, PrivateProtocol, PrivateTopicRefused, Ready
from orderflow.bybit.signing import Signer, verify_ws_auth
from orderflow.config.secrets import Secret
from orderflow.core.errors import AuthRejected, ConnectionLost, HeartbeatLost, TransientFeedError, WireError
from orderflow.core.policy import LinkPolicy
from orderflow.core.types import (
    Category,
    ExecutionRow,
    InstrumentId,
    OrderRow,
    PositionRow,
    PrivateMessage,
    WalletRow,
)
from orderflow.core.units import NS
from orderflow.sim.account import Account
from orderflow.sim.catalogue import CATALOGUE
from orderflow.sim.exchange import ExchangeBackend
from orderflow.sim.market import Exchange
from orderflow.sim.private import PrivateSession
from orderflow.sim.venue import Send

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "bybit" / "golden" / "ws-messages.jsonl"
BTC = InstrumentId(Category.LINEAR, "BTCUSDT")
KEY, SECRET = "canaryKEYvalue0001", "canarySECRETvalue-zyxwvu"
NOW_MS = 1_790_000_000_000
POLICY = LinkPolicy()
OK_AUTH = {"success": True, "ret_msg": "", "op": "auth", "conn_id": "c"}

ORDER = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "orderId": "5cf98598",
    "orderLinkId": "bot-1",
    "price": "86500.0",
    "qty": "0.010",
    "side": "Buy",
    "orderStatus": "PartiallyFilled",
    "cancelType": "UNKNOWN",
    "rejectReason": "EC_NoError",
    "avgPrice": "86500",
    "leavesQty": "0.006",
    "cumExecQty": "0.004",
    "cumExecValue": "346",
    "timeInForce": "GTC",
    "orderType": "Limit",
    "triggerPrice": "",
    "reduceOnly": False,
    "createdTime": "1790000000444",
    "updatedTime": "1790000001470",
    "cumFeeDetail": {"USDT": "0.0692"},
}
EXECUTION = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "closedSize": "0",
    "execFee": "0.0692",
    "execId": "0ab1bdf7",
    "execPrice": "86500",
    "execQty": "0.004",
    "execType": "Trade",
    "execValue": "346",
    "leavesQty": "0.006",
    "orderId": "5cf98598",
    "orderLinkId": "bot-1",
    "side": "Buy",
    "execTime": "1790000001470",
    "isMaker": True,
    "seq": 140612148849382,
    "feeCurrency": "USDT",
}
POSITION = {
    "positionIdx": 0,
    "symbol": "BTCUSDT",
    "side": "Buy",
    "size": "0.004",
    "entryPrice": "86500",
    "leverage": "10",
    "positionValue": "346",
    "markPrice": "86501.48",
    "unrealisedPnl": "0.00592",
    "curRealisedPnl": "-0.0692",
    "updatedTime": "1790000001471",
    "openTime": 1790000001470,
    "liqPrice": "",
    "category": "linear",
    "positionStatus": "Normal",
    "seq": 140612148849382,
}
WALLET = {
    "accountType": "UNIFIED",
    "accountIMRate": "0.0035",
    "accountMMRate": "0.0002",
    "totalEquity": "9999.93",
    "totalWalletBalance": "9999.93",
    "totalMarginBalance": "9999.93",
    "totalAvailableBalance": "9965.1",
    "totalPerpUPL": "0.0059",
    "coin": [
        {
            "coin": "USDT",
            "equity": "9999.9367",
            "usdValue": "9999.93",
            "walletBalance": "9999.9308",
            "borrowAmount": "0",
            "unrealisedPnl": "0.00592",
            "locked": "0",
            "availableToWithdraw": "",
        }
    ],
}
ROWS: dict[str, dict[str, Any]] = {"order": ORDER, "execution": EXECUTION, "position": POSITION, "wallet": WALLET}


def signer() -> Signer:
    return Signer(Secret(KEY), Secret(SECRET))


def opened(*, doubted: bool = False, policy: LinkPolicy = POLICY) -> PrivateProtocol:
    """A protocol whose auth frame is out."""
    protocol = PrivateProtocol(signer(), policy, doubted=doubted)
    protocol.opened(0, NOW_MS)
    protocol.data_to_send()
    return protocol


def reply(protocol: PrivateProtocol, message: object, at_s: float = 0) -> list[PrivateEvent]:
    return protocol.receive(json.dumps(message).encode(), int(at_s * NS))


def subscribed(**more: Any) -> PrivateProtocol:
    """A protocol in full operation."""
    protocol = opened(**more)
    reply(protocol, OK_AUTH)
    for topic in TOPICS:
        reply(protocol, {"success": True, "ret_msg": "", "op": "subscribe", "req_id": topic})
    protocol.data_to_send()
    return protocol


def sent(protocol: PrivateProtocol) -> list[Any]:
    return [json.loads(text) for text in protocol.data_to_send()]


def push(topic: str, *rows: object, **more: object) -> dict[str, object]:
    return {"id": "x", "topic": topic, "creationTime": 1790000001474, "data": rows} | more


# --- auth


def test_auth_goes_first_and_alone() -> None:
    protocol = PrivateProtocol(signer(), POLICY, auth_expires_s=7.5)
    protocol.opened(0, NOW_MS)
    (frame,) = sent(protocol)
    assert frame["op"] == "auth"
    assert frame["args"][1] == NOW_MS + 7500
    assert verify_ws_auth(frame["args"], lambda key: SECRET if key == KEY else None, NOW_MS) == KEY


@pytest.mark.parametrize(
    "answer",
    [
        OK_AUTH,
        OK_AUTH | {"req_id": "auth"},
        {"retCode": 0, "retMsg": "OK", "op": "auth", "connId": "c"},
        {"retCode": 20001, "retMsg": "already authenticated", "op": "auth"},
    ],
)
def test_topics_are_subscribed_one_by_one_after_auth(answer: object) -> None:
    protocol = opened()
    assert reply(protocol, answer) == []
    assert sent(protocol) == [{"req_id": topic, "op": "subscribe", "args": [topic]} for topic in TOPICS]


@pytest.mark.parametrize("code", [10003, 10004, 10005, 10010])
def test_a_verdict_on_the_credentials_is_final(code: int) -> None:
    with pytest.raises(AuthRejected):
        reply(opened(), {"op": "auth", "success": False, "retCode": code, "retMsg": "Invalid apikey", "connId": "c"})


@pytest.mark.parametrize("code", [10016, 10019, 10429])
def test_a_busy_exchange_is_no_verdict(code: int) -> None:
    with pytest.raises(ConnectionLost) as caught:
        reply(opened(doubted=True), {"op": "auth", "retCode": code, "retMsg": "internal error"})
    assert caught.value.reason == "busy"


def test_words_that_may_mean_too_late_are_final_the_second_time() -> None:
    answer = {"success": False, "ret_msg": "Params Error", "op": "auth", "conn_id": "c"}
    with pytest.raises(ConnectionLost) as caught:
        reply(opened(), answer)
    assert caught.value.reason == "auth"
    with pytest.raises(AuthRejected):
        reply(opened(doubted=True), answer)


def test_no_answer_to_auth_drops_the_link() -> None:
    protocol = opened()
    assert protocol.next_deadline_ns() == 5 * NS
    protocol.on_time(5 * NS - 1)
    with pytest.raises(ConnectionLost) as caught:
        protocol.on_time(5 * NS)
    assert caught.value.reason == "ack"


# --- subscriptions


def test_ready_when_all_topics_answered() -> None:
    protocol = opened()
    reply(protocol, OK_AUTH)
    for topic in ("wallet", "order", "position"):
        assert reply(protocol, {"success": True, "ret_msg": "", "op": "subscribe", "req_id": topic}) == []
    assert reply(protocol, {"success": True, "op": "subscribe", "req_id": "execution"}) == [Ready(TOPICS)]
    assert protocol.next_deadline_ns() == POLICY.ping_interval_s * NS


def test_answers_without_an_id_belong_to_the_oldest_request() -> None:
    protocol = opened()
    reply(protocol, OK_AUTH)
    assert reply(protocol, {"success": True, "ret_msg": "", "op": "subscribe"}) == []
    (refused,) = reply(protocol, {"success": False, "ret_msg": "no", "op": "subscribe"})
    assert refused == PrivateTopicRefused(TOPICS[1], "no")


def test_a_refused_topic_is_asked_for_again_rarely_and_the_others_run() -> None:
    protocol = opened(policy=LinkPolicy(refused_retry_s=300, ping_interval_s=1000, idle_timeout_s=1000))
    reply(protocol, OK_AUTH)
    protocol.data_to_send()
    text = (
        "Batch subscription partially succeeded and partially failed.Successful subscriptions are as follows:[]. "
        "Subscription to the following topics failed because the topic does not exist or there is a subscription "
        "conflict:[wallet].\x1b[2J"
    )
    events = reply(protocol, {"op": "subscribe", "success": False, "ret_msg": text, "req_id": "wallet"})
    for topic in ("order", "execution", "position"):
        events += reply(protocol, {"success": True, "op": "subscribe", "req_id": topic})
    assert isinstance(events[0], PrivateTopicRefused)
    assert events[0].topic == "wallet"
    assert "\x1b" not in events[0].text
    assert events[1:] == [Ready(("order", "execution", "position"))]
    assert protocol.next_deadline_ns() == 300 * NS
    protocol.on_time(300 * NS)
    assert sent(protocol) == [{"req_id": "wallet", "op": "subscribe", "args": ["wallet"]}]
    assert reply(protocol, {"success": True, "op": "subscribe", "req_id": "wallet"}) == []
    assert protocol.statistics().topics_refused == 1


def test_a_missing_ack_drops_the_link() -> None:
    """Nothing but its ack proves a subscription to a topic that is quiet for hours."""
    protocol = opened()
    reply(protocol, OK_AUTH)
    reply(protocol, {"success": True, "op": "subscribe", "req_id": "order"})
    with pytest.raises(ConnectionLost) as caught:
        protocol.on_time(5 * NS)
    assert caught.value.reason == "ack"


def test_foreign_replies_are_counted() -> None:
    protocol = subscribed()
    for message in ({"op": "subscribe", "req_id": "other", "success": False}, {"op": "auth", "success": False}, {}):
        assert reply(protocol, message) == []
    assert protocol.statistics().unknown == 3


# --- heartbeat


def test_ping_and_pong() -> None:
    protocol = subscribed()
    protocol.on_time(20 * NS)
    assert sent(protocol) == [{"req_id": "p1", "op": "ping"}]
    assert protocol.next_deadline_ns() == 30 * NS
    reply(protocol, {"req_id": "p1", "op": "pong", "args": ["1790000000456"], "conn_id": "c"}, at_s=21)
    assert protocol.next_deadline_ns() == 40 * NS
    assert protocol.healthy_s == 21
    protocol.on_time(40 * NS)
    with pytest.raises(HeartbeatLost) as caught:
        protocol.on_time(50 * NS)
    assert caught.value.reason == "pong"


def test_silence_of_everything_is_a_loss() -> None:
    protocol = subscribed(policy=LinkPolicy(ping_interval_s=100))
    with pytest.raises(HeartbeatLost) as caught:
        protocol.on_time(30 * NS)
    assert caught.value.reason == "idle"


def test_our_own_standstill_is_forgiven() -> None:
    protocol = opened()
    protocol.on_time(4 * NS)
    protocol.forgive(60 * NS)
    protocol.on_time(64 * NS)
    assert sent(protocol) == [{"req_id": "p1", "op": "ping"}]


# --- rows


def test_rows_are_typed_and_exact() -> None:
    (order,) = decode_rows("order", json.dumps([ORDER]).encode())
    assert isinstance(order, OrderRow)
    assert (order.price, order.qty, order.filled_qty, order.filled_value) == ("86500.0", "0.010", "0.004", "346")
    assert (order.status, order.created_ms, order.updated_ms) == ("PartiallyFilled", 1790000000444, 1790000001470)
    (fill,) = decode_rows("execution", json.dumps([EXECUTION]).encode())
    assert isinstance(fill, ExecutionRow)
    assert (fill.price, fill.qty, fill.fee, fill.maker, fill.seq) == ("86500", "0.004", "0.0692", True, 140612148849382)
    (position,) = decode_rows("position", json.dumps([POSITION]).encode())
    assert isinstance(position, PositionRow)
    assert (position.entry_price, position.realised_pnl, position.liquidation_price) == ("86500", "-0.0692", "")
    (wallet,) = decode_rows("wallet", json.dumps([WALLET]).encode())
    assert isinstance(wallet, WalletRow)
    assert (wallet.initial_margin_rate, wallet.maintenance_margin_rate) == ("0.0035", "0.0002")
    assert (wallet.total_unrealised_pnl, wallet.coins[0].equity) == ("0.0059", "9999.9367")


@pytest.mark.parametrize("topic", TOPICS)
def test_every_field_may_be_absent_null_or_empty(topic: str) -> None:
    full = ROWS[topic]
    empty: list[dict[str, Any]] = [{}, dict.fromkeys(full), {key: "" for key in full if isinstance(full[key], str)}]
    for row in empty:
        (got,) = decode_rows(topic, json.dumps([row | {"newKeyOf2027": [1]}]).encode())
        assert {getattr(got, name) for name in got.__struct_fields__} <= {"", None, 0, ()}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("text", ["nan", "inf", "1_000", "0x10", "1e2000000", "1.2.3", "1" * 60, "٣", "1\n"])
def test_what_is_no_decimal_is_refused(topic: str, text: str) -> None:
    key = {"order": "qty", "execution": "execQty", "position": "size", "wallet": "totalEquity"}[topic]
    with pytest.raises(WireError):
        decode_rows(topic, json.dumps([ROWS[topic] | {key: text}]).encode())


@pytest.mark.parametrize(
    "topic, base", [("order", "order"), ("order.linear", "order"), ("position.inverse", "position")]
)
def test_messages_are_handed_on_and_counted(topic: str, base: str) -> None:
    protocol = subscribed()
    (message,) = reply(protocol, push(topic, ROWS[base], ROWS[base]))
    assert isinstance(message, PrivateMessage)
    assert (message.topic, message.creation_ms, len(message.rows)) == (base, 1790000001474, 2)
    statistics = protocol.statistics()
    assert (statistics.messages, statistics.rows) == ({base: 1}, {base: 2})


def test_data_before_its_ack_counts() -> None:
    protocol = opened()
    reply(protocol, OK_AUTH)
    assert len(reply(protocol, push("wallet", WALLET))) == 1


@pytest.mark.parametrize("topic", ["greeks", "execution.fast", "order.new", "dcp.future", "", "orders"])
def test_unknown_topics_are_counted(topic: str) -> None:
    protocol = subscribed()
    assert reply(protocol, push(topic, {"x": 1})) == []
    assert protocol.statistics().unknown == 1


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"{", "json"),
        (b"\xff", "json"),
        (b"[1]", "shape"),
        (b'{"x":' + b"[" * 200_000, "json"),
        (json.dumps(push("order", {"qty": "abc"})).encode(), "shape"),
        (json.dumps(push("order", {"qty": 1.5})).encode(), "shape"),
        (json.dumps(push("order", 7)).encode(), "shape"),
        (json.dumps(push("order", creationTime="soon")).encode(), "number"),
        (json.dumps(push("order", creationTime=-1)).encode(), "number"),
        (json.dumps({"topic": "order", "creationTime": 1}).encode(), "json"),
    ],
)
def test_bad_messages_are_refused_whole_and_told(raw: bytes, reason: str) -> None:
    protocol = subscribed()
    (event,) = protocol.receive(raw, 0)
    assert isinstance(event, BadMessage)
    assert event.reason == reason
    assert protocol.statistics().refused == {reason: 1}
    assert len(reply(protocol, push("order", ORDER))) == 1


@settings(deadline=None)  # a loaded machine is no failure
@given(
    raw=st.binary(max_size=100)
    | st.dictionaries(
        st.sampled_from(["op", "success", "ret_msg", "retCode", "req_id", "topic", "creationTime", "data"]),
        st.sampled_from(
            [None, True, False, 0, 10003, -1, 1.5, "", "auth", "subscribe", "pong", "order", "wallet", [], [{}]]
        ),
    ).map(lambda message: json.dumps(message).encode())
)
def test_anything_at_all_raises_only_what_is_declared(raw: bytes) -> None:
    for protocol in (opened(), opened(doubted=True), subscribed()):
        try:
            protocol.receive(raw, 0)
        except (AuthRejected, TransientFeedError):
            pass


def test_recorded_acks() -> None:
    if not GOLDEN.exists():
        pytest.skip("the golden messages are not here")
    rows = {row["id"]: row["raw"].encode() for row in map(json.loads, GOLDEN.read_text().splitlines())}
    protocol = opened()
    protocol.receive(rows["docs-wss-authentication-1"], 0)
    assert [frame["args"] for frame in sent(protocol)] == [[topic] for topic in TOPICS]
    protocol.receive(rows["docs-wss-authentication-9"], 0)  # ack without an id
    protocol.receive(rows["docs-wss-authentication-5"], 0)
    assert protocol.statistics().pongs == 1
    assert protocol.statistics().unknown == 0
    with pytest.raises(AuthRejected):
        opened().receive(rows["nautilus-ws_auth_failure"], 0)


def test_with_the_simulated_exchange() -> None:
    protocol = PrivateProtocol(signer(), POLICY)
    session = PrivateSession({KEY: SECRET}, "c1", 600, NOW_MS)
    protocol.opened(0, NOW_MS)
    events: list[PrivateEvent] = []
    while frames := protocol.data_to_send():
        for action in [action for frame in frames for action in session.receive(str(frame), NOW_MS)]:
            if isinstance(action, Send):
                events += protocol.receive(action.text, 0)
    assert events == [Ready(TOPICS)]
    assert session.topics == dict.fromkeys(TOPICS)


class Deaf:
    """A subscriber whose messages are read at their source."""

    def deliver(self, topic: str, message: bytes) -> None:
        raise AssertionError("the backend does not deliver by itself")


def test_rows_of_the_simulated_account() -> None:
    """A minute of its trading, without a clock: every kind of row, all of them understood."""
    exchange = Exchange([item for item in CATALOGUE if item.id == BTC], 7, NOW_MS)
    backend = ExchangeBackend(exchange, NOW_MS, Account(exchange, 7, NOW_MS))
    for topic in TOPICS:
        backend.attach("private", topic, Deaf(), NOW_MS)
    protocol = subscribed()
    while (now_ms := backend.next_ms()) < NOW_MS + 60_000:
        for _, messages in backend.step(now_ms):
            for raw in messages:
                (event,) = protocol.receive(raw, 0)
                assert isinstance(event, PrivateMessage)
                assert event.rows
    statistics = protocol.statistics()
    assert set(statistics.messages) == set(TOPICS)
    assert (statistics.refused, statistics.unknown) == ({}, 0)


# --- nothing is shown


def test_canary() -> None:
    protocol = PrivateProtocol(signer(), POLICY)
    protocol.opened(0, NOW_MS)
    frames = protocol.data_to_send()
    signature = json.loads(frames[0])["args"][2]
    echo = {"op": "auth", "success": False, "retCode": 10004, "retMsg": f"error sign {KEY} {SECRET}"}
    with pytest.raises(AuthRejected) as caught:
        reply(protocol, echo)
    refused = reply(subscribed(), {"op": "auth", "success": False, "ret_msg": KEY})
    shown = f"{frames!r} {protocol!r} {vars(protocol)!r} {caught.value} {caught.value!r} {refused!r}"
    for hidden in (KEY, SECRET, signature, signature[:12]):
        assert hidden not in shown
