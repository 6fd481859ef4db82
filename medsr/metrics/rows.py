"""Rows of results (one case, one scale, one method), and the files that hold them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from medsr.errors import InputError
from medsr.files.atomic import write_text
from medsr.geometry import Scale, as_scale, exact_scale, format_scale

__all__ = ["Row", "read_csv", "read_json", "write_csv", "write_json"]

_KEYS = ("case", "scale", "method")


@dataclass(frozen=True)
class Row:
    """The metrics of one method for one case at one scale.

    Attributes:
        case: The name of the case.
        scale: The exact scale per axis; None if it is unknown.
        method: The method that made the image, such as a bundle's name or "interpolation".
        values: The values by metric. Infinity is a value (PSNR of equal images); NaN is no value and is dropped.

    Raises:
        InputError: If a metric has the name of a column of the table, or a name contains a line break.
    """

    case: str
    scale: Scale | None
    method: str
    values: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scale is not None:
            object.__setattr__(self, "scale", as_scale(self.scale, len(self.scale)))
        clash = sorted({*_KEYS, ""} & set(self.values))
        if clash:
            raise InputError(f"a metric cannot be called {clash[0]!r}: that is a column of the table itself")
        if any(set("\r\n\0") & set(text) for text in (self.case, self.method, *self.values)):
            raise InputError(f"names of cases, methods and metrics must be one line each, got {self!r}")
        values = {k: float(v) for k, v in self.values.items() if not isnan(v)}
        object.__setattr__(self, "values", values)


def write_csv(path: str | Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV: case, scale ("2x2x1.5"), method, then one column per metric (empty for no value).

    Raises:
        OutputError: If the file cannot be written; nothing is left behind then.
    """
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_KEYS, *metrics])
    for row in rows:
        scale = "" if row.scale is None else format_scale(row.scale)
        cells = [repr(row.values[m]) if m in row.values else "" for m in metrics]
        writer.writerow([row.case, scale, row.method, *cells])
    write_text(path, text.getvalue())


def read_csv(path: str | Path) -> list[Row]:
    """Read the rows that `write_csv` wrote.

    Raises:
        InputError: If the file cannot be read, or is not such a table.
    """
    table = list(csv.reader(io.StringIO(_read(Path(path)), newline="")))
    if not table or tuple(table[0][:3]) != _KEYS:
        raise InputError(f"{path}: expected a table whose first columns are {', '.join(_KEYS)}")
    header = table[0]
    rows = []
    for number, cells in enumerate(table[1:], 2):
        if len(cells) != len(header):
            raise InputError(f"{path}, row {number}: expected {len(header)} columns, got {len(cells)}")
        case, scale, method = cells[:3]
        try:
            values = {m: float(c) for m, c in zip(header[3:], cells[3:], strict=True) if c}
            exact = tuple(exact_scale(s) for s in scale.split("x")) if scale else None
        except ValueError as error:  # a GridError is one
            raise InputError(f"{path}, row {number}: {error}") from None
        rows.append(Row(case, exact, method, values))
    return rows


def write_json(path: str | Path, value: Any) -> None:
    """Write strict JSON, indented: NaN becomes null, infinities the texts "Infinity" and "-Infinity".

    Raises:
        OutputError: If the file cannot be written; nothing is left behind then.
    """
    write_text(path, json.dumps(_encoded(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a file of `write_json`; null becomes None, and the texts of infinities become floats.

    Raises:
        InputError: If the file cannot be read, or is not JSON.
    """
    try:
        return _decoded(json.loads(_read(Path(path))))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: expected JSON, got {error}") from None


def _encoded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _encoded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(v) for v in value]
    if isinstance(value, float) and not isfinite(value):
        return None if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _decoded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_decoded(v) for v in value]
    return float(value) if value in ("Infinity", "-Infinity") else value


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
