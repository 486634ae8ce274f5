"""The same report as text, on a terminal and as Markdown."""

from __future__ import annotations

import io

import msgspec
import pytest

from orderflow.bench.grids import Grid, closing_lines, grids, number
from orderflow.bench.ratios import find_ratios
from orderflow.bench.report import with_changes
from orderflow.bench.results import Figure, Spread, single
from orderflow.bench.table import align, write_markdown, write_table
from tests.bench.test_report import make


def _lines(apply_p99: float = 20.0) -> list[str]:
    out = io.StringIO()
    write_table(make(apply_p99), out)
    return out.getvalue().splitlines()


def test_the_table_shows_case_rate_limit_and_verdict() -> None:
    lines = _lines(51.0)
    hot = next(line.split() for line in lines if line.split()[:2] == ["apply", "hot"])
    assert hot == ["apply", "hot", "50", "1000", "12.8", "us", "51.0", "102", "153", "p99", "<", "50", "BROKEN"]
    cold = next(line.split() for line in lines if line.split()[:2] == ["apply", "cold"])
    assert cold[2:4] == ["50", "500/s"]
    assert cold[-1] == "50"
    assert any("21.3 changed levels (up to 200)" in line for line in lines)


def test_ratios_and_limits_have_tables_of_their_own() -> None:
    lines = [line.split() for line in _lines()]
    assert ["messages", "orderflow", "plain", "50", "4.50", "4.50", "to", "4.50", "4.00", "holds"] in lines
    assert ["book", "delta", "p99", "<", "50", "us", "20.0", "us", "holds"] in lines
    assert any(line.startswith("limits not measured: message processing; imbalance;") for line in _lines())
    assert "every client ended with the server's books, level by level; no message was lost" in _lines()


@pytest.mark.parametrize("p99, verdict", [(500.0, "holds"), (700.0, "BROKEN")])
def test_median_and_p99_share_a_row(p99: float, verdict: str) -> None:
    def beside(case: str, p99: float) -> Figure:
        rounds = (Spread(count=9, p50=1.0, p99=p99, p999=p99, max=p99),)
        return Figure(stage="scale", name="sent to book", case=case, unit="ms", rounds=rounds, depth=50, rate=500.0)

    report = make()
    ratios = find_ratios([beside("50 symbols, no ticks", 300.0), beside("50 symbols, ticks every 0.1 s", p99)])
    compared = next(
        grid for grid in grids(msgspec.structs.replace(report, ratios=tuple(ratios))) if grid.title.startswith("ratios")
    )
    cases = ("50 symbols, ticks every 0.1 s", "50 symbols, no ticks")
    figures = ("50", "500/s", "1.00", "1.00 to 1.00", f"{300 / p99:.2f}", "p99 0.50")
    assert compared.rows == [("sent to book", *cases, *figures, verdict)]


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    started = next(grid for grid in grids(make()) if grid.title.startswith("startup"))
    assert started.headings == ("", "samples", "median", "±", "worst", "limit", " ")
    assert started.rows == [("orderflow --help", "2", "0.120 s", "33%", "0.140", "p50 < 0.15", "holds")]
    assert started.texts == 1


def test_an_earlier_run_is_shown_beside_this_one() -> None:
    report = with_changes(make(10.0), make(20.0))
    compared = next(grid for grid in grids(report) if grid.title.startswith("against the run of"))
    assert compared.title == "against the run of 1970-01-01 00:00 UTC, load 0.5 (more than 1 is better now)"
    row = ("book", "apply", "hot", "50", "", "5.00 us", "2.50 us", "2.00", "2.00", "0%", "better")
    assert compared.rows[0] == row
    out = io.StringIO()
    write_table(msgspec.structs.replace(report, changes=()), out)
    assert "the earlier run measured nothing that this one did" in out.getvalue()


def test_another_machine_is_named_beside_its_run() -> None:
    before = msgspec.structs.replace(make(), machine=msgspec.structs.replace(make().machine, cores=64, cpu="big"))
    titles = [grid.title for grid in grids(with_changes(make(), before))]
    assert "against the run of 1970-01-01 00:00 UTC, load 0.5, big, 64 cores (more than 1 is better now)" in titles


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")  # narrower than the table: nothing is cut short
    out = _Terminal()
    write_table(make(51.0), out)
    assert "BROKEN" in out.getvalue()
    assert "12.8 us" in out.getvalue()
    assert "…" not in out.getvalue()


def test_a_saved_report_cannot_drive_the_terminal() -> None:
    report = make()
    evil = "\x1b[2J"
    machine = msgspec.structs.replace(report.machine, cpu=evil, packages={evil: evil})
    figures = tuple(msgspec.structs.replace(figure, name=evil, case=evil, unit=evil) for figure in report.figures)
    for out in (io.StringIO(), _Terminal()):
        write_table(msgspec.structs.replace(report, machine=machine, figures=figures), out)
        assert evil not in out.getvalue()


def test_markdown_is_made_of_tables() -> None:
    out = io.StringIO()
    write_markdown(make(), out)
    lines = out.getvalue().splitlines()
    at = lines.index("### startup: exec to first live book, `orderflow --help`, imports")
    assert lines[at + 2 : at + 5] == [
        "|  | samples | median | ± | worst | limit |  |",
        "| --- | --: | --: | --: | --: | --: | --: |",
        "| orderflow --help | 2 | 0.120 s | 33% | 0.140 | p50 &lt; 0.15 | holds |",
    ]


@pytest.mark.parametrize(
    "value, text",
    [(0.0371, "0.037"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (98765.4, "98765"), (-0.5, "-0.500")],
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_columns_are_aligned() -> None:
    grid = Grid("", ("name", "", "n"), [("a", "bcd", "100")], 2)
    assert align(grid) == ["  name         n", "  a     bcd  100"]


def test_ways_of_a_choice_stand_beside_ours() -> None:
    def way(case: str, *p50s: float, depth: int = 50) -> Figure:
        return Figure(
            stage="choices", name="levels", case=case, unit="us", rounds=tuple(map(single, p50s)), depth=depth
        )

    figures = (way("dict", 2.0, 4.0), way("list", 3.0, 8.0), way("dict", 5.0, depth=200), way("list", 5.0, depth=200))
    report = msgspec.structs.replace(make(), figures=figures, ratios=tuple(find_ratios(figures)), verdicts=())
    (table,) = (grid for grid in grids(report) if grid.title.startswith("choices"))
    assert table.headings == ("", "way", "depth", "median", "±", "times ours", "rounds")
    assert table.rows == [
        ("levels", "dict", "50", "3.00 us", "67%", "ours", ""),
        ("levels", "list", "50", "5.50 us", "91%", "1.75", "1.50 to 2.00"),
        ("levels", "dict", "200", "5.00 us", "", "ours", ""),
        ("levels", "list", "200", "5.00 us", "", "1.00", ""),
    ]
    assert not any(grid.title.startswith("ratios") for grid in grids(report))
    assert any(line.startswith("every way of a choice ended with the same book") for line in closing_lines(report))
