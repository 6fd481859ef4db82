"""SwinIR and RDST against their plain formulations, and what the two share."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from benchmarks.plain import FORMULATIONS
from medsr.errors import MedsrError
from medsr.networks import RDST, SwinIR, create
from medsr.networks.complexity import count_leaf_parameters, count_parameters, multiply_adds
from medsr.networks.registry import small

VARIANTS = {
    "classical": ("SwinIR", {}),
    "direct": ("SwinIR", {"upsampler": "pixelshuffledirect", "scale": 3}),
    "real-world": ("SwinIR", {"upsampler": "nearest+conv", "resi_connection": "3conv", "features": 16}),
    "never shifted": ("SwinIR", {"shifted": False}),
    "odd window": ("SwinIR", {"window": 5}),
    "rdst": ("RDST", {}),
    "rdst, fused": ("RDST", {"fusion": "mlp"}),
    "rdst, fused by convolutions": ("RDST", {"fusion": "conv", "scale": 2}),
    "rdst, norm behind": ("RDST", {"pre_norm": False}),
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def lively(variant: str) -> nn.Module:
    """Biases, norms and bias tables that matter."""
    name, arguments = VARIANTS[variant]
    torch.manual_seed(0)
    network = small(name, **arguments).eval()
    for key, parameter in network.named_parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=1.0 if "table" in key else 0.1)
    return network


def close(came: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((came - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1))


@variants
@pytest.mark.parametrize("size", [(3, 9), (13, 18)])
def test_plain_formulation(variant, size):
    network = lively(variant)
    x = torch.rand(2, 1, *size)
    with torch.no_grad():
        expected = FORMULATIONS[type(network).__name__](network)(x)
        assert close(network(x), expected)
    assert close(network(x).detach(), expected)  # the way that gradients take is another
    assert close(network.train()(x).detach(), expected)


@variants
def test_shifts_let_windows_meet(variant):
    """Far windows know of each other in every network but the one that is never shifted, but for its convolutions."""
    network = lively(variant)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if parameter.ndim == 4 and parameter.shape[-1] == 3:  # convolutions keep to their pixel
                middle = parameter[..., 1:2, 1:2].clone()
                parameter.zero_()[..., 1:2, 1:2] = middle
            assert parameter_name
        window = network.spec.size_multiple
        x = torch.rand(1, 1, 2 * window, 2 * window)
        changed = x.clone()
        changed[..., :window, :window] += torch.rand(window, window)
        differs = (network(changed) - network(x)).abs().amax(dim=(0, 1)) > 1e-6
    scale = network.spec.scales[0]
    neighbour = differs[: window * scale, window * scale :]
    assert neighbour.any() == (variant != "never shifted")


def test_weights_loaded_later_are_used():
    network, other = lively("rdst"), small("RDST").eval()
    x = torch.rand(1, 1, 9, 9)
    with torch.no_grad():
        before = other(x)
        other.load_state_dict(network.state_dict())
        assert close(other(x), network(x))
        assert not close(before, network(x))
        for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(again(x), network(x))
        assert network.double()(x.double()).dtype == torch.float64


# Variants that do not reproduce the published table (parameters, those of leaves in M, multiply-adds in G).
CONTROLS = [
    ("rdst", {"pre_norm": False}, 4_462_081, 4.3973, 6.1659),
    ("rdst-e", {"pre_norm": False}, 2_377_801, 2.3454, 3.5245),
    ("rdst", {"fusion": "conv"}, 4_526_281 - 32_580, None, 6.2063),
    ("swinir", {}, 11_895_805, 11.8472, 15.7339),
    ("swinir-zhu2022", {"resi_connection": "3conv"}, 10_516_201, 10.4676, 13.3906),
]


@pytest.mark.parametrize(("name", "arguments", "parameters", "leaves", "thop"), CONTROLS)
def test_negative_controls(name, arguments, parameters, leaves, thop):
    with torch.device("meta"):
        network = create(name, **arguments)
    assert count_parameters(network) == parameters
    assert leaves is None or round(count_leaf_parameters(network) / 1e6, 4) == leaves
    assert round(multiply_adds(network, (40, 32), "thop") / 1e9, 4) == thop


@pytest.mark.parametrize("build", [SwinIR, RDST])
def test_start(build):
    torch.manual_seed(0)
    network = build(**({"depths": (2,)} if build is SwinIR else {"blocks": 1}))
    for key, value in network.state_dict().items():
        layer = network.get_submodule(key.rpartition(".")[0])
        if "table" in key or (isinstance(layer, nn.Linear) and key.endswith("weight")):
            assert value.std().item() == pytest.approx(0.02, rel=0.1), key
        elif isinstance(layer, nn.Linear):
            assert value.abs().max() == 0, key
        elif isinstance(layer, nn.LayerNorm):
            assert (value == (1 if key.endswith("weight") else 0)).all(), key
        elif isinstance(layer, nn.Conv2d) and key.endswith("weight"):
            bound = value[0].numel() ** -0.5  # torch's default
            assert 0.9 * bound < value.abs().max().item() <= bound, key


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (SwinIR, {"features": 181}),
        (SwinIR, {"upsampler": "bicubic"}),
        (SwinIR, {"upsampler": "nearest+conv", "scale": 3}),
        (SwinIR, {"resi_connection": "2conv"}),
        (SwinIR, {"window": 0}),
        (SwinIR, {"heads": (6, 6)}),
        (SwinIR, {"drop_path": 1.0}),
        (RDST, {"growth": 31}),
        (RDST, {"fusion": "sum"}),
        (RDST, {"scale": 5}),
    ],
)
def test_arguments_that_describe_no_network(build, arguments):
    with pytest.raises(MedsrError) as error:
        build(**arguments)
    assert "\n" not in str(error.value)
