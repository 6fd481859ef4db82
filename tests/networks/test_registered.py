"""What every network promises, for all that are registered: a new one is tested by being registered."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import factorial, prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medsr.errors import MedsrError
from medsr.interpolation import KERNELS
from medsr.networks import NETWORKS, PRESETS, Family, NetworkSpec, create

SMALLEST = {  # of each class: the preset with the fewest parameters
    preset.network.__name__: name for name, preset in sorted(PRESETS.items(), key=lambda item: -item[1].parameters)
}
presets = pytest.mark.parametrize("name", PRESETS)
classes = pytest.mark.parametrize("name", SMALLEST.values(), ids=SMALLEST)


@lru_cache
def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create(name).eval()


def image(spec: NetworkSpec, *size: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, spec.in_channels, *size, generator=torch.Generator().manual_seed(seed))


def output_size(spec: NetworkSpec, size) -> tuple[int, ...]:
    return tuple(n * s for n, s in zip(size, spec.scales or (1,) * len(size), strict=True))


def assert_close(came: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> None:
    """Equal relative to the largest value: initial outputs may be tiny."""
    assert came.shape == expected.shape
    assert (came - expected).abs().max() <= tolerance * expected.abs().max()


@presets
def test_parameters_as_published(name):
    assert sum(p.numel() for p in network(name).parameters() if p.requires_grad) == PRESETS[name].parameters


def multiply_adds(net: nn.Module, size: int) -> int:
    """Of all layers with a weight, biases left out, for one image."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output.numel() * module.weight.numel() // module.weight.shape[0]

    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Conv3d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        net(image(net.spec, *(size,) * net.spec.spatial_dims))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.multiply_adds_per_voxel is not None])
def test_multiply_adds_as_published(name):
    net, step = network(name), network(name).spec.size_multiple
    dims = net.spec.spatial_dims
    values = [multiply_adds(net, step * n) for n in range(1, dims + 2)]
    for _ in range(dims):  # what grows with the volume, padding at the borders aside
        values = [b - a for a, b in pairwise(values)]
    outputs = factorial(dims) * step**dims * prod(net.spec.scales or (1,))
    assert values[0] == PRESETS[name].multiply_adds_per_voxel * outputs


@presets
def test_spec_is_complete(name):
    net, spec = network(name), network(name).spec
    assert isinstance(spec, NetworkSpec)
    assert spec.spatial_dims in (2, 3)
    assert 1 <= spec.out_channels <= spec.in_channels
    assert spec.bytes_per_voxel > 0
    assert spec.size_multiple >= 1
    assert any(word.isdigit() and len(word) == 4 for word in spec.paper.replace(",", " ").split())  # with its year
    assert (spec.scales is not None) == (spec.family is Family.FIXED)
    assert (spec.interpolation in KERNELS) == (spec.family is Family.RESTORE)
    assert spec.scales is None or len(spec.scales) == spec.spatial_dims
    assert spec.halo is None or spec.halo >= 0
    assert {p.ndim for p in net.parameters()} & {4, 5} <= {spec.spatial_dims + 2}
    assert PRESETS[name].network.__name__ in NETWORKS


@presets
@given(data=st.data())
@settings(max_examples=4)
def test_any_size(name, data):
    net = network(name)
    size = tuple(data.draw(st.integers(1, 12)) for _ in range(net.spec.spatial_dims))
    with torch.no_grad():
        output = net(image(net.spec, *size))
    assert output.shape == (1, net.spec.out_channels, *output_size(net.spec, size))
    assert output.dtype == torch.float32
    assert torch.isfinite(output).all()


@classes
def test_images_of_a_batch_do_not_meet(name):
    net = network(name)
    images = image(net.spec, *(9, 8, 7)[: net.spec.spatial_dims], batch=3)
    with torch.no_grad():
        alone = torch.cat([net(one[None]) for one in images])
        assert_close(net(images), alone)


@classes
def test_scale_may_be_given_and_input_is_left_alone(name):
    net = network(name)
    x = image(net.spec, *(6, 7, 5)[: net.spec.spatial_dims])
    before = x.clone()
    scale = [float(s) for s in net.spec.scales or (2,) * net.spec.spatial_dims]
    with torch.no_grad():
        assert_close(net(x, scale), net(x), 0)
    assert torch.equal(x, before)


@classes
def test_gradients_reach_every_parameter(name):
    net = create(name)
    net(image(net.spec, *(9, 8, 7)[: net.spec.spatial_dims], batch=2)).pow(2).sum().backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@classes
def test_state_dict_round_trip(name):
    net, other = network(name), create(name).eval()
    x = image(net.spec, *(6, 7, 5)[: net.spec.spatial_dims])
    with torch.no_grad():
        assert not torch.allclose(other(x), net(x), rtol=1e-3, atol=0)
        other.load_state_dict(net.state_dict(), strict=True)
        assert torch.equal(other(x), net(x))


@presets
def test_halo_is_the_receptive_field(name):
    """Along each axis in turn, on images of one voxel across: quick whatever the halo."""
    net = create(name).eval()
    spec = net.spec
    if spec.halo is None:
        pytest.skip("looks at the whole image")
    for parameter in net.parameters():  # positive throughout, so that no ReLU hides a path
        parameter.data.abs_().add_(1e-3)
    for axis in range(spec.spatial_dims):
        size = [1] * spec.spatial_dims
        size[axis] = 2 * spec.halo + 1 + 2 * spec.size_multiple + 4
        centre = size[axis] // 2
        x = image(spec, *size).requires_grad_()
        scale = (spec.scales or (1,) * spec.spatial_dims)[axis]
        wanted = net(x).movedim(2 + axis, 0)[centre * scale : (centre + 1) * scale]
        (gradient,) = torch.autograd.grad(wanted.sum(), x)
        seen = gradient.abs().sum(dim=[d for d in range(x.ndim) if d != 2 + axis]).nonzero().flatten() - centre
        assert seen.abs().max() <= spec.halo
        if spec.size_multiple == 1:
            assert (seen.min(), seen.max()) == (-spec.halo, spec.halo)


@classes
def test_torchscript_is_the_same(name):
    net = network(name)
    script = torch.jit.script(net)
    with torch.no_grad():
        for size in ((9, 8, 7), (5, 12, 6)):
            x = image(net.spec, *size[: net.spec.spatial_dims], batch=2)
            assert_close(script(x), net(x), 1e-6)


@classes
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated")  # torch about itself
def test_onnx_is_the_same(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = network(name)
    dims = net.spec.spatial_dims
    free = dict.fromkeys((0, *range(2, 2 + dims)), torch.export.Dim.DYNAMIC)
    example = image(net.spec, *(7, 8, 9)[:dims], batch=2)
    exported = torch.onnx.export(net, (example,), dynamo=True, dynamic_shapes=(free,), verbose=False)
    model = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for batch, size in ((1, (7, 8, 9)), (3, (12, 5, 6))):
        x = image(net.spec, *size[:dims], batch=batch)
        (came,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            assert_close(torch.as_tensor(came), net(x), 1e-5)


def test_classes_and_presets_by_name():
    assert type(create("ReCNN", depth=3, features=2)).__name__ == "ReCNN"
    assert create("recnn-10l", features=8, depth=2).spec.halo == 2
    with pytest.raises(MedsrError, match=r"no network is called 'edssr'; known: ReCNN, .*recnn-10l") as error:
        create("edssr")
    assert "\n" not in str(error.value)
