"""The codec: what is accepted, what is refused and why, and that nothing but WireError ever comes out."""

from __future__ import annotations

import itertools
import json
import re

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderflow.bybit.codec import FeedCodec, is_plain_number
from orderflow.bybit.topics import TopicTable
from orderflow.bybit.wire import WireBook, WireReply
from orderflow.core.errors import WireError
from orderflow.core.types import BookUpdate, Category, InstrumentId, Liquidation, TickerUpdate, Trade

BTC = InstrumentId(Category.LINEAR, "BTCUSDT")


def codec() -> FeedCodec:
    return FeedCodec(TopicTable(Category.LINEAR))


def book(price: str = '"100.5"', size: str = '"1"', **changes: object) -> bytes:
    """A delta with one bid, its price and size as raw JSON."""
    data: dict[str, object] = {"s": "BTCUSDT", "b": "BIDS", "a": [["101.5", "2"]], "u": 5, "seq": 6}
    message: dict[str, object] = {"topic": "orderbook.50.BTCUSDT", "type": "delta", "ts": 7, "data": data, "cts": 4}
    for key, value in changes.items():
        (data if key in ("s", "u", "seq", "a", "b") else message)[key] = value
    text = json.dumps(message, separators=(",", ":"))
    return text.replace('"BIDS"', f"[[{price},{size}]]").encode()


def decode_book(raw: bytes) -> BookUpdate:
    update = codec().decode(raw, 11, 12)
    assert isinstance(update, BookUpdate)
    return update


def test_a_book_message() -> None:
    assert decode_book(book()) == BookUpdate(BTC, 50, False, [(100.5, 1.0)], [(101.5, 2.0)], 5, 6, 7, 4, 11, 12)
    assert decode_book(book(type="snapshot")).snapshot


def test_key_order_white_space_and_unknown_keys_do_not_matter() -> None:
    plain = json.loads(book())
    plain["extra"] = {"deep": [1, {"x": "y"}]}
    turned = dict(reversed(plain.items()))
    turned["data"] = dict(reversed(plain["data"].items()), more="e-1")
    for text in (json.dumps(turned), json.dumps(plain, indent=2)):
        assert decode_book(text.encode()) == decode_book(book())


@pytest.mark.parametrize("depth", [1, 50, 200, 500, 1000])
def test_the_depth_is_the_topics(depth: int) -> None:
    assert decode_book(book(topic=f"orderbook.{depth}.BTCUSDT")).depth == depth


@pytest.mark.parametrize(
    "number",
    [
     '" 1"', '"1 "', '"1_0"', '"nan"', '"NaN"', '"inf"', '"-inf"', '"infinity"', '"1e5"', '"1E5"', '"-1"', '"+1"',
     '"１"',
     '"0x1"', '"1.2.3"', '""', '"."', '"1,5"', "null", "true", '"true"', "{}", "[]", "-1", "1e5", '"' + "9" * 33 + '"',
     '"0.' + "0" * 30_000 + '1"', '"\\u0031e5"'],
)  # fmt: skip
@pytest.mark.parametrize("place", ["price", "size"])
def test_what_is_no_plain_decimal_is_refused_whole(number: str, place: str) -> None:
    decoder = codec()
    with pytest.raises(WireError) as caught:
        decoder.decode(book(**{place: number}), 0, 0)
    assert caught.value.reason in ("number", "shape", "json")
    assert caught.value.topic == "orderbook.50.BTCUSDT"


@pytest.mark.parametrize("place", ["price", "size"])
@pytest.mark.parametrize("blank", [b"", b" "])
def test_how_long_a_books_numbers_may_be_is_a_matter_of_the_whole_message(place: str, blank: bytes) -> None:
    """A hundred digits behind the dot are a number still; 4096 bytes and 256 a level are the most."""
    decoder = codec()

    def of_length(length: int) -> bytes:
        empty = book(**{place: '"1."'}).replace(b",", b"," + blank)
        return empty.replace(b'"1."', b'"1.' + b"0" * (length - len(empty) - 1) + b'1"')

    longest = 4096 + 256 * 2
    update = decoder.decode(of_length(longest), 0, 0)
    assert isinstance(update, BookUpdate)
    assert 1.0 in {number for level in update.bids for number in level}
    assert refusal(decoder, of_length(longest + 1)) == "number"


