"""What every network promises, for all that are registered: a new one is tested by being registered.

Counts are those of the published sizes, on the "meta" device, which computes nothing. Behaviour is tested on small
ones: the preset with its class's `SMALL` arguments, all its other choices kept.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from itertools import pairwise
from math import factorial, prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medsr.errors import MedsrError
from medsr.interpolation import KERNELS
from medsr.networks import NETWORKS, PRESETS, Family, NetworkSpec, create
from medsr.networks.complexity import count_leaf_parameters, count_parameters, multiply_adds
from medsr.networks.registry import small

FIRST = {preset.network.__name__: name for name, preset in reversed(PRESETS.items())}  # preset of each class
COUNTED = [(name, {}) for name in PRESETS] + [(name, also[0]) for name, p in PRESETS.items() for also in p.also]
LR = (40, 32)  # input of the published multiply-adds
SIDES = ((9, 8, 7), (5, 12, 6))  # of inputs, where a network takes any

presets = pytest.mark.parametrize("name", PRESETS)
classes = pytest.mark.parametrize("name", FIRST.values(), ids=FIRST)


def on_meta(name: str, **arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return create(name, **arguments)


def build(name: str, **arguments: Any) -> nn.Module:
    """A small one with weights that all matter: those that start at zero, or almost, do not stay there."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small(name, **arguments)
        for key, parameter in network.named_parameters():
            fan_in = max(parameter[0].numel(), 9) if parameter.ndim > 1 else 25
            parameter.data.add_(torch.randn_like(parameter), alpha=0.3 / fan_in**0.5)
            assert parameter.requires_grad or "mean" in key
        for key, buffer in network.named_buffers():
            if key.endswith("running_mean"):
                buffer.copy_(torch.rand_like(buffer) * 0.2)
            elif key.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return network


@lru_cache
def network(name: str) -> nn.Module:
    return build(name).eval()


def side(spec: NetworkSpec, n: int) -> int:
    """The side, or the nearest that the network takes."""
    return n if spec.input_sizes is None else min(max(n, spec.input_sizes[0]), spec.input_sizes[1])


