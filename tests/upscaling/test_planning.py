"""Where results go: names, and what is refused before any network runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsr.errors import InputError, OutputError
from medsr.upscaling import plan_outputs


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two files with the names of images; a plan does not open them."""
    for name in ("sub-01_T1w.nii.gz", "sub-01_T2w.nii"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


def test_a_folder_of_results(images: Path, tmp_path: Path) -> None:
    plan = plan_outputs(images, tmp_path / "new" / "out", extension=".mha", series="1.2.3")
    assert [[job.image.path.name for job in case] for case in plan.cases] == [
        ["sub-01_T1w.nii.gz"],
        ["sub-01_T2w.nii"],
    ]
    (first,), (second,) = plan.cases
    assert first.paths.image == tmp_path / "new" / "out" / "sub-01_T1w_sr.mha"
    assert second.paths.record == tmp_path / "new" / "out" / "sub-01_T2w_sr.json"
    assert plan.settings == {
        "output_dir": str(tmp_path / "new" / "out"),
        "output_ext": ".mha",
        "output_postfix": "",
        "bids": False,
        "series": "1.2.3",
    }
    assert list((tmp_path / "new" / "out").iterdir()) == [], "the folder is there, and nothing in it"


def test_one_file(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_outputs(images / "sub-01_T1w.nii.gz", "x.nrrd")
    (job,) = plan.cases[0]
    assert (job.stem, job.paths.image) == ("x", tmp_path / "x.nrrd")
    assert plan.settings["output_ext"] == ".nrrd", "its ending says the format"


def test_bids_names(images: Path, tmp_path: Path) -> None:
    plan = plan_outputs(images / "sub-01_T1w.nii.gz", tmp_path / "out", bids=True)
    assert plan.cases[0][0].paths.image.name == "sub-01_desc-sr_T1w.nii.gz"
    assert plan.settings["output_postfix"] == "sr"


def test_contrasts_are_one_case(images: Path, tmp_path: Path) -> None:
    plan = plan_outputs(images, tmp_path / "out", contrasts=["T2w", "T1w"])
    assert [[job.stem for job in case] for case in plan.cases] == [["sub-01_T2w_sr", "sub-01_T1w_sr"]]
    assert plan.settings["contrasts"] == ["T2w", "T1w"]


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        ("x.nii.gz", {}, "is one file, but there are 2 inputs"),
        ("in/sub-01_T1w.nii.gz", {}, "is one file, but there are 2 inputs"),
        ("out", {"extension": "dicom"}, "expected a DICOM input"),
        ("out", {"extension": "png"}, "expected a picture"),
        ("out", {"extension": ".jpg"}, "results are written as"),
        ("out", {"bids": True, "extension": ".mha"}, "BIDS names are for"),
        ("x.png", {}, "pictures are written into a folder"),
        ("notes.md", {}, "is a file, but no image"),
        ("out", {"contrasts": ["T1w", "FLAIR"]}, "expected FLAIR beside .*, found none"),
    ],
)
def test_refused(images: Path, tmp_path: Path, output: str, options: dict[str, object], words: str) -> None:
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(InputError, match=words) as caught:
        plan_outputs(images, tmp_path / output, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_result_is_no_input_and_has_a_name_of_its_own(images: Path, tmp_path: Path) -> None:
    (images / "sub-01_T1w_sr.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"T1w_sr\.nii\.gz would be a result, but is an input too"):
        plan_outputs(images, images)
    with pytest.raises(InputError, match="would be named as its input"):
        plan_outputs(images / "sub-01_T2w.nii", images / "sub-01_T2w.mha")
    names = {"sub-01_ses-1_T1w.nii": "first", "sub-01_ses-1_T1w.nii.gz": "second"}
    for name, folder in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"")
    with pytest.raises(InputError, match="would both become"):
        plan_outputs([tmp_path / "first", tmp_path / "second"], tmp_path / "out", bids=True)


def test_a_folder_that_cannot_be_written(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written: Not a directory; choose another folder"):
        plan_outputs(images, tmp_path / "file" / "out")
