"""The segmentation U-Net of Zhu 2022, chapter 5: smp.Unet with its defaults, and its features by name."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks import PRESETS, Family, SegmentationUNet, create, load_checkpoint
from medsr.networks.complexity import multiply_adds
from tests.networks.oracles.segmentation_unet import segmentation_unet

TINY = {"features": 2, "blocks": (1, 1, 1, 1), "decoder": (8, 6, 5, 4, 3)}
TAPS = ("E1", "E2", "E3", "E4", "E5", "D")


@pytest.mark.parametrize("size", [(33, 47), (1, 6), (64, 32)])
@pytest.mark.parametrize("arguments", [{}, {"in_channels": 4, "out_channels": 1}])
def test_agrees_with_its_plain_formulation(perturbed, arguments, size):
    torch.manual_seed(0)
    network = perturbed(SegmentationUNet(**TINY, **arguments)).double()
    x = torch.rand(2, network.spec.in_channels, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), segmentation_unet(network)(x), atol=1e-8, rtol=1e-8)


def smp_decoder_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of smp.Unet's decoder and head for 4 classes."""
    shapes: dict[str, tuple[int, ...]] = {}
    blocks = ((512 + 256, 256), (256 + 128, 128), (128 + 64, 64), (64 + 64, 32), (32, 16))
    for i, (joined, features) in enumerate(blocks):
        for name, before in (("conv1", joined), ("conv2", features)):
            place = f"decoder.blocks.{i}.{name}"
            shapes[f"{place}.0.weight"] = (features, before, 3, 3)
            for key in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{place}.1.{key}"] = (features,)
            shapes[f"{place}.1.num_batches_tracked"] = ()
    return {**shapes, "segmentation_head.0.weight": (4, 16, 3, 3), "segmentation_head.0.bias": (4,)}


def test_is_smps_network():
    with torch.device("meta"):
        network = create("segmentation-unet")
    state = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert {key: shape for key, shape in state.items() if not key.startswith("encoder.")} == smp_decoder_shapes()
    assert state["encoder.conv1.weight"] == (64, 1, 7, 7)
    assert state["encoder.layer4.2.bn2.running_var"] == (512,)
    assert state["encoder.layer2.0.downsample.0.weight"] == (128, 64, 1, 1)


def test_parameters_by_hand():
    convolutions = [768 * 256, 256**2, 384 * 128, 128**2, 192 * 64, 64**2, 128 * 32, 32**2, 32 * 16, 16**2]
    norms = 2 * 2 * (256 + 128 + 64 + 32 + 16)
    decoder, head = 9 * sum(convolutions) + norms, 4 * (9 * 16 + 1)
    assert (decoder, head) == (3_151_552, 580)
    preset = PRESETS["segmentation-unet"]
    assert preset.parameters == 21_278_400 + decoder + head
    assert preset.also == (({"in_channels": 4}, preset.parameters + 3 * 64 * 49),)
    assert preset.also[0][1] == 24_439_940


def test_multiply_adds_as_published():
    with torch.device("meta"):
        network = SegmentationUNet()
    assert round(multiply_adds(network, (160, 128), "conv") / 1e9, 4) == 2.4186
    assert network.spec.family is Family.SEGMENTATION
    assert network.spec.out_channels == 4