@pytest.mark.parametrize(
    ("price", "size", "reason"),
    [
        ("999999999999999", "0", None),
        ("1000000000000000", "1", "number"),
        ("1", "999999999999999000", None),
        ("1", "1000000000000000000", "number"),
        ("9" * 309, "1", "number"),
        ("1", "9" * 309, "number"),
    ],
)
def test_prices_and_sizes_of_a_book_have_bounds(price: str, size: str, reason: str | None) -> None:
    decoder = codec()
    assert refusal(decoder, book(price=f'"{price}"', size=f'"{size}"')) == reason


@pytest.mark.parametrize("price", ['"0"', '"0.0"', '"0.00000000"'])
def test_a_price_of_0_is_refused(price: str) -> None:
    with pytest.raises(WireError, match="number"):
        codec().decode(book(price=price), 0, 0)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("1", True), ("0.10", True), ("86723.40", True), ("007", True), ("1.", True), (".5", True), ("", False),
     ("1.2.3", False), ("1e5", False), ("-1", False), ("1\n", False), ("9" * 32, True), ("9" * 33, False)],
)  # fmt: skip
def test_plain_numbers(text: str, plain: bool) -> None:
    assert is_plain_number(text) is plain


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "json"),
        (b"nonsense", "json"),
        (b"\xff\xfe", "json"),
        (b'{"topic":"orderbook.50.BTCUSDT"', "json"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "json"),
        (b"[]", "shape"),
        (b'"text"', "shape"),
        (b'{"topic":5}', "shape"),
        (b'{"topic":"orderbook.50.BTCUSDT"}', "shape"),
        (book(type="other"), "shape"),
        (book(s="ETHUSDT"), "symbol"),
        (book(u=-1), "number"),
        (book(u="x"), "shape"),
        (book(u=10**30), "number"),
        (book(a=[["1"]]), "shape"),
        (book(a=[["1", "2", "3"]]), "shape"),
        (book(a={}), "shape"),
        (book(ts=-5), "number"),
    ],
)
def test_bad_messages_have_a_named_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        codec().decode(raw, 0, 0)
    assert caught.value.reason == reason


@pytest.mark.parametrize("topic", ["orderbook.50", "orderbook..BTCUSDT", "orderbook.x.BTCUSDT", "orderbook.50.btc\n"])
def test_a_topic_that_is_none_is_ignored(topic: str) -> None:
    assert codec().decode(book(topic=topic), 0, 0) is None


def test_only_added_topics_are_known_to_a_live_link() -> None:
    table = TopicTable(Category.LINEAR, learn=False)
    table.add_book(BTC, 50)
    decoder = FeedCodec(table)
    assert isinstance(decoder.decode(book(), 0, 0), BookUpdate)
    assert decoder.decode(book(topic="orderbook.1.BTCUSDT"), 0, 0) is None
    assert decoder.decode(book(topic="orderbook.1000.BTCUSDT"), 0, 0) is None


def test_trades() -> None:
    raw = (
        b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":8,"data":[{"T":7,"s":"BTCUSDT","S":"Buy","v":"0.5",'
        b'"p":"100.5","L":"PlusTick","i":"x","BT":false,"RPI":true,"seq":9}]}'
    )
    assert codec().decode(raw, 1, 2) == [Trade(BTC, 100.5, 0.5, True, 7, "x", False, True, 9, 1, 2)]
    for old, new in (
        (b"Buy", b"buy"),
        (b'"0.5"', b'"nan"'),
        (b'"100.5"', b'"-1"'),
        (b'"100.5"', b'"1e2"'),
        (b'"100.5"', b'"' + b"1" * 33 + b'"'),
        (b'"0.5"', b"0.5"),
        (b'"s":"BTCUSDT"', b'"s":"X1"'),
    ):
        with pytest.raises(WireError):
            codec().decode(raw.replace(old, new), 1, 2)


def test_liquidations_name_the_position() -> None:
    raw = (
        b'{"topic":"allLiquidation.BTCUSDT","type":"snapshot","ts":8,'
        b'"data":[{"T":7,"s":"BTCUSDT","S":"Sell","v":"2","p":"4"}]}'
    )
    assert codec().decode(raw, 1, 2) == [Liquidation(BTC, 4.0, 2.0, False, 7, 1, 2)]


def test_ticker_deltas_carry_only_what_changed() -> None:
    raw = (
        b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","bid1Price":"5.5","ask1Price":"",'
        b'"fundingRate":"-0.0001"},"cs":3,"ts":8}'
    )
    ticker = codec().decode(raw, 1, 2)
    assert isinstance(ticker, TickerUpdate)
    assert (ticker.bid, ticker.ask, ticker.last, ticker.funding_rate, ticker.snapshot) == (
        5.5,
        None,
        None,
        -0.0001,
        False,
    )
    with pytest.raises(WireError, match="number"):
        codec().decode(raw.replace(b"5.5", b"1e9"), 1, 2)


