"""Which files are the contrasts of one case."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from medsr.data.inference_items import inference_items
from medsr.errors import InputError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(items: list[dict]) -> list[list[str]]:
    return [[Path(path).name for path in item["image"]] for item in items]


def test_images_without_contrasts_are_items_one_by_one(tmp_path: Path) -> None:
    touch(tmp_path, "a_T1w.nii.gz", "a_FLAIR.nii.gz")
    assert [item["stem"] for item in inference_items(tmp_path)] == ["a_FLAIR", "a_T1w"]
    assert all(isinstance(item["image"], str) for item in inference_items(tmp_path))


def test_cases_by_name_in_the_order_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "b_T1w.nii", "b_FLAIR.nii.gz", "a_1_T1w_brain.nii.gz", "a_1_FLAIR_brain.nii.gz", "a_seg.nii.gz")
    with caplog.at_level(logging.WARNING):
        items = inference_items(tmp_path, contrasts=["FLAIR", "T1w"])
    assert names(items) == [["a_1_FLAIR_brain.nii.gz", "a_1_T1w_brain.nii.gz"], ["b_FLAIR.nii.gz", "b_T1w.nii"]]
    assert items[1]["stem"] == ["b_FLAIR", "b_T1w"]
    assert len(caplog.messages) == 1
    assert "a_seg.nii.gz: ignored" in caplog.messages[0]


def test_a_contrast_is_a_whole_word_and_the_last_one(tmp_path: Path) -> None:
    touch(tmp_path, "x_t1.nii", "x_t1ce.nii", "T1w_like_t1.nii", "T1w_like_t1ce.nii", "t1_t1.nii", "t1_t1ce.nii")
    items = inference_items(tmp_path, contrasts=["t1ce", "t1"])
    assert sorted(names(items)) == [
        ["T1w_like_t1ce.nii", "T1w_like_t1.nii"],
        ["t1_t1ce.nii", "t1_t1.nii"],
        ["x_t1ce.nii", "x_t1.nii"],
    ]


def test_equal_names_in_two_folders_are_two_cases(tmp_path: Path) -> None:
    for folder in ("p", "q"):
        touch(tmp_path / folder, "T1w.nii", "FLAIR.nii")
    items = inference_items([tmp_path / "p", tmp_path / "q"], contrasts=["T1w", "FLAIR"])
    assert [item["stem"] for item in items] == [["p_T1w", "p_FLAIR"], ["q_T1w", "q_FLAIR"]]


@pytest.mark.parametrize(
    ("files", "contrasts", "message"),
    [
        (["a_T1w.nii", "a_T2w.nii", "b_T2w.nii"], ["T1w", "T2w"], "expected T1w beside .*b_T2w.nii, found none"),
        (["a_T1w.nii"], ["T1w", "T2w", "PD"], "expected T2w and PD beside .*a_T1w.nii, found none"),
        (["a_T1w.nii", "a_T1w.nrrd", "a_T2w.nii"], ["T1w", "T2w"], "a name of its own"),
        (["a_T1w.nii"], ["T1w"], "two or more different contrasts.*got T1w"),
        (["a_T1w.nii"], ["T1w", "T1w"], "two or more different contrasts"),
        (["a.nii"], ["T1w", "T2w"], "expected images named by contrast, such as case_T1w.nii.gz.*got a.nii"),
    ],
)
def test_refusals_are_one_line(tmp_path: Path, files: list[str], contrasts: list[str], message: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message) as caught:
        inference_items(tmp_path, contrasts=contrasts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format_", ["dicom", "png"])
def test_contrasts_are_no_series_and_no_pictures(tmp_path: Path, format_: str) -> None:
    touch(tmp_path, "a_T1w.nii", "a_T2w.nii")
    with pytest.raises(InputError, match=f"cannot be written as {format_}; use .nii.gz"):
        inference_items(tmp_path, output_ext=format_, contrasts=["T1w", "T2w"])