def test_takes_a_checkpoint_of_smp(perturbed, tmp_path):
    network, other = perturbed(SegmentationUNet(**TINY)), SegmentationUNet(**TINY).eval()
    torch.save({"state_dict": {f"model.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "last.ckpt")
    load_checkpoint(other, tmp_path / "last.ckpt")
    x = torch.rand(1, 1, 20, 33)
    assert torch.equal(other(x), network(x))


def test_starts_as_smp():
    torch.manual_seed(0)
    network = SegmentationUNet(**{**TINY, "decoder": (32, 32, 32, 32, 32)})
    for module in network.decoder.modules():
        if isinstance(module, nn.Conv2d):
            bound = sqrt(6 / module.weight[0].numel())
            assert module.bias is None
            assert 0.95 * bound < module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(bound / sqrt(3), rel=0.05)
    head = network.segmentation_head[0]
    bound = sqrt(6 / (9 * (32 + 4)))
    assert 0.95 * bound < head.weight.abs().max() <= bound
    assert head.bias.eq(0).all()


@pytest.mark.parametrize("size", [(64, 32), (33, 70), (1, 5)])
def test_features_by_name(perturbed, size):
    network = perturbed(SegmentationUNet(**TINY, in_channels=2))
    x = torch.rand(2, 2, *size)
    with torch.no_grad():
        found = network.features(x, TAPS)
        alone = {tap: network.features(x, [tap])[tap] for tap in TAPS}
    assert tuple(found) == TAPS
    for i, (tap, channels) in enumerate(zip(TAPS, (2, 2, 4, 8, 16, 3), strict=True), start=1):
        shrink = 1 if tap == "D" else 2**i
        assert found[tap].shape == (2, channels, *(-(-n // shrink) for n in size))
        assert torch.equal(found[tap], alone[tap])


def test_features_are_those_on_the_way(perturbed):
    """E1 is the stem before its pooling, D what the head sees, the others what the stages return."""
    network = perturbed(SegmentationUNet(**TINY))
    encoder, x = network.encoder, torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        found = network.features(x, TAPS)
        stem = torch.relu(encoder.bn1(encoder.conv1(x)))
        torch.testing.assert_close(found["E1"], stem)
        y = encoder.maxpool(stem)
        for tap, stage in zip(TAPS[1:5], (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4), strict=True):
            y = stage(y)
            torch.testing.assert_close(found[tap], y)
        torch.testing.assert_close(network.segmentation_head(found["D"]), network(x))


def test_computes_no_more_than_the_features_need():
    network, called = SegmentationUNet(**TINY).eval(), []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    x = torch.rand(1, 1, 32, 32)
    network.features(x, ["E1"])
    assert called == ["encoder.conv1"]
    called.clear()
    network.features(x, ("E3", "E2"))
    assert {name.split(".")[1] for name in called} == {"conv1", "layer1", "layer2"}
    called.clear()
    network.features(x, ["D", "E1"])
    assert called.count("encoder.conv1") == 1
    assert not [name for name in called if name.startswith("segmentation_head")]
    assert sum(name.startswith("decoder") for name in called) == 10


def test_features_teach_the_image():
    """A loss on features has gradients in the image; batch statistics are used while training."""
    network, x = SegmentationUNet(**TINY), torch.rand(2, 1, 40, 33, requires_grad=True)
    network.features(x, ["E1", "D"])["D"].square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert network.encoder.bn1.num_batches_tracked == 1


@pytest.mark.parametrize("taps", [[], ["E6"], ["E1", "e2"], "E1"])
def test_no_such_features(taps):
    with pytest.raises(MedsrError, match="taps are some of E1, E2, E3, E4, E5, D; got") as error:
        SegmentationUNet(**TINY).features(torch.rand(1, 1, 32, 32), taps)
    assert "\n" not in str(error.value)


def test_an_image_ends_by_repeating_its_last_pixels(perturbed):
    network = perturbed(SegmentationUNet(**TINY))
    x = torch.rand(1, 1, 40, 64)
    longer = torch.cat([x, x[:, :, -1:].expand(-1, -1, 24, -1)], dim=2)
    with torch.no_grad():
        torch.testing.assert_close(network(x), network(longer)[:, :, :40])


def test_a_tile_at_the_end_of_an_odd_image(perturbed):
    network = perturbed(SegmentationUNet(**TINY))
    step = network.spec.size_multiple
    start = -(-network.spec.halo // step) * step
    x = torch.rand(1, 1, 3, start + 2 * step + 7)
    with torch.no_grad():
        whole = network(x)[..., start + step :]
        tile = network(x[..., step:])[..., start:]
    torch.testing.assert_close(tile, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 0}, r"got 0 class\(es\)"),
        ({"decoder": (8, 4)}, r"five decoder blocks .*\[8, 4\]"),
        ({"blocks": (1, 1)}, "four stages"),
    ],
)
def test_arguments_that_describe_no_network(arguments, message):
    with pytest.raises(MedsrError, match=message) as error:
        SegmentationUNet(**{**TINY, **arguments})
    assert "\n" not in str(error.value)
