"""Two work-arounds without which MONAI Label 0.8.5 does not start beside current libraries.

`install.sh` puts this file, and a `.pth` file that imports it, into the server's environment. The hooks cost nothing
until the modules they are for are imported; processes that the server starts (`/train`) have them too.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared = []  # torch forgets the operators of a library that nobody holds


class TorchvisionOperators(MetaPathFinder):
    """Declares two operators when torchvision is about to be imported.

    MONAI Label needs `torchvision.utils` to be importable, nothing of its operators. The torchvision of a package index
    is built for one torch build (CUDA); beside another (CPU) its library does not load, and importing it fails because
    operators that it wraps were never declared.
    """

    def find_spec(self, name, path=None, target=None):
        """None: the module itself is found by others."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for operator in _OPERATORS:
                library.define(operator)
            _declared.append(library)
        return None


class StorageClasses(MetaPathFinder, Loader):
    """Gives pydicom-seg 0.4.1 the module of pydicom 2 from which it takes one name.

    MONAI Label imports pydicom-seg when it starts, and medsr needs pydicom 3.
    """

    def find_spec(self, name, path=None, target=None):
        """The module, where pydicom has none of that name."""
        return ModuleSpec(name, self) if name == "pydicom._storage_sopclass_uids" else None

    def exec_module(self, module):
        """Fill it with the UID."""
        from pydicom.uid import SegmentationStorage

        module.SegmentationStorage = SegmentationStorage


def install(torchvision: bool) -> None:
    """Install the hooks; that for torchvision only where it is needed, for operators cannot be declared twice."""
    sys.meta_path.append(StorageClasses())
    if torchvision:
        sys.meta_path.insert(0, TorchvisionOperators())
