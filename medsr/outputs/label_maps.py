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
    """A transform that writes label maps as uint8 on their own grid, each complete or not at all.

    It is a `SaveImaged` so that hosts which save results themselves recognise and drop it.

    Args:
        keys: The keys of the label maps, MetaTensors (1, X, Y, Z).
        output_dir: The folder of the results, created if absent.
        output_ext: The format: ".nii.gz", ".nii", ".nrrd" or ".mha".
        output_postfix: The text that is appended to the name of the case.

    Raises:
        InputError: If the format is not one of these.
    """

    def __init__(
        self, keys: KeysCollection, output_dir: str | Path, output_ext: str = ".nii.gz", output_postfix: str = "seg"
    ) -> None:
        MapTransform.__init__(self, keys)
        if output_ext not in EXTENSIONS:
            raise InputError(
                f"label maps are written as {', '.join(EXTENSIONS)}, got {output_ext!r}; choose one of them"
            )
        self.output_dir = Path(output_dir)
        self.output_ext = output_ext
        self.output_postfix = output_postfix

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the label maps and return a copy of `data` with the path of the last one as `saved`.

        Raises:
            InputError: If a value is not a whole number from 0 to 255.
            OutputError: If a file cannot be written.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            labels: MetaTensor = result[key]
            values = labels.as_tensor()[0].cpu().numpy()
            if values.min() < 0 or values.max() > _LARGEST or (values != np.round(values)).any():
                raise InputError(
                    f"expected labels that are whole numbers from 0 to {_LARGEST}, got values from {values.min():g} to "
                    f"{values.max():g}; give a label map, not probabilities or an image"
                )
            stem = str(result.get("stem") or find_images(labels.meta["filename_or_obj"])[0].stem)
            path = output_paths(self.output_dir, stem, self.output_postfix, self.output_ext).image
            write_volume(path, values, labels.affine.numpy(), dtype=np.uint8)
            result["saved"] = str(path)
        return result
