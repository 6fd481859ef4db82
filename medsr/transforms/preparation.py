"""What a publication did to its volumes before any network saw them, as data: crop, slices kept, range, labels."""

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
        plane: anatomical plane of the slices.
        crop: direction in the patient -> voxels kept around the middle; smaller images stay as they are.
        margins: direction -> voxels removed at either end.
        keep: which slices: those where the sum "of" the "image" (its first channel) or its "segmentation", as in the
            file and before the crop, is "above" a number; all when empty.
        normalisation: "min-max" (each channel by its extremes in the kept slices, before the crop), "none", or two
            numbers (low, high) that become 0 and 1.
        labels: value in the file -> value meant; others stay.
    """

    plane: str = "axial"
    crop: Mapping[str, int] = field(default_factory=dict)
    margins: Mapping[str, int] = field(default_factory=dict)
    keep: Mapping[str, Any] = field(default_factory=dict)
    normalisation: str | Sequence[float] = "none"
    labels: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Preparation:
        """From the plain values of an item.

        Raises:
            InputError: an entry that is not known, or a value that means nothing.
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
    """Do to a volume what the publication did whose manifest the item comes from; other items pass unchanged.

    In this order: the slices that the manifest keeps, the range of intensities (recorded, so that
    `NormalizeIntensityRecordedd` leaves it), the crop within slices along the patient's axes, label values. Slices
    that are not kept are gone: behind a gap the affine, that of the first one, no longer says where in the patient a
    slice is, so what comes out is for training and scoring networks of slices, not for writing images.

    The entry `preparation` of the item is used up.

    Args:
        keys: the volume (C, X, Y, Z), loaded.
        segmentation: key of its label map, loaded or still a path.
        load_segmentation: load a label map that is a path. If False it is read where the slices are chosen by it, and
            in any case taken out of the item: as a path it would come back without the preparation.
        reader: of that label map, passed to MONAI's `LoadImaged`.
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
            InputError: no label map, or one on another grid; no slice that is kept; a constant image.
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
        """The label map where it is needed, and whether it stays in the item, from which a path is taken."""
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
    """Indices of the slices to keep."""
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
    """The volume of some of its slices, the affine that of the first."""
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
    """Ascending indices as text: [3, 4, 5, 9] -> "3-5,9"."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
