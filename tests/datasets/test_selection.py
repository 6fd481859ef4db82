"""Items of several datasets, each with its share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medsr.datasets import selection
from medsr.datasets.selection import collect, with_scales
from medsr.errors import InputError


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in which the manifests "large", "small" and "thick" find 6, 2 and 2 training images."""

    def datalist(name: str, root: Path) -> dict[str, list[dict[str, Any]]]:
        if name == "absent":
            raise InputError(f"expected dataset absent in {root}, found no such folder")
        count = {"large": 6, "small": 2, "thick": 2}[name]
        resolution = "native" if name == "thick" else "isotropic"
        items = [{"label": str(root / f"{name}{k}.nii.gz"), "resolution": resolution} for k in range(count)]
        return {"training": items, "validation": items[:1], "test": []}

    monkeypatch.setattr(selection, "datalist", datalist)
    return tmp_path


def shares_of(items: list[dict[str, Any]]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for item in items:
        shares[item["dataset"]] = shares.get(item["dataset"], 0.0) + item["weight"]
    return shares


def write(folder: Path, content: Any) -> Path:
    (folder / "datalist.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


# --- manifests


def test_shares_are_divided_among_the_items(declared: Path) -> None:
    items = collect(declared, "training", {"large": ".", "small": "s"}, {"large": 0.7, "small": 0.3})
    assert shares_of(items) == pytest.approx({"large": 0.7, "small": 0.3})
    assert {item["weight"] for item in items if item["dataset"] == "small"} == {0.15}
    assert items[6]["label"] == str(declared / "s" / "small0.nii.gz")


def test_shares_are_equal_by_default_and_need_not_sum_to_one(declared: Path) -> None:
    manifests = {"large": ".", "small": "."}
    assert shares_of(collect(declared, "training", manifests)) == pytest.approx({"large": 0.5, "small": 0.5})
    items = collect(declared, "training", manifests, {"large": 6, "small": 2})
    assert shares_of(items) == pytest.approx({"large": 0.75, "small": 0.25})


def test_where_keeps_matching_items(declared: Path) -> None:
    manifests = {"large": ".", "thick": "."}
    items = collect(declared, "training", manifests, {"large": 0.4}, {"resolution": "isotropic"})
    assert shares_of(items) == pytest.approx({"large": 1.0})  # a dataset without images takes no share
    assert len(collect(declared, "training", manifests, None, {"modality": "T1w"})) == 8  # nothing said: kept


def test_limit_is_spread_evenly(declared: Path) -> None:
    items = collect(declared, "training", {"large": ".", "small": "."}, limit=3)
    names = [Path(item["label"]).name for item in items]
    assert names == [f"{n}.nii.gz" for n in ("large0", "large2", "large4", "small0", "small1")]
    assert shares_of(items) == pytest.approx({"large": 0.5, "small": 0.5})


def test_missing_dataset_is_an_error_that_says_what_to_do(declared: Path) -> None:
    with pytest.raises(InputError) as error:
        collect(declared, "training", {"large": ".", "absent": "x"})
    message = str(error.value)
    assert message.startswith("expected dataset absent in")
    assert message.endswith(f"leave the dataset out of `manifests`, or put a datalist.json into {declared}")
    assert "\n" not in message


def test_empty_section(declared: Path) -> None:
    with pytest.raises(InputError, match=r"no test images in large, small below .*; see `medsr data check`"):
        collect(declared, "test", {"large": ".", "small": "."})
    with pytest.raises(InputError, match="no training images with resolution native in large"):
        collect(declared, "training", {"large": "."}, where={"resolution": "native"})


def test_real_folder_is_split_by_patient(shared_data: Path) -> None:
    manifests = {"whole_head_t1w": ".", "msd_hippocampus": "hippocampus_msd"}
    sections = {name: collect(shared_data, name, manifests) for name in ("training", "validation", "test")}
    subjects = {name: {item["subject"] for item in items} for name, items in sections.items()}
    assert not subjects["training"] & subjects["validation"]
    assert not subjects["training"] & subjects["test"]
    for items in sections.values():
        assert sum(item["weight"] for item in items) == pytest.approx(1)
        assert all(Path(item["label"]).is_file() for item in items)


# --- datalist.json


def test_datalist_comes_before_the_manifests(declared: Path) -> None:
    write(declared, {"training": [{"label": "a.nii.gz", "subject": "A"}, {"label": "/abs/b.nii.gz"}]})
    items = collect(declared, "training", {"large": "."}, {"large": 0.3})
    assert [item["label"] for item in items] == [str(declared / "a.nii.gz"), "/abs/b.nii.gz"]
    assert [item["weight"] for item in items] == [0.5, 0.5]
    assert items[0]["subject"] == "A"


def test_pairs_and_segmentations_get_absolute_paths(tmp_path: Path) -> None:
    item = {"image": "lr.nii.gz", "label": "hr.nii.gz", "segmentation": "seg/hr.nii.gz", "scale": [1, 1, 3]}
    (found,) = collect(write(tmp_path, {"training": [item]}), "training")
    assert [found[k] for k in ("image", "label", "segmentation")] == [
        str(tmp_path / name) for name in ("lr.nii.gz", "hr.nii.gz", "seg/hr.nii.gz")
    ]
    assert found["scale"] == [1, 1, 3]


def test_weights_of_a_datalist_are_used(tmp_path: Path) -> None:
    write(tmp_path, {"training": [{"label": "a", "weight": 3}, {"label": "b"}, {"label": "c", "weight": 0}]})
    assert [item["weight"] for item in collect(tmp_path, "training")] == [0.75, 0.25, 0]


def test_bare_paths_are_images_as_in_decathlon(tmp_path: Path) -> None:
    write(tmp_path, {"test": ["./imagesTs/a.nii.gz"]})
    assert collect(tmp_path, "test")[0]["image"] == str(tmp_path / "imagesTs/a.nii.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "datalist.json is not a JSON datalist"),
        ([{"label": "a"}], r'is not a datalist: expected \{"training": \[\{"label"'),
        ({"training": {"label": "a"}}, "is not a datalist"),
        ({"validation": [{"label": "a"}]}, "no training images in datalist"),
        ({"training": [{"lable": "a"}]}, r"expected items with an image or a label, got \{'lable': 'a'\}"),
        ({"training": [7]}, "expected items with an image or a label, got 7"),
        ({"training": [{"label": "a", "weight": -1}]}, "weights in a datalist must not be negative"),
        ({"training": [{"label": "a", "weight": 0}]}, "nor all zero"),
    ],
)
def test_unusable_datalists_are_one_line_errors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        collect(write(tmp_path, content), "training")
    assert "\n" not in str(error.value)


def test_neither_datalist_nor_manifests(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no datalist.json in .*; write one with `medsr data datalist`"):
        collect(tmp_path, "training")
    with pytest.raises(InputError, match="gone does not exist; give an existing folder as dataset_dir"):
        collect(tmp_path / "gone", "training")


def test_every_item_at_every_scale() -> None:
    items = with_scales([{"label": "a"}, {"label": "b"}], [2, [1, 1, 3]])
    assert [(item["label"], item["scale"]) for item in items] == [
        ("a", 2),
        ("b", 2),
        ("a", [1, 1, 3]),
        ("b", [1, 1, 3]),
    ]
