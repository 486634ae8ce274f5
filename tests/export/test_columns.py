from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="needs the extra `export`")

from orderflow.bybit.codec import is_plain_number  # noqa: E402 - behind the question whether pyarrow is there
from orderflow.export.columns import BookRows, Rows, decimals  # noqa: E402

PLAIN = st.from_regex(r"[0-9]{1,11}(\.[0-9]{0,12})?|\.[0-9]{1,12}", fullmatch=True)


@settings(max_examples=30)
@given(st.lists(st.none() | PLAIN, max_size=8))
def test_every_plain_number_is_exact(texts: list[str | None]) -> None:
    assert all(text is None or is_plain_number(text) for text in texts)
    assert decimals(pa.array(texts, pa.string())).to_pylist() == [
        None if text is None else Decimal(text) for text in texts
    ]


@pytest.mark.parametrize(
    "text, exact",
    [
        ("12345678901234567890", True),
        ("123456789012345678901", False),  # 21 digits before the point
        ("0.123456789012345678", True),
        ("0.1234567890123456789", False),
        ("0.1000000000000000000000", True),  # zeros cost nothing
        ("1e5", True),
        ("1e-300", False),
    ],
)
def test_what_does_not_fit_is_null_and_alone(text: str, exact: bool) -> None:
    assert decimals(pa.array(["1.5", text, "2.50"])).to_pylist() == [
        Decimal("1.5"),
        Decimal(text) if exact else None,
        Decimal("2.5"),
    ]


def test_book_rows() -> None:
    rows = BookRows()
    shared = ("linear", "BTCUSDT", 50, "delta", None, 1, 2)
    rows.add((0, *shared, 10, 70), [("1.0", "2"), ("0.9", "0")], [("1.1", "3")])
    rows.add((1, *shared, 11, 77), [], [])
    rows.add((2, *shared, 12, 84), [], [("1.2", "0")])
    assert len(rows) == 5
    batch = rows.take()
    batch.validate(full=True)
    assert (len(rows), rows.take().num_rows) == (0, 0)
    picked = [tuple(row[name] for name in ("message", "u", "side", "price_text", "size")) for row in batch.to_pylist()]
    assert picked == [
        (0, 10, "bid", "1.0", 2),
        (0, 10, "bid", "0.9", 0),
        (0, 10, "ask", "1.1", 3),
        (1, 11, None, None, None),
        (2, 12, "ask", "1.2", 0),
    ]


def test_no_rows_are_a_batch_of_their_columns() -> None:
    rows = Rows("trades")
    batch = rows.take()
    assert (batch.num_rows, batch.schema.names) == (0, rows.schema.names)
