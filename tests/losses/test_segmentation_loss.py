"""The segmentation-based perceptual loss against its equations written out, and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.losses import PerceptualLoss, SegmentationPerceptualLoss, WeightedLoss, multiclass_dice_loss
from medsr.networks.registry import small
from medsr.networks.segmentation_unet import SegmentationUNet

TAPS = ("E1", "E2", "E3", "E4", "E5", "D")


@pytest.fixture(scope="module")
def unet() -> SegmentationUNet:
    torch.manual_seed(3)
    network = small("segmentation-unet", out_channels=3)
    assert isinstance(network, SegmentationUNet)
    for _ in range(3):  # batch norms with statistics of their own, so that the mode matters
        network.train()(torch.rand(4, 1, 64, 64))
    return network.eval()


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 1, 40, 36), torch.rand(2, 1, 40, 36)


@pytest.mark.parametrize("distance", ["l1", "mse"])
@pytest.mark.parametrize("taps", [("E1",), ("E2", "E5"), ("D",), TAPS])
def test_features_by_the_equations(unet: SegmentationUNet, pair: tuple, distance: str, taps: tuple[str, ...]) -> None:
    """Equations 5.10 and 5.11: the mean absolute or squared difference of the named features, summed."""
    sr, hr = pair
    a, b = unet.features(sr, taps), unet.features(hr, taps)
    parts = [(a[t] - b[t]).abs().mean() if distance == "l1" else ((a[t] - b[t]) ** 2).mean() for t in taps]
    loss = SegmentationPerceptualLoss(unet, taps, distance=distance)
    assert loss(sr, hr).item() == pytest.approx(sum(p.item() for p in parts), rel=1e-6)


def test_levels_weigh_what_they_are_told(unet: SegmentationUNet, pair: tuple) -> None:
    """Not 1/n^n to 1/n, as dividing within the loop makes it in the author's program."""
    single = [SegmentationPerceptualLoss(unet, (tap,))(*pair).item() for tap in TAPS]
    weights = [0.5, 1, 2, 0, 3, 0.1]
    together = SegmentationPerceptualLoss(unet, TAPS, weights)(*pair).item()
    assert together == pytest.approx(sum(w * value for w, value in zip(weights, single, strict=True)), rel=1e-5)


def test_identical_images_are_no_distance_apart(unet: SegmentationUNet, pair: tuple) -> None:
    assert SegmentationPerceptualLoss(unet, TAPS)(pair[1], pair[1].clone()).item() == 0


def test_hrl_is_the_dice_between_the_two_segmentations(unet: SegmentationUNet, pair: tuple) -> None:
    sr, hr = pair
    with torch.no_grad():
        probabilities, labels = unet(sr).softmax(1), unet(hr).argmax(1)
    losses = []
    for k in (1, 2):
        p, t = probabilities[:, k], (labels == k).float()
        losses.append(1 - 2 * (p * t).sum() / (p.sum() + t.sum()) if t.any() else torch.tensor(0.0))
    expected = torch.stack(losses).mean().item()
    assert SegmentationPerceptualLoss(unet, ("HRL",))(sr, hr).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_reaches_sr_alone(unet: SegmentationUNet, pair: tuple) -> None:
    sr, hr = pair[0].clone().requires_grad_(), pair[1].clone().requires_grad_()
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    SegmentationPerceptualLoss(unet, ("E1", "D", "HRL"))(sr, hr).backward()
    assert sr.grad is not None
    assert torch.isfinite(sr.grad).all()
    assert sr.grad.abs().max() > 0
    assert hr.grad is None
    assert all(p.grad is None for p in unet.parameters())
    assert all(p.requires_grad for p in unet.parameters()), "left as it was"
    assert all(torch.equal(before[key], value) for key, value in unet.state_dict().items())


def test_gradient_by_finite_differences() -> None:
    torch.manual_seed(1)
    network = small("segmentation-unet", out_channels=3).double().eval()
    loss = SegmentationPerceptualLoss(network, ("E1", "E3", "HRL"), distance="mse")
    sr, hr = torch.rand(1, 1, 32, 32).double(), torch.rand(1, 1, 32, 32).double()
    sr.requires_grad_()
    loss(sr, hr).backward()
    direction = torch.randn_like(sr)
    step = 1e-6
    with torch.no_grad():
        numeric = (loss(sr + step * direction, hr) - loss(sr - step * direction, hr)) / (2 * step)
    assert (sr.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-4)


