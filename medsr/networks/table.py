"""The table of networks for the command line and the documentation, from the rows of `medsr.networks.descriptions`."""

from typing import Any

from tabulate import tabulate

COLUMNS = {
    "name": "network",
    "class": "class",
    "paper": "paper",
    "family": "family",
    "scale": "scale",
    "halo": "halo",
    "channels": "channels",
    "parameters": "parameters",
    "input": "input",
    "conv": "M-conv (G)",
    "all": "M-all (G)",
    "published": "published",
    "remark": "remark",
}
NARROW = ("name", "class", "scale", "halo", "parameters", "input", "conv", "all", "published")
DOCUMENT = tuple(column for column in COLUMNS if column != "remark")  # remarks are listed below the table
RIGHT = {"parameters", "conv", "all", "halo", "channels"}  # columns of numbers

INTRODUCTION = """\
# Networks

This page is written by `medsr networks --format markdown`; do not edit it. The classes can be imported from
`medsr.networks`, and `medsr.networks.create("rdst-e")` builds a preset. The scale of a preset is an argument; the
figures are for the scale that is given first. `halo` is in input voxels. M-conv counts the multiply-adds of
convolutions and linear layers, and M-all counts every product that is computed, including attention.
[networks_measured.md](networks_measured.md) has the measurements of these networks."""


def text(rows: list[dict[str, Any]], columns: tuple[str, ...], style: str = "simple") -> str:
    """Return the rows as an aligned table in a style of `tabulate`."""
    return tabulate(
        [[_text_of(row[column]) for column in columns] for row in rows],
        headers=[COLUMNS[column] for column in columns],
        tablefmt=style,
        colalign=["right" if column in RIGHT else "left" for column in columns],
        disable_numparse=True,
    )


def document(rows: list[dict[str, Any]]) -> str:
    """Return the rows as the page of the documentation, in Markdown."""
    remarks = [f"- `{row['name']}`: {row['remark']}" for row in rows if row["remark"]]
    return "\n".join([INTRODUCTION, "", text(rows, DOCUMENT, "github"), "", "## Remarks", "", *remarks])


def _text_of(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
