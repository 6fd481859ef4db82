# ruff: noqa: F401
"""Super-resolution networks under the names of their papers; `medsr.networks.methods` lists them.

Each network is loaded on first use, so that importing this package does not import torch.
"""

from typing import TYPE_CHECKING

import lazy_loader

from medsr.networks.methods import METHODS

if TYPE_CHECKING:  # type checkers cannot see through `attach`; import the methods themselves from their files
    from medsr.networks.blocks.meta_upscale import MetaUpscale
    from medsr.networks.blocks.output_query import Query
    from medsr.networks.blocks.resnet import ResNetEncoder
    from medsr.networks.checkpoints import load_checkpoint
    from medsr.networks.interpolation_skip import InterpolationSkip
    from medsr.networks.preset import Preset
    from medsr.networks.registry import NETWORKS, PRESETS, create
    from medsr.networks.spec import Family, NetworkSpec
    from medsr.networks.whole_scale_export import WholeScale, whole_scale

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        **{module: list(names) for module, names in METHODS.items()},
        "blocks.meta_upscale": ["MetaUpscale"],
        "blocks.output_query": ["Query"],
        "blocks.resnet": ["ResNetEncoder"],
        "checkpoints": ["load_checkpoint"],
        "interpolation_skip": ["InterpolationSkip"],
        "preset": ["Preset"],
        "registry": ["NETWORKS", "PRESETS", "create"],
        "spec": ["Family", "NetworkSpec"],
        "whole_scale_export": ["WholeScale", "whole_scale"],
    },
)
