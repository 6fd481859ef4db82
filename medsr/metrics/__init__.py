"""Fidelity of one case by a stated protocol, and reports over cases.

`psnr`, `ssim` and the others are pure functions; `CaseMetrics` measures a case by a `Protocol`;
`FidelityMetric` and `CaseReport` put that into a MONAI evaluator; `summarise` aggregates rows and tests them.
"""

from __future__ import annotations

from medsr.metrics.case import CaseMetrics
from medsr.metrics.case_report import CaseReport
from medsr.metrics.fidelity import mae, mse, nmse, psnr
from medsr.metrics.frechet import FrechetDistance, PooledFeatures, frechet_distance, frechet_distance_of_samples
from medsr.metrics.frechet_report import FrechetReport
from medsr.metrics.monai_metric import FidelityMetric
from medsr.metrics.overlap import DiceCounts
from medsr.metrics.panel_report import PanelReport, PanelRow, panel_table, summarise_panel
from medsr.metrics.protocol import METRICS, PROTOCOLS, Protocol, get_protocol
from medsr.metrics.report import format_table, paired_wilcoxon, summarise
from medsr.metrics.rows import Row, read_csv, read_json, write_csv, write_json
from medsr.metrics.segmentation_report import SegmentationReport
from medsr.metrics.ssim import SSIM_DEFINITIONS, SSIMDefinition, ssim, ssim_map

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "SSIM_DEFINITIONS",
    "CaseMetrics",
    "CaseReport",
    "DiceCounts",
    "FidelityMetric",
    "FrechetDistance",
    "FrechetReport",
    "PanelReport",
    "PanelRow",
    "PooledFeatures",
    "Protocol",
    "Row",
    "SSIMDefinition",
    "SegmentationReport",
    "format_table",
    "frechet_distance",
    "frechet_distance_of_samples",
    "get_protocol",
    "mae",
    "mse",
    "nmse",
    "paired_wilcoxon",
    "panel_table",
    "psnr",
    "read_csv",
    "read_json",
    "ssim",
    "ssim_map",
    "summarise",
    "summarise_panel",
    "write_csv",
    "write_json",
]
