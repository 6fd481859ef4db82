"""``medsr data``, called as the command line calls it."""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medsr.cli.data import register
from medsr.errors import InputError, OutputError


def medsr(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="medsr")
    register(parser.add_subparsers(required=True))
    args = parser.parse_args([str(argument) for argument in arguments])
    return int(args.run(args))


@pytest.fixture
def hippocampus(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    values = np.indices((35, 50, 35)).sum(0)
    for case in range(13, 21):
        name = f"hippocampus_{case:03d}.nii.gz"
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4)), root / "images" / name)
        nib.save(nib.Nifti1Image((values % 3).astype(np.uint8), np.eye(4)), root / "labels" / name)
    return root


def findings(capsys, *arguments: object) -> dict[str, list[str]]:
    medsr("data", "check", *arguments, "--json")
    found: dict[str, list[str]] = {}
    for finding in json.loads(capsys.readouterr().out)["findings"]:
        found.setdefault(finding["kind"], []).append(f"{finding['path']}: {finding['message']}")
    return found


def test_list(capsys):
    assert medsr("data", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:5] == ["NAME", "MODALITY", "IMAGES", "LICENCE", "ACCESS"]
    row = next(line for line in lines if line.startswith("msd_hippocampus"))
    assert row.split()[1:5] == ["T1w", "260", "CC-BY-SA-4.0", "open"]
    assert medsr("data", "list", "--json") == 0
    assert "whole_head_t1w" in {entry["name"] for entry in json.loads(capsys.readouterr().out)}


def test_check_ok(hippocampus, capsys):
    assert medsr("data", "check", "msd_hippocampus", hippocampus, "--full") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "OK"
    assert "test: 4 images of 2 subjects" in out
    assert "note: count: 8 of the dataset's 260 images" in out


def test_check_says_what_is_missing_and_unexpected(hippocampus, capsys):
    (hippocampus / "labels" / "hippocampus_014.nii.gz").unlink()
    (hippocampus / "images" / "hippocampus_15.nii.gz").write_bytes(b"")
    (hippocampus / "notes.txt").write_text("mine")
    assert medsr("data", "check", "msd_hippocampus", hippocampus) == 1
    out = capsys.readouterr().out
    assert "  missing: labels/hippocampus_014.nii.gz: expected this file, found none" in out
    assert "  unexpected: images/hippocampus_15.nii.gz: an image that the manifest does not list" in out
    assert "  note: unexpected: notes.txt: not part of the dataset" in out
    assert out.splitlines()[-1] == "NOT OK: 2 problems"


def test_a_stray_text_file_alone_is_a_note(hippocampus):
    (hippocampus / "README").write_text("mine")
    assert medsr("data", "check", "msd_hippocampus", hippocampus) == 0


def test_many_findings_are_cut_short_but_not_in_json(hippocampus, capsys):
    for number in range(15):
        (hippocampus / "images" / f"stray{number:02d}.nii.gz").touch()
    assert medsr("data", "check", "msd_hippocampus", hippocampus) == 1
    assert "unexpected: and 5 more (--json lists all)" in capsys.readouterr().out
    assert len(findings(capsys, "msd_hippocampus", hippocampus)["unexpected"]) == 15


def test_check_headers(hippocampus, capsys):
    images, labels = hippocampus / "images", hippocampus / "labels"
    small = np.zeros((20, 50, 35), np.float32)
    nib.save(nib.Nifti1Image(small, np.diag([1, 1, 2.5, 1])), images / "hippocampus_013.nii.gz")
    nib.save(nib.Nifti1Image(small, np.diag([1, 1, 2.5, 1])), labels / "hippocampus_013.nii.gz")
    moved = np.eye(4)
    moved[0, 3] = 1.0
    nib.save(nib.Nifti1Image(np.zeros((35, 50, 35), np.uint8), moved), labels / "hippocampus_014.nii.gz")
    (images / "hippocampus_015.nii.gz").write_bytes(b"not an image")
    nib.save(nib.Nifti1Image(np.zeros((35, 50, 35, 2), np.uint8), moved), images / "hippocampus_016.nii.gz")
    found = findings(capsys, "msd_hippocampus", hippocampus)
    assert "images/hippocampus_013.nii.gz: expected 31 x 40 x 24 to 43 x 59 x 47, got 20 x 50 x 35" in found["shape"]
    assert found["spacing"] == ["images/hippocampus_013.nii.gz: expected 1 x 1 x 1 mm, got 1 x 1 x 2.5 mm"]
    assert any(text.startswith("labels/hippocampus_014.nii.gz: the label map is not on") for text in found["shape"])
    assert any("expected a 3D image, got size 35 x 50 x 35 x 2" in text for text in found["shape"])
    assert found["unreadable"][0].startswith("images/hippocampus_015.nii.gz: expected a readable image")


