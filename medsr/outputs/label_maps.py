"""Write label maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged

from medsr.data.input_images import find_images
from medsr.data.writers import write_volume
from medsr.errors import InputError
from medsr.outputs.naming import EXTENSIONS, output_paths

_LARGEST = 255


class SaveLabelMapd(SaveImaged):
    """Write label maps as uint8 on the grid they have, each complete or not at all; nothing is resampled.

    It is a `SaveImaged` so that hosts which save results themselves recognise and drop it.

    Args:
        keys: The label maps (1, X, Y, Z), MetaTensors.
        output_dir: The folder, created if absent.
        output_ext: ".nii.gz", ".nii", ".nrrd" or ".mha".
        output_postfix: Appended to the case name.
    """

    def __init__(
        self, keys: KeysCollection, output_dir: str | Path, output_ext: str = ".nii.gz", output_postfix: str = "seg"
    ) -> None:
        MapTransform.__init__(self, keys)
        if output_ext not in EXTENSIONS:
            raise InputError(f"label maps are written as {', '.join(EXTENSIONS)}, got {output_ext!r}")
        self.output_dir = Path(output_dir)
        self.output_ext = output_ext
        self.output_postfix = output_postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the label maps; return a copy of `data` with `saved`, the path of the last one.

        Raises:
            InputError: Values that are no labels.
            OutputError: A file that cannot be written.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            labels: MetaTensor = result[key]
            values = labels.as_tensor()[0].cpu().numpy()
            if values.min() < 0 or values.max() > _LARGEST or (values != np.round(values)).any():
                raise InputError(f"expected labels 0 to {_LARGEST}, got {values.min():g} to {values.max():g}")
            stem = str(result.get("stem") or find_images(labels.meta["filename_or_obj"])[0].stem)
            path = output_paths(self.output_dir, stem, self.output_postfix, self.output_ext).image
            write_volume(path, values, labels.affine.numpy(), dtype=np.uint8)
            result["saved"] = str(path)
        return result
