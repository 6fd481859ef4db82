"""An ignite handler that reports the Fréchet distances of every version of the evaluated images."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events

from medsr.errors import InputError
from medsr.geometry import Scale, anatomical_axis, format_scale
from medsr.metrics.case_report import item_scale, items_of, print_anywhere
from medsr.metrics.frechet import FrechetDistance, PooledFeatures
from medsr.metrics.report import format_table, summarise
from medsr.metrics.rows import Row, write_csv, write_json

if TYPE_CHECKING:
    from ignite.engine import Engine

__all__ = ["FrechetReport"]


class FrechetReport:
    """A handler that compares the slices of SR and interpolated images with those of HR (Zhu 2022, section 4.3.5).

    The slices are compared as sets. At the end `output_dir` holds "frechet.csv" (one row per subject, scale and
    version) and "frechet.json" (mean over subjects, gain over the baseline, paired Wilcoxon test, and the distances of
    the slices of all subjects together). The metric's name says which network's features were compared; only that of
    Inception is "fid".

    Args:
        output_dir: The folder for the files.
        features: The function from a grey image to a vector.
        images: The key of each version in the item, by the version's name; (C, *spatial) about [0, 1] on the HR grid.
        baseline: The name of the version that the others are compared with.
        target_key: The key of the HR image.
        subject_key: The key of the subject; the slices of one subject are pooled.
        scale_key: The key of the item's scale.
        border: The number of pixels removed from every side of a slice, or "scale" for ceil(scale) (the dissertation).
        plane: The anatomical plane of the slices.
        quiet: Whether to print nothing.

    Raises:
        InputError: If there are no images, the baseline is not among them, or the border is another text.
    """

    def __init__(
        self,
        output_dir: str | Path,
        features: PooledFeatures,
        images: Mapping[str, str],
        baseline: str | None = None,
        target_key: str = "label",
        subject_key: str = "subject",
        scale_key: str = "scale",
        border: int | str = "scale",
        plane: str = "axial",
        quiet: bool = False,
    ) -> None:
        if not images or (baseline is not None and baseline not in images):
            raise InputError(f"{baseline!r} is none of the images {', '.join(images) or '(none)'}")
        if isinstance(border, str) and border != "scale":
            raise InputError(f'the border must be a number of pixels or "scale", got {border!r}')
        self.output_dir = Path(output_dir)
        self.features = features
        self.images, self.baseline = dict(images), baseline
        self.target_key, self.subject_key, self.scale_key = target_key, subject_key, scale_key
        self.border = border
        self.plane = plane
        self.quiet = quiet
        self._distances: dict[tuple[Scale | None, str], FrechetDistance] = {}
        self._items = 0

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, _engine: Engine) -> None:
        self._distances, self._items = {}, 0

    def _collect(self, engine: Engine) -> None:
        for given, made in zip(items_of(engine.state.batch), items_of(engine.state.output), strict=True):
            self.measure({**given, **made})

    def measure(self, item: Mapping[str, Any]) -> None:
        """Add the slices of one item."""
        self._items += 1
        target = item[self.target_key]
        scale = item_scale(item.get(self.scale_key), target.ndim - 1)
        subject = str(item.get(self.subject_key) or f"case-{self._items:04d}")
        wanted = FrechetDistance(self.features).features_of(self._slices(target, target, scale))
        for name, key in self.images.items():
            if item[key].shape != target.shape:
                raise InputError(
                    f"expected {name} on the grid of HR, {tuple(target.shape)}, got {tuple(item[key].shape)}"
                )
            distance = self._distances.setdefault((scale, name), FrechetDistance(self.features))
            distance.add_features(subject, distance.features_of(self._slices(item[key], target, scale)), wanted)

    def _slices(self, image: torch.Tensor, like: torch.Tensor, scale: Scale | None) -> torch.Tensor:
        """Return the slices (N, C, H, W) of an image (C, *spatial) without their borders."""
        axis = None
        if image.ndim == 4:
            affine = getattr(like, "affine", None)
            if affine is None:
                raise InputError("slices of a volume need its affine, which this one lacks; load it as NIfTI")
            axis = anatomical_axis(affine.cpu().numpy(), self.plane)
        if self.border == "scale":
            if scale is None:
                raise InputError(f"the border depends on the scale: give the item its {self.scale_key!r}, or a number")
            borders = [ceil(s) for i, s in enumerate(scale) if i != axis]
        else:
            borders = [int(self.border)] * 2
        plain = torch.as_tensor(image).as_subclass(torch.Tensor)
        slices = plain[None] if axis is None else plain.movedim(axis + 1, 0)
        (top, left), (height, width) = borders, slices.shape[-2:]
        return slices[..., top : height - top, left : width - left]

    def _finish(self, _engine: Engine | None = None) -> None:
        if not self._distances:
            return
        metric = self.features.name
        rows = [
            Row(subject, scale, name, values)
            for (scale, name), distance in self._distances.items()
            for subject, values in distance.per_subject().items()
        ]
        groups = summarise(rows, self.baseline, {metric: -1})
        pooled = [
            {"scale": None if scale is None else format_scale(scale), "method": name, **distance.pooled()}
            for (scale, name), distance in self._distances.items()
        ]
        write_csv(self.output_dir / "frechet.csv", rows)
        write_json(
            self.output_dir / "frechet.json",
            {"metric": metric, "groups": groups, "pooled": pooled, "baseline": self.baseline, "border": self.border},
        )
        if not self.quiet:
            table = format_table(groups, [metric])
            lines = [f"{p['method']} at {p['scale']}, all slices together: {p[metric]:.4g}" for p in pooled]
            print_anywhere("\n".join([table, *lines, f"files: {self.output_dir}"]))
