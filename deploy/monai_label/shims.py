"""Two work-arounds that MONAI Label 0.8.5 needs to start with current libraries.

`install.sh` puts this file, and a `.pth` file that imports it, into the server's environment. The hooks cost nothing
until their modules are imported. Processes that the server starts (`/train`) have them too.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared = []  # torch drops the operators of a library to which no reference is kept


class TorchvisionOperators(MetaPathFinder):
    """A finder that declares two operators when torchvision is about to be imported.

    MONAI Label imports `torchvision.utils` but uses none of its operators. The torchvision of a package index is built
    for one torch build (CUDA). Beside another build (CPU) its library does not load, and the import fails because the
    operators that it wraps were never declared.
    """

    def find_spec(self, name, path=None, target=None):
        """Return None, because other finders find the module itself."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in _OPERATORS:
                library.define(operator)
            _declared.append(library)
        return None


class StorageClasses(MetaPathFinder, Loader):
    """A finder that gives pydicom-seg 0.4.1 the module of pydicom 2 from which it imports one name.

    MONAI Label imports pydicom-seg when it starts, and medsr needs pydicom 3.
    """

    def find_spec(self, name, path=None, target=None):
        """Return a spec for the module that pydicom 3 lacks, and None for any other."""
        return ModuleSpec(name, self) if name == "pydicom._storage_sopclass_uids" else None

    def exec_module(self, module):
        """Set the UID in the module."""
        from pydicom.uid import SegmentationStorage

        module.SegmentationStorage = SegmentationStorage


def install(torchvision: bool) -> None:
    """Install the hooks.

    Args:
        torchvision: Whether to install the hook for torchvision too. Operators cannot be declared twice, so it must not
            be installed where torchvision itself declares them.
    """
    sys.meta_path.append(StorageClasses())
    if torchvision:
        sys.meta_path.insert(0, TorchvisionOperators())
