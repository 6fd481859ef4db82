"""Prepare volumes as a publication did, described as data: the crop, the kept slices, the range and the labels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged, Transform

from medsr.errors import InputError, about
from medsr.geometry import anatomical_axis
from medsr.transforms.grid_operations import crop
from medsr.transforms.intensity import intensity_window, normalized

PREPARATION = "preparation"  # key of an item; see `medsr.datasets.selection.collect`
KEPT_SLICES = "kept_slices"  # key of `meta`: indices in the file, as text "3-7,9"
# Direction in the patient -> the anatomical plane it is perpendicular to.
_PLANES = {"left-right": "sagittal", "anterior-posterior": "coronal", "inferior-superior": "axial"}


@dataclass(frozen=True)
class Preparation:
    """The `preparation` section of a data manifest.

    Attributes:
        plane: The anatomical plane of the slices.
        crop: The number of voxels kept around the middle by direction in the patient; smaller images stay as they are.
        margins: The number of voxels removed at either end by direction in the patient.
        keep: The rule of the kept slices: the sum "of" the "image" (its first channel) or of its "segmentation", as in
            the file and before the crop, is "above" a number; an empty rule keeps all slices.
        normalisation: "min-max" (each channel by its extremes in the kept slices, before the crop), "none", or two
            numbers (low, high) that become 0 and 1.
        labels: The new label values by the values in the file; other values stay.
    """

    plane: str = "axial"
    crop: Mapping[str, int] = field(default_factory=dict)
    margins: Mapping[str, int] = field(default_factory=dict)
    keep: Mapping[str, Any] = field(default_factory=dict)
    normalisation: str | Sequence[float] = "none"
    labels: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Preparation:
        """Return the preparation that the plain values of an item describe.

        Raises:
            InputError: If an entry is unknown or a value is invalid.
        """
        known = {f.name for f in fields(cls)}
        preparation = cls(**{key: value for key, value in values.items() if key in known})
        wrong = set(values) - known
        wrong |= {*preparation.crop, *preparation.margins} - set(_PLANES)
        if preparation.keep and set(preparation.keep) != {"of", "above"}:
            wrong.add("keep without of and above")
        elif preparation.keep and preparation.keep["of"] not in ("image", "segmentation"):
            wrong.add(preparation.keep["of"])
        if isinstance(preparation.normalisation, str) and preparation.normalisation not in ("min-max", "none"):
            wrong.add(preparation.normalisation)
        if wrong:
            raise InputError(
                f"a preparation has no {', '.join(sorted(map(repr, wrong)))}; see data_manifests/schema.json"
            )
        return preparation


class PrepareVolumed(Transform):
    """A transform that prepares a volume as the publication of its manifest did; other items pass unchanged.

    The steps are, in this order: keep slices, normalise intensities (recorded, so that `NormalizeIntensityRecordedd`
    leaves them), crop within slices along the patient's axes, and change label values. Slices that are not kept are
    removed. The affine is that of the first kept slice and is wrong behind a gap, so the result is meant for training
    and measuring networks of slices, not for writing images.

    The entry `preparation` is removed from the item.

    Args:
        keys: The key of the loaded volume (C, X, Y, Z).
        segmentation: The key of its label map, loaded or still a path.
        load_segmentation: Whether to load a label map that is a path. If False, the path is removed from the item,
            because a label map loaded later would lack the preparation; it is read only if it chooses the slices.
        reader: The reader of the label map, passed to MONAI's `LoadImaged`.
    """

    def __init__(
        self,
        keys: str = "label",
        segmentation: str = "segmentation",
        load_segmentation: bool = False,
        reader: str = "medsr.data.readers.VolumeReader",
    ) -> None:
        self.key = keys
        self.segmentation = segmentation
        self.load_segmentation = load_segmentation
        self.load = LoadImaged(segmentation, reader=reader, ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the prepared volume and label map.

        Raises:
            InputError: If a label map is needed and missing or on another grid, no slice is kept, or the image is
                constant.
        """
        result = dict(data)
        if PREPARATION not in result:
            return result
        preparation = Preparation.of(result.pop(PREPARATION))
        volume = result[self.key]
        with about(volume):
            labels, wanted = self._label_map(result, preparation)
            axis = anatomical_axis(volume.affine.numpy(), preparation.plane)
            kept = _kept_slices(preparation, volume, labels, axis)
            result[self.key] = _cropped(preparation, _normalised(preparation, _slices(volume, kept, axis)))
        if labels is not None and wanted:
            result[self.segmentation] = _cropped(preparation, _relabelled(preparation, _slices(labels, kept, axis)))
        return result

    def _label_map(self, result: dict[Hashable, Any], preparation: Preparation) -> tuple[MetaTensor | None, bool]:
        """Return the label map if it is needed, and whether it stays in the item; a path is removed from the item."""
        by_labels = preparation.keep.get("of") == "segmentation"
        found = result.get(self.segmentation)
        if found is None:
            if by_labels:
                raise InputError("its slices are chosen by a label map, and it has none; complete the dataset")
            return None, False
        loaded = isinstance(found, torch.Tensor)
        if not loaded:
            del result[self.segmentation]
            if not (by_labels or self.load_segmentation):
                return None, False
            found = self.load({self.segmentation: found})[self.segmentation]
        if found.shape[1:] != result[self.key].shape[1:]:
            raise InputError(
                f"expected a label map of {tuple(result[self.key].shape[1:])} voxels as the image, "
                f"got {tuple(found.shape[1:])}"
            )
        return found, loaded or self.load_segmentation


