"""An ignite handler that turns an evaluation into files: one row per case, and a summary."""

from __future__ import annotations

import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.data import decollate_batch

import medsr
from medsr.errors import InputError, MedsrError, OutputError
from medsr.geometry import Scale, as_scale
from medsr.metrics.case import CaseMetrics
from medsr.metrics.case_names import case_names
from medsr.metrics.protocol import Protocol
from medsr.metrics.report import directions, format_table, summarise
from medsr.metrics.rows import Row, write_csv, write_json

if TYPE_CHECKING:
    from ignite.engine import Engine

__all__ = ["CaseReport"]

_VERSIONS = ("torch", "monai", "numpy", "scipy", "pytorch-ignite")

Measured = TypeVar("Measured")


@dataclass(frozen=True)
class _Measured:
    """A row that still names the file of its case; it has plain values, so that processes can exchange it."""

    file: str
    scale: Scale | None
    method: str
    values: dict[str, float]


class ItemReport(ABC):
    """The base of handlers that measure every item of an evaluator, and write files at the end of an epoch.

    Args:
        output_dir: The folder for the files, which is made if necessary.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self._measured: list[Any] = []

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, _engine: Engine) -> None:
        self._measured = []
        try:  # so that a folder that cannot be made is an error now, not after an hour of inference
            self.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.output_dir}: {error.strerror or error}") from None

    def _collect(self, engine: Engine) -> None:
        batch, output = items_of(engine.state.batch), items_of(engine.state.output)
        if len(batch) != len(output):
            raise InputError(f"the evaluator holds {len(batch)} inputs but {len(output)} outputs")
        for given, made in zip(batch, output, strict=True):
            self._measure_item({**given, **made})

    @abstractmethod
    def _measure_item(self, item: Mapping[str, Any]) -> None:
        """Append to `_measured` what is measured of an item: the keys of the batch and the output together."""

    @abstractmethod
    def _finish(self, _engine: Engine) -> None:
        """Write the files."""


class CaseReport(ItemReport):
    """A handler that measures every case of an evaluator (`SupervisedEvaluator`) and writes the results.

    At the end of an epoch `output_dir` holds "metrics.csv" (one row per case, scale and method) and
    "summary.json" (mean, standard deviation, gain and paired Wilcoxon test against the baseline, protocol,
    versions), and a compact table is printed. Both files are replaced as a whole. In a distributed run the first
    process writes for all.

    An item may be decollated or not. A key is looked up in the evaluator's output (pred, label, image), then in its
    batch (all other keys of the dataset). Contrasts that are the channels of one image are measured one by one, and
    their mean is the value of the case; see `CaseMetrics`.

    Args:
        output_dir: The folder for the files, which is made if necessary.
        protocol: The protocol: a name, an object, or its fields as a dict.
        baseline: The key of the baseline's image in the item, such as "interpolated"; None for no comparison.
        method: The name of the evaluated method in the rows and the table.
        baseline_name: The name of the baseline in the rows and the table.
        pred_key: The key of the evaluated image, (C, *spatial).
        label_key: The key of the true image.
        image_key: The key of the image whose metadata name the case.
        mask_key: The key of a mask inside which the metrics are taken; None for no mask.
        scale_key: The key of the case's scale (one number or one per axis), used if an item has it.
        modality_key: The key of the names of an item's channels, joined by "+", as in a datalist.
        quiet: Whether to print nothing.

    Raises:
        InputError: If the method and the baseline have the same name.
    """

    def __init__(
        self,
        output_dir: str | Path,
        protocol: str | Mapping[str, Any] | Protocol = "volume",
        baseline: str | None = None,
        *,
        method: str = "sr",
        baseline_name: str = "interpolation",
        pred_key: str = "pred",
        label_key: str = "label",
        image_key: str = "image",
        mask_key: str | None = None,
        scale_key: str = "scale",
        modality_key: str = "modality",
        quiet: bool = False,
    ) -> None:
        if baseline is not None and method == baseline_name:
            raise InputError(f"method and baseline need two names in the table, but both are {method!r}; rename one")
        super().__init__(output_dir)
        self.measure = CaseMetrics(protocol)
        self.methods = {method: pred_key} | ({} if baseline is None else {baseline_name: baseline})
        self.baseline_name = None if baseline is None else baseline_name
        self.label_key, self.image_key = label_key, image_key
        self.mask_key, self.scale_key, self.modality_key = mask_key, scale_key, modality_key
        self.quiet = quiet

    def _measure_item(self, item: Mapping[str, Any]) -> None:
        file = self._file(item) or f"case-{len(self._measured) // len(self.methods) + 1:04d}"
        try:
            missing = [k for k in (*self.methods.values(), self.label_key, self.mask_key) if k and k not in item]
            if missing:
                raise InputError(f"no {missing[0]!r} among the keys {', '.join(map(str, item))}")
            label = item[self.label_key]
            mask = None if self.mask_key is None else item[self.mask_key]
            scale = item_scale(item.get(self.scale_key), label.ndim - 1)
            named = str(item.get(self.modality_key) or "").split("+")
            contrasts = named if len(named) == label.shape[0] else None
            for method, key in self.methods.items():
                values = self.measure(item[key], label, mask=mask, scale=scale, contrasts=contrasts)
                self._measured.append(_Measured(file, scale, method, values))
        except MedsrError as error:
            raise type(error)(f"case {file}: {error}") from None

    def _file(self, item: Mapping[str, Any]) -> str:
        """Return the file (or DICOM folder) that a case came from, or "" if it is unknown."""
        for key in (self.image_key, self.label_key):
            name = getattr(item.get(key), "meta", {}).get("filename_or_obj", "")
            if isinstance(name, list | tuple):  # the files of a series
                name = str(Path(str(name[0])).parent) if name else ""
            if name:
                return str(name)
        return ""

    def _finish(self, _engine: Engine) -> None:
        rows = _rows(gathered(self._measured))
        if idist.get_rank() != 0:
            return
        if not rows:
            raise InputError("no case was evaluated, so there is nothing to report: is the dataset empty?")
        groups = summarise(rows, self.baseline_name, directions(metric for row in rows for metric in row.values))
        write_csv(self.output_dir / "metrics.csv", rows)
        write_json(
            self.output_dir / "summary.json",
            {
                "groups": groups,
                "baseline": self.baseline_name,
                "mask": self.mask_key,
                "protocol": self.measure.protocol.to_dict(),
                "versions": _versions(),
            },
        )
        if not self.quiet:
            print_anywhere(f"{format_table(groups)}\nprotocol: {self.measure.protocol.name}; files: {self.output_dir}")


def items_of(batch: Any) -> Sequence[Mapping[str, Any]]:
    """Return the items of a batch, which may be decollated already."""
    items = batch if isinstance(batch, list) else decollate_batch(batch)
    if not all(isinstance(item, Mapping) for item in items):
        raise InputError("the evaluator's batch and output must be dictionaries of images by key")
    return items


def item_scale(scale: Any, ndim: int) -> Scale | None:
    """Return an item's scale as it comes out of a data loader: numbers, tensors, or lists of them."""
    if scale is None:
        return None
    if isinstance(scale, list | tuple):
        flat = [s.item() if isinstance(s, torch.Tensor) else s for s in scale]
        return as_scale(flat if len(flat) > 1 else flat[0], ndim)
    if hasattr(scale, "tolist"):  # tensor or array
        flat = scale.flatten().tolist()
        return as_scale(flat if len(flat) > 1 else flat[0], ndim)
    return as_scale(scale, ndim)