def image(spec: NetworkSpec, *size: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    sides = [side(spec, n) for n in size[: spec.spatial_dims]]
    return torch.rand(batch, spec.in_channels, *sides, generator=torch.Generator().manual_seed(seed))


def built(spec: NetworkSpec) -> tuple[int, ...]:
    """The scale by which a network enlarges unless told."""
    return spec.scales or (2 if spec.family is Family.ARBITRARY else 1,) * spec.spatial_dims


def output_shape(spec: NetworkSpec, x: torch.Tensor, scale: tuple[int, ...] | None = None) -> tuple[int, ...]:
    if spec.family in (Family.DISCRIMINATOR, Family.DETECTOR):
        return (x.shape[0], spec.out_channels)
    scale = scale or built(spec)
    return (x.shape[0], spec.out_channels, *(n * s for n, s in zip(x.shape[2:], scale, strict=True)))


def assert_close(came: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> None:
    """Equal relative to the largest value: initial outputs may be tiny."""
    assert came.shape == expected.shape
    assert (came - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(("name", "arguments"), COUNTED, ids=[f"{n}{dict(a) or ''}" for n, a in COUNTED])
def test_parameters_as_published(name, arguments):
    preset = PRESETS[name]
    published = {str(a): n for a, n in preset.also}.get(str(arguments), preset.parameters)
    assert count_parameters(on_meta(name, **arguments)) == published - preset.left_out
    assert not preset.left_out or preset.remark  # says why


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.leaf_parameters is not None])
def test_leaf_parameters_as_published(name):
    assert count_leaf_parameters(on_meta(name)) == PRESETS[name].leaf_parameters


MULTIPLY_ADDS = [(name, convention) for name, preset in PRESETS.items() for convention in preset.multiply_adds]


@pytest.mark.parametrize(("name", "convention"), MULTIPLY_ADDS)
def test_multiply_adds_as_published(name, convention):
    """Of one LR image of 40x32 pixels, in G, to the fourth digit."""
    preset = PRESETS[name]
    assert round(multiply_adds(on_meta(name), LR, convention) / 1e9, 4) == preset.multiply_adds[convention]


@pytest.mark.parametrize("name", [n for n, preset in PRESETS.items() if preset.multiply_adds_per_voxel is not None])
def test_multiply_adds_per_voxel_as_published(name):
    net = on_meta(name)
    step, dims = net.spec.size_multiple, net.spec.spatial_dims
    values = [multiply_adds(net, (step * n,) * dims, "conv") for n in range(1, dims + 2)]
    for _ in range(dims):  # what grows with the volume, padding at the borders aside
        values = [b - a for a, b in pairwise(values)]
    outputs = factorial(dims) * step**dims * prod(built(net.spec))
    assert values[0] == PRESETS[name].multiply_adds_per_voxel * outputs


@presets
def test_spec_is_complete(name):
    net = on_meta(name)
    spec = net.spec
    assert isinstance(spec, NetworkSpec)
    assert spec.spatial_dims in (2, 3)
    assert spec.in_channels >= 1
    if spec.family.generates:
        assert 1 <= spec.out_channels <= spec.in_channels
    assert spec.bytes_per_voxel > 0
    assert spec.size_multiple >= 1
    assert any(word.isdigit() and len(word) == 4 for word in spec.paper.replace(",", " ").split())  # with its year
    assert (spec.scales is not None) == (spec.family is Family.FIXED)
    assert (spec.largest_scale is not None) == (spec.family is Family.ARBITRARY)
    assert (spec.interpolation in KERNELS) == (spec.family is Family.RESTORE)
    assert all(len(scale) == spec.spatial_dims for scale in ((spec.scales,) if spec.scales else ()) + spec.other_scales)
    assert spec.halo is None or spec.halo >= 0
    assert spec.input_sizes is None or spec.family is Family.DISCRIMINATOR
    assert PRESETS[name].network.__name__ in NETWORKS
    assert getattr(__import__("medsr.networks", fromlist=["_"]), PRESETS[name].network.__name__)


@presets
@given(data=st.data())
@settings(max_examples=5)
def test_any_size(name, data):
    net = network(name)
    most = 70 if net.spec.spatial_dims == 2 else 12
    x = image(net.spec, *(data.draw(st.integers(1, most)) for _ in range(net.spec.spatial_dims)))
    with torch.no_grad():
        output = net(x)
    assert output.shape == output_shape(net.spec, x)
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()


@classes
@pytest.mark.parametrize("size", [(1, 1), (70, 69), (1, 70), (33, 2)])
def test_extreme_sizes(name, size):
    net = network(name)
    x = image(net.spec, *size, 1)
    with torch.no_grad():
        assert net(x).shape == output_shape(net.spec, x)


@presets
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_channels(name, channels):
    net = build(name, in_channels=channels).eval()
    x = image(net.spec, *SIDES[0], batch=2)
    assert x.shape[1] == channels
    with torch.no_grad():
        assert net(x).shape == output_shape(net.spec, x)


@classes
def test_two_and_three_dimensions(name):
    if "spatial_dims" not in inspect.signature(PRESETS[name].network).parameters:
        pytest.skip("defined for one number of dimensions")
    for dims in (2, 3):
        net = build(name, spatial_dims=dims).eval()
        x = image(net.spec, 5, 6, 7)
        assert net.spec.spatial_dims == dims
        with torch.no_grad():
            assert net(x).shape == output_shape(net.spec, x)


@presets
def test_images_of_a_batch_do_not_meet(name):
    net = network(name)
    images = image(net.spec, *SIDES[0], batch=3)
    with torch.no_grad():
        alone = torch.cat([net(one[None]) for one in images])
        assert_close(net(images), alone)


@classes
def test_memory_layout_does_not_matter(name):
    net = network(name)
    x = image(net.spec, *SIDES[1], batch=2)
    layout = torch.channels_last if net.spec.spatial_dims == 2 else torch.channels_last_3d
    other = build(name).eval().to(memory_format=layout)
    with torch.no_grad():
        assert_close(other(x.contiguous(memory_format=layout)), net(x))


@classes
def test_scale_may_be_given_and_input_is_left_alone(name):
    net = network(name)
    if not net.spec.family.generates:
        pytest.skip("makes no image")
    x = image(net.spec, *SIDES[0])
    before = x.clone()
    scale = [float(s) for s in net.spec.scales or (2,) * net.spec.spatial_dims]
    with torch.no_grad():
        assert_close(net(x, scale), net(x), 0)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [name for name in PRESETS if on_meta(name).spec.other_scales])
def test_every_scale_of_several(name):
    net = network(name)
    x = image(net.spec, *SIDES[0])
    with torch.no_grad():
        for scale in (net.spec.scales, *net.spec.other_scales):
            assert net(x, [float(s) for s in scale]).shape == output_shape(net.spec, x, scale)
        with pytest.raises(MedsrError, match=r"scale.*\b7"):
            net(x, [7.0] * net.spec.spatial_dims)


