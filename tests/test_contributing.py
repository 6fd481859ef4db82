"""CONTRIBUTING.md states the layers that import-linter checks, and names only files that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()


def test_layers_are_those_that_are_checked() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    contract = re.search(r"^layers = \[\n(.*?)^\]", project, re.M | re.S)
    diagram = re.search(r"^```\n(cli .*?)^```", TEXT, re.M | re.S)
    assert contract is not None
    assert diagram is not None
    layers = [re.sub("[()]", "", line) for line in re.findall(r'"(.+?)"', contract[1])]
    assert diagram[1].splitlines() == layers


def test_named_files_exist() -> None:
    named = set(re.findall(r"`((?:medsr|tests|docs|bundles|benchmarks)/[\w./]*)`", TEXT))
    assert {"medsr/geometry/", "medsr/networks/methods.py"} <= named
    assert not [name for name in named if not (REPOSITORY / name).exists()]