def _kept_slices(preparation: Preparation, volume: MetaTensor, labels: MetaTensor | None, axis: int) -> torch.Tensor:
    """Return the indices of the slices to keep."""
    count = volume.shape[axis + 1]
    if not preparation.keep:
        return torch.arange(count)
    summed = labels if preparation.keep["of"] == "segmentation" else volume
    assert summed is not None
    sums = summed.as_tensor()[0].double().movedim(axis, 0).flatten(1).sum(1)
    kept = torch.nonzero(sums > float(preparation.keep["above"])).flatten()
    if not len(kept):
        raise InputError(
            f"none of its {count} {preparation.plane} slices has a sum of the {preparation.keep['of']} above "
            f"{preparation.keep['above']:g}, so none is kept; leave the case out"
        )
    return kept


def _slices(image: MetaTensor, kept: torch.Tensor, axis: int) -> MetaTensor:
    """Return the volume of the given slices, with the affine of the first one."""
    start = [0, 0, 0]
    start[axis] = int(kept[0])
    size = [n - a for n, a in zip(image.shape[1:], start, strict=True)]
    result = crop(image, start, size)
    chosen = MetaTensor(result.as_tensor().index_select(axis + 1, kept - kept[0]), meta=dict(result.meta))
    chosen.meta["spatial_shape"] = tuple(chosen.shape[1:])
    chosen.meta[KEPT_SLICES] = _ranges(kept.tolist())
    return chosen


def _normalised(preparation: Preparation, image: MetaTensor) -> MetaTensor:
    rule = preparation.normalisation
    if rule == "none":
        return image
    if isinstance(rule, str):
        windows = [intensity_window(channel, "minmax", 0, 100) for channel in image.as_tensor()]
    else:
        low, high = rule
        windows = [(float(low), float(high) - float(low))] * image.shape[0]
    return cast(MetaTensor, normalized(image, windows))


def _relabelled(preparation: Preparation, labels: MetaTensor) -> MetaTensor:
    values = labels.as_tensor()
    mapped = values.clone()
    for old, new in preparation.labels.items():
        mapped[values == int(old)] = new
    return MetaTensor(mapped, meta=dict(labels.meta))


def _cropped(preparation: Preparation, image: MetaTensor) -> MetaTensor:
    start, size = [0, 0, 0], list(image.shape[1:])
    for direction, margin in preparation.margins.items():
        axis = anatomical_axis(image.affine.numpy(), _PLANES[direction])
        start[axis], size[axis] = int(margin), size[axis] - 2 * int(margin)
        if size[axis] < 1:
            raise InputError(f"margins of {margin} voxels leave nothing of {image.shape[axis + 1]} ({direction})")
    for direction, wanted in preparation.crop.items():
        axis = anatomical_axis(image.affine.numpy(), _PLANES[direction])
        start[axis] += max(size[axis] - int(wanted), 0) // 2
        size[axis] = min(size[axis], int(wanted))
    return crop(image, start, size)


def _ranges(indices: Sequence[int]) -> str:
    """Return ascending indices as text: [3, 4, 5, 9] -> "3-5,9"."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
