"""Write the SR image, its record and its preview to disk, as the last step of a bundle."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged

from medsr.data.provenance import Provenance
from medsr.data.volume import CHANNEL_FILES
from medsr.data.writers import write_volume
from medsr.degradation import get
from medsr.errors import InputError, MedsrError, OutputError
from medsr.files.atomic import write_json_atomic
from medsr.files.staging import staged
from medsr.files.suffixes import split_suffix
from medsr.geometry import Grid, Scale
from medsr.inferers import InferenceFacts
from medsr.interpolation import apply_matrices, resampling_matrices
from medsr.outputs.bids import describe_dataset, sidecar
from medsr.outputs.dicom_result import derivable_headers, write_series
from medsr.outputs.naming import DICOM, EXTENSIONS, PNG, OutputPaths, case_paths, check_bids_format, output_paths
from medsr.outputs.naming import refuse_to_replace as refuse_to_replace  # hosts import it from here
from medsr.outputs.picture_result import source_bits, write_pictures
from medsr.outputs.preview import Image, Slicer, draw_preview
from medsr.outputs.record import input_record, make_record, trained_range_warnings
from medsr.outputs.result import Result

__all__ = ["EXTENSIONS", "OutputPaths", "SaveImageWithRecordd", "output_paths", "refuse_to_replace"]

logger = logging.getLogger(__name__)

_ONE_CONTRAST = "Multi-contrast results cannot be written as DICOM or PNG; use .nii.gz"


class SaveImageWithRecordd(SaveImaged):
    """A transform that writes the SR image on its own grid, with a JSON record and a PNG preview beside it.

    It is a `SaveImaged` so that hosts which save results themselves (MONAI Label, MONAI Deploy) recognise and drop
    it. Nothing is resampled. The files of a case appear complete and together, or not at all. If an image has several
    contrasts as channels, each is written in its own units and named after its own file.

    Args:
        output_dir: The folder of the results, created if absent.
        bundle_root: The folder with `configs/metadata.json`, and with `models` unless `weights` is given.
        keys: The key of the SR image.
        reference: The key of the LR image.
        output_postfix: The text that is appended to the name of the case.
        output_ext: The format: ".nii.gz", ".nii", ".nrrd" or ".mha" in float32 (a sheared grid needs NIfTI); "dicom",
            a folder with a derived series, if the LR image was DICOM; or "png", a folder with one picture for each
            slice of the third axis, if the LR image was 8- or 16-bit pictures.
        preview: Whether to draw a preview, which needs matplotlib.
        consistency: Whether to write |degrade(SR) - LR| too, on the LR grid and in the image's units: how far the
            result disagrees with the measured image by the formation that it obeys, or k-space truncation without one.
        bids: Whether to name the results as BIDS derivatives and to write sidecars.
        settings: Further entries for the record besides the options of the inferer, such as device and seed.
        weights: The weight file of the network; by default the bundle's `models/model.pt`.

    Raises:
        InputError: If the format cannot be written, or does not exist in BIDS.
    """

    def __init__(
        self,
        output_dir: str | Path,
        bundle_root: str | Path,
        keys: str = "pred",
        reference: str = "image",
        output_postfix: str = "sr",
        output_ext: str = ".nii.gz",
        preview: bool = True,
        consistency: bool = False,
        bids: bool = False,
        settings: Mapping[str, Any] | None = None,
        weights: str | Path | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        output_paths(output_dir, "case", output_postfix, output_ext)  # reports a wrong extension at once
        if bids:
            check_bids_format(output_ext)
        self.output_dir = Path(output_dir)
        self.bundle_root = Path(bundle_root)
        self.reference = reference
        self.output_postfix = output_postfix
        self.output_ext = output_ext
        self.preview = preview
        self.consistency = consistency
        self.bids = bids
        self.settings = dict(settings or {})
        self.weights = Path(weights) if weights else self.bundle_root / "models" / "model.pt"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the files and return a copy of `data` with the path of the image, or a list of paths, as `saved`.

        The item itself carries all facts about the run. Its entry `stem` is the name of the results; for an image with
        several channels it is a list of names.

        Raises:
            InputError: If the inferer has not run on this item, the result would replace its input, two contrasts have
                the same name, or the source does not fit the format: "dicom" needs one DICOM series of modality MR or
                CT, and "png" needs pictures.
            OutputError: If the folder or a file cannot be written; then none of the case's files appears.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            lr_image, sr_image = item[self.reference], item[key]
            source = str(lr_image.meta.get("filename_or_obj", ""))
            results = Result(source, lr_image, sr_image, InferenceFacts.of(sr_image)).channels()
            named = self._named(results, item.get("stem"))
            self._write(named)
            saved = [str(paths.image) for paths, _ in named]
            item["saved"] = saved if len(saved) > 1 else saved[0]
        return item

    def _named(self, results: Sequence[Result], given: Any) -> list[tuple[OutputPaths, Result]]:
        """Return the files of each channel."""
        if len(results) > 1 and self.output_ext in (DICOM, PNG):
            raise InputError(_ONE_CONTRAST)
        named = []
        for result, stem in zip(results, _stems(results, given), strict=True):
            paths = case_paths(self.output_dir, result.source, stem, self.output_postfix, self.output_ext, self.bids)
            refuse_to_replace(paths, result.source, self.output_ext)
            named.append((paths, result))
        if len({paths.image for paths, _ in named}) < len(results):
            raise InputError(
                f"two contrasts would both become {named[0][0].image}; give their files different names and run again"
            )
        return named

    def check_source(self, lr_image: MetaTensor) -> None:
        """Check before the network runs that the image can be saved, and hash its source.

        Raises:
            InputError: If the format is "dicom" and the source is not a DICOM series of modality MR or CT, the format
                is "png" and the source is not 8- or 16-bit pictures, or the source has changed since it was read.
        """
        source = lr_image.meta.get("filename_or_obj", "")
        if self.output_ext in (DICOM, PNG) and CHANNEL_FILES in lr_image.meta:
            raise InputError(_ONE_CONTRAST)
        if self.output_ext == DICOM:
            derivable_headers(source, lr_image.meta)
        elif self.output_ext == PNG:
            source_bits(source, lr_image.meta)
        for entry in Provenance.of(lr_image.meta):
            entry.sha256  # noqa: B018  # hashed now, because the source may change or vanish while the network runs

    def _write(self, named: Sequence[tuple[OutputPaths, Result]]) -> None:
        """Write the files of all channels together."""
        first = named[0][1]
        inputs = [input_record(file, first.provenance_of(k)) for k, file in enumerate(first.files)]
        # The images appear last, so that a case with an image has all its other files.
        rest = [path for p, _ in named for path in (p.preview, p.record, p.deviation, p.consistency)]
        final = [*rest, *(paths.image for paths, _ in named)]
        with staged(final) as hidden:
            name = dict(zip(final, hidden, strict=True))
            for paths, result in named:
                record = self._write_result(OutputPaths(*(name[path] for path in paths)), result, inputs)
        if self.bids:
            describe_dataset(result.source, self.output_dir, record)

    def _write_result(self, hidden: OutputPaths, result: Result, inputs: Sequence[Any]) -> dict[str, Any]:
        """Write the files of one channel and return the record."""
        record = self._record(result)
        if inputs:
            record.update(channel=result.channel, inputs=inputs)
        warnings: list[str] = record["warnings"]
        if self.preview:
            warnings += _preview(hidden.preview, result)
        if result.run.deviation is not None:
            values = result.run.deviation.cpu().numpy()[0] * result.window[1]
            write_volume(hidden.deviation, values, result.sr.affine, like=result.meta)
        if self.consistency:
            record["consistency"] = self._write_consistency(hidden.consistency, result)
        if self.output_ext == DICOM:
            record["dicom"] = write_series(hidden.image, result, record)
        elif self.output_ext == PNG:
            bits = source_bits(result.source, result.meta)
            record["pictures"] = write_pictures(hidden.image, result.sr_values.numpy()[0], bits, record)
        else:
            write_volume(hidden.image, result.sr_values.numpy()[0], result.sr.affine, like=result.meta)
            if result.series_uid:
                record["dicom"] = {"source_series_uid": result.series_uid}
        if result.run.formation is not None:
            logger.info("%s: formation %s", Path(result.source).name, result.run.formation.summary)
        for warning in warnings:
            logger.warning("%s: %s", Path(result.source).name, warning)
        if self.bids:
            record.update(sidecar(result.source, self.output_dir, record, result.files))
        write_json_atomic(hidden.record, record)
        return record

    def _record(self, result: Result) -> dict[str, Any]:
        metadata = self._metadata()
        trained_on, run = metadata.get("trained_on", {}), result.run
        extremes = float(result.normalized.min()), float(result.normalized.max())
        warnings = [*_listed(result.meta.get("warnings")), *run.warnings]
        if run.formation is not None:
            warnings += run.formation.warnings(result.lr.spacing)
        warnings += trained_range_warnings(trained_on, result.lr, result.sr, run.scale, extremes)
        warnings += run.guards.warnings() if run.guards else []
        offset, scale = result.window
        return make_record(
            source=result.source,
            provenance=result.provenance_of(result.channel or 0),
            metadata=metadata,
            weights=self.weights,
            lr=result.lr,
            sr=result.sr,
            scale=run.scale,
            intensity={"offset": offset, "scale": scale},
            settings={**run.settings, **self.settings, "request": dict(run.request)},
            formation=run.formation,
            seconds=run.seconds,
            tiles=run.tiles,
            warnings=warnings,
            guards=run.guards,
        )

    def _write_consistency(self, path: Path, result: Result) -> dict[str, Any]:
        """Write the consistency map and return the record's entry for it."""
        formation = result.run.formation
        degradation = get("kspace-truncation") if formation is None else formation.degradation.downsampling
        made = degradation(result.sr_values[None], result.run.scale, shape=tuple(result.lr_values.shape[1:]))
        off = (result.lr_values[None] - made)[0, 0].abs()
        write_volume(path, off.numpy(), result.lr.affine, like=result.meta)
        return {"mean": float(off.mean()), "largest": float(off.max()), "degradation": degradation.to_dict()}

    def _metadata(self) -> dict[str, Any]:
        path = self.bundle_root / "configs" / "metadata.json"
        return json.loads(path.read_text()) if path.is_file() else {}


