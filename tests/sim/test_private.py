"""The private endpoint's dialect, and the account whose trades it tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orderflow.bybit.account import decode_rows
from orderflow.bybit.signing import Signer
from orderflow.core.types import Category, InstrumentId
from orderflow.sim.account import Account
from orderflow.sim.catalogue import catalogue_by_id
from orderflow.sim.market import Exchange
from orderflow.sim.private import DEFAULT_KEYS, NOT_AUTHORIZED, PrivateSession, active_time_s
from orderflow.sim.venue import Action, Attach, Detach, Send

NOW = 1_790_000_000_000
VECTOR = ["simKey0001", 1790000005000, "48a46ff0fdcd71e597842ed8ac6bdcf61c2f1e96f3df7cb8e775e63fc1380d3a"]


def session(active_s: float = 600.0) -> PrivateSession:
    return PrivateSession(DEFAULT_KEYS, "conn-1", active_s, NOW)


def ask(private: PrivateSession, now_ms: int = NOW, **request: Any) -> list[Action]:
    return private.receive(json.dumps(request), now_ms)


def reply(actions: list[Action]) -> dict[str, Any]:
    texts = [action.text for action in actions if isinstance(action, Send)]
    decoded: dict[str, Any] = json.loads(texts[-1])
    return decoded


def opened() -> PrivateSession:
    private = session()
    assert reply(ask(private, op="auth", args=VECTOR))["success"]
    return private


def test_the_documented_signature_opens_the_door() -> None:
    private = session()
    answer = ask(private, op="auth", args=VECTOR, req_id="a1")
    assert answer == [Send(b'{"success":true,"ret_msg":"","op":"auth","conn_id":"conn-1","req_id":"a1"}')]
    assert private.api_key == "simKey0001"


@pytest.mark.parametrize(
    "args",
    [
        None,
        [],
        ["nobody", *VECTOR[1:]],
        [VECTOR[0], VECTOR[1], "00"],
        [VECTOR[0], NOW, VECTOR[2]],
        [VECTOR[0], "1790000005000", VECTOR[2]],
    ],
)
def test_bad_or_expired_auth_is_a_params_error(args: list[Any] | None) -> None:
    private = session()
    assert ask(private, op="auth", args=args) == [
        Send(b'{"success":false,"ret_msg":"Params Error","op":"auth","conn_id":"conn-1"}')
    ]
    assert private.api_key is None


def test_an_auth_that_arrives_after_its_expiry_is_refused() -> None:
    assert not reply(session().receive(json.dumps({"op": "auth", "args": VECTOR}), 1790000005000))["success"]


def test_rsa_keys() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private = PrivateSession({"rsaKey": public.decode()}, "c", 600, NOW)
    args = list(Signer("rsaKey", pem.decode()).ws_auth_args(NOW + 5000))
    assert reply(ask(private, op="auth", args=args))["success"]


def test_nothing_before_auth() -> None:
    private = session()
    answer = reply(ask(private, op="subscribe", args=["order"]))
    assert (answer["success"], answer["ret_msg"]) == (False, NOT_AUTHORIZED)
    assert not private.topics


def test_subscribing() -> None:
    private = opened()
    actions = ask(private, op="subscribe", args=["order", "execution.linear", "wallet", "dcp.future"], req_id="p1")
    assert actions[:-1] == [Attach("order"), Attach("execution.linear"), Attach("wallet"), Attach("dcp.future")]
    assert reply(actions) == {"success": True, "ret_msg": "", "op": "subscribe", "conn_id": "conn-1", "req_id": "p1"}
    assert ask(private, op="unsubscribe", args=["order"])[0] == Detach("order")


@pytest.mark.parametrize(
    "args, good, bad",
    [
        (["order", "ticketInfo"], "order", "ticketInfo"),
        (["order", "order.linear"], "order", "order.linear"),
        (["position.spot"], "", "position.spot"),
        (["execution", "execution.fast", "execution.linear"], "execution,execution.fast", "execution.linear"),
    ],
)
def test_conflicts_and_unknown_topics(args: list[str], good: str, bad: str) -> None:
    answer = reply(ask(opened(), op="subscribe", args=args, req_id="p1"))
    assert answer["ret_msg"] == (
        "Batch subscription partially succeeded and partially failed.Successful subscriptions are as follows:"
        f"[{good}]. Subscription to the following topics failed because the topic does not exist or there is a "
        f"subscription conflict:[{bad}]."
    )
    assert answer["success"] is False


def test_pong() -> None:
    assert ask(session(), op="ping", req_id="h7") == [
        Send(b'{"req_id":"h7","op":"pong","args":["1790000000000"],"conn_id":"conn-1"}')
    ]
    assert reply(session().receive("nonsense", NOW))["ret_msg"].startswith("Failed to decode incoming data:")
    assert reply(ask(opened(), op="dance"))["ret_msg"] == "error:invalid op"


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("30s", 30),
        ("600s", 600),
        ("1m", 60),
        ("2m", 120),
        ("", 600),
        ("29s", 600),
        ("11m", 600),
        ("x", 600),
        ("-5s", 600),
    ],
)
def test_max_active_time(text: str, seconds: float) -> None:
    assert active_time_s(text) == seconds


def test_silence_is_cut_and_a_ping_is_life() -> None:
    private = session(30.0)
    assert not private.expired(NOW + 30_000)
    assert private.expired(NOW + 30_001)
    ask(private, NOW + 20_000, op="ping")
    assert not private.expired(NOW + 50_000)


# --- the account ----------------------------------------------------------------------------------------------------


class Listener:
    def deliver(self, topic: str, message: bytes) -> None:
        raise AssertionError("publishers only return messages")


def traded(seed: int, seconds: int) -> tuple[Account, dict[str, list[dict[str, Any]]]]:
    """Let the account trade; its messages by topic."""
    item = catalogue_by_id()[InstrumentId(Category.LINEAR, "BTCUSDT")]
    exchange = Exchange((item,), seed, NOW)
    account = Account(exchange, seed, NOW)
    topics = ["order", "execution", "execution.fast", "position.linear", "wallet"]
    for topic in topics:
        account.publisher(topic).subscribers[Listener()] = None
    messages: dict[str, list[dict[str, Any]]] = {topic: [] for topic in topics}
    for now in range(NOW + 10, NOW + seconds * 1000, 10):
        account.advance(now, exchange.advance(now))
        for topic in topics:
            messages[topic] += map(json.loads, account.publisher(topic).poll(now))
    return account, messages


def test_the_account_tells_a_consistent_story() -> None:
    account, messages = traded(5, 180)
    orders = [row for message in messages["order"] for row in message["data"]]
    fills = [row for message in messages["execution"] for row in message["data"]]
    assert {"Filled", "Cancelled", "New"} <= {row["orderStatus"] for row in orders}
    held = 0
    lot = account.instrument
    for row in fills:
        sign = 1 if row["side"] == "Buy" else -1
        held += sign * round(float(row["execQty"]) * 1000)
    assert held == account.position.lots, lot
    last: dict[str, Any] = messages["position.linear"][-1]["data"][0]
    assert last["side"] == {0: "", 1: "Buy", -1: "Sell"}[(held > 0) - (held < 0)]
    for row in orders:
        if row["orderStatus"] == "Filled":
            quantity = sum(float(fill["execQty"]) for fill in fills if fill["orderId"] == row["orderId"])
            assert quantity == pytest.approx(float(row["qty"]))
    assert len(messages["execution.fast"]) == len(fills)
    assert float(messages["wallet"][-1]["data"][0]["totalWalletBalance"]) == pytest.approx(float(account.balance))


def test_the_messages_have_the_real_shapes() -> None:
    _, messages = traded(5, 60)
    for topic in ("order", "execution", "position.linear", "wallet"):
        for message in messages[topic]:
            assert set(message) == {"id", "topic", "creationTime", "data"}
            assert decode_rows(topic.partition(".")[0], json.dumps(message["data"]).encode())


def test_same_seed_same_trades() -> None:
    assert traded(9, 30)[1] == traded(9, 30)[1]


def test_an_account_needs_a_linear_market() -> None:
    spot = catalogue_by_id()[InstrumentId(Category.SPOT, "BTCUSDT")]
    with pytest.raises(ValueError, match="linear"):
        Account(Exchange((spot,), 1, NOW), 1, NOW)
