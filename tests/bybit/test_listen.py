from __future__ import annotations

import json

import pytest

from orderflow.bybit.listen import ListenProtocol, plan_listening
from orderflow.core.errors import HeartbeatLost
from orderflow.core.policy import LinkPolicy
from orderflow.core.types import Category, InstrumentId

S = 1_000_000_000
POLICY = LinkPolicy(ping_interval_s=20, pong_timeout_s=10, idle_timeout_s=30, refused_retry_s=300)
TOPICS = ("tickers.BTCUSDT", "orderbook.1.BTCUSDT")


def opened() -> ListenProtocol:
    protocol = ListenProtocol(TOPICS, POLICY)
    protocol.opened(0)
    return protocol


def sent(protocol: ListenProtocol) -> list[dict[str, object]]:
    return [json.loads(text) for text in protocol.data_to_send()]


def test_each_topic_is_asked_for_in_a_request_of_its_own() -> None:
    protocol = opened()
    assert protocol.has_data_to_send
    assert [message["args"] for message in sent(protocol)] == [[topic] for topic in TOPICS]
    assert not protocol.has_data_to_send
    assert protocol.receive([b'{"success":true,"ret_msg":"","op":"subscribe","req_id":"s1"}'], S) == []
    assert protocol.first_data_ns is None
    protocol.receive([b'{"topic":"tickers.BTCUSDT"}'], 2 * S)
    protocol.receive([b'{"topic":"tickers.BTCUSDT"}', b"\xff no JSON"], 5 * S)
    assert (protocol.first_data_ns, protocol.last_data_ns, protocol.frames) == (2 * S, 5 * S, 4)


def test_a_refused_topic_is_named_and_asked_for_again_rarely() -> None:
    protocol = opened()
    sent(protocol)
    refusal = b'{"success":false,"ret_msg":"error:handler not found","op":"subscribe","req_id":"s2"}'
    assert protocol.receive([refusal], S) == [("orderbook.1.BTCUSDT", "error:handler not found")]
    assert protocol.receive([refusal], S) == []  # answered
    for at in range(1, 301, 5):
        protocol.receive([b'{"op":"pong"}'], at * S)
        protocol.on_time(at * S)
        assert all(message["op"] == "ping" for message in sent(protocol))
    protocol.receive([b'{"op":"pong"}'], 301 * S)
    assert protocol.next_deadline_ns() <= 301 * S
    protocol.on_time(301 * S)
    assert [message.get("args") for message in sent(protocol)][-1] == ["orderbook.1.BTCUSDT"]


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    protocol = opened()
    sent(protocol)
    assert protocol.next_deadline_ns() == 20 * S
    protocol.on_time(20 * S)
    assert [message["op"] for message in sent(protocol)] == ["ping"]
    with pytest.raises(HeartbeatLost, match="pong"):
        protocol.on_time(30 * S)


def test_pongs_of_every_dialect_count() -> None:
    for pong in (b'{"success":true,"ret_msg":"pong","op":"ping"}', b'{"op":"pong","args":["1"]}'):
        protocol = opened()
        protocol.on_time(20 * S)
        protocol.receive([pong], 21 * S)
        protocol.on_time(30 * S)
        assert protocol.next_deadline_ns() == 40 * S


def test_data_alone_does_not_prove_the_other_way() -> None:
    protocol = opened()
    protocol.on_time(20 * S)
    protocol.receive([b'{"topic":"tickers.BTCUSDT"}'], 29 * S)
    with pytest.raises(HeartbeatLost, match="pong"):
        protocol.on_time(30 * S)


def test_no_frame_of_any_kind_is_a_loss() -> None:
    protocol = ListenProtocol(TOPICS, LinkPolicy(ping_interval_s=100, idle_timeout_s=30))
    protocol.opened(0)
    assert protocol.next_deadline_ns() == 30 * S
    with pytest.raises(HeartbeatLost, match="frame"):
        protocol.on_time(30 * S)


def test_a_standstill_of_ours_is_not_held_against_the_peer() -> None:
    protocol = opened()
    protocol.on_time(20 * S)
    protocol.forgive(100 * S)
    protocol.on_time(109 * S)
    with pytest.raises(HeartbeatLost, match="pong"):
        protocol.on_time(110 * S)


def test_topics_are_shared_out_over_connections() -> None:
    instruments = [
        InstrumentId(Category.LINEAR, "BTCUSDT"),
        InstrumentId(Category.SPOT, "BTCUSDT"),
        InstrumentId(Category.LINEAR, "ETHUSDT"),
    ]
    kinds = ("tickers", "allLiquidation")
    assert plan_listening(instruments, kinds, LinkPolicy()) == [
        ("linear", ["tickers.BTCUSDT", "allLiquidation.BTCUSDT", "tickers.ETHUSDT", "allLiquidation.ETHUSDT"]),
        ("spot", ["tickers.BTCUSDT"]),
    ]
    assert [len(topics) for _, topics in plan_listening(instruments, kinds, LinkPolicy(max_topics=3))] == [3, 1, 1]
    assert plan_listening(instruments, (), LinkPolicy()) == []
    narrow = LinkPolicy(max_args_chars=60)
    for _, topics in plan_listening(instruments, kinds, narrow):
        assert len(json.dumps(topics, separators=(",", ":"))) <= 60