@pytest.mark.parametrize(
    ("raw", "success", "req_id"),
    [
        (b'{"success":true,"ret_msg":"subscribe","conn_id":"x","req_id":"s1","op":"subscribe"}', True, "s1"),
        (b'{"success":false,"ret_msg":"args size \\u003e10","conn_id":"x","op":"subscribe"}', False, ""),
        (b'{"retCode":0,"retMsg":"OK","op":"pong","data":["1"],"connId":"x"}', None, ""),
        (b'{"args":["1"],"op":"pong"}', None, ""),
        (b'{"success":true,"ret_msg":"pong","conn_id":"x","req_id":"50869","op":"ping"}', True, "50869"),
    ],
)
def test_replies_in_every_dialect(raw: bytes, success: bool | None, req_id: str) -> None:
    reply = codec().decode(raw, 0, 0)
    assert isinstance(reply, WireReply)
    assert (reply.success, str(reply.req_id)) == (success, req_id)


def refusal(decoder: FeedCodec, raw: bytes) -> str | None:
    try:
        decoder.decode(raw, 0, 0)
    except WireError as exc:
        return exc.reason
    return None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_the_declared_error(raw: bytes) -> None:
    refusal(codec(), raw)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["1.5", "0", "Buy"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
TOPICS = ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT", "allLiquidation.BTCUSDT", "kline.1.BTCUSDT"]


# In a fresh clone the first draw of text builds Hypothesis' table of Unicode, which a busy machine takes a second for.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(TOPICS), st.dictionaries(st.sampled_from(["type", "ts", "cts", "data", "op"]), json_values))
def test_arbitrary_shapes_raise_only_the_declared_error(topic: str, message: dict[str, object]) -> None:
    refusal(codec(), json.dumps({"topic": topic, **message}).encode())


numbers = (
    st.text(max_size=6)
    | st.text("0123456789.", min_size=1, max_size=6)
    | st.sampled_from(["1", "2.5", "0", "1e3", "2E5", "nan", "-0", "-1", "+1", "1\\u0030"])
)


@given(st.lists(st.tuples(numbers, numbers), max_size=4), st.lists(st.tuples(numbers, numbers), max_size=2))
def test_a_book_is_taken_when_every_number_of_it_is_plain(
    bids: list[tuple[str, str]], asks: list[tuple[str, str]]
) -> None:
    raw = json.dumps({**json.loads(book()), "data": {**json.loads(book())["data"], "b": bids, "a": asks}}).encode()
    every = [*bids, *asks]
    good = all(is_plain_number(text) and is_json_number(text) for row in every for text in row)
    good = good and all(float(price) > 0 for price, _ in every)
    assert (refusal(codec(), raw) is None) is good


def is_json_number(text: str) -> bool:
    """`007`, `1.` and `.5` are plain and no JSON, which the decoder asks for."""
    return re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]+)?", text) is not None


def test_what_the_decoder_takes_beyond_plain_numbers_has_one_of_three_characters() -> None:
    """What the codec stands on: an e, an E or a minus sign, and nothing else, is in every number that is not plain."""
    decode = msgspec.json.Decoder(WireBook, strict=False).decode
    head, tail = book(size='"SIZE"').split(b"SIZE")
    printable = [chr(code) for code in range(32, 127) if chr(code) not in '"\\']
    texts = ["".join(chars) for count in range(3) for chars in itertools.product(printable, repeat=count)]
    texts += ["".join(chars) for count in (3, 4, 5) for chars in itertools.product("01.eE+-_x", repeat=count)]
    texts += [f"1{chr(code)}" for code in range(32)] + [f"{chr(code)}1" for code in range(127, 0x3000)]
    taken = []
    for text in texts:
        try:
            decode(head + text.encode() + tail)
        except msgspec.MsgspecError:
            continue
        taken.append(text)
    assert len(taken) > 200
    assert {text for text in taken if not is_plain_number(text)} == {text for text in taken if set(text) & set("eE-")}


# --- what is told by four characters


