"""The table of networks: what it says is measured, and what stands in the documentation is not out of date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import networks
from benchmarks.plain import FORMULATIONS
from medsr.networks import NETWORKS, PRESETS
from medsr.networks.complexity import count_parameters
from medsr.networks.registry import create

DOCUMENT = Path(__file__).parents[2] / "docs" / "networks.md"


def test_every_network_has_its_plain_formulation():
    assert set(NETWORKS) == set(FORMULATIONS)


@pytest.mark.parametrize("name", PRESETS)
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
    assert "888,769" in text


def test_verdict_names_what_is_wrong():
    row = {"parity": {"x": 1e-7}, "plain error": 0.0, "ms": {"1": {"ours": 1.0, "plain": 1.3}}}
    assert networks.verdict(row) == "green"
    row = {"parity": {"x": 1e-3}, "plain error": 1.0, "ms": {"8": {"ours": 2.0, "plain": 1.3}}}
    assert networks.verdict(row).split("; ") == [
        "differs from published outputs",
        "differs from its plain formulation",
        "slower than plain at batch 8",
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_documentation_has_the_network_as_it_is(name):
    with torch.device("meta"):
        parameters = count_parameters(create(name))
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {name} ")]
    assert f" {parameters:,} " in rows[0]
    assert len(rows) == 2  # counts, and parity with speed