def all_outputs(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """At all scales and, where a network has them, all intermediate images."""
    if hasattr(net, "outputs"):
        return list(net.outputs(x))
    scales = [[float(s) for s in scale] for scale in net.spec.other_scales]
    return [net(x), *(net(x, scale) for scale in scales)]


@presets
def test_gradients_reach_every_parameter(name):
    net = build(name).train()
    x = image(net.spec, *(33, 34, 7) if net.spec.spatial_dims == 2 else SIDES[0], batch=2)
    torch.stack([output.pow(2).sum() for output in all_outputs(net, x)]).sum().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@presets
def test_state_dict_round_trip(name):
    net, other = network(name), small(name).eval()
    x = image(net.spec, *SIDES[0])
    with torch.no_grad():
        assert not torch.allclose(other(x), net(x), rtol=1e-3, atol=0)  # which fills any cache of weights, too
        other.load_state_dict(net.state_dict(), strict=True)
        assert torch.equal(other(x), net(x))


@presets
def test_bfloat16_autocast_is_close(name):
    net = network(name)
    x = image(net.spec, *SIDES[0], batch=2)
    with torch.no_grad():
        expected = net(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            came = net(x)
    assert came.isfinite().all()
    assert (came.float() - expected).abs().mean() <= 0.03 * expected.abs().mean() + 0.03 * expected.std()


@presets
def test_halo_is_the_receptive_field(name):
    """Along each axis in turn, on images of one voxel across: quick whatever the halo."""
    net = build(name).double().eval()
    spec = net.spec
    if spec.halo is None:
        pytest.skip("looks at the whole image")
    for module in net.modules():  # positive throughout, so that no ReLU hides a path
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.BatchNorm2d | nn.BatchNorm3d | nn.Linear):
            for parameter in module.parameters():
                parameter.data.abs_().add_(1e-3)
            for buffer in module.buffers():
                buffer.data.zero_() if buffer.max() < 0.2 else buffer.data.fill_(1)
    for axis in range(spec.spatial_dims):
        size, step = [1] * spec.spatial_dims, spec.size_multiple
        size[axis] = (2 * (spec.halo // step) + 5) * step
        start = size[axis] // 2 // step * step
        x = image(spec, *size).double().requires_grad_()
        scale = built(spec)[axis]
        wanted = net(x).movedim(2 + axis, 0)[start * scale : (start + step) * scale]
        (gradient,) = torch.autograd.grad((wanted * torch.rand_like(wanted)).sum(), x)
        seen = gradient.abs().sum(dim=[d for d in range(x.ndim) if d != 2 + axis]).nonzero().flatten()
        reach = max(start - seen.min().item(), seen.max().item() - (start + step - 1))
        assert spec.halo - step < reach <= spec.halo


def targets(output: torch.Tensor) -> torch.Tensor:
    """Something smooth for a network to learn."""
    grids = torch.meshgrid([torch.linspace(0, 3, n) for n in output.shape], indexing="ij")
    return 0.5 + 0.3 * torch.stack([torch.sin(g + i) for i, g in enumerate(grids)]).mean(0)


@classes
def test_learns_four_patches(name):
    torch.manual_seed(0)
    net = small(name).train()
    x = image(net.spec, 16, 16, 10, batch=4)
    wanted = [targets(output) for output in all_outputs(net, x)]
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.stack([(a - b).pow(2).mean() for a, b in zip(all_outputs(net, x), wanted, strict=True)]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) / 3 < 0.6 * losses[0]


@classes
def test_torchscript_is_the_same(name):
    net = network(name)
    if reason := getattr(net, "NO_TORCHSCRIPT", ""):
        pytest.skip(reason)
    script = torch.jit.script(net)
    with torch.no_grad():
        for size in SIDES:
            x = image(net.spec, *size, batch=2)
            assert_close(script(x), net(x), 1e-5)


@classes
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # torch about itself
def test_onnx_is_the_same(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = network(name)
    if reason := getattr(net, "NO_ONNX", ""):
        pytest.skip(reason)
    dims = net.spec.spatial_dims
    axes = (0, *range(2, 2 + dims)) if net.spec.input_sizes is None else (0,)
    free = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    example = image(net.spec, 17, 18, 9, batch=2)
    exported = torch.onnx.export(net, (example,), dynamo=True, dynamic_shapes=(free,), verbose=False)
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, size in ((1, (19, 23, 9)), (3, (12, 21, 6))):
        x = image(net.spec, *(size if len(axes) > 1 else (17, 18, 9)), batch=batch)
        (came,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            assert_close(torch.as_tensor(came), net(x), 1e-4)


def test_classes_and_presets_by_name():
    assert type(create("ReCNN", depth=3, features=2)).__name__ == "ReCNN"
    assert create("recnn-10l", features=8, depth=2).spec.halo == 2
    with pytest.raises(MedsrError, match=r"no network is called 'edssr'; known: .*recnn-10l") as error:
        create("edssr")
    assert "\n" not in str(error.value)