@pytest.mark.parametrize(
    "bids",
    [
        '["1","nan"]', '["inf","1"]', '["1","Infinity"]', '["1e5","1"]', '["1E+2","1"]', '["1","-5"]', '["1","-0"]',
        '["+1","1"]', '["1","\\u006ean"]', '["1\\u00655","1"]', '["1","\\u002d0"]', '["1",-0]', '["1",1e5]',
        '[1e5,"1"]', '["1",-0.0]', '["2","1"],["1e5","1"]', '["1e5","1"],["2","1"]',
    ],
)  # fmt: skip
def test_nothing_around_the_levels_hides_what_is_no_plain_number(bids: str) -> None:
    sides = ("b", "a", "\\u0062", "\\u0061")
    extras = ("", '"e1":0,', '"-":"\\\\",', '"more":[["1","2"]],', '"seq":7,')
    for side, extra, place, is_first in itertools.product(sides, extras, range(3), (True, False)):
        before, between, behind = (extra if place == where else "" for where in range(3))
        other = "a" if side in ("b", "\\u0062") else "b"
        data = f'{before}"{side}":[LEVELS],{between}"{other}":[["7","1"]],{behind}"s":"BTCUSDT","u":5,"seq":6'
        topic, rest = '"topic":"orderbook.50.BTCUSDT"', f'"type":"delta","ts":7,"data":{{{data}}},"cts":4'
        raw = f"{{{topic},{rest}}}" if is_first else f"{{{rest},{topic}}}"
        assert refusal(codec(), raw.replace("LEVELS", '["1","2"]').encode()) is None
        assert refusal(codec(), raw.replace("LEVELS", bids).encode()) == "number"


@pytest.mark.parametrize(
    "price", [b'"\xff"', b'"1\xff"', b'"e\xe2\x82"', b'{"x":"\xff"}', b'["\xff"]', b"\xff", b'"\\ud800"']
)
@pytest.mark.parametrize("place", ["price", "size"])
def test_what_is_no_text_in_place_of_a_number_is_a_declared_error_too(price: bytes, place: str) -> None:
    raw = book(**{place: "NUMBER"}).replace(b"NUMBER", price)
    assert refusal(codec(), raw) in ("json", "number")


@pytest.mark.parametrize("bids", ["[1,2.5]", '[1,"2.5"]', '["1",2.5]'])
@pytest.mark.parametrize("extra", ["", '"e":[],'], ids=["at a glance", "number by number"])
def test_a_number_may_stand_without_quotes(bids: str, extra: str) -> None:
    raw = book().replace(b'["100.5","1"]', bids.encode()).replace(b'"a":', extra.encode() + b'"a":')
    update = codec().decode(raw, 0, 0)
    assert isinstance(update, BookUpdate)
    assert update.bids == [(1.0, 2.5)]


def test_a_time_in_quotes_is_a_time() -> None:
    """The docs print one so. It may come and go."""
    decoder = codec()
    quoted = book().replace(b'"ts":7', b'"ts":"7"')
    assert decoder.decode(book(), 11, 12) == decoder.decode(quoted, 11, 12) == decoder.decode(book(), 11, 12)


# --- borders, as mutation testing found them unwatched

LAST_ID = 2**63 - 1


@pytest.mark.parametrize("field", ["u", "seq", "ts", "cts"])
def test_ids_and_times_fit_63_bits(field: str) -> None:
    decoder = codec()
    assert isinstance(decoder.decode(book(**{field: LAST_ID}), 0, 0), BookUpdate)
    assert isinstance(decoder.decode(book(**{field: 0}), 0, 0), BookUpdate)
    assert refusal(decoder, book(**{field: LAST_ID + 1})) == "number"
    assert refusal(decoder, book(**{field: -1})) == "number"


def test_what_the_fast_path_cannot_read_is_named_by_the_strict_one() -> None:
    decoder = codec()
    decoder.decode(book(), 0, 0)
    for price in ('""', '"."', '"nan"'):
        assert refusal(decoder, book(price=price)) == "number"
    with pytest.raises(WireError, match="'nan'"):
        decoder.decode(book(size='"nan"'), 0, 0)
    with pytest.raises(WireError, match="'nan'"):
        decoder.decode(book(price='"nan"'), 0, 0)
    assert refusal(decoder, book(price='"0"')) == "number"


@pytest.mark.parametrize("place", ["first", "last"])
def test_the_topic_of_a_long_broken_message_is_found_at_either_end(place: str) -> None:
    filler = '"x":"' + "y" * 2000 + '"'
    topic = '"topic":"orderbook.50.BTCUSDT"'
    raw = "{" + (f"{topic},{filler}" if place == "first" else f"{filler},{topic}") + "]"
    with pytest.raises(WireError) as caught:
        codec().decode(raw.encode(), 0, 0)
    assert (caught.value.reason, caught.value.topic) == ("json", "orderbook.50.BTCUSDT")


