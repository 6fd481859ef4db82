"""What is said of parity and speed is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import networks
from medsr.networks import PRESETS
from tests.networks.oracles import FORMULATIONS

DOCUMENTS = Path(__file__).parents[2] / "docs"


COMPARED = [name for name, preset in PRESETS.items() if preset.network.__name__ in FORMULATIONS]


@pytest.mark.parametrize("name", COMPARED)
def test_plain_formulation_computes_the_same(name):
    assert networks.plain_error(name) <= networks.EXACT


def test_table_of_small_ones(tmp_path, capsys):
    arguments = ["ReCNN", "--small", "--repeats", "1", "--batches", "1"]
    assert networks.main([*arguments, "--output", str(tmp_path / "t.md"), "--json", str(tmp_path / "t.json")]) in (0, 1)
    rows = json.loads((tmp_path / "t.json").read_text())["networks"]
    assert [row["class"] for row in rows] == ["ReCNN"] * len(rows)
    assert all(row["ms"]["1"]["ours"] > 0 and row["ms"]["1"]["plain"] > 0 for row in rows)
    text = (tmp_path / "t.md").read_text()
    assert "| recnn-10l " in text


def test_verdict_names_what_is_wrong():
    row = {"parity": {"x": 1e-7}, "plain error": 0.0, "ms": {"1": {"ours": 1.0, "plain": 1.3}}}
    assert networks.verdict(row) == "green"
    row = {"parity": {"x": 1e-3}, "plain error": 1.0, "ms": {"8": {"ours": 2.0, "plain": 1.3}}}
    assert networks.verdict(row).split("; ") == [
        "differs from published outputs",
        "differs from its plain formulation",
        "slower than plain at batch 8",
    ]


def test_a_network_without_a_plain_formulation_is_measured_all_the_same(monkeypatch, capsys):
    monkeypatch.delitem(FORMULATIONS, "SRCNN")
    arguments = ["srcnn", "--small", "--repeats", "1", "--batches", "1"]
    assert networks.main(arguments) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| srcnn ")]
    assert [cell.strip() for cell in row.strip("|").split("|")][1:3] == ["-", "-"]


def test_documentation_has_measured_no_network_that_is_not_there():
    lines = (DOCUMENTS / "networks_measured.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:]
    assert names == [name for name in PRESETS if name in names]
    assert len(names) > 60
