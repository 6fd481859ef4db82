"""Named evaluation protocols, which say exactly what was computed and are stored with a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil, isfinite
from typing import Any, Literal

from medsr.errors import InputError
from medsr.geometry import ScaleLike, as_scale
from medsr.metrics.image_pair import DataRange
from medsr.metrics.ssim import SSIM_DEFINITIONS, get_definition

__all__ = ["METRICS", "PROTOCOLS", "Protocol", "get_protocol"]

METRICS = ("psnr", "ssim", "mae", "mse", "nmse")
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Protocol:
    """The rules by which one case is measured.

    Attributes:
        name: The name in reports; change it when you change a field.
        data_range: The data range of PSNR and SSIM: a number, or "target" for max - min of the whole HR case.
        ssim: The definition of SSIM, a name in `medsr.metrics.ssim.SSIM_DEFINITIONS`.
        border: The number of voxels removed on every side first: one number, one per axis, or "scale" for ceil(scale).
        slice_axis: The axis across the slices of a volume, whose 2D values are averaged: an anatomical plane ("axial",
            "coronal", "sagittal", found from the affine) or an array axis. The border then shortens slices, but removes
            none. A 2D case is one slice. None measures the whole case at once.
        metrics: The metrics, names in `METRICS`.
    """

    name: str
    data_range: DataRange
    ssim: str = "gaussian11"
    border: int | tuple[int, ...] | Literal["scale"] = 0
    slice_axis: int | str | None = None
    metrics: tuple[str, ...] = METRICS

    def __post_init__(self) -> None:
        if isinstance(self.border, Sequence) and not isinstance(self.border, str):
            object.__setattr__(self, "border", tuple(self.border))  # JSON gives a list
        object.__setattr__(self, "metrics", tuple(self.metrics))
        range_ = self.data_range
        if range_ != "target" and (isinstance(range_, bool | str) or not (isfinite(range_) and range_ > 0)):
            raise InputError(f'a protocol\'s data range must be a positive number or "target", got {range_!r}')
        if isinstance(self.border, str) and self.border != "scale":
            raise InputError(f'a protocol\'s border must be a number, numbers or "scale", got {self.border!r}')
        if self.slice_axis not in (None, 0, 1, 2, *PLANES) or isinstance(self.slice_axis, bool):
            raise InputError(f"slice_axis must be 0, 1, 2, {', '.join(PLANES)} or None, got {self.slice_axis!r}")
        unknown = [m for m in self.metrics if m not in METRICS]
        if unknown or not self.metrics:
            raise InputError(f"a protocol's metrics must be some of {', '.join(METRICS)}, got {list(self.metrics)}")
        get_definition(self.ssim)

    def border_voxels(self, ndim: int, scale: ScaleLike | None = None) -> tuple[int, ...]:
        """Return the number of voxels to remove per spatial axis of a case with `ndim` axes.

        Raises:
            InputError: If the border depends on the scale and there is none.
            GridError: If the scale is invalid.
        """
        if self.border == "scale":
            if scale is None:
                raise InputError(f'protocol "{self.name}" removes ceil(scale) voxels: give the scale of the case')
            return tuple(ceil(s) for s in as_scale(scale, ndim))
        return (self.border,) * ndim if isinstance(self.border, int) else tuple(map(int, self.border))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; the SSIM definition is spelled out."""
        spelled = asdict(SSIM_DEFINITIONS[self.ssim])
        return asdict(self) | {"metrics": list(self.metrics), "ssim_definition": spelled}

    @classmethod
    def from_dict(cls, fields_: Mapping[str, Any]) -> Protocol:
        """Return the protocol with the given fields, from `to_dict` or a config.

        Raises:
            InputError: If a field is unknown, missing or invalid.
        """
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in fields_.items() if k != "ssim_definition"}
        if not {"name", "data_range"} <= set(values) <= known:
            raise InputError(
                f"a protocol needs name and data_range and may have {', '.join(sorted(known))}, "
                f"got {', '.join(map(str, fields_)) or 'nothing'}"
            )
        return cls(**values)


PROTOCOLS: dict[str, Protocol] = {
    # The whole case at once, with 3D windows on volumes, in the units of the images.
    "volume": Protocol("volume", data_range="target"),
    # Chapters 4 and 5 of the dissertation: the slices of volumes scaled to [0, 1].
    "dissertation": Protocol("dissertation", data_range=1.0, ssim="uniform7", border="scale", slice_axis="axial"),
}


def get_protocol(protocol: str | Mapping[str, Any] | Protocol) -> Protocol:
    """Return a protocol by its name, from its fields (in a config), or the protocol itself.

    Raises:
        InputError: If the name or a field is unknown.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if isinstance(protocol, Mapping):
        return Protocol.from_dict(protocol)
    if protocol not in PROTOCOLS:
        raise InputError(f"the protocol must be one of {', '.join(PROTOCOLS)} or a dict of fields, got {protocol!r}")
    return PROTOCOLS[protocol]
