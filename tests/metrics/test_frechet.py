"""Fréchet distance: closed forms, two ways of one number, and who is pooled with whom."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.linalg import sqrtm
from torch import nn

from medsr.errors import InputError
from medsr.metrics import (
    FrechetDistance,
    FrechetReport,
    PooledFeatures,
    frechet_distance,
    frechet_distance_of_samples,
    read_csv,
)
from medsr.networks.inception import InceptionFeatures
from medsr.networks.registry import small
from medsr.weights import inception_features


def test_diagonal_gaussians_in_closed_form() -> None:
    """|mu_1 - mu_2|^2 + sum (sigma_1 - sigma_2)^2."""
    rng = np.random.default_rng(0)
    mu, sigma = rng.normal(size=(2, 7)), rng.uniform(0.1, 3, size=(2, 7))
    sigma[0, 2] = 0  # singular
    expected = np.sum((mu[0] - mu[1]) ** 2) + np.sum((sigma[0] - sigma[1]) ** 2)
    found = frechet_distance(mu[0], np.diag(sigma[0] ** 2), mu[1], np.diag(sigma[1] ** 2))
    assert found == pytest.approx(expected, rel=1e-9)
    assert frechet_distance([0], [[4]], [3], [[1]]) == pytest.approx(9 + 1)


def test_full_covariances_by_scipys_root() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) for _ in range(2))
    c1, c2 = np.cov(a.T), np.cov(b.T)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert frechet_distance(a.mean(0), c1, b.mean(0), c2) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b.mean(0), c2, a.mean(0), c1) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance_of_samples(a, b) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n", "m", "d"), [(5, 9, 30), (2, 2, 3), (40, 30, 4), (12, 10, 12)])
def test_samples_equal_their_covariances(n: int, m: int, d: int) -> None:
    """Also for fewer samples than features, where covariances are singular."""
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, d)), 1 + 2 * rng.normal(size=(m, d))
    expected = frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    assert frechet_distance_of_samples(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance_of_samples(a, a) == pytest.approx(0, abs=1e-9)


def test_sizes_are_checked() -> None:
    with pytest.raises(InputError, match="of one D"):
        frechet_distance([0, 0], np.eye(2), [0], np.eye(2))
    with pytest.raises(InputError, match="two sets of at least two samples"):
        frechet_distance_of_samples(np.zeros((1, 3)), np.zeros((4, 3)))


class Moments(nn.Module):
    """Two features of an image, easily foretold: its mean and its first pixel; remembers batches."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[int, ...]] = []

    def features(self, image: torch.Tensor, taps: Sequence[str]) -> dict[str, torch.Tensor]:
        self.seen.append(tuple(image.shape))
        pair = torch.stack([image.mean((1, 2, 3)), image[:, 0, 0, 0]], 1)
        return {taps[0]: self.factor * pair[..., None, None].expand(-1, -1, 2, 3)}


def vectors(images: torch.Tensor) -> np.ndarray:
    return torch.stack([images.mean((1, 2)), images[:, 0, 0]], 1).numpy()


def test_per_channel_per_subject_and_pooled() -> None:
    torch.manual_seed(0)
    distance = FrechetDistance(PooledFeatures(Moments(), "m", "fd_moments"), batch_size=3)
    data = {name: (torch.rand(7, 2, 5, 4), torch.rand(7, 2, 5, 4)) for name in ("a", "b")}
    for name, (sr, hr) in data.items():
        distance.add(name, sr[:4], hr[:4])
        distance.add(name, sr[4:], hr[4:])  # a subject may come in parts
    result = distance.result()
    by_hand = {
        name: [frechet_distance_of_samples(vectors(sr[:, c]), vectors(hr[:, c])) for c in range(2)]
        for name, (sr, hr) in data.items()
    }
    for name, values in by_hand.items():
        found = result["subjects"][name]
        assert found["fd_moments"] == pytest.approx(np.mean(values), rel=1e-5)
        assert [found[f"fd_moments_channel_{c}"] for c in range(2)] == pytest.approx(values, rel=1e-5)
    assert result["mean_over_subjects"] == pytest.approx(np.mean(list(by_hand.values())), rel=1e-5)
    together = [torch.cat([pair[i] for pair in data.values()]) for i in range(2)]
    pooled = [frechet_distance_of_samples(*(vectors(t[:, c]) for t in together)) for c in range(2)]
    assert result["pooled"]["fd_moments"] == pytest.approx(np.mean(pooled), rel=1e-5)
    assert result["metric"] == "fd_moments"
    assert max(shape[0] for shape in distance.features.network.seen) == 3
    assert {shape[1] for shape in distance.features.network.seen} == {1}


def test_a_single_slice_has_no_distance() -> None:
    distance = FrechetDistance(PooledFeatures(Moments(), "m"))
    distance.add("lone", torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4))
    distance.add("pair", torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    assert math.isnan(distance.per_subject()["lone"][distance.name])
    assert distance.result()["mean_over_subjects"] == pytest.approx(2)
    with pytest.raises(InputError, match="of one size"):
        distance.add("x", torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 5))


