"""A report as text, on a terminal with rich, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderflow.bench.grids import BROKEN, closing_lines, grids, machine_lines

if TYPE_CHECKING:
    from typing import TextIO

    from orderflow.bench.grids import Grid
    from orderflow.bench.report import Report

_WIDTH: Final = 120


def write_table(report: Report, out: TextIO) -> None:
    """Plain text; on a terminal with rich."""
    if out.isatty():
        _write_rich(report, out)
        return
    out.write("\n".join([*machine_lines(report), ""]) + "\n")
    for grid in grids(report):
        out.write(f"{grid.title}\n" + "\n".join(align(grid)) + "\n\n")
    out.writelines(line + "\n" for line in closing_lines(report))


def align(grid: Grid) -> list[str]:
    """Rows as lines with aligned columns: words to the left, numbers to the right."""
    rows = [grid.headings, *grid.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(grid.headings))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < grid.texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def write_markdown(report: Report, out: TextIO) -> None:
    """Tables for a document, under headings of the third level."""
    out.write("  \n".join(machine_lines(report)) + "\n")
    for grid in grids(report):
        ruler = ["---" if column < grid.texts else "--:" for column in range(len(grid.headings))]
        out.write(f"\n### {grid.title}\n\n")
        out.writelines(f"| {' | '.join(map(_escaped, row))} |\n" for row in (grid.headings, ruler, *grid.rows))
    out.writelines(f"\n{line}\n" for line in closing_lines(report))


def _escaped(cell: str) -> str:
    return cell.strip().replace("|", "\\|").replace("<", "&lt;")


def _write_rich(report: Report, out: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False)
    console.width = max(console.width, _WIDTH)  # a figure that wraps is better than one that is cut short
    for line in machine_lines(report):
        console.print(Text(line, style="dim"))
    for grid in grids(report):
        table = Table(title=grid.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column, heading in enumerate(grid.headings):
            table.add_column(heading, justify="left" if column < grid.texts else "right", no_wrap=True)
        for row in grid.rows:
            table.add_row(*(Text(cell) for cell in row), style="red bold" if BROKEN in row else "")
        console.print()
        console.print(table)
    console.print()
    for line in closing_lines(report):
        console.print(Text(line))
