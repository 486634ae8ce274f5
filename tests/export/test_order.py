from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy", reason="needs the extra `export`")

from orderflow.export.events import BUY, DEPTH, EVENT, EXCH, LOCAL  # noqa: E402 - behind the question for numpy
from orderflow.export.order import in_order  # noqa: E402


def events(pairs: list[tuple[int, int]]) -> Any:
    """(exch_ts, local_ts) of each row, in the order they were received; `order_id` is the row's number."""
    rows = np.zeros(len(pairs), EVENT)
    rows["ev"] = DEPTH | BUY
    rows["exch_ts"], rows["local_ts"] = zip(*pairs, strict=True) if pairs else ((), ())
    rows["order_id"] = np.arange(len(pairs))
    return rows


def ordered(pairs: list[tuple[int, int]], pieces: int = 1, **more: int) -> Any:
    return np.concatenate(list(in_order(np.array_split(events(pairs), pieces), **more)))


def halves(rows: Any, flag: int) -> list[tuple[int, int]]:
    """(row's number, time) as one of hftbacktest's two readers sees it."""
    name = "exch_ts" if flag == EXCH else "local_ts"
    return [(int(row["order_id"]), int(row[name])) for row in rows if int(row["ev"]) & flag]


PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), max_size=40).map(
    lambda steps: [(100 + sum(gap for _, gap in steps[: n + 1]) - age, 100 + sum(gap for _, gap in steps[: n + 1]))
                   for n, (age, _) in enumerate(steps)]
)  # fmt: skip


@given(PAIRS, st.integers(1, 5))
def test_both_readers_get_every_row_once_and_sorted(pairs: list[tuple[int, int]], pieces: int) -> None:
    rows = ordered(pairs, pieces)
    local, exch = halves(rows, LOCAL), halves(rows, EXCH)
    assert local == [(number, time) for number, (_, time) in enumerate(pairs)]
    assert exch == sorted(((number, time) for number, (time, _) in enumerate(pairs)), key=lambda row: (row[1], row[0]))
    assert all(int(row["ev"]) & (LOCAL | EXCH) for row in rows)
    assert {int(row["ev"]) & ~(LOCAL | EXCH) for row in rows} <= {DEPTH | BUY}


@given(PAIRS, st.integers(1, 5), st.integers(1, 30))
def test_a_row_is_moved_by_so_much_at_the_most(pairs: list[tuple[int, int]], pieces: int, late_ns: int) -> None:
    newest, clamped = 0, []
    for number, (exch, _) in enumerate(pairs):
        clamped.append((number, max(exch, newest - late_ns)))
        newest = max(newest, exch)
    assert halves(ordered(pairs, pieces, late_ns=late_ns), EXCH) == sorted(clamped, key=lambda row: (row[1], row[0]))


def test_only_what_comes_late_is_split() -> None:
    rows = ordered([(10, 20), (12, 21), (11, 22), (12, 23)])
    assert [(int(row["order_id"]), int(row["ev"]) >> 30) for row in rows] == [(0, 3), (2, 2), (1, 3), (2, 1), (3, 3)]


def test_nothing_happened_before_the_day_began() -> None:
    assert halves(ordered([(5, 20), (30, 31)], floor_ns=12), EXCH) == [(0, 12), (1, 30)]


def test_no_more_waits_than_the_time_a_row_may_be_late() -> None:
    taken = in_order((events([(n, n + 1)]) for n in range(1000)), late_ns=10)
    behind = 0
    for number, piece in enumerate(taken):
        behind += 1 - len(piece) if number < 1000 else -len(piece)
        assert behind <= 11
    assert behind == 0
