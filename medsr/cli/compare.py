"""`medsr compare`: compare the methods of several evaluations by paired tests against one of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsr.errors import InputError

if TYPE_CHECKING:
    from medsr.metrics import Row

_OTHERS = ("bicubic", "cubic spline", "interpolation", "HR")  # reference rows of every table, which keep their names


def register(subparsers: Any) -> None:
    """Add `medsr compare` to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare",
        help="compare evaluations case by case",
        description="Join the tables of evaluations (metrics.csv, segmentation.csv) and compare their methods case by "
        "case: mean, gain over one of them, worst case, Wilcoxon signed-rank test. NAME=TABLE renames the evaluated "
        "method of a table.",
    )
    parser.add_argument("tables", nargs="+", metavar="[NAME=]TABLE", help="CSV files that evaluations wrote")
    parser.add_argument("--baseline", metavar="METHOD", help="method to compare with (default: the first)")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="columns to show (default: psnr, ssim and dice)")
    parser.add_argument("--json", metavar="FILE", help="also write the unrounded summary to this file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison of the methods.

    Raises:
        InputError: If a table cannot be read, or a metric or the baseline is not in the tables.
    """
    from medsr.metrics import format_table, summarise, write_json
    from medsr.metrics.report import directions

    rows = [row for table in arguments.tables for row in read(table)]
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    shown = arguments.metrics or [m for m in ("psnr", "ssim", "dice") if m in metrics]
    unknown = [metric for metric in shown if metric not in metrics]
    if unknown:
        raise InputError(f"no table has a column {unknown[0]!r}; choose from {', '.join(metrics)}")
    baseline = arguments.baseline or rows[0].method
    groups = summarise(rows, baseline, directions(metrics))
    print(format_table(groups, shown))
    if arguments.json:
        write_json(arguments.json, {"groups": groups, "baseline": baseline})
    return 0


def read(table: str) -> list[Row]:
    """Return the rows of a table.

    Args:
        table: The path of the table; NAME=PATH renames its evaluated method.

    Raises:
        InputError: If there is no such table, it is empty, or it is to be renamed and has not one evaluated method.
    """
    from medsr.metrics import Row, read_csv

    name, separator, path = table.partition("=")
    if not separator or Path(table).exists():
        name, path = "", table
    rows = read_csv(path)
    if not rows:
        raise InputError(f"{path}: expected rows of an evaluation, got none; run the evaluation again")
    evaluated = sorted({row.method for row in rows} - set(_OTHERS))
    if name and len(evaluated) != 1:
        found = ", ".join(evaluated) or "none"
        raise InputError(f"{path}: expected one evaluated method to call {name!r}, got {found}; leave {name}= out")
    return [Row(r.case, r.scale, name if name and r.method == evaluated[0] else r.method, r.values) for r in rows]
