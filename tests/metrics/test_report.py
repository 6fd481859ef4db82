from __future__ import annotations

import csv
import json
import os
from fractions import Fraction
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from medsr.errors import InputError, OutputError
from medsr.metrics import (
    Row,
    format_table,
    paired_wilcoxon,
    read_csv,
    read_json,
    summarise,
    write_csv,
    write_json,
)

TWO = (Fraction(2),) * 3


def rows(method: str, psnr: list[float], scale: tuple[Fraction, ...] | None = TWO, metric: str = "psnr") -> list[Row]:
    return [Row(f"case{i}", scale, method, {metric: v}) for i, v in enumerate(psnr)]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=12)
SCALES = st.none() | st.lists(st.fractions(Fraction(1, 2), 9, max_denominator=30), min_size=2, max_size=3).map(tuple)
VALUES = st.dictionaries(
    TEXT.filter(lambda t: t not in ("case", "scale", "method")), st.floats(allow_nan=False), max_size=4
)


@given(st.lists(st.builds(Row, TEXT, SCALES, TEXT, VALUES), max_size=6))
def test_rows_come_back_from_csv(tmp_path_factory: pytest.TempPathFactory, table: list[Row]) -> None:
    path = tmp_path_factory.mktemp("csv") / "metrics.csv"
    write_csv(path, table)
    assert read_csv(path) == table
    assert [p.name for p in path.parent.iterdir()] == ["metrics.csv"]