def test_statistics_of_the_batch_are_an_option(unet: SegmentationUNet, pair: tuple) -> None:
    """The author's program never calls eval(): features then depend on the batch, and the statistics drift."""
    kept = {key: value.clone() for key, value in unet.state_dict().items()}
    fixed = SegmentationPerceptualLoss(unet, ("E1",))(*pair)
    drifting = SegmentationPerceptualLoss(unet, ("E1",), batch_statistics=True)(*pair)
    assert not torch.isclose(fixed, drifting)
    assert not torch.equal(kept["encoder.bn1.running_mean"], unet.state_dict()["encoder.bn1.running_mean"])
    assert not unet.training, "the mode it had"
    unet.load_state_dict(kept)


def test_judge_is_not_a_part_of_the_loss(unet: SegmentationUNet) -> None:
    loss = WeightedLoss({"l1": nn.L1Loss(), "s": SegmentationPerceptualLoss(unet)})
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_any_network_with_features_judges(pair: tuple) -> None:
    class Gradients:
        def features(self, image: torch.Tensor, taps: tuple[str, ...]) -> dict[str, torch.Tensor]:
            return {tap: image.diff(dim=-1) for tap in taps}

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat([1 - image, image], 1)

    sr, hr = pair
    assert SegmentationPerceptualLoss(Gradients(), ("edge",))(sr, sr + 1).item() == pytest.approx(0, abs=1e-6)
    assert SegmentationPerceptualLoss(Gradients(), ("edge", "HRL"))(sr, hr).item() > 0


def test_dice_loss_of_known_images() -> None:
    labels = torch.tensor([[[0, 1, 1, 2]]])
    sure = 40 * F.one_hot(torch.tensor([[[0, 1, 2, 2]]]), 4).permute(0, 3, 1, 2).float()
    # class 1: found 1, true 2, common 1: 2/3; class 2: found 2, true 1: 2/3; class 3 is nowhere: counts as no loss
    assert multiclass_dice_loss(sure, labels).item() == pytest.approx((1 / 3 + 1 / 3 + 0) / 3, abs=1e-5)
    assert multiclass_dice_loss(sure, labels, classes=[1]).item() == pytest.approx(1 / 3, abs=1e-5)
    assert multiclass_dice_loss(sure, labels, classes=[0]).item() == pytest.approx(0, abs=1e-5)
    assert multiclass_dice_loss(sure, torch.zeros(1, 1, 4, dtype=torch.long)).item() == 0, "nothing to find"


def test_weighted_loss_knows_its_terms() -> None:
    torch.manual_seed(0)
    sr, hr = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)
    loss = WeightedLoss({"l1": nn.L1Loss(), "mse": nn.MSELoss(), "off": nn.MSELoss()}, [1, 10, 0])
    total = loss(sr, hr)
    l1, mse = (sr - hr).abs().mean().item(), ((sr - hr) ** 2).mean().item()
    assert total.item() == pytest.approx(l1 + 10 * mse, rel=1e-6)
    assert {name: value.item() for name, value in loss.last.items()} == pytest.approx({"l1": l1, "mse": mse})
    by_name = WeightedLoss({"l1": nn.L1Loss(), "mse": nn.MSELoss()}, {"mse": 2.0})
    assert by_name(sr, hr).item() == pytest.approx(l1 + 2 * mse, rel=1e-6)
    assert math.isclose(WeightedLoss({"l1": nn.L1Loss()})(sr, hr).item(), l1, rel_tol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda network: SegmentationPerceptualLoss(network, ()),
        lambda network: SegmentationPerceptualLoss(network, ("E1",), [1, 2]),
        lambda network: SegmentationPerceptualLoss(network, ("E1",), distance="cosine"),
        lambda network: PerceptualLoss(None),
        lambda network: WeightedLoss({}),
        lambda network: WeightedLoss({"l1": nn.L1Loss()}, [1, 2]),
        lambda network: WeightedLoss({"l1": nn.L1Loss(), "mse": nn.MSELoss()}, [1]),
        lambda network: WeightedLoss({"l1": nn.L1Loss()}, []),
        lambda network: WeightedLoss({"l1": nn.L1Loss()}, {"l2": 1.0}),
    ],
)
def test_what_makes_no_loss_is_refused(unet: SegmentationUNet, make) -> None:
    with pytest.raises(MedsrError, match="expected"):
        make(unet)


def test_unknown_tap_and_other_size_are_refused(unet: SegmentationUNet, pair: tuple) -> None:
    with pytest.raises(MedsrError, match="E6"):
        SegmentationPerceptualLoss(unet, ("E6",))(*pair)
    with pytest.raises(MedsrError, match="one size"):
        WeightedLoss({"l1": nn.L1Loss()})(pair[0], pair[1][..., 1:])