def test_only_full_reads_the_voxels(hippocampus, capsys):
    images, labels = hippocampus / "images", hippocampus / "labels"
    path = images / "hippocampus_013.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    values = np.indices((35, 50, 35)).sum(0) % 5
    nib.save(nib.Nifti1Image(values.astype(np.uint8), np.eye(4)), labels / "hippocampus_014.nii.gz")
    flat = np.full((35, 50, 35), 7, np.float32)
    nib.save(nib.Nifti1Image(flat, np.eye(4)), images / "hippocampus_015.nii.gz")
    assert medsr("data", "check", "msd_hippocampus", hippocampus) == 0
    capsys.readouterr()
    assert medsr("data", "check", "msd_hippocampus", hippocampus, "--full") == 1
    out = capsys.readouterr().out
    assert "hippocampus_013.nii.gz: expected 61250 voxels" in out
    assert "labels/hippocampus_014.nii.gz: expected the values 0, 1, 2, got also 3, 4" in out
    assert "images/hippocampus_015.nii.gz: every voxel has the value 7" in out


def test_a_cut_uncompressed_file_is_found_by_its_length(hippocampus, capsys):
    path = hippocampus / "images" / "hippocampus_013.nii.gz"
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-10])
    path.unlink()
    found = findings(capsys, "msd_hippocampus", hippocampus)
    assert "cut short" in found["unreadable"][0]


def test_hash(hippocampus, capsys):
    found = findings(capsys, "msd_hippocampus", hippocampus, "--hash")
    # The miniatures carry names of the real files and other content.
    assert any(text.startswith("images/hippocampus_014.nii.gz: expected sha256 ") for text in found["hash"])


def test_datalist(hippocampus, tmp_path, capsys):
    output = tmp_path / "datalist.json"
    assert medsr("data", "datalist", "msd_hippocampus", hippocampus, "-o", output, "--image-key", "image") == 0
    out = capsys.readouterr().out
    assert "test: 4 images of 2 subjects" in out
    document = json.loads(output.read_text(encoding="utf-8"))
    assert [item["image"] for item in document["validation"]] == [
        "images/hippocampus_015.nii.gz",
        "images/hippocampus_016.nii.gz",
    ]
    (hippocampus / "labels" / "hippocampus_015.nii.gz").unlink()
    assert medsr("data", "datalist", "msd_hippocampus", hippocampus, "-o", output, "--absolute") == 0
    assert "missing 1 file of the dataset, first labels/hippocampus_015" in capsys.readouterr().err
    item = json.loads(output.read_text(encoding="utf-8"))["validation"][0]
    assert item["label"] == str(hippocampus / "images" / "hippocampus_015.nii.gz")
    assert "segmentation" not in item
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["datalist.json"]


def test_bad_input_is_one_line(hippocampus, tmp_path):
    cases = [
        (InputError, ("data", "check", "nothing", hippocampus)),
        (InputError, ("data", "check", "msd_hippocampus", tmp_path / "absent")),
        (InputError, ("data", "check", "kirby21", hippocampus)),
        (InputError, ("data", "datalist", "msd_hippocampus", tmp_path / "absent", "-o", tmp_path / "a.json")),
        (OutputError, ("data", "datalist", "msd_hippocampus", hippocampus, "-o", hippocampus)),
    ]
    for kind, arguments in cases:
        with pytest.raises(kind) as caught:
            medsr(*arguments)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.json").exists()
