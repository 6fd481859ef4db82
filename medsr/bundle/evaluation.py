"""The reports of an evaluation that bundles share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.transforms import Compose
from torch import nn

from medsr.inferers import SliceInferer
from medsr.metrics import CaseReport, FrechetReport, PanelReport, PooledFeatures, SegmentationReport
from medsr.transforms import RestoreIntensityd, SetSuperResolutionGridd

INTERPOLATED = "image_interpolated"  # the key of the item that the evaluation's preprocessing makes


class EvaluationPostprocessing(Compose):
    """The transform that gives the SR image its grid, and all compared images the units of the LR image."""

    def __init__(self) -> None:
        grid = SetSuperResolutionGridd("pred", reference="image")
        super().__init__([grid, RestoreIntensityd(("pred", "label", INTERPOLATED), reference="image")])


class EvaluationReports:
    """The comparison of SR images with HR images and interpolation: by fidelity, segmentation and Fréchet distance.

    Args:
        output_dir: The folder of the tables.
        method: The name of the evaluated method.
        baseline: The name of the interpolation.
        protocol: The protocol of the fidelity metrics; see `medsr.metrics.CaseReport`.
        plane: The plane of the slices that the networks see.
        segmentation_network: The network whose Dice on HR, interpolated and SR images is compared; None for none.
        feature_network: The network whose features the Fréchet distances compare; None for none.
        feature_tap: The layer of that network whose features are compared.
        device: The device of the feature network.
        panel: The name of the panel that is evaluated, whose report takes the place of the others; None for none.
    """

    def __init__(
        self,
        output_dir: str | Path,
        method: str,
        baseline: str = "bicubic",
        protocol: Any = "dissertation",
        plane: str = "axial",
        segmentation_network: nn.Module | None = None,
        feature_network: nn.Module | None = None,
        feature_tap: str = "E5",
        device: str | torch.device = "cpu",
        panel: str | None = None,
    ) -> None:
        if panel is not None:
            self.reports: list[Any] = [PanelReport(output_dir, INTERPOLATED)]
            return
        compared = {baseline: INTERPOLATED, method: "pred"}
        self.reports = [CaseReport(output_dir, protocol, INTERPOLATED, method=method, baseline_name=baseline)]
        if segmentation_network is not None:
            inferer, images = SliceInferer(plane), {"HR": "label", **compared}
            self.reports.append(
                SegmentationReport(output_dir, segmentation_network, inferer, images, baseline, "HR", plane=plane)
            )
        if feature_network is not None:
            features = PooledFeatures(feature_network.to(device), feature_tap)
            self.reports.append(FrechetReport(output_dir, features, compared, baseline, plane=plane))

    def attach(self, engine: Engine) -> None:
        """Register every report with the evaluator."""
        for report in self.reports:
            report.attach(engine)