def _stems(results: Sequence[Result], given: Any) -> list[str]:
    """Return the names of the results: those given, else those of the files; channels without a file get numbers."""
    if isinstance(given, list | tuple):
        if len(given) < len(results):
            raise InputError(
                f"expected a name in 'stem' for each of {len(results)} contrasts, got {len(given)}; give one for each"
            )
        return [str(stem) for stem in given[: len(results)]]
    own = [str(given or split_suffix(result.source)[0] or "image") for result in results]
    if len(set(own)) == len(own):
        return own
    return [f"{stem}_channel_{k}" for k, stem in enumerate(own)]


def _preview(path: Path, result: Result) -> list[str]:
    """Draw the preview and return a warning if that is not possible."""
    try:
        _draw(path, result.lr_values, result.lr, result.sr_values, result.sr, result.run.scale)
    except OutputError:
        raise
    except MedsrError as error:
        return [str(error)]
    return []


def _draw(path: Path, lr_image: torch.Tensor, lr: Grid, sr_image: torch.Tensor, sr: Grid, scale: Scale) -> None:
    """Draw the preview of images (1, X, Y, Z); only the slices that are shown are interpolated."""
    matrices = resampling_matrices(lr.shape, scale)

    def interpolated(axis: int, index: int) -> np.ndarray:
        region = [slice(index, index + 1) if a == axis else slice(None) for a in range(3)]
        return np.asarray(apply_matrices(lr_image[None], matrices, region)[0, 0].movedim(axis, 0)[0])

    panels: dict[str, tuple[Image | Slicer, Grid]] = {
        "LR": (np.asarray(lr_image[0]), lr),
        "cubic spline": (interpolated, sr),
        "SR": (np.asarray(sr_image[0]), sr),
    }
    draw_preview(path, panels)


def _listed(text: Any) -> list[str]:
    """Return the reader's warnings as a list; in `meta` they are one string with semicolons."""
    return [part for part in str(text or "").split("; ") if part]
