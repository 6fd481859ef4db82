"""Summaries of the results of many cases: mean and spread per scale and method, gains, paired tests, and a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite, nan
from typing import Any

import numpy as np
from scipy.stats import wilcoxon
from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate

from medsr.errors import InputError
from medsr.geometry import Scale, format_scale
from medsr.metrics.rows import Row, read_csv, read_json, write_csv, write_json

__all__ = [
    "DIRECTION",
    "Row",
    "directions",
    "format_table",
    "paired_wilcoxon",
    "read_csv",
    "read_json",
    "summarise",
    "write_csv",
    "write_json",
]

# +1 means that larger is better, -1 that smaller is. Other columns are averaged but have no gain and no test.
DIRECTION: dict[str, int] = {
    "psnr": 1, "ssim": 1, "dice": 1, "mae": -1, "mse": -1, "nmse": -1, "fid": -1, "lpips": -1,
}  # fmt: skip

_ROW = DataRow("", "  ", "")
_PLAIN = TableFormat(None, Line("", "-", "  ", ""), None, None, _ROW, _ROW, padding=0, with_header_hide=None)

MIN_PAIRS = 6  # with fewer differences than this no two-sided signed-rank test can reach p < 0.05


def directions(metrics: Iterable[str]) -> dict[str, int]:
    """Return `DIRECTION` extended by metrics of single channels, labels or slices ("psnr_T1ce", "slice_dice_1")."""
    stems = {metric: metric.removeprefix("slice_").split("_")[0] for metric in metrics}
    return {**DIRECTION, **{metric: DIRECTION[stem] for metric, stem in stems.items() if stem in DIRECTION}}


def summarise(
    rows: Sequence[Row], baseline: str | None = None, direction: Mapping[str, int] = DIRECTION
) -> list[dict[str, Any]]:
    """Aggregate rows over cases, for every scale and method in order of appearance.

    Args:
        rows: The rows, one per case, scale and method. Equal rows (of joined tables) count once.
        baseline: The method that the others are compared with, case by case at the same scale.
        direction: The metrics that are better when larger (+1) or smaller (-1).

    Returns:
        One dict per group: "scale" (a text such as "2x2x1.5", or None), "method", "cases", and "metrics": for
        each metric the keys

        - mean, sd (sample, N - 1; NaN for one case) and n: over cases with a finite value;
        - infinite: the number of cases with an infinite value (PSNR of equal images), which mean and sd leave out;
          if all values are infinite, the mean is infinite;
        - min, max: over all cases;
        - gain, for methods other than the baseline: improvement in the metric's own unit, positive is better,
          with mean and sd over finite gains, min and min_case over all, worse (the number of worse cases) and n;
        - wilcoxon: see `paired_wilcoxon`.

    Raises:
        InputError: If a case occurs twice with different values, or no row is of the baseline.
    """
    groups: dict[tuple[Scale | None, str], dict[str, Row]] = {}
    for row in rows:
        cases = groups.setdefault((row.scale, row.method), {})
        if cases.setdefault(row.case, row) != row:
            scale_text = "unknown" if row.scale is None else format_scale(row.scale)
            raise InputError(
                f"case {row.case} occurs twice for {row.method} at scale {scale_text} with different values: "
                "give the cases different names"
            )
    if baseline is not None and rows and all(row.method != baseline for row in rows):
        methods = ", ".join(dict.fromkeys(row.method for row in rows))
        raise InputError(f"no row is of the baseline {baseline!r}: the methods are {methods}")
    return [
        {
            "scale": None if scale is None else format_scale(scale),
            "method": method,
            "cases": len(cases),
            "metrics": {
                metric: _one_metric(
                    metric,
                    cases,
                    groups.get((scale, baseline or "")) if method != baseline else None,
                    direction.get(metric, 0),
                )
                for metric in dict.fromkeys(m for row in cases.values() for m in row.values)
            },
        }
        for (scale, method), cases in groups.items()
    ]


def paired_wilcoxon(values: Sequence[float], reference: Sequence[float]) -> dict[str, Any]:
    """Return the two-sided Wilcoxon signed-rank test of paired values.

    Pairs with an infinite value and pairs without a difference are left out, and the note says how many. Fewer
    than `MIN_PAIRS` differences are not tested.

    Returns:
        "n" (the number of tested differences), "statistic" and "p_value" (None if not tested), "note" (a text that may
        be empty).

    Raises:
        InputError: If the numbers of values and references differ.
    """
    if len(values) != len(reference):
        raise InputError(f"a paired test needs as many values as references, got {len(values)}, {len(reference)}")
    a, b = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    usable = np.isfinite(a) & np.isfinite(b)
    differences = a[usable] - b[usable]
    changed = differences[differences != 0]
    notes = []
    if not usable.all():
        notes.append(f"{np.count_nonzero(~usable)} pairs with an infinite value left out")
    if changed.size == 0:
        notes.append("not tested: no pair differs")
    else:
        if changed.size < differences.size:
            notes.append(f"{differences.size - changed.size} pairs without a difference left out")
        if changed.size < MIN_PAIRS:
            notes.append(f"not tested: fewer than {MIN_PAIRS} differences cannot reach p < 0.05")
    result: dict[str, Any] = {"n": int(changed.size), "statistic": None, "p_value": None}
    if changed.size >= MIN_PAIRS:
        test = wilcoxon(changed)
        result |= {"statistic": float(test.statistic), "p_value": float(test.pvalue)}
    return result | {"note": "; ".join(notes)}


def format_table(groups: Sequence[Mapping[str, Any]], metrics: Sequence[str] = ("psnr", "ssim")) -> str:
    """Return a monospaced table of `summarise`'s groups: mean ± sd, mean and worst gain, p.

    Args:
        groups: The groups from `summarise`.
        metrics: The metrics to show; those without values are left out.
    """
    shown = [m for m in metrics if any(m in g["metrics"] for g in groups)]
    header = ["scale", "method", "n", *(name for metric in shown for name in (metric, "gain", "worst", "p"))]
    rows, remarks = [], []
    for group in groups:
        scale = group["scale"] or "-"
        row = [scale, group["method"], str(group["cases"])]
        for metric in shown:
            row += _cells(metric, group["metrics"].get(metric))
            remarks += _remarks(metric, group["metrics"].get(metric), f"{group['method']} at {scale}")
        rows.append(row)
    used = [i for i in range(len(header)) if any(row[i] for row in rows)]  # no baseline: no gain columns
    text = text_table([header[i] for i in used], [[row[i] for i in used] for row in rows], ["left"] * 2)
    return "\n".join([text, *dict.fromkeys(remarks)])


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], alignment: Sequence[str] = ()) -> str:
    """Return a monospaced table with a line of dashes below its header.

    Args:
        header: The names of the columns.
        rows: The cells of each row.
        alignment: "left" or "right" for the first columns; the others are aligned to the right.
    """
    sides = [*alignment, *["right"] * (len(header) - len(alignment))]
    # The header is passed as a row, because tabulate would widen each column by two for a header.
    return tabulate([header, SEPARATING_LINE, *rows], tablefmt=_PLAIN, colalign=sides, disable_numparse=True)


def _one_metric(
    metric: str, cases: Mapping[str, Row], reference: Mapping[str, Row] | None, sign: int
) -> dict[str, Any]:
    values = [row.values[metric] for row in cases.values() if metric in row.values]
    finite = [v for v in values if isfinite(v)]
    result: dict[str, Any] = {
        **_mean_sd(finite, empty=values[0]),
        "min": min(values),
        "max": max(values),
        "n": len(finite),
        "infinite": len(values) - len(finite),
    }
    if reference is None or sign == 0:
        return result
    pairs = {
        case: (row.values[metric], reference[case].values[metric])
        for case, row in cases.items()
        if metric in row.values and case in reference and metric in reference[case].values
    }
    if not pairs:
        return result
    gains = {case: 0.0 if a == b else sign * (a - b) for case, (a, b) in pairs.items()}  # inf - inf is no gain
    worst = min(gains, key=lambda case: gains[case])
    result["gain"] = {
        **_mean_sd([g for g in gains.values() if isfinite(g)], empty=gains[worst]),
        "min": gains[worst],
        "min_case": worst,
        "worse": sum(g < 0 for g in gains.values()),
        "n": len(gains),
    }
    result["wilcoxon"] = paired_wilcoxon([a for a, _ in pairs.values()], [b for _, b in pairs.values()])
    return result


def _mean_sd(values: Sequence[float], empty: float) -> dict[str, float]:
    """Return the mean and the sample standard deviation; `empty` is the mean if there are no values."""
    mean = float(np.mean(values)) if len(values) else empty
    return {"mean": mean, "sd": float(np.std(values, ddof=1)) if len(values) > 1 else nan}


def _cells(metric: str, summary: Mapping[str, Any] | None) -> list[str]:
    """Return the texts of the four columns of a metric."""
    if summary is None:
        return ["-", "", "", ""]
    spread = "" if not _is_number(summary["sd"]) else f" ± {_number(metric, summary['sd'])}"
    cells = [f"{_number(metric, summary['mean'])}{spread}", "", "", ""]
    if "gain" in summary:
        p = summary["wilcoxon"]["p_value"]
        cells[1] = _signed(metric, summary["gain"]["mean"])
        cells[2] = _signed(metric, summary["gain"]["min"])
        cells[3] = "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
    return cells


def _remarks(metric: str, summary: Mapping[str, Any] | None, where: str) -> list[str]:
    """Return footnotes with the facts that the table does not show."""
    if summary is None:
        return []
    remarks = []
    if summary["infinite"]:
        remarks.append(f"{metric}, {where}: infinite in {summary['infinite']} cases, which the mean leaves out")
    if "gain" in summary:
        gain, note = summary["gain"], summary["wilcoxon"]["note"]
        if gain["worse"]:
            remarks.append(f"{metric}, {where}: worse in {gain['worse']} of {gain['n']} cases")
        if note:
            remarks.append(f"p of {metric}, {where}: {note}")
    return remarks


def _is_number(value: float | None) -> bool:
    return value is not None and isfinite(value)


def _number(metric: str, value: float) -> str:
    if abs(value) == inf:
        return "inf" if value > 0 else "-inf"
    return {"psnr": f"{value:.2f}", "ssim": f"{value:.4f}", "dice": f"{value:.4f}"}.get(metric, f"{value:.4g}")


def _signed(metric: str, value: float) -> str:
    return ("+" if value >= 0 else "") + _number(metric, value)
