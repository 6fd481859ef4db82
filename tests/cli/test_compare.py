"""`medsr compare`: several evaluations in one table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsr.cli import main
from medsr.metrics import Row, write_csv


def table(path: Path, method: str, gains: list[float], metric: str = "psnr") -> Path:
    rows = []
    for k, gain in enumerate(gains):
        rows.append(Row(f"c{k}", (4, 4, 1), method, {metric: 30 + k + gain}))
        rows.append(Row(f"c{k}", (4, 4, 1), "bicubic", {metric: 30.0 + k}))
    write_csv(path, rows)
    return path


def test_methods_of_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = table(tmp_path / "a.csv", "rdst", [1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    second = table(tmp_path / "b.csv", "rdst", [2.0, 2.2, 2.4, 2.6, 2.8, 3.0])
    status = main(["compare", f"l1={first}", f"e1={second}", "--baseline", "l1", "--json", str(tmp_path / "c.json")])
    assert status == 0
    out = capsys.readouterr().out
    assert out.count("bicubic") >= 1
    groups = {g["method"]: g["metrics"]["psnr"] for g in json.loads((tmp_path / "c.json").read_text())["groups"]}
    assert set(groups) == {"l1", "e1", "bicubic"}
    assert groups["e1"]["gain"]["mean"] == pytest.approx(1.25)
    assert groups["e1"]["wilcoxon"]["p_value"] == pytest.approx(2 / 2**6)
    assert groups["bicubic"]["gain"]["mean"] == pytest.approx(-1.25)
    assert groups["bicubic"]["n"] == 6, "equal rows of two tables count once"


def test_dice_has_a_gain_too(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", "rdst", [1.0] * 6, "dice_1")
    arguments = ["compare", str(first), "--baseline", "bicubic", "--metrics", "dice_1", "--json", str(tmp_path / "c")]
    assert main(arguments) == 0
    groups = json.loads((tmp_path / "c").read_text())["groups"]
    assert next(g for g in groups if g["method"] == "rdst")["metrics"]["dice_1"]["gain"]["mean"] == pytest.approx(1)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = table(tmp_path / "a.csv", "rdst", [1.0])
    second = table(tmp_path / "b.csv", "rdst", [2.0])
    for arguments, words in (
        (["nowhere.csv"], "nowhere.csv"),
        ([str(first), str(second)], "rdst"),
        ([str(first), "--baseline", "x"], "x"),
        ([str(first), "--metrics", "fid"], "fid"),
    ):
        assert main(["compare", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith("medsr: error: ")
        assert err.count("\n") == 1
        assert words in err
