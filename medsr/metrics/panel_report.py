"""An ignite handler that compares SR images with interpolation over the formations of a panel."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import torch

from medsr.datasets.panels import AUTO, CASE, FORMATION, KNOWN
from medsr.degradation import ExactConsistency, mu_of_noise
from medsr.errors import InputError
from medsr.files.atomic import atomic_path, write_json_atomic, write_text
from medsr.inferers.facts import InferenceFacts
from medsr.metrics.case_names import case_names
from medsr.metrics.case_report import ItemReport, gathered, print_anywhere
from medsr.transforms.intensity import OFFSET, SCALE
from medsr.version import __version__

if TYPE_CHECKING:
    from ignite.engine import Engine

logger = logging.getLogger(__name__)
_SHOWN = {KNOWN: "known", AUTO: "auto"}


@dataclass(frozen=True)
class PanelRow:
    """What was measured of one image, formed in one way.

    Attributes:
        case: The formation of the panel.
        formation: Whether the inferer was told it: "known" or "auto".
        image: The name of the image.
        psnr: The PSNR of the SR image in dB, with the range of the HR image.
        gain: The gain over interpolation in dB.
        gain_over_consistent: The gain over the interpolation that is consistent with the same formation, in dB.
        noise_gain: See `medsr.inferers.Guards`; NaN where it was not measured.
        outside_envelope: Likewise.
    """

    case: str
    formation: str
    image: str
    psnr: float
    gain: float
    gain_over_consistent: float
    noise_gain: float
    outside_envelope: float


class PanelReport(ItemReport):
    """A handler that measures a panel (`medsr.datasets.with_panel`) and writes its tables.

    At the end `output_dir` holds "panel.csv" (a row for each image, formation, and whether it was known), "panel.json"
    and "panel.md" (mean and worst gain of each formation), and "panel.png" (needs matplotlib).

    Args:
        output_dir: The folder of the tables.
        interpolated: The key of the interpolated image of an item.
    """

    def __init__(self, output_dir: str | Path, interpolated: str = "image_interpolated") -> None:
        super().__init__(output_dir)
        self.interpolated = interpolated

    def _measure_item(self, item: Mapping[str, Any]) -> None:
        self._measured.append(self._measure(item))

    def _measure(self, item: Mapping[str, Any]) -> PanelRow:
        hr, sr, plain = (torch.as_tensor(item[key]).double().cpu() for key in ("label", "pred", self.interpolated))
        facts = InferenceFacts.of(item["pred"])
        if facts.formation is None:
            raise InputError("a panel needs results that obey a formation; leave out --formation")
        lr = _in_units_of(plain, item["image"])
        model = ExactConsistency(
            facts.formation.degradation, hr.shape[1:], lr.shape[1:], facts.scale, mu_of_noise(facts.formation.noise)
        )
        psnr, base, consistent = (_psnr(x, hr) for x in (sr, plain, model(plain[None], lr[None])[0]))
        guards = facts.guards
        return PanelRow(
            str(item[CASE]),
            _SHOWN.get(str(item[FORMATION]), str(item[FORMATION])),
            str(item["image"].meta.get("filename_or_obj", "")),
            psnr,
            psnr - base,
            psnr - consistent,
            _number(None if guards is None else guards.noise_gain),
            _number(None if guards is None else guards.outside_envelope),
        )

    def _finish(self, _engine: Engine) -> None:
        rows: list[PanelRow] = gathered(self._measured)
        if idist.get_rank() or not rows:
            return
        names = case_names([row.image for row in rows])
        rows = [PanelRow(**{**asdict(row), "image": name}) for row, name in zip(rows, names, strict=True)]
        summary = summarise_panel(rows)
        worst = min(rows, key=lambda row: row.gain)
        write_text(self.output_dir / "panel.csv", _as_csv(rows))
        write_text(self.output_dir / "panel.md", panel_table(summary))
        _draw(self.output_dir / "panel.png", summary)
        write_json_atomic(
            self.output_dir / "panel.json", {"medsr": __version__, "cases": summary, "worst": asdict(worst)}
        )
        print_anywhere(panel_table(summary))
        logger.info(
            "worst case of the panel: %+.2f dB (%s, %s, %s)", worst.gain, worst.case, worst.formation, worst.image
        )


def summarise_panel(rows: Sequence[PanelRow]) -> list[dict[str, Any]]:
    """Return the number of images, and the mean and worst gains, of each case of a panel, known and auto."""
    summary = []
    for case, formation in dict.fromkeys((row.case, row.formation) for row in rows):
        found = [row for row in rows if (row.case, row.formation) == (case, formation)]
        gains = [row.gain for row in found]
        over = [row.gain_over_consistent for row in found]
        summary.append(
            {
                "case": case,
                "formation": formation,
                "images": len(found),
                "gain": sum(gains) / len(gains),
                "worst": min(gains),
                "gain_over_consistent": sum(over) / len(over),
                "worst_over_consistent": min(over),
                "noise_gain": _mean(row.noise_gain for row in found),
                "outside_envelope": _mean(row.outside_envelope for row in found),
            }
        )
    return summary


def panel_table(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return a summary as a Markdown table: the mean gain in dB of each case, and the worst in brackets."""
    cases = list(dict.fromkeys(entry["case"] for entry in summary))
    kinds = list(dict.fromkeys(entry["formation"] for entry in summary))
    cells = {(entry["case"], entry["formation"]): entry for entry in summary}
    lines = [
        "| LR formed by | " + " | ".join(f"{k}: over interpolation | {k}: over a consistent one" for k in kinds) + " |",
        "|---|" + "---|---|" * len(kinds),
    ]
    for case in cases:
        columns = []
        for kind in kinds:
            entry = cells.get((case, kind))
            columns += (
                ["", ""]
                if entry is None
                else [
                    f"{entry['gain']:+.2f} ({entry['worst']:+.2f})",
                    f"{entry['gain_over_consistent']:+.2f} ({entry['worst_over_consistent']:+.2f})",
                ]
            )
        lines.append(f"| {case} | " + " | ".join(columns) + " |")
    return "\n".join(lines) + "\n"


