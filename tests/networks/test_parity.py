"""Outputs of the public implementations, reproduced from their own state dicts."""

from __future__ import annotations

import pytest

from benchmarks.parity import CASES, error


@pytest.mark.parametrize("stem", CASES)
def test_outputs_are_the_published_ones(shared_parity, stem):
    assert error(shared_parity, stem) <= 1e-5


def test_every_file_has_its_case(shared_parity):
    """Those of later networks and of other things are named here."""
    others = {"degradation", "metrics_losses"}
    assert {path.stem for path in shared_parity.glob("*.pt")} - others <= set(CASES)
