"""Parameters and multiply-adds, counted by the different conventions of publications."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Optional, cast

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import MeanShift
from medsr.networks.spec import NetworkSpec

CONVENTIONS = {
    "conv": "convolutions and linear layers, without biases",
    "thop": "as the `thop` tool counts: as conv, plus two per element of a layer norm, softmax and pooling, but no "
    "attention products",
    "all": "every product that is computed, including attention",
}

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
_POOLING = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def count_parameters(network: nn.Module) -> int:
    """Return the number of elements of all trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_leaf_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters as the `thop` tool counts them: only those of torch's own layers.

    It misses the parameters that composite modules hold directly: relative position bias tables, layer-scale vectors
    and the gammas of attention modules. Tables 5.1 and 5.5 of Zhu 2022 were counted in this way.
    """
    leaves = [m for m in network.modules() if type(m).__module__.startswith("torch.nn") and not list(m.children())]
    return sum(p.numel() for leaf in leaves for p in leaf.parameters() if p.requires_grad)


def multiply_adds(
    network: nn.Module, size: Sequence[int], convention: str = "all", scale: Optional[Sequence[float]] = None
) -> int:
    """Return the number of multiply-adds of a forward pass for one image.

    Args:
        network: A network of `medsr.networks` on any device; on "meta" nothing is computed.
        size: The size of the network's input, one number per spatial axis.
        convention: The convention, one of `CONVENTIONS`.
        scale: The scale, for networks that take several.

    Raises:
        MedsrError: If the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise MedsrError(f"a convention is one of {', '.join(CONVENTIONS)}; got {convention!r}")
    device, spec = next(network.parameters()).device, cast(NetworkSpec, network.spec)
    image = torch.zeros(1, spec.in_channels, *size, device=device)
    arguments = (image,) if scale is None else (image, list(scale))
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return _executed(network, arguments) if convention == "all" else _by_hooks(network, arguments, convention)
    finally:
        network.train(training)


def _executed(network: nn.Module, arguments: tuple[Any, ...]) -> int:
    """Count with torch's counter, which sees all matrix products and convolutions, and add the intensity shifts."""
    shifts = _Counter(network, lambda module: isinstance(module, MeanShift), _mean_shift)
    # The math backend consists of matrix products, which are counted; fused attention is not counted on every device.
    with shifts, FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(*arguments)
    return counter.get_total_flops() // 2 + shifts.total


def _by_hooks(network: nn.Module, arguments: tuple[Any, ...], convention: str) -> int:
    def wanted(module: nn.Module) -> bool:
        if isinstance(module, _WEIGHTED) or hasattr(module, "products_per_voxel"):
            return True
        if convention != "thop":
            return isinstance(module, MeanShift)
        # The tool checks the exact type of a layer, and published intensity shifts have their own type.
        return isinstance(module, (nn.LayerNorm, *_POOLING)) or hasattr(module, "softmax_shape")

    with _Counter(network, wanted, _of_layer) as counter:
        network(*arguments)
    return counter.total


class _Counter:
    """A context manager that sums the values of a function over all calls of the wanted modules."""

    def __init__(self, network: nn.Module, wanted: Callable[[nn.Module], bool], count: Any) -> None:
        self.modules = [m for m in network.modules() if wanted(m)]
        self.count, self.total = count, 0

    def __enter__(self) -> "_Counter":
        self.hooks = [m.register_forward_hook(self._add) for m in self.modules]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _add(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.total += self.count(module, inputs[0], output)


def _mean_shift(module: nn.Module, given: torch.Tensor, output: torch.Tensor) -> int:
    return output.numel() * output.shape[1]  # counted as the 1x1 convolution of published programs


def _of_layer(module: Any, given: torch.Tensor, output: torch.Tensor) -> int:
    if isinstance(module, MeanShift):
        return _mean_shift(module, given, output)
    if hasattr(module, "products_per_voxel"):  # it computes with the weights of layers that it does not call
        return output[:, 0].numel() * module.products_per_voxel()
    if isinstance(module, nn.LayerNorm):
        return 2 * given.numel()
    if hasattr(module, "softmax_shape"):  # attention, whose linear layers are counted separately
        rows, length = module.softmax_shape(given)
        return rows * (3 * length - 1)
    if isinstance(module, _POOLING):
        return output.numel() * (prod(given.shape[2:]) // prod(output.shape[2:]) + 1)
    if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        return given.numel() * module.weight.numel() // module.weight.shape[0]
    return output.numel() * module.weight.numel() // module.weight.shape[0]
