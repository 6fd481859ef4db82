"""`medsr compare`: tables of several evaluations as one, with paired tests against one of the methods."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsr.errors import InputError

if TYPE_CHECKING:
    from medsr.metrics import Row

_OTHERS = ("bicubic", "cubic spline", "interpolation", "HR")  # rows beside an evaluated method, not renamed


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare",
        help="compare evaluations case by case",
        description="Put tables of evaluations (metrics.csv, segmentation.csv) together and compare their methods "
        "case by case: mean, gain over one of them, worst case, Wilcoxon signed-rank test. NAME=TABLE renames the "
        "evaluated method of a table.",
    )
    parser.add_argument("tables", nargs="+", metavar="[NAME=]TABLE", help="CSV files that evaluations wrote")
    parser.add_argument("--baseline", metavar="METHOD", help="whom the others are compared with (the first method)")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="columns to show (psnr ssim, or dice)")
    parser.add_argument("--json", metavar="FILE", help="write the summary, unrounded")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    from medsr.metrics import format_table, summarise, write_json
    from medsr.metrics.report import directions

    rows = [row for table in arguments.tables for row in read(table)]
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    shown = arguments.metrics or [m for m in ("psnr", "ssim", "dice") if m in metrics]
    unknown = [metric for metric in shown if metric not in metrics]
    if unknown:
        raise InputError(f"no table has a column {unknown[0]!r}; there are {', '.join(metrics)}")
    baseline = arguments.baseline or rows[0].method
    groups = summarise(rows, baseline, directions(metrics))
    print(format_table(groups, shown))
    if arguments.json:
        write_json(arguments.json, {"groups": groups, "baseline": baseline})
    return 0


def read(table: str) -> list[Row]:
    """Return the rows of a table, its evaluated method under another name if one is given.

    Raises:
        InputError: No such table, an empty one, or a name for a table with several evaluated methods.
    """
    from medsr.metrics import Row, read_csv

    name, separator, path = table.partition("=")
    if not separator or Path(table).exists():
        name, path = "", table
    rows = read_csv(path)
    if not rows:
        raise InputError(f"{path} has no rows")
    evaluated = sorted({row.method for row in rows} - set(_OTHERS))
    if name and len(evaluated) != 1:
        raise InputError(f"{path} has the methods {', '.join(evaluated) or 'none'}: which is {name!r}? Give no name")
    return [Row(r.case, r.scale, name if name and r.method == evaluated[0] else r.method, r.values) for r in rows]