def test_segmentation_network_in_place_of_inception() -> None:
    torch.manual_seed(0)
    unet = small("segmentation-unet")
    features = PooledFeatures(unet)
    assert features.name == "fd_segmentation_unet_e5", "not fid"
    images = torch.rand(6, 1, 33, 40)
    expected = unet.eval().features(images, ["E5"])["E5"].mean((2, 3))
    torch.testing.assert_close(features(images), expected)
    distance = FrechetDistance(features)
    distance.add("same", images, images)
    distance.add("noisy", images + 0.5 * torch.randn_like(images), images)
    values = {name: found[distance.name] for name, found in distance.per_subject().items()}
    assert values["same"] == pytest.approx(0, abs=1e-6)
    assert values["noisy"] > 1e-4


def test_report_of_an_evaluation(tmp_path: Path) -> None:
    report = FrechetReport(
        tmp_path, PooledFeatures(Moments(), "m", "fd_moments"), {"sr": "pred", "bicubic": "lr"}, "bicubic", quiet=True
    )
    generator = torch.Generator().manual_seed(0)
    affine = torch.diag(torch.tensor([1.0, 1, 3, 1]))[[0, 2, 1, 3]]  # axial slices lie across the second axis
    report._start(SimpleNamespace())
    by_hand = {}
    for subject in ("s1", "s2"):
        hr = torch.rand(1, 12, 5, 14, generator=generator)
        sr, lr = hr + 0.05, hr * 0.5
        item = {"label": MetaTensor(hr, affine=affine), "pred": MetaTensor(sr, affine=affine), "lr": lr}
        report.measure({**item, "subject": subject, "scale": "3/2"})
        inner = [image[0, 2:-2, :, 2:-2].movedim(1, 0) for image in (sr, hr)]  # ceil(3/2) pixels
        by_hand[subject] = frechet_distance_of_samples(*map(vectors, inner))
    report._finish()
    rows = {(row.case, row.method): row.values["fd_moments"] for row in read_csv(tmp_path / "frechet.csv")}
    assert {case: rows[case, "sr"] for case in by_hand} == pytest.approx(by_hand, rel=1e-3)
    summary = json.loads((tmp_path / "frechet.json").read_text())
    assert summary["metric"] == "fd_moments"
    group = next(g for g in summary["groups"] if g["method"] == "sr")["metrics"]["fd_moments"]
    assert group["mean"] == pytest.approx(np.mean(list(by_hand.values())), rel=1e-3)
    assert group["gain"]["mean"] > 0, "smaller is better"
    assert {entry["method"] for entry in summary["pooled"]} == {"sr", "bicubic"}


def test_report_needs_to_know(tmp_path: Path) -> None:
    features = PooledFeatures(Moments(), "m")
    with pytest.raises(InputError, match="none of the images"):
        FrechetReport(tmp_path, features, {"sr": "pred"}, "bicubic")
    with pytest.raises(InputError, match="number of pixels"):
        FrechetReport(tmp_path, features, {"sr": "pred"}, border="wide")
    report = FrechetReport(tmp_path, features, {"sr": "pred"})
    with pytest.raises(InputError, match="give the item its 'scale'"):
        report.measure({"label": torch.rand(1, 8, 8), "pred": torch.rand(1, 8, 8)})


def test_inception_is_the_published_network(tmp_path: Path) -> None:
    """21,785,568 parameters without the classifier; names and shapes of the public file at the places that tell."""
    torch.manual_seed(0)
    network = InceptionFeatures()
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    state = network.state_dict()
    shapes = {
        "Conv2d_1a_3x3.conv": (32, 3, 3, 3),
        "Conv2d_4a_3x3.conv": (192, 80, 3, 3),
        "Mixed_5b.branch_pool.conv": (32, 192, 1, 1),
        "Mixed_5d.branch5x5_2.conv": (64, 48, 5, 5),
        "Mixed_6a.branch3x3dbl_3.conv": (96, 96, 3, 3),
        "Mixed_6c.branch7x7dbl_3.conv": (160, 160, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2b.conv": (384, 384, 3, 1),
        "Mixed_7c.branch3x3dbl_1.conv": (448, 2048, 1, 1),
    }
    assert {name: tuple(state[f"{name}.weight"].shape) for name in shapes} == shapes
    torch.save({**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, tmp_path / "i.pth")
    loaded = inception_features(tmp_path / "i.pth")
    sizes = {}
    for name, child in loaded.named_children():
        child.register_forward_hook(lambda _m, _i, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    features = PooledFeatures(loaded, "Mixed_7c")
    assert features.name == "fid"
    image = torch.rand(1, 1, 40, 50)
    vector = features(image)
    assert vector.shape == (1, 2048)
    torch.testing.assert_close(vector, loaded(image))
    assert sizes["Conv2d_2b_3x3"] == (64, 147, 147)
    assert sizes["Mixed_5d"] == (288, 35, 35)
    assert sizes["Mixed_6e"] == (768, 17, 17)
    assert sizes["Mixed_7c"] == (2048, 8, 8)
