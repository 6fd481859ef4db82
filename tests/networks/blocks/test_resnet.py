"""The encoder of the U-Nets: torchvision's ResNet-34 without its head."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn

from medsr.errors import InputError, MedsrError
from medsr.networks import ResNetEncoder, ResNetUNet, SegmentationUNet, load_checkpoint
from medsr.networks.blocks.resnet import for_channels

TINY = {"features": 2, "blocks": (1, 2, 1, 1)}


def torchvision_shapes(features: int, blocks: tuple[int, ...], channels: int = 3) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a basic-block ResNet's state dict, the classifier included."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(convolution: str, norm: str, *shape: int) -> None:
        shapes[f"{convolution}.weight"] = shape
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{name}"] = shape[:1]
        shapes[f"{norm}.num_batches_tracked"] = ()

    add("conv1", "bn1", features, channels, 7, 7)
    before = features
    for stage, count in enumerate(blocks):
        width = features * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            add(f"{name}.conv1", f"{name}.bn1", width, before, 3, 3)
            add(f"{name}.conv2", f"{name}.bn2", width, width, 3, 3)
            if width != before:
                add(f"{name}.downsample.0", f"{name}.downsample.1", width, before, 1, 1)
            before = width
    return {**shapes, "fc.weight": (1000, before), "fc.bias": (1000,)}


@pytest.mark.parametrize(("channels", "parameters"), [(3, 21_284_672), (1, 21_278_400)])
def test_is_resnet34(channels, parameters):
    with torch.device("meta"):
        encoder = ResNetEncoder(channels)
    shapes = torchvision_shapes(64, (3, 4, 6, 3), channels)
    head = {key: shapes.pop(key) for key in ("fc.weight", "fc.bias")}
    assert {key: tuple(value.shape) for key, value in encoder.state_dict().items()} == shapes
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    if channels == 3:  # the whole classifier of the paper has 21.8 M
        assert parameters + 1000 * head["fc.weight"][1] + 1000 == 21_797_672


def torchvision_weights(**arguments):
    generator = torch.Generator().manual_seed(0)
    shapes = torchvision_shapes(TINY["features"], TINY["blocks"], **arguments)
    return {key: torch.rand(shape, generator=generator) + 0.5 for key, shape in shapes.items()}


def test_takes_torchvision_weights(tmp_path):
    weights = torchvision_weights()
    torch.save(weights, tmp_path / "resnet.pth")
    encoder = ResNetEncoder(3, **TINY)
    load_checkpoint(encoder, tmp_path / "resnet.pth")
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(value, weights[key].to(value.dtype))


def test_weights_for_other_channels():
    weights = torchvision_weights()
    grey, colour = torch.rand(2, 1, 20, 17), ResNetEncoder(3, **TINY).eval()
    load_checkpoint(colour, weights)
    expected = colour.double()(grey.double().expand(-1, 3, -1, -1))
    with pytest.raises(InputError, match=r"misshapen conv1.weight \(2, 3, 7, 7\), expected \(2, 1, 7, 7\)"):
        load_checkpoint(ResNetEncoder(1, **TINY), weights)
    for channels in (1, 6):  # all kernels equally often: the same features of a grey image
        encoder = ResNetEncoder(channels, **TINY).eval()
        load_checkpoint(encoder, for_channels(weights, channels))
        came = encoder.double()(grey.double().expand(-1, channels, -1, -1))
        torch.testing.assert_close(came, expected, rtol=1e-4, atol=1e-4)
    first = weights["conv1.weight"]
    torch.testing.assert_close(for_channels(weights, 2)["conv1.weight"], first[:, :2] * 1.5)
    assert first.shape[1] == 3  # what was given is left alone


def test_weights_of_something_else():
    with pytest.raises(MedsrError, match="three channels, got nothing"):
        for_channels({}, 1)
    with pytest.raises(MedsrError, match=r"got the shape \(2, 1, 7, 7\)"):
        for_channels(torchvision_weights(channels=1), 1)


def test_starts_as_he_et_al():
    torch.manual_seed(0)
    for module in ResNetEncoder(features=16, blocks=(1, 1, 1, 1)).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx(sqrt(2 / fan_out), rel=0.1)
            assert module.bias is None
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 64), (33, 70), (65, 32)])
def test_sizes_are_halved_and_rounded_up(size):
    encoder = ResNetEncoder(2, **TINY).eval()
    features = encoder(torch.rand(1, 2, *size))
    for level, (feature, channels) in enumerate(zip(features, [2, 2, 4, 8, 16], strict=True), start=1):
        assert feature.shape == (1, channels, *(-(-n // 2**level) for n in size))


def test_runs_no_more_stages_than_wanted():
    encoder, x, called = ResNetEncoder(**TINY).eval(), torch.rand(1, 1, 40, 40), []
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: called.append(name.split(".")[0]))
    all_of_them = encoder(x)
    for levels in range(1, 6):
        called.clear()
        features = encoder(x, levels)
        assert all(torch.equal(a, b) for a, b in zip(features, all_of_them[:levels], strict=True))
        assert set(called) == {"conv1", *(f"layer{i}" for i in range(1, levels))}


def test_groups_for_learning_rates():
    with torch.device("meta"):
        encoder = ResNetEncoder(3)
    early, late = encoder.parameter_groups()
    assert {id(p) for p in early} | {id(p) for p in late} == {id(p) for p in encoder.parameters()}
    assert len(early) + len(late) == len(list(encoder.parameters()))

    def stage(before, width, blocks):  # convolutions and the two numbers a channel of their norms
        shortcut = before * width + 2 * width if before != width else 0
        return shortcut + 9 * before * width + (2 * blocks - 1) * 9 * width**2 + 2 * blocks * 2 * width

    stem = 64 * 3 * 49 + 2 * 64
    assert sum(p.numel() for p in early) == stem + stage(64, 64, 3) + stage(64, 128, 4)
    assert sum(p.numel() for p in late) == stage(128, 256, 6) + stage(256, 512, 3)


def test_reach_is_what_a_feature_sees(perturbed):
    """Each feature alone, by gradients, in the middle of a long image."""
    encoder = perturbed(ResNetEncoder(**TINY)).double()
    encoder.maxpool = nn.AvgPool2d(3, 2, 1)  # of the maximum, only one pixel would show
    for parameter in encoder.parameters():
        parameter.data.abs_().add_(0.1)
    x = torch.rand(1, 1, 1, 640, dtype=torch.float64).requires_grad_()
    features = encoder(x)
    nothing = (10**6, -(10**6))
    for level, feature in enumerate(features):
        at = feature.shape[-1] // 2
        (gradient,) = torch.autograd.grad(feature[..., at : at + 2].sum(), x, retain_graph=True)
        seen = gradient.flatten().nonzero().flatten()
        wanted = [(at, at + 1) if i == level else nothing for i in range(5)]
        assert encoder.reach(wanted) == (seen.min(), seen.max())


@pytest.mark.parametrize(
    "network",
    [
        ResNetUNet(**TINY),
        ResNetUNet(**TINY, blur=False, last_cross=False),
        SegmentationUNet(**TINY, decoder=(2, 2, 2, 2, 2)),
    ],
    ids=["sub-pixel", "without blur and image", "segmentation"],
)
def test_halo_of_a_unet_is_exact(perturbed, network):
    network = perturbed(network).double()
    network.encoder.maxpool = nn.AvgPool2d(3, 2, 1)
    for parameter in network.parameters():
        parameter.data.abs_().add_(0.1)
    halo, step = network.spec.halo, network.spec.size_multiple
    start = (halo // step + 1) * step
    x = torch.rand(1, 1, 1, 2 * start + step, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[..., start : start + step].sum(), x)
    seen = gradient.flatten().nonzero().flatten()
    assert halo == max(start - seen.min(), seen.max() - (start + step - 1))


@pytest.mark.parametrize(
    "arguments", [{"blocks": (1, 1, 1)}, {"blocks": (1, 0, 1, 1)}, {"in_channels": 0}, {"features": 0}]
)
def test_arguments_that_describe_no_network(arguments):
    with pytest.raises(MedsrError, match="ResNet encoder has four stages") as error:
        ResNetEncoder(**arguments)
    assert "\n" not in str(error.value)
