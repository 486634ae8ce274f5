from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.core.types import Category
from orderflow.record.records import RestAnswer
from orderflow.verify.books import Books
from orderflow.verify.results import Report
from tests.record.tapes import M0, T0, book

if TYPE_CHECKING:
    from orderflow.verify.results import Comparison

MS = 1_000_000


def ticker(cs: int, bid: str, kind: str = "delta") -> bytes:
    return (
        f'{{"topic":"tickers.BTCUSDT","type":"{kind}","data":{{"symbol":"BTCUSDT",{bid}"ask1Price":"100.2",'
        f'"ask1Size":"1"}},"cs":{cs},"ts":1790000000000}}'
    ).encode()


class Desk:
    """Two connections of linear: the book's and the one beside it."""

    def __init__(self) -> None:
        self.report = Report(paths=[], findings=[], notes=[], books=[], comparisons=[])
        self.books = Books(self.report)
        self.books.opened(1, Category.LINEAR, ["BTCUSDT"])
        self.books.opened(2, Category.LINEAR)
        self.now = 0

    def take(self, connection: int, raw: bytes) -> None:
        self.now += MS
        self.books.message(connection, raw, T0 + self.now, M0 + self.now)

    def told(self) -> Comparison:
        self.books.finish()
        (comparison,) = self.report.comparisons
        return comparison


def test_a_ticker_is_not_carried_forward_over_a_hole() -> None:
    desk = Desk()
    desk.take(1, book(10, "snapshot"))
    desk.take(2, ticker(11, '"bid1Price":"100.1","bid1Size":"1",', "snapshot"))
    desk.books.doubt()
    desk.take(1, book(20, "snapshot", bid="100.15"))
    desk.take(2, ticker(21, ""))  # says nothing of the bid: nobody knows it
    told = desk.told()
    assert (told.compared, told.differing, told.between) == (2, 0, 0)


def test_a_new_connection_begins_without_a_book() -> None:
    desk = Desk()
    desk.take(1, book(10, "snapshot"))
    desk.books.lost(1)
    desk.books.opened(3, Category.LINEAR, ["BTCUSDT"])
    desk.take(3, book(11))
    desk.take(3, book(12, "snapshot", size="7"))
    desk.take(2, ticker(12, '"bid1Price":"100.1","bid1Size":"7",', "snapshot"))
    told = desk.told()
    (result,) = desk.report.books
    assert (result.messages, result.snapshots, result.unproven, result.gaps) == (3, 2, 1, 0)
    assert (told.compared, told.differing, told.between) == (2, 0, 1)  # the ask's size is another, once


def test_rpi_books_are_counted_and_left_out() -> None:
    desk = Desk()
    desk.take(
        1, b'{"topic":"orderbook.rpi.BTCUSDT","type":"snapshot","ts":1,"data":{"s":"BTCUSDT","b":[["1","2","3"]]}}'
    )
    assert (desk.report.excluded, desk.report.refused, desk.report.books) == (1, 0, [])


def test_what_cannot_be_read_is_counted() -> None:
    desk = Desk()
    desk.take(1, b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot"')
    desk.take(1, b'{"op":"pong"}')
    desk.take(9, book(1, "snapshot"))  # of a connection nobody opened
    answer = {"sent_ns": 0, "recv_ns": T0, "mono_ns": M0}
    desk.books.rest(RestAnswer(category=Category.LINEAR, symbol="BTCUSDT", body='{"retCode":10006}', **answer))
    assert (desk.report.refused, desk.report.books) == (2, [])