def test_csv_is_what_others_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.csv"
    write_csv(path, [Row("a", (2, 2, 2.5), "sr", {"psnr": 30.25, "ssim": nan}), Row("b", None, "sr", {"mae": inf})])
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["case", "scale", "method", "psnr", "mae"],
            ["a", "2x2x2.5", "sr", "30.25", ""],
            ["b", "", "sr", "", "inf"],
        ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first columns are case, scale, method"),
        ("name,psnr\n", "first columns are case, scale, method"),
        ("case,scale,method,psnr\na,2,sr\n", "row 2: expected 4 columns, got 3"),
        ("case,scale,method,psnr\na,2,sr,high\n", "row 2: could not convert"),
        ("case,scale,method,psnr\na,2xtwo,sr,1\n", "row 2: a scale must be a positive number"),
        (None, "cannot read"),
    ],
)
def test_csv_that_is_no_table(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "m.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_csv(path)
    assert "\n" not in str(error.value)


def test_a_metric_cannot_take_the_name_of_a_column() -> None:
    with pytest.raises(InputError, match="cannot be called 'scale'"):
        Row("a", TWO, "sr", {"scale": 2})


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_names_are_one_line(text: str) -> None:
    for bad in (
        lambda: Row(text, TWO, "sr"),
        lambda: Row("a", TWO, text),
        lambda: Row("a", TWO, "sr", {text: 1}),
    ):
        with pytest.raises(InputError, match="must be one line each"):
            bad()


def test_json_keeps_infinities_and_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_json(path, {"a": [1, inf, -inf, nan], "b": {"c": "text", "d": None, "e": (True, 0.1)}})
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"not JSON: {name}"))
    assert read_json(path) == {"a": [1, inf, -inf, None], "b": {"c": "text", "d": None, "e": [True, 0.1]}}
    path.write_text("{")
    with pytest.raises(InputError, match="expected JSON"):
        read_json(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.json"
    write_json(path, 1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"s\.json: cannot be written: the disk is full"):
        write_json(path, 2)
    assert read_json(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_csv(tmp_path / "file" / "m.csv", [])


def test_mean_spread_and_gain() -> None:
    base, ours = [30.0, 31.0, 33.5], [34.0, 33.0, 33.0]
    baseline, method = summarise(rows("interpolation", base) + rows("sr", ours), "interpolation")
    assert (method["scale"], method["method"], method["cases"]) == ("2x2x2", "sr", 3)
    result = method["metrics"]["psnr"]
    assert result["mean"] == pytest.approx(np.mean(ours))
    assert result["sd"] == pytest.approx(np.std(ours, ddof=1))
    assert (result["min"], result["max"], result["n"], result["infinite"]) == (33, 34, 3, 0)
    gain = result["gain"]
    assert gain["mean"] == pytest.approx(5.5 / 3)
    assert (gain["min"], gain["min_case"], gain["worse"], gain["n"]) == (-0.5, "case2", 1, 3)
    assert "gain" not in baseline["metrics"]["psnr"]


def test_gain_of_an_error_is_its_decrease() -> None:
    table = rows("base", [2.0, 3.0], metric="mae") + rows("sr", [1.0, 3.5], metric="mae")
    gain = summarise(table, "base")[1]["metrics"]["mae"]["gain"]
    assert (gain["mean"], gain["min"], gain["worse"]) == (0.25, -0.5, 1)


def test_columns_without_a_direction_are_only_averaged() -> None:
    table = rows("base", [1.0, 3.0], metric="slices") + rows("sr", [1.0, 3.0], metric="slices")
    assert set(summarise(table, "base")[1]["metrics"]["slices"]) == {
        "mean",
        "sd",
        "min",
        "max",
        "n",
        "infinite",
    }


def test_infinite_values_are_counted_and_do_not_poison() -> None:
    base, ours = [30.0, 31.0, 32.0], [inf, 33.0, 35.0]
    result = summarise(rows("base", base) + rows("sr", ours), "base")[1]["metrics"]["psnr"]
    assert (result["mean"], result["n"], result["infinite"], result["max"]) == (34, 2, 1, inf)
    assert (result["gain"]["mean"], result["gain"]["min"]) == (2.5, 2)
    assert "1 pairs with an infinite value left out" in result["wilcoxon"]["note"]
    both = summarise(rows("base", [inf, inf]) + rows("sr", [inf, inf]), "base")[1]["metrics"]["psnr"]
    assert (both["mean"], both["n"], both["infinite"]) == (inf, 0, 2)
    assert both["gain"]["mean"] == both["gain"]["min"] == 0
    assert "infinite in 2 cases" in format_table(summarise(rows("sr", [inf, inf])))


def test_groups_are_kept_apart_and_pairs_are_by_case() -> None:
    three = (Fraction(3),) * 3
    table = rows("base", [30, 20]) + rows("sr", [33, 21]) + rows("base", [10, 15], three)
    table += list(reversed(rows("sr", [11, 17], three)))
    groups = {(g["scale"], g["method"]): g["metrics"]["psnr"] for g in summarise(table, "base")}
    assert groups["2x2x2", "sr"]["gain"]["mean"] == 2
    assert groups["3x3x3", "sr"]["gain"]["mean"] == 1.5
    assert isnan(summarise(table[:1])[0]["metrics"]["psnr"]["sd"])


def test_tables_of_two_runs_can_be_put_together() -> None:
    first, second = rows("base", [30, 31]) + rows("a", [32, 33]), rows("base", [30, 31]) + rows("b", [35, 36])
    assert [g["cases"] for g in summarise(first + second, "a")] == [2, 2, 2]
    with pytest.raises(InputError, match="case0 occurs twice for base at scale 2x2x2 with different values"):
        summarise(first + rows("base", [29, 31]), "a")
    with pytest.raises(InputError, match="no row is of the baseline 'c': the methods are base, a"):
        summarise(first, "c")


def test_wilcoxon_is_scipy() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(30, 2, 12)
    ours = base + generator.normal(0.4, 1, 12)
    result = paired_wilcoxon(ours.tolist(), base.tolist())
    expected = wilcoxon(ours, base)
    assert (result["statistic"], result["p_value"]) == (expected.statistic, expected.pvalue)
    assert (result["n"], result["note"]) == (12, "")
    assert paired_wilcoxon(list(range(1, 7)), [0] * 6)["p_value"] == pytest.approx(2 / 2**6)


@pytest.mark.parametrize(
    ("values", "reference", "n", "note"),
    [
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 3, "not tested: fewer than 6 differences cannot reach p < 0.05"),
        ([1.0] * 8, [1.0] * 8, 0, "not tested: no pair differs"),
        ([1.0] * 3 + [2.0], [1.0] * 4, 1, "3 pairs without a difference left out; not tested: fewer than 6"),
        ([], [], 0, "not tested: no pair differs"),
    ],
)
def test_wilcoxon_that_says_nothing(values: list[float], reference: list[float], n: int, note: str) -> None:
    result = paired_wilcoxon(values, reference)
    assert (result["n"], result["p_value"], result["statistic"]) == (n, None, None)
    assert result["note"].startswith(note)


def test_wilcoxon_leaves_out_pairs_without_a_difference() -> None:
    ours, base = [1.0, 2, 3, 4, 5, 6, 7, 7], [0.0, 0, 0, 0, 0, 0, 0, 7]
    result = paired_wilcoxon(ours, base)
    assert (result["n"], result["note"]) == (7, "1 pairs without a difference left out")
    assert result["p_value"] == pytest.approx(2 / 2**7)
    with pytest.raises(InputError, match="as many values as references, got 1, 2"):
        paired_wilcoxon([1], [1, 2])


def test_the_table(tmp_path: Path) -> None:
    base = [Row(f"c{i}", TWO, "interpolation", {"psnr": 30.0 + i, "ssim": 0.9}) for i in range(6)]
    ours = [Row(f"c{i}", TWO, "recnn3d", {"psnr": 33.0 + 1.5 * i, "ssim": 0.9}) for i in range(6)]
    groups = summarise(base + ours, "interpolation")
    text = format_table(groups)
    lines = text.splitlines()
    assert lines[0].split() == [
        "scale",
        "method",
        "n",
        "psnr",
        "gain",
        "worst",
        "p",
        "ssim",
        "gain",
        "worst",
        "p",
    ]
    assert lines[2].split() == ["2x2x2", "interpolation", "6", "32.50", "±", "1.87", "0.9000", "±", "0.0000"]
    ours_line = "2x2x2 recnn3d 6 36.75 ± 2.81 +4.25 +3.00 0.031 0.9000 ± 0.0000 +0.0000 +0.0000 -"
    assert lines[3].split() == ours_line.split()
    assert lines[4] == "p of ssim, recnn3d at 2x2x2: not tested: no pair differs"
    assert max(map(len, lines)) <= 110
    write_json(tmp_path / "g.json", groups)
    assert format_table(read_json(tmp_path / "g.json")) == text


def test_the_table_without_a_baseline_has_no_gain() -> None:
    single: list[dict[str, Any]] = summarise([Row("a", None, "sr", {"psnr": 30.0})])
    assert format_table(single).splitlines()[0::2] == ["scale  method  n   psnr", "-      sr      1  30.00"]


def test_the_table_says_where_a_method_is_worse() -> None:
    text = format_table(summarise(rows("base", [30, 31]) + rows("sr", [29, 33]), "base"))
    assert "psnr, sr at 2x2x2: worse in 1 of 2 cases" in text
