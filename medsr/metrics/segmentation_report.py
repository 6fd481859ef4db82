"""An ignite handler that compares the segmentations of SR, interpolated and HR images (Zhu 2022, section 5.3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from monai.data import MetaTensor
from torch import nn

from medsr.errors import InputError
from medsr.geometry import anatomical_axis
from medsr.metrics.case_report import items_of, print_anywhere
from medsr.metrics.overlap import DiceCounts
from medsr.metrics.report import directions, format_table, summarise
from medsr.metrics.rows import Row, write_csv, write_json
from medsr.metrics.segmentation_figure import Panel, draw_overlays

if TYPE_CHECKING:
    from ignite.engine import Engine
    from monai.inferers import Inferer

__all__ = ["SegmentationReport"]


class SegmentationReport:
    """A handler that segments every version of a case by one network and compares it with the delineation.

    At the end `output_dir` holds "segmentation.csv" (one row per subject and version), "segmentation.json" (mean,
    standard deviation, gain over the baseline, paired Wilcoxon test, and the share of the gap between the baseline and
    the reference that each version closes), and overlays of the first cases as PNG (errors in red).

    Cases without a delineation are skipped; if no case has one, nothing is written.

    Args:
        output_dir: The folder for the files.
        network: The network from images (N, C, H, W) to logits (N, K, H, W); label k is channel k.
        inferer: The inferer that runs it on volumes, such as `medsr.inferers.SliceInferer`.
        images: The key of each version in the item, by the version's name; (C, *spatial) about [0, 1] on the grid of
            the delineation.
        baseline: The name of the version that the others are compared with.
        reference: The name of the version that is the best possible, such as HR.
        segmentation_key: The key of the delineation, (1, *spatial).
        subject_key: The key of the subject; the images of one subject are pooled.
        plane: The anatomical plane of the slices.
        figures: The number of cases that are drawn (needs matplotlib).
        quiet: Whether to print nothing.

    Raises:
        InputError: If there are no images, or the baseline or reference is not among them.
    """

    def __init__(
        self,
        output_dir: str | Path,
        network: nn.Module,
        inferer: Inferer,
        images: Mapping[str, str],
        baseline: str | None = None,
        reference: str | None = None,
        segmentation_key: str = "segmentation",
        subject_key: str = "subject",
        plane: str = "axial",
        figures: int = 3,
        quiet: bool = False,
    ) -> None:
        unknown = [name for name in (baseline, reference) if name is not None and name not in images]
        if unknown or not images:
            raise InputError(f"{unknown[0] if unknown else 'nothing'!r} is none of the images {', '.join(images)}")
        self.output_dir = Path(output_dir)
        self.network = network.eval()
        self.inferer = inferer
        self.images = dict(images)
        self.baseline, self.reference = baseline, reference
        self.segmentation_key, self.subject_key = segmentation_key, subject_key
        self.plane = plane
        self.figures = figures
        self.quiet = quiet
        self._counts: dict[tuple[str, str], DiceCounts] = {}
        self._drawn = 0

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, _engine: Engine) -> None:
        self._counts, self._drawn = {}, 0

    def _collect(self, engine: Engine) -> None:
        for given, made in zip(items_of(engine.state.batch), items_of(engine.state.output), strict=True):
            item = {**given, **made}
            if item.get(self.segmentation_key) is not None:
                self._measure(item)

    def _measure(self, item: Mapping[str, Any]) -> None:
        truth = item[self.segmentation_key][0].round().long().cpu()
        subject = str(item.get(self.subject_key) or f"case-{len(self._counts) + 1:04d}")
        affine = getattr(item[self.segmentation_key], "affine", None)
        across = None if truth.ndim == 2 or affine is None else anatomical_axis(affine.numpy(), self.plane)
        panels = []
        for name, key in self.images.items():
            found = self.segment(item[key])
            counts = self._counts.setdefault((subject, name), DiceCounts(range(1, self._classes)))
            counts.add(found.cpu(), truth, across)
            panels.append(Panel(name, item[key][0], found.cpu()))
        if self._drawn < self.figures:
            self._drawn += 1
            draw_overlays(self.output_dir / f"segmentation_{subject}_{self._drawn}.png", panels, truth, across)

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        """Return the labels (*spatial) of an image (C, *spatial)."""
        device = next(self.network.parameters()).device
        batch = image[None].to(device)
        if isinstance(image, MetaTensor):
            batch = MetaTensor(torch.as_tensor(batch), affine=image.affine)
        with torch.no_grad():
            logits = self.inferer(batch, self.network)
        self._classes = int(logits.shape[1])
        return torch.as_tensor(logits[0]).argmax(0)

    def _finish(self, _engine: Engine) -> None:
        if not self._counts:
            return
        rows = [Row(subject, None, name, counts.values()) for (subject, name), counts in self._counts.items()]
        metrics = list(rows[0].values)
        groups = summarise(rows, self.baseline, directions(metrics))
        write_csv(self.output_dir / "segmentation.csv", rows)
        closed = self._closed(groups)
        write_json(
            self.output_dir / "segmentation.json",
            {"groups": groups, "baseline": self.baseline, "reference": self.reference, "gap_closed": closed},
        )
        if not self.quiet:
            lines = [f"{name} closes {100 * share:.0f} % of the gap in Dice" for name, share in closed.items()]
            print_anywhere(
                "\n".join(
                    [
                        format_table(groups, [m for m in metrics if not m.startswith("slice_")]),
                        *lines,
                        f"files: {self.output_dir}",
                    ]
                )
            )

    def _closed(self, groups: list[dict[str, Any]]) -> dict[str, float]:
        """Return the share of the gap between baseline and reference that each other version closes (mean Dice)."""
        if self.baseline is None or self.reference is None:
            return {}
        mean = {group["method"]: group["metrics"]["dice"]["mean"] for group in groups}
        gap = mean[self.reference] - mean[self.baseline]
        others = [name for name in mean if name not in (self.baseline, self.reference)]
        return {name: (mean[name] - mean[self.baseline]) / gap for name in others} if gap > 0 else {}
