"""The examples in docstrings run, and the main classes and functions have one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import medsr

PACKAGE = Path(medsr.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
# What a reader looks at first.
MAIN = (
    "medsr.outputs.naming.output_paths",
    "medsr.upscaling.upscaler.upscale",
    "medsr.bundle.catalogue.find_bundle",
    "medsr.data.readers.read_volume",
    "medsr.degradation.registry.get",
    "medsr.geometry.grids.Grid",
    "medsr.inferers.super_resolution.SuperResolutionInferer",
    "medsr.metrics.case.CaseMetrics",
    "medsr.networks.checkpoints.load_checkpoint",
    "medsr.networks.registry.create",
    "medsr.transforms.simulation.SimulateLowResolutiond",
)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module_of(path)), optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", MAIN)
def test_main_names_have_an_example(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert ">>> " in (getattr(importlib.import_module(module), attribute).__doc__ or ""), "show how it is used"