def vetted(decoder: FeedCodec, raw: bytes, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether this message's numbers are looked at one by one."""
    looked: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "_vet", looked.append)
        assert isinstance(decoder.decode(raw, 0, 0), BookUpdate)
    return bool(looked)


@pytest.mark.parametrize("blank", ["", " ", "\n  "])
@pytest.mark.parametrize("kind", ["delta", "snapshot"])
def test_ordinary_messages_are_settled_at_a_glance(blank: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def raw(bids: int, asks: int) -> bytes:
        sides = {
            "b": [[f"{1000 - i}.5", "0.25"] for i in range(bids)],
            "a": [[f"{1001 + i}", "7"] for i in range(asks)],
        }
        return book(type=kind, **sides).replace(b",", f",{blank}".encode())

    for bids, asks in itertools.product((0, 1, 2, 300), repeat=2):  # 300: longer than the envelope may be
        assert not vetted(codec(), raw(bids, asks), monkeypatch)
    assert vetted(codec(), raw(1, 1).replace(b'"a":', b'"e":1,"a":'), monkeypatch)


@pytest.mark.parametrize("topic", ["publicTrade", "allLiquidation"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"s": "X1"}, "symbol"),
        ({"S": "buy"}, "shape"),
        *(({key: text}, "number") for key in "pv" for text in ("nan", "1e5", "1_0", " 1", "x", "0")),
    ],
)
def test_bad_rows_have_a_named_reason(topic: str, change: dict[str, str], reason: str) -> None:
    row = {"T": 7, "s": "BTCUSDT", "S": "Buy", "v": "2", "p": "4", "i": "x", "BT": False, **change}
    message = {"topic": f"{topic}.BTCUSDT", "type": "snapshot", "ts": 8, "data": [row]}
    assert refusal(codec(), json.dumps(message).encode()) == reason
    message["data"] = [row | {"s": "BTCUSDT", "S": "Buy", "v": "2", "p": "4"}]
    (read,) = codec().decode(json.dumps(message).encode(), 1, 2)  # type: ignore[union-attr, misc]
    assert read.long_liquidated if isinstance(read, Liquidation) else read.buy


def ticker(kind: str = "snapshot", **data: str) -> bytes:
    message = {"topic": "tickers.BTCUSDT", "type": kind, "ts": 8, "data": {"symbol": "BTCUSDT", **data}}
    return json.dumps(message).encode()


def test_the_index_price_has_two_names() -> None:
    for name in ("indexPrice", "usdIndexPrice"):
        read = codec().decode(ticker(**{name: "7.5"}), 1, 2)
        assert isinstance(read, TickerUpdate)
        assert (read.index, read.snapshot) == (7.5, True)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (ticker("other"), "shape"),
        (ticker(lastPrice="1e9"), "number"),
        (ticker(lastPrice="9" * 33), "number"),
        (ticker(lastPrice="9" * 32), None),
        (ticker(symbol="ETHUSDT"), "symbol"),
    ],
)
def test_bad_tickers_have_a_named_reason(raw: bytes, reason: str | None) -> None:
    assert refusal(codec(), raw) == reason


@pytest.mark.parametrize("field", ["u", "seq", "ts", "cts"])
def test_ids_and_times_may_be_0(field: str) -> None:
    assert isinstance(decode_book(book(**{field: 0})), BookUpdate)


def test_a_book_may_come_without_its_matching_time() -> None:
    message = json.loads(book())
    del message["cts"]
    assert decode_book(json.dumps(message).encode()).engine_ms is None


@pytest.mark.parametrize(
    ("price", "size", "reason"),
    [
        ("0.5", "0.5", None),
        ("999999999999999", "1", None),
        ("1000000000000000", "1", "number"),
        ("1", "999999999999999000", None),
        ("1", "1000000000000000000", "number"),
        ("0", "1", "number"),
        ("1", "0", "number"),
    ],
)
def test_prices_and_sizes_of_rows_have_bounds(price: str, size: str, reason: str | None) -> None:
    row = {"T": 7, "s": "BTCUSDT", "S": "Buy", "v": size, "p": price}
    message = {"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": 8, "data": [row]}
    assert refusal(codec(), json.dumps(message).encode()) == reason
