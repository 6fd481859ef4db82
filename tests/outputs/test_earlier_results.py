"""Which results are taken for those of a request: the record decides, and the files must all be there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medsr.outputs import OutputPaths, output_paths
from medsr.outputs.earlier_results import Making, is_made

METADATA = {"name": "recnn3d", "version": "0.1.0"}
SETTINGS = {
    "scale": [2, 2, 2],
    "spacing": None,
    "precision": "float32",
    "ensemble": False,
    "formation": "auto",
    "safe": False,
}


@pytest.fixture
def making(tmp_path: Path) -> Making:
    (tmp_path / "model.pt").write_bytes(b"weights")
    return Making.asked(METADATA, tmp_path / "model.pt", SETTINGS)


@pytest.fixture
def paths(tmp_path: Path) -> OutputPaths:
    """A result with its record."""
    found = output_paths(tmp_path, "a")
    found.image.write_bytes(b"")
    write(found, {})
    return found


def write(paths: OutputPaths, changes: dict[str, Any]) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    options = {name: SETTINGS[name] for name in ("precision", "ensemble", "formation", "safe")}
    record = {
        "method": {"bundle": "recnn3d", "version": "0.1.0", "weights_sha256": digest},
        "settings": {**options, "request": {"scale": "2", "spacing": None}},
    }
    paths.record.write_text(json.dumps({**record, **changes}))


def test_one_number_is_the_same_on_every_axis(paths: OutputPaths, making: Making) -> None:
    assert making.scale == (2.0,)
    assert is_made(paths, making)
    assert not is_made(paths, replace(making, scale=(2.0, 2.0, 1.0)))


@pytest.mark.parametrize(
    "change",
    [
        {"bundle": "rdst"},
        {"version": "0.2.0"},
        {"weights_sha256": "0" * 64},
        {"scale": None, "spacing": (2.0,)},
        {"precision": "bfloat16"},
        {"formation": "block"},
        {"safe": True},
        {"between_scales": "up-and-down"},
        {"contrasts": 2},
    ],
    ids=str,
)
def test_another_request(paths: OutputPaths, making: Making, change: dict[str, Any]) -> None:
    assert not is_made(paths, replace(making, **change))


def test_the_maps_must_be_there(paths: OutputPaths, making: Making) -> None:
    assert not is_made(paths, making, consistency=True)
    paths.consistency.write_bytes(b"")
    assert is_made(paths, making, consistency=True)
    settings = {**SETTINGS, "ensemble": True, "request": {"scale": 2, "spacing": None}}
    write(paths, {"settings": settings})
    assert not is_made(paths, replace(making, ensemble=True)), "without the map of deviations"
    paths.deviation.write_bytes(b"")
    assert is_made(paths, replace(making, ensemble=True))


def test_a_contrast_is_the_channel_it_was(paths: OutputPaths, making: Making) -> None:
    write(paths, {"inputs": [{}, {}], "channel": 1})
    together = replace(making, contrasts=2)
    assert is_made(paths, together, channel=1)
    assert not is_made(paths, together, channel=0)
    assert not is_made(paths, making)


def test_a_folder_has_as_many_images_as_its_record_says(tmp_path: Path, making: Making) -> None:
    paths = output_paths(tmp_path, "series", extension="dicom")
    paths.image.mkdir()
    (paths.image / "1.dcm").write_bytes(b"")
    write(paths, {"dicom": {"images": 2}})
    assert not is_made(paths, making)
    (paths.image / "2.dcm").write_bytes(b"")
    assert is_made(paths, making)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"method": {}, "settings": 1}'])
def test_what_is_no_record_of_ours(paths: OutputPaths, making: Making, text: str) -> None:
    paths.record.write_text(text)
    assert not is_made(paths, making)
    paths.record.unlink()
    assert not is_made(paths, making)
