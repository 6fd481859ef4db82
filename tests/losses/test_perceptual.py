"""Perceptual losses on VGG-19 and on the segmentation U-Net; VGG-19 by its published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import InputError, MedsrError
from medsr.losses import PerceptualLoss, SegmentationPerceptualLoss, WeightedLoss
from medsr.networks.registry import small
from medsr.networks.vgg import VGG19Features
from medsr.weights import EXTERNAL, vgg19_features

PUBLISHED = {  # index of each convolution in torchvision's `vgg19().features`, and its shape
    0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256),
    16: (256, 256), 19: (512, 256), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512), 30: (512, 512),
    32: (512, 512), 34: (512, 512),
}  # fmt: skip


@pytest.fixture(scope="module")
def public_state() -> dict[str, torch.Tensor]:
    """Random weights under the names and shapes of torchvision's file; its classifier is represented by one layer."""
    generator = torch.Generator().manual_seed(4)
    state = {"classifier.6.bias": torch.zeros(1000)}
    for index, (out, into) in PUBLISHED.items():
        scale = (2 / (9 * into)) ** 0.5
        state[f"features.{index}.weight"] = scale * torch.randn(out, into, 3, 3, generator=generator)
        state[f"features.{index}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return state


@pytest.fixture(scope="module")
def vgg(public_state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> VGG19Features:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(public_state, path)
    return vgg19_features(path)


def by_hand(state: dict[str, torch.Tensor], image: torch.Tensor, stop: int) -> torch.Tensor:
    """The layers of `features` up to and with index `stop`, from the architecture's own numbering."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    for index in range(stop + 1):
        if index in PUBLISHED:
            x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)
        elif index in (4, 9, 18, 27, 36):
            x = F.max_pool2d(x, 2)
        else:
            x = F.relu(x)
    return x


def test_vgg_has_the_published_parameters(vgg: VGG19Features) -> None:
    assert sum(p.numel() for p in vgg.parameters()) == 20_024_384
    assert sum(isinstance(layer, nn.Conv2d) for layer in vgg.layers) == 16
    assert list(vgg.state_dict())[:2] == ["layers.0.weight", "layers.0.bias"]
    assert not vgg.training
    assert not any(p.requires_grad for p in vgg.parameters())


@pytest.mark.parametrize(
    ("tap", "index"),
    [("conv1_1", 0), ("conv2_2", 7), ("relu2_2", 8), ("conv5_4", 34), ("relu5_4", 35), ("pool5", 36)],
)
def test_layers_by_name(vgg: VGG19Features, public_state: dict, tap: str, index: int) -> None:
    """conv2_2 and conv5_4 before activation are the dissertation's VGG22 and VGG54."""
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = by_hand(public_state, image.expand(-1, 3, -1, -1), index)
        found = vgg.features(image, [tap])[tap]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found.min() < 0) == tap.startswith("conv")


def test_grey_channels_are_images_of_their_own(vgg: VGG19Features) -> None:
    image = torch.rand(2, 4, 16, 16)
    with torch.no_grad():
        together = vgg.features(image, ["relu1_2"])["relu1_2"]
        third = vgg.features(image[:, 2:3], ["relu1_2"])["relu1_2"]
    assert together.shape == (8, 64, 16, 16)
    torch.testing.assert_close(together.view(2, 4, 64, 16, 16)[:, 2], third)


def test_colour_and_normalisation_are_options(public_state: dict, tmp_path: Path) -> None:
    torch.save(public_state, tmp_path / "v.pth")
    image = torch.rand(1, 3, 8, 8)
    coloured = vgg19_features(tmp_path / "v.pth", colour=True)
    torch.testing.assert_close(coloured.features(image, ["conv1_1"])["conv1_1"], by_hand(public_state, image, 0))
    plain = vgg19_features(tmp_path / "v.pth", normalise=False, colour=True)
    first = F.conv2d(image, public_state["features.0.weight"], public_state["features.0.bias"], padding=1)
    torch.testing.assert_close(plain.features(image, ["conv1_1"])["conv1_1"], first)
    with pytest.raises(MedsrError, match="three channels, got 1"):
        coloured.features(image[:, :1], ["conv1_1"])


def test_missing_file_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSR_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError) as missing:
        vgg19_features()
    assert EXTERNAL["vgg19-imagenet"].source in str(missing.value)
    assert "\n" not in str(missing.value)
    with pytest.raises(InputError, match=r"other.pth is missing; .*download https"):
        vgg19_features(tmp_path / "other.pth")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="does not fit VGG19Features"):
        vgg19_features(tmp_path / "other.pth")


def test_unknown_layers_and_small_images(vgg: VGG19Features) -> None:
    with pytest.raises(MedsrError, match="conv5_5"):
        vgg.features(torch.rand(1, 1, 32, 32), ["conv5_5"])
    with pytest.raises(MedsrError, match="images of 16 pixels"):
        vgg.features(torch.rand(1, 1, 15, 40), ["conv5_4"])


@pytest.mark.parametrize("distance", ["l1", "mse"])
def test_loss_is_the_distance_of_features(vgg: VGG19Features, distance: str) -> None:
    sr, hr = torch.rand(1, 1, 16, 16, requires_grad=True), torch.rand(1, 1, 16, 16)
    taps, weights = ("relu1_1", "conv2_2"), (0.5, 2.0)
    a, b = (vgg.features(image, taps) for image in (sr.detach(), hr))
    parts = [(a[t] - b[t]).abs().mean() if distance == "l1" else (a[t] - b[t]).square().mean() for t in taps]
    loss = PerceptualLoss(vgg, taps, weights, distance)
    value = loss(sr, hr)
    assert value.item() == pytest.approx((0.5 * parts[0] + 2 * parts[1]).item(), rel=1e-5)
    value.backward()
    assert sr.grad.abs().max() > 0
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_segmentation_encoder_through_the_same_door() -> None:
    """Training offline: no public weights, the same loss as the segmentation-based one of these taps."""
    torch.manual_seed(0)
    unet = small("segmentation-unet").eval()
    sr, hr = torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)
    value = PerceptualLoss(unet, ("E1", "E3"), distance="l1")(sr, hr)
    assert value.item() == pytest.approx(SegmentationPerceptualLoss(unet, ("E1", "E3"))(sr, hr).item(), rel=1e-6)
    assert value.item() > 0
    total = WeightedLoss({"l1": nn.L1Loss(), "perceptual": PerceptualLoss(unet, ("E1",))}, [1, 0.006])
    total(sr, hr)
    assert set(total.last) == {"l1", "perceptual"}


def test_what_makes_no_loss_is_refused(vgg: VGG19Features) -> None:
    for arguments in ({"taps": ()}, {"distance": "cosine"}, {"weights": [1, 2]}):
        with pytest.raises(MedsrError, match="expected one or more taps"):
            PerceptualLoss(vgg, **arguments)
