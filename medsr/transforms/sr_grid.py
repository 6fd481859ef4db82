"""Write the SR grid into all metadata that describe the result."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medsr.errors import InputError


class SetSuperResolutionGridd(MapTransform):
    """A transform that writes the SR grid into the metadata, so that no later step resamples to the LR grid.

    The inferer has given `keys` the SR affine; this transform writes the matching `spatial_shape` and
    `original_affine`, also into the `meta` of the LR image, because MONAI Label resamples a result to the grid that
    the `meta` of the *input* states. A requested `result_dtype` is removed, because MONAI Label would cast intensities
    to it with wrap-around.

    Args:
        keys: The keys of SR images.
        reference: The key of the LR image whose `meta` is updated; None leaves it as it is.
        allow_missing_keys: Whether to skip absent keys.
    """

    def __init__(
        self, keys: KeysCollection = "pred", reference: str | None = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data`; the `meta` of the images is changed in place.

        Raises:
            InputError: If a result has no affine.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            if not isinstance(image, MetaTensor):
                raise InputError(f"{key!r} has no affine; run the network through SuperResolutionInferer")
            metas = [image.meta]
            if self.reference is not None and isinstance(result.get(self.reference), MetaTensor):
                metas.append(result[self.reference].meta)
            for meta in metas:
                meta["spatial_shape"] = tuple(image.shape[1:])
                meta["original_affine"] = image.affine.clone()
        result.pop("result_dtype", None)
        return result
