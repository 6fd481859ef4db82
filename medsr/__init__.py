"""medsr: published super-resolution methods for medical images, as MONAI bundles.

Subpackages and `medsr.upscale` are loaded on first use, so that `import medsr` does not load torch.
"""

from typing import TYPE_CHECKING

import lazy_loader

from medsr.former_names import install
from medsr.version import __version__

if TYPE_CHECKING:
    from medsr.upscaling import upscale

install()
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submodules=(
        "bundle",
        "data",
        "datasets",
        "degradation",
        "engines",
        "errors",
        "files",
        "geometry",
        "inferers",
        "interpolation",
        "losses",
        "metrics",
        "networks",
        "outputs",
        "runtime",
        "transforms",
        "upscaling",
        "weights",
    ),
    submod_attrs={"upscaling": ["upscale"]},
)

__all__ = ["__version__", "upscale"]
