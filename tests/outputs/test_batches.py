"""What was found out about an image stays with it through batches: from reading to the record of each result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch, list_data_collate

from medsr.data.batches import collate_images
from medsr.errors import InputError
from medsr.inferers import InferenceFacts, SuperResolutionInferer
from medsr.networks import create
from medsr.outputs import SaveImageWithRecordd

SHAPE = (9, 8, 7)
OF_THE_RUN = ("created", "seconds")


@pytest.fixture
def scans(
    phantom: Callable[..., np.ndarray], write_dicom: Callable[..., None], oblique_affine: np.ndarray, tmp_path: Path
) -> Path:
    """Three scans in units of their own: two volumes, and a series whose reading gives a warning (it is tilted)."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for k, name in enumerate("ab"):
        values = (phantom(SHAPE, seed=k) * 10.0 ** (2 * k) - 500 * k).astype(np.float32)
        affine = np.diag([1.0 + k, 1.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    tilted = oblique_affine.copy()
    tilted[:3, 2] += 0.3 * tilted[:3, 1]
    write_dicom(folder / "c", phantom(SHAPE, seed=2), tilted)
    return folder


@pytest.fixture
def run(monai_bundle: Callable[..., Any], tiny_bundle: Path, scans: Path, tmp_path: Path) -> Callable[..., Path]:
    """`python -m monai.bundle run` on the scans, in batches; returns the folder of the results."""

    def call(batch_size: int, **options: Any) -> Path:
        out = tmp_path / f"batches_of_{batch_size}"
        done = monai_bundle(
            "run",
            config_file=tiny_bundle / "configs" / "inference.json",
            dataset_dir=scans,
            output_dir=out,
            preview=False,
            **{"dataloader::batch_size": batch_size, **options},
        )
        assert done.status == 0, done.err
        return out

    return call


@pytest.mark.parametrize("batch_size", [2, 3])
def test_each_result_of_a_batch_is_that_of_the_image_alone(run: Callable[..., Path], batch_size: int) -> None:
    options = {"ensemble": True, "consistency": True}
    alone, together = run(1, **options), run(batch_size, **options)
    files = sorted(path.name for path in alone.iterdir())
    assert len(files) == 3 * 4
    assert sorted(path.name for path in together.iterdir()) == files
    for name in files:
        if name.endswith(".json"):
            expected, found = (json.loads((folder / name).read_text()) for folder in (alone, together))
            for key in OF_THE_RUN:
                assert expected.pop(key)
                assert found.pop(key)
            assert found.pop("consistency")["mean"] == pytest.approx(expected.pop("consistency")["mean"], rel=1e-4)
            assert found == expected
        else:
            expected, found = (nib.load(folder / name) for folder in (alone, together))
            values = np.asarray(expected.dataobj)
            small = "_consistency" in name  # what is left of a residual; rounding errors of the image stay in it
            span = np.ptp(np.asarray(nib.load(alone / name.replace("_consistency", "")).dataobj if small else values))
            np.testing.assert_allclose(np.asarray(found.dataobj), values, rtol=0, atol=1e-5 * span)
            np.testing.assert_array_equal(found.affine, expected.affine)
    records = [json.loads((together / f"{name}_sr.json").read_text()) for name in "abc"]
    assert [record["input"]["name"] for record in records] == ["a.nii.gz", "b.nii.gz", "c"]
    assert len({record["intensity"]["scale"] for record in records}) == 3
    assert [any("gantry" in line for line in record["warnings"]) for record in records] == [False, False, True]


def test_images_of_two_sizes_are_no_batch(
    scans: Path, monai_bundle: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(np.arange(60.0, dtype=np.float32).reshape(3, 4, 5), np.eye(4)), scans / "b.nii.gz")
    done = monai_bundle(
        "run",
        config_file=tiny_bundle / "configs" / "inference.json",
        dataset_dir=scans,
        output_dir=tmp_path / "out",
        **{"dataloader::batch_size": 2},
    )
    assert done.status == 1
    assert done.err.strip().splitlines()[-1] == (
        f"medsr: error: expected images of one size in a batch, got (1, 9, 8, 7) of {scans / 'a.nii.gz'} and "
        f"(1, 3, 4, 5) of {scans / 'b.nii.gz'} (channels, then voxels); set the batch_size of the data loader to 1"
    )
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def images(count: int, channels: int = 1) -> list[dict[str, Any]]:
    values = torch.rand(count, channels, 6, 5, 4, generator=torch.manual_seed(0))
    return [{"image": MetaTensor(v, affine=torch.eye(4), meta={"name": f"case{k}"})} for k, v in enumerate(values)]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return create("ReCNN", depth=2, features=2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_facts_survive_collating_and_decollating(network: torch.nn.Module, count: int, workers: int) -> None:
    inferer = SuperResolutionInferer(2, ensemble=True)
    items = images(count)
    (batch,) = DataLoader(Dataset(items), batch_size=count, num_workers=workers, collate_fn=collate_images)
    pred = inferer(batch["image"], network)
    found = decollate_batch({"pred": pred})
    again = decollate_batch(list_data_collate(found))  # results can be batched again
    for k, item in enumerate(items):
        expected = inferer.enlarge(item["image"][None], network)
        for result in (found[k]["pred"], again[k]["pred"]):
            facts = InferenceFacts.of(result)
            assert result.meta["name"] == f"case{k}"
            assert facts.scale == (2, 2, 2)
            assert facts.request == {"scale": 2, "spacing": None}
            torch.testing.assert_close(facts.deviation, expected.deviation.as_tensor()[0], atol=1e-6, rtol=0)


def test_a_batch_that_was_not_collated_is_refused(network: torch.nn.Module, tiny_bundle: Path, tmp_path: Path) -> None:
    """Stacked images have the meta of the first: whose facts are whose cannot be told."""
    items = images(2)
    stacked = torch.stack([item["image"] for item in items])
    pred = SuperResolutionInferer(2)(stacked, network)
    with pytest.raises(InputError, match=r"expected the result of one image, got one of a batch of 2 .*decollate"):
        SaveImageWithRecordd(tmp_path / "out", tiny_bundle, preview=False)(
            {"image": items[0]["image"], "pred": pred[0]}
        )
    assert not (tmp_path / "out").exists()
