"""The public dialects, word by word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.types import Category
from orderflow.sim.venue import (
    Action,
    Attach,
    Detach,
    PublicSession,
    Send,
    SessionPolicy,
    TradeSession,
    Verdict,
    Wait,
)

TOPICS = {"orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT"}
LINEAR, SPOT, INVERSE = Category.LINEAR, Category.SPOT, Category.INVERSE


class FewTopics:
    def verdict(self, category: Category, topic: str) -> Verdict:
        if topic in TOPICS:
            return Verdict.KNOWN
        return Verdict.BAD_SYMBOL if topic.startswith("orderbook.50.") else Verdict.NO_HANDLER


def session(category: Category = LINEAR, **policy: Any) -> PublicSession:
    return PublicSession(category, FewTopics(), "conn-1", SessionPolicy(**policy), 0)


def sent(actions: list[Action]) -> list[dict[str, Any]]:
    return [json.loads(action.text) for action in actions if isinstance(action, Send)]


def raw(actions: list[Action]) -> bytes:
    (action,) = actions
    assert isinstance(action, Send)
    return action.text


@pytest.mark.parametrize(
    "category, request_text, reply",
    [
        (LINEAR, '{"op":"ping"}', b'{"success":true,"ret_msg":"pong","conn_id":"conn-1","req_id":"","op":"ping"}'),
        (INVERSE, '{"op":"ping"}', b'{"success":true,"ret_msg":"pong","conn_id":"conn-1","req_id":"","op":"ping"}'),
        (SPOT, '{"op":"ping"}', b'{"success":true,"ret_msg":"pong","conn_id":"conn-1","op":"ping"}'),
        (
            SPOT,
            '{"op":"ping","req_id":"h7"}',
            b'{"success":true,"ret_msg":"pong","conn_id":"conn-1","req_id":"h7","op":"ping"}',
        ),
        (
            LINEAR,
            '{"req_id":50869,"op":"ping"}',
            b'{"success":true,"ret_msg":"pong","conn_id":"conn-1","req_id":"50869","op":"ping"}',
        ),
        (
            LINEAR,
            '{"op":"nope","req_id":"x"}',
            b'{"success":false,"ret_msg":"error:invalid op","conn_id":"conn-1","req_id":"x","op":"nope"}',
        ),
        (
            LINEAR,
            '{"op":"subscribe","req_id":"s1","args":["orderbook.30.BTCUSDT"]}',
            b'{"success":false,"ret_msg":"error:handler not found,topic:orderbook.30.BTCUSDT","conn_id":"conn-1",'
            b'"req_id":"s1","op":"subscribe"}',
        ),
        (
            LINEAR,
            '{"op":"subscribe","args":["orderbook.50.btcusdt"]}',
            b'{"success":false,"ret_msg":"error:handler not found,topic:orderbook.50.btcusdt","conn_id":"conn-1",'
            b'"req_id":"","op":"subscribe"}',
        ),
        (
            SPOT,
            '{"op":"subscribe","args":["orderbook.50.NOPEUSDT"]}',
            b'{"success":false,"ret_msg":"Invalid symbol :[orderbook.50.NOPEUSDT]","conn_id":"conn-1",'
            b'"op":"subscribe"}',
        ),
        (
            SPOT,
            json.dumps({"op": "subscribe", "args": [f"t{n}" for n in range(11)]}),
            b'{"success":false,"ret_msg":"args size \\u003e10","conn_id":"conn-1","op":"subscribe"}',
        ),
    ],
)
def test_replies_to_the_letter(category: Category, request_text: str, reply: bytes) -> None:
    assert raw(session(category).receive(request_text, 0)) == reply


@pytest.mark.parametrize("category, text", [(LINEAR, ""), (SPOT, "subscribe")])
def test_subscribing_sends_the_data_before_the_ack(category: Category, text: str) -> None:
    request = '{"req_id":"s1","op":"subscribe","args":["orderbook.50.BTCUSDT","publicTrade.BTCUSDT"]}'
    *attached, ack = session(category).receive(request, 0)
    assert attached == [Attach("orderbook.50.BTCUSDT"), Attach("publicTrade.BTCUSDT")]
    assert sent([ack]) == [
        {"success": True, "ret_msg": text, "conn_id": "conn-1", "req_id": "s1", "op": "subscribe"},
    ]


def test_order_and_delays_of_ack_and_data_are_policy() -> None:
    chatty = session(ack_first=True, ack_delay_s=0.2, snapshot_delay_s=0.5, pong_delay_s=0.1)
    actions = chatty.receive('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}', 0)
    assert [type(action) for action in actions] == [Wait, Send, Wait, Attach]
    assert chatty.receive('{"op":"ping"}', 0)[0] == Wait(0.1)


def test_one_bad_topic_fails_the_whole_linear_request() -> None:
    linear = session()
    actions = linear.receive('{"op":"subscribe","args":["publicTrade.BTCUSDT","orderbook.500.BTCUSDT"]}', 0)
    assert "orderbook.500.BTCUSDT" in sent(actions)[0]["ret_msg"]
    assert len(actions) == 1
    assert not linear.topics


def test_partial_success_when_the_policy_says_so() -> None:
    spot = session(SPOT, atomic=False)
    actions = spot.receive('{"op":"subscribe","args":["publicTrade.BTCUSDT","orderbook.50.NOPE"]}', 0)
    assert actions[0] == Attach("publicTrade.BTCUSDT")
    assert not sent(actions)[0]["success"]
    assert list(spot.topics) == ["publicTrade.BTCUSDT"]


def test_a_second_subscription_is_refused_and_the_first_goes_on() -> None:
    linear = session()
    request = '{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}'
    linear.receive(request, 0)
    (reply,) = sent(linear.receive(request, 0))
    assert reply["ret_msg"] == "error:already subscribed,topic:orderbook.50.BTCUSDT"
    assert list(linear.topics) == ["orderbook.50.BTCUSDT"]
    twice = '{"op":"subscribe","args":["tickers.BTCUSDT","tickers.BTCUSDT"]}'
    assert sent(linear.receive(twice, 0))[0]["ret_msg"] == "error:already subscribed,topic:tickers.BTCUSDT"


def test_unsubscribing_makes_room_for_a_new_subscription() -> None:
    linear = session()
    linear.receive('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}', 0)
    detach, ack = linear.receive('{"op":"unsubscribe","req_id":"u","args":["orderbook.50.BTCUSDT"]}', 0)
    assert detach == Detach("orderbook.50.BTCUSDT")
    assert sent([ack])[0]["op"] == "unsubscribe"
    again = linear.receive('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}', 0)
    assert again[0] == Attach("orderbook.50.BTCUSDT")


def test_the_limit_on_args_can_be_enforced() -> None:
    request = '{"op":"subscribe","args":["orderbook.50.BTCUSDT","publicTrade.BTCUSDT"]}'
    assert sent(session(args_chars=30, enforce_args_chars=True).receive(request, 0))[0]["success"] is False
    assert sent(session(args_chars=30).receive(request, 0))[0]["success"] is True


@pytest.mark.parametrize("text", ["hello", "", "[1,2]", '{"op":3}', '{"op":"subscribe","args":"x"}', '{"op":"ping"'])
def test_what_is_no_request_is_answered_and_kept_open(text: str) -> None:
    (reply,) = sent(session().receive(text, 0))
    assert reply["success"] is False
    assert reply["ret_msg"].startswith("Failed to decode incoming data:")


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_any_text_has_an_answer(text: str) -> None:
    for category in Category:
        assert sent(session(category).receive(text, 0))


def test_a_silent_socket_without_topics_can_be_cut() -> None:
    linear = session(public_idle_s=10.0)
    assert not linear.expired(10_000)
    assert linear.expired(10_001)
    linear.receive('{"op":"subscribe","args":["tickers.BTCUSDT"]}', 10_001)
    assert not linear.expired(100_000)
    assert not session().expired(10**9)


def test_the_trade_endpoint_refuses_politely() -> None:
    trade = TradeSession("conn-9")
    assert sent(trade.receive('{"op":"ping"}', 1790000000456)) == [
        {"retCode": 0, "retMsg": "OK", "op": "pong", "data": ["1790000000456"], "connId": "conn-9"}
    ]
    assert raw(trade.receive('{"op":"subscribe","reqId":"r1","args":["order"]}', 0)) == (
        b'{"op":"subscribe","reqId":"r1","retCode":10404,"retMsg":"","connId":"conn-9"}'
    )
    assert sent(trade.receive("?", 0))[0]["retCode"] == 10001
