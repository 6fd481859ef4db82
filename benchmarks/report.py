"""Results as JSON and as a text table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsr.metrics.report import text_table


def text_of(value: Any) -> str:
    """Return the text of a cell; a timing justifies no more than a few digits."""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of rows with the same keys, with numbers aligned to the right."""
    sides = ["right" if isinstance(value, int | float) else "left" for value in rows[0].values()]
    return text_table(list(rows[0]), [[text_of(value) for value in row.values()] for row in rows], sides)


def render(record: Mapping[str, Any]) -> str:
    """Return the whole record as text for people."""
    machine = record["machine"]
    head = ", ".join(f"{key} {value}" for key, value in machine.items() if key not in ("versions", "instructions"))
    versions = ", ".join(f"{key} {value}" for key, value in machine["versions"].items())
    parts = [f"{head}\n{versions}\nsettings: {record['settings']}"]
    for name, rows in record["tables"].items():
        parts.append(f"{name}\n\n{table(rows)}" if rows else name)
    return "\n\n".join([*parts, *(f"note: {note}" for note in record["notes"])])


def write(record: Mapping[str, Any], path: Path) -> None:
    """Write the record as JSON and, beside it, as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    path.with_suffix(".txt").write_text(render(record) + "\n")
