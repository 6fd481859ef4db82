"""Messages for clients name neither the server's paths nor files, which may be named after patients."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from medsr.label.public_messages import public

NAME = "DOE^JOHN"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    folder = tmp_path / "studies" / "case 1"
    (folder / "inner").mkdir(parents=True)
    for name in (f"{NAME}_1.dcm", f"inner/{NAME}_2.dcm", "10", "1234567"):
        (folder / name).write_bytes(b"")
    return folder


def test_file_of_a_folder(series: Path) -> None:
    message = f"{series}/inner/{NAME}_2.dcm: expected 10 slices, got {NAME}_1.dcm and {NAME}_2.dcm at 1.5 mm/voxel"
    told = public(message, {series: "case 1"})
    assert told == "file 4 of case 1: expected 10 slices, got file 3 of case 1 and file 4 of case 1 at 1.5 mm/voxel"


def test_numbers_that_may_be_a_patient_but_not_those_that_count(series: Path) -> None:
    assert public("1234567 is 10 too much", {series: "case"}) == "file 2 of case is 10 too much"


def test_file_of_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "tmpabc.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(f"study/{NAME}.dcm", b"")
    told = public(f"{archive}/study/{NAME}.dcm: expected a DICOM image, got {NAME}.dcm", {archive: "the upload"})
    assert told == "file 1 of the upload: expected a DICOM image, got file 1 of the upload"


def test_image_itself_and_what_lies_below_its_folder(tmp_path: Path) -> None:
    image = tmp_path / f"{NAME}.nii.gz"
    names = {tmp_path: "the studies", image: "the upload"}
    told = public(f"{image}: expected NIfTI, got another ({NAME}.nii.gz), see {tmp_path}/log", names)
    assert NAME not in told
    assert str(tmp_path) not in told
    assert told.startswith("the upload: expected NIfTI, got another (the upload), see ")


def test_place_whose_files_keep_their_names(tmp_path: Path) -> None:
    told = public(f"{tmp_path}/models/model.pt is missing", {}, {tmp_path: "bundle x"})
    assert told == "bundle x/models/model.pt is missing"


@pytest.mark.parametrize("path", ["/srv/data/x.nii.gz", "/tmp/tmpab12/model.pt", "/home/a/b/"])
def test_paths_that_nobody_thought_of(path: str) -> None:
    assert public(f"cannot read '{path}': No such file", {}) == "cannot read '(a file of the server)': No such file"


def test_what_is_no_path_stays() -> None:
    message = "expected 1/2 or mm/s, 80x72 and/or scale 1.5; raise max_voxels"
    assert public(f"{message}\n  again", {}) == f"{message} again"
