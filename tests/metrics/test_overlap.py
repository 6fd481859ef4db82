"""Dice of label maps and the report of a judging network, against counts by hand and MONAI's Dice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.metrics import compute_dice
from torch import nn

from medsr.errors import InputError
from medsr.inferers import SliceInferer
from medsr.metrics import DiceCounts, SegmentationReport


def maps(seed: int, shape: tuple[int, ...] = (12, 10, 8)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, shape, generator=generator), torch.randint(0, 3, shape, generator=generator)


def test_dice_of_a_volume_is_monais() -> None:
    found, truth = maps(0)
    counts = DiceCounts([1, 2])
    counts.add(found, truth, axis=2)
    one_hot = [torch.nn.functional.one_hot(m, 3).permute(3, 0, 1, 2)[None] for m in (found, truth)]
    expected = compute_dice(*one_hot, include_background=False)[0].tolist()
    values = counts.values()
    assert [values["dice_1"], values["dice_2"]] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mean_over_slices_is_the_dissertations(axis: int) -> None:
    found, truth = maps(1)
    found.movedim(axis, 0)[0], truth.movedim(axis, 0)[0] = 0, 0  # empty on both sides: agreement
    counts = DiceCounts([1, 2])
    counts.add(found, truth, axis)
    per_slice, pooled = [], []
    for f, t in zip(found.movedim(axis, 0).numpy(), truth.movedim(axis, 0).numpy(), strict=True):
        common = [((f == k) & (t == k)).sum() for k in (1, 2)]
        sizes = [(f == k).sum() + (t == k).sum() for k in (1, 2)]
        per_slice.append((2 * common[0] + 1e-6) / (sizes[0] + 1e-6))
        pooled.append((2 * sum(common) + 1e-6) / (sum(sizes) + 1e-6))
    assert per_slice[0] == 1
    assert counts.values()["slice_dice_1"] == pytest.approx(np.mean(per_slice), abs=1e-9)
    assert counts.values()["slice_dice"] == pytest.approx(np.mean(pooled), abs=1e-9)


def test_images_of_a_subject_are_pooled() -> None:
    together, apart = DiceCounts([1, 2]), DiceCounts([1, 2])
    found, truth = maps(2)
    together.add(found, truth, axis=2)
    for k in range(found.shape[2]):
        apart.add(found[..., k], truth[..., k])
    assert together.values() == pytest.approx(apart.values())


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(InputError, match="one label or more"):
        DiceCounts([])
    with pytest.raises(InputError, match="one size"):
        DiceCounts([1]).add(torch.zeros(3, 3), torch.zeros(3, 4))


class Threshold(nn.Module):
    """Label 1 where an image is above one half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], 1) * self.scale


def run_report(items: list[dict[str, Any]], report: SegmentationReport) -> None:
    engine = Engine(lambda engine, batch: [{} for _ in batch])
    report.attach(engine)
    engine.run([[item] for item in items], max_epochs=1)


def case(subject: str, seed: int, noise: float) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    truth = np.zeros((1, 16, 14, 5), np.float32)
    truth[0, 4:11, 3:9, 1:4] = 1
    image = 0.2 + 0.6 * truth

    def tensor(values: np.ndarray) -> MetaTensor:
        return MetaTensor(torch.as_tensor(values.astype(np.float32)), affine=torch.eye(4, dtype=torch.float64))

    versions = {"hr": 0.0, "sr": noise / 2, "lr": noise}
    made = {key: tensor(image + sigma * rng.normal(size=image.shape)) for key, sigma in versions.items()}
    return {**made, "segmentation": tensor(truth), "subject": subject}


def make(output: Path, **options: Any) -> SegmentationReport:
    images = {"HR": "hr", "bicubic": "lr", "ours": "sr"}
    defaults = {"baseline": "bicubic", "reference": "HR", "figures": 1}
    return SegmentationReport(output, Threshold(), SliceInferer(), images, **{**defaults, **options})


def test_report_of_a_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [case(f"s{k // 2}", k, 0.5) for k in range(14)]  # two images of each subject
    run_report([*items, {**case("none", 99, 0.5), "segmentation": None}], make(tmp_path))
    rows = list(csv.DictReader((tmp_path / "segmentation.csv").open()))
    assert {row["case"] for row in rows} == {f"s{k}" for k in range(7)}
    by_method = {m: [float(r["dice"]) for r in rows if r["method"] == m] for m in ("HR", "bicubic", "ours")}
    assert by_method["HR"] == [1.0] * 7
    for subject in range(7):
        mine = [item for item in items if item["subject"] == f"s{subject}"]
        found = torch.stack([item["sr"].as_tensor() > 0.5 for item in mine])
        truth = torch.stack([item["segmentation"].as_tensor() > 0 for item in mine])
        expected = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        assert by_method["ours"][subject] == pytest.approx(expected.item(), abs=1e-6)
    summary = json.loads((tmp_path / "segmentation.json").read_text())
    mean = {m: np.mean(v) for m, v in by_method.items()}
    closed = (mean["ours"] - mean["bicubic"]) / (1 - mean["bicubic"])
    assert summary["gap_closed"] == {"ours": pytest.approx(closed)}
    assert 0.2 < closed < 1
    ours = next(g for g in summary["groups"] if g["method"] == "ours")
    assert ours["metrics"]["dice"]["wilcoxon"]["p_value"] < 0.05
    assert "ours closes" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.png")] == ["segmentation_s0_1.png"]
    assert (tmp_path / "segmentation_s0_1.png").stat().st_size > 5000


def test_nothing_is_written_without_a_delineation(tmp_path: Path) -> None:
    run_report([{**case("a", 0, 0.1), "segmentation": None}], make(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_names_must_be_of_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cubic"):
        make(tmp_path, baseline="cubic")
