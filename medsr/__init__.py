"""medsr: published super-resolution methods for medical images as MONAI bundles.

``medsr.upscale`` is loaded on first use, so ``import medsr`` costs no torch import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsr.upscaling import upscale

__version__ = "0.1.0"

__all__ = ["__version__", "upscale"]


def __getattr__(name: str) -> Any:
    # By name, not by an import statement: a layer that imports `medsr` for its version must not
    # thereby depend on the API above it (import-linter would rightly count that).
    if name == "upscale":
        return import_module("medsr.upscaling").upscale
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