def _in_units_of(plain: torch.Tensor, image: Any) -> torch.Tensor:
    """Return the LR image in the units of its interpolation: normalised, or restored by its window."""
    lr = image.as_tensor().double().cpu()
    restored = lr * float(image.meta.get(SCALE, 1.0)) + float(image.meta.get(OFFSET, 0.0))
    return min(lr, restored, key=lambda x: abs(float(x.mean() - plain.mean())))  # interpolation keeps the mean


def _psnr(image: torch.Tensor, hr: torch.Tensor) -> float:
    span, error = float(hr.max() - hr.min()), float((image - hr).square().mean())
    return 10 * log10(max(span, 1e-12) ** 2 / max(error, 1e-20))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _mean(values: Iterable[float]) -> float | None:
    """Return the mean of what was measured; None if nothing was."""
    measured = [value for value in values if not isnan(value)]
    return sum(measured) / len(measured) if measured else None


def _as_csv(rows: Sequence[PanelRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows)
    return text.getvalue()


def _draw(path: Path, summary: Sequence[Mapping[str, Any]]) -> None:
    """Draw the mean gain of each case as a bar, and the worst as a mark; without matplotlib there is no picture."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    cases = list(dict.fromkeys(entry["case"] for entry in summary))
    kinds = list(dict.fromkeys(entry["formation"] for entry in summary))
    figure = Figure(figsize=(7, 1.2 + 0.3 * len(cases)), dpi=110, layout="constrained")
    axis = figure.subplots()
    for k, kind in enumerate(kinds):
        found = [entry for entry in summary if entry["formation"] == kind]
        places = [cases.index(entry["case"]) + 0.38 * (k - (len(kinds) - 1) / 2) for entry in found]
        axis.barh(places, [entry["gain"] for entry in found], height=0.36, label=f"{kind}, mean")
        axis.plot([entry["worst"] for entry in found], places, "k|", label="worst image" if k == 0 else None)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(cases)), cases, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("PSNR gain over interpolation (dB)")
    axis.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
