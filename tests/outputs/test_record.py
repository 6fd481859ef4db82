"""The JSON record: what it says, and the warnings it carries."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medsr
from medsr.degradation import get
from medsr.files.atomic import write_json_atomic
from medsr.formation import Formation
from medsr.geometry import Grid, as_scale
from medsr.inferers import Guards
from medsr.outputs import make_record, sha256_of
from medsr.outputs.record import trained_range_warnings

TRAINED = {"sr_spacing_mm": [0.7, 1.25], "largest_scale": 5, "smallest_size": 8, "intensity": [0, 3]}


def warnings_for(
    shape: tuple[int, ...] = (20, 20, 20),
    spacing: float | tuple[float, ...] = 2.0,
    scale: Any = 2,
    intensity: tuple[float, float] | None = (0.0, 1.5),
    trained: dict[str, Any] = TRAINED,
) -> list[str]:
    lr = Grid(shape, np.diag([*np.broadcast_to(spacing, 3), 1]))
    exact = as_scale(scale, 3)
    return trained_range_warnings(trained, lr, lr.enlarged(exact), exact, intensity)


def test_no_warning_inside_the_trained_range() -> None:
    assert warnings_for() == []
    assert warnings_for(spacing=(1.0, 1.0, 5.0), scale=(1, 1, 5)) == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"spacing": 1.0}, "spacing 0.5x0.5x0.5 mm is outside the trained range of 0.7 to 1.25 mm"),
        ({"spacing": (2.0, 2.0, 4.0)}, "spacing 1x1x2 mm is outside"),
        ({"spacing": 6.0, "scale": 6}, "scale 6x6x6 is above the largest trained one (5)"),
        ({"shape": (20, 20, 7)}, "below the smallest trained one (8 voxels)"),
        ({"intensity": (0.0, 40.0)}, "normalised intensities range from 0 to 40, outside the trained range of"),
        ({"intensity": (-0.5, 1.0)}, "normalised intensities range from -0.5 to 1, outside the trained range of"),
    ],
)
def test_each_limit(request_: dict[str, Any], words: str) -> None:
    found = warnings_for(**request_)
    assert len(found) == 1
    assert words in found[0]
    assert "\n" not in found[0]


def test_limits_that_are_not_stated_are_not_checked() -> None:
    assert warnings_for(shape=(2, 2, 2), spacing=90.0, intensity=(-9, 9), trained={}) == []
    assert warnings_for(intensity=None) == []


def test_record_content(tmp_path: Path) -> None:
    source, weights = tmp_path / "head.nii.gz", tmp_path / "model.pt"
    source.write_bytes(b"voxels")
    weights.write_bytes(b"weights")
    lr = Grid((10, 11, 12), np.array([[0, -1.5, 0, 3], [2, 0, 0, -7], [0, 0, 2.5, 1], [0, 0, 0, 1.0]]))
    scale = as_scale([2, 1.5, "7/3"], 3)
    sr = lr.enlarged(scale)
    record = make_record(
        source=str(source),
        metadata={"name": "recnn3d", "version": "0.1.0", "degradation": {"name": "gaussian-blur"}},
        weights=weights,
        lr=lr,
        sr=sr,
        scale=scale,
        intensity={"offset": -50.0, "scale": 1400.0},
        settings={"device": "cpu", "precision": "float32"},
        formation=Formation(get("block-mean"), "stated"),
        seconds=1.23456,
        tiles=3,
        warnings=["one"],
    )
    write_json_atomic(tmp_path / "record.json", record)
    read = json.loads((tmp_path / "record.json").read_text())
    assert read["input"] == {"name": "head.nii.gz", "sha256": hashlib.sha256(b"voxels").hexdigest()}
    assert read["method"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert read["method"]["bundle"] == "recnn3d"
    assert tuple(Fraction(text) for text in read["scale"]) == (2, Fraction(3, 2), Fraction(7, 3))
    np.testing.assert_array_equal(read["sr_grid"]["affine"], sr.affine)  # JSON keeps every digit of a float64
    np.testing.assert_array_equal(read["lr_grid"]["affine"], lr.affine)
    assert read["sr_grid"]["shape"] == [20, 16, 28]  # 16.5 is rounded to even
    np.testing.assert_allclose(read["sr_grid"]["spacing_mm"], [1, 1, 2.5 * 3 / 7])
    assert read["intensity"] == {"offset": -50.0, "scale": 1400.0}
    assert read["formation"]["degradation"]["name"] == "block-mean"
    assert read["settings"] == {"device": "cpu", "precision": "float32"}
    assert read["seconds"] == 1.235
    assert read["tiles"] == 3
    assert read["warnings"] == ["one"]
    assert read["medsr"] == read["versions"]["medsr"] == medsr.__version__
    assert {"torch", "monai", "numpy", "nibabel"} <= set(read["versions"])
    assert "research use only" in read["disclaimer"].lower()
    assert str(tmp_path) not in json.dumps(read), "no path of the machine leaves with a result"


def test_hash_of_a_folder_depends_on_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    (folder / "sub").mkdir(parents=True)
    (folder / "1.dcm").write_bytes(b"a")
    (folder / "sub" / "2.dcm").write_bytes(b"b")
    first = sha256_of(folder)
    assert first == sha256_of(folder)
    (folder / "1.dcm").rename(folder / "3.dcm")
    renamed = sha256_of(folder)
    (folder / "3.dcm").write_bytes(b"c")
    assert len({first, renamed, sha256_of(folder)}) == 3


def test_absent_source(tmp_path: Path) -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    common = {"metadata": {}, "lr": grid, "sr": grid, "scale": as_scale(1, 3), "intensity": {}, "settings": {}}
    record = make_record(source="", weights=None, formation=None, seconds=0, tiles=1, warnings=[], **common)
    assert record["input"] == {"name": "", "sha256": None}
    assert record["method"]["weights_sha256"] is None


def test_guards_are_recorded_where_they_were_measured() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    common = {"metadata": {}, "lr": grid, "sr": grid, "scale": as_scale(1, 3), "intensity": {}, "settings": {}}
    common |= {"source": "", "weights": None, "seconds": 0, "tiles": 1, "warnings": []}
    record = make_record(guards=Guards(2.84567, 0.18, consistency_after=0.5), **common)
    assert json.loads(json.dumps(record))["guards"] == {
        "noise_gain": 2.846,
        "outside_envelope": 0.18,
        "consistency_before": None,
        "consistency_after": 0.5,
    }
    assert make_record(**common)["guards"] is None