def gathered(measured: list[Measured]) -> list[Measured]:
    """Return the results of all processes, without repeated cases, by which a sampler makes their shares equal."""
    if idist.get_world_size() <= 1:
        return measured
    everyone: list[Any] = [None] * idist.get_world_size()
    torch.distributed.all_gather_object(everyone, measured)
    result: list[Measured] = []
    for share in everyone:
        result += [m for m in share if m not in result]
    return result


def _rows(measured: Sequence[_Measured]) -> list[Row]:
    """Return rows with short case names; a file evaluated again at the same scale becomes case "name#2"."""
    seen: dict[tuple[str, Scale | None, str], int] = {}
    rows = []
    for name, m in zip(case_names([m.file for m in measured]), measured, strict=True):
        count = seen[m.file, m.scale, m.method] = seen.get((m.file, m.scale, m.method), 0) + 1
        rows.append(Row(name if count == 1 else f"{name}#{count}", m.scale, m.method, m.values))
    return rows


def print_anywhere(text: str) -> None:
    """Print a text even if the terminal cannot encode it, so that the table's ± does not fail a finished run."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def _versions() -> dict[str, str]:
    versions = {"medsr": medsr.__version__, "python": platform.python_version()}
    for package in _VERSIONS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # vendored or frozen
            versions[package] = "unknown"
    return versions
