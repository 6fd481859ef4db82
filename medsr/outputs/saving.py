"""The last step of a bundle: the SR image, its record and its preview on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged

from medsr.data.atomic import write_json_atomic
from medsr.data.suffixes import split_suffix
from medsr.data.writers import write_volume
from medsr.errors import InputError, MedsrError, OutputError
from medsr.geometry import Grid, Scale
from medsr.inferers import SuperResolution, SuperResolutionInferer
from medsr.interpolation import apply_matrices, resampling_matrices
from medsr.outputs.preview import Image, Slicer, draw_preview
from medsr.outputs.record import make_record, trained_range_warnings
from medsr.outputs.staging import staged
from medsr.transforms.intensity import OFFSET, SCALE

logger = logging.getLogger(__name__)

EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha")


class OutputPaths(NamedTuple):
    """Files that belong to one case."""

    image: Path
    record: Path
    preview: Path
    deviation: Path


def output_paths(directory: str | Path, stem: str, postfix: str = "sr", extension: str = ".nii.gz") -> OutputPaths:
    """Where the results of a case go: <stem>_<postfix>.nii.gz, .json, .png and <stem>_<postfix>_std.nii.gz.

    Raises:
        InputError: an extension that cannot be written.
    """
    if extension not in EXTENSIONS:
        raise InputError(f"results are written as {', '.join(EXTENSIONS)}, got {extension!r}")
    base = Path(directory) / f"{stem}_{postfix}" if postfix else Path(directory) / stem
    names = (f"{base}{extension}", f"{base}.json", f"{base}.png", f"{base}_std{extension}")
    return OutputPaths(*(Path(name) for name in names))


class SaveImageWithRecordd(SaveImaged):
    """Write the SR image in float32 on its own grid, with a JSON record and a PNG preview beside it.

    It is a `SaveImaged` so that hosts which save results themselves (MONAI Label, MONAI Deploy) recognise and drop
    it. Nothing is resampled. The files of a case appear complete and together, or not at all.

    Args:
        output_dir: folder, created if absent.
        inferer: the inferer of the run, for its scale, timing, warnings and standard deviation.
        bundle_root: folder with `configs/metadata.json` and `models/model.pt`.
        keys: SR image.
        reference: LR image.
        output_postfix: appended to the case name.
        output_ext: ".nii.gz", ".nii", ".nrrd" or ".mha"; a sheared grid needs NIfTI.
        preview: draw a preview (needs matplotlib).
        settings: further facts for the record: device, precision, seed.
    """

    def __init__(
        self,
        output_dir: str | Path,
        inferer: SuperResolutionInferer,
        bundle_root: str | Path,
        keys: str = "pred",
        reference: str = "image",
        output_postfix: str = "sr",
        output_ext: str = ".nii.gz",
        preview: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        output_paths(output_dir, "case", output_postfix, output_ext)  # a wrong extension is told at once
        self.output_dir = Path(output_dir)
        self.inferer = inferer
        self.bundle_root = Path(bundle_root)
        self.reference = reference
        self.output_postfix = output_postfix
        self.output_ext = output_ext
        self.preview = preview
        self.settings = dict(settings or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the files; `data` is returned as it came, with the image's path under `saved`.

        Raises:
            InputError: the inferer has not run, or the result would replace its input.
            OutputError: the folder or a file cannot be written; none of the case's files appears.
        """
        result = dict(data)
        if self.inferer.last is None:
            raise InputError("nothing to save: the inferer has not run")
        for key in self.key_iterator(result):
            lr_image, sr_image = result[self.reference], result[key]
            source = str(lr_image.meta.get("filename_or_obj", ""))
            stem = str(result.get("stem") or split_suffix(source)[0] or "image")
            paths = output_paths(self.output_dir, stem, self.output_postfix, self.output_ext)
            refuse_to_replace(paths, source)
            self._write(paths, source, lr_image, sr_image, self.inferer.last)
            result["saved"] = str(paths.image)
        return result

    def _write(
        self, paths: OutputPaths, source: str, lr_image: MetaTensor, sr_image: MetaTensor, run: SuperResolution
    ) -> None:
        meta = lr_image.meta
        sr = Grid(tuple(sr_image.shape[1:]), sr_image.affine.numpy())
        lr = Grid(tuple(lr_image.shape[1:]), lr_image.affine.numpy())
        values = lr_image.as_tensor().cpu().float()
        offset, scale = float(meta.get(OFFSET, 0.0)), float(meta.get(SCALE, 1.0))
        metadata = self._metadata()
        trained_on = metadata.get("trained_on", {})
        warnings = [*_listed(meta.get("warnings")), *run.warnings]
        warnings += trained_range_warnings(trained_on, lr, sr, run.scale, (float(values.min()), float(values.max())))
        # the image comes last: where it is, the rest is
        with staged([paths.preview, paths.record, paths.deviation, paths.image]) as files:
            preview, record, deviation, image = files
            sr_values = sr_image.as_tensor().cpu()
            if self.preview:
                try:
                    _draw(preview, values * scale + offset, lr, sr_values, sr, run.scale)
                except OutputError:
                    raise
                except MedsrError as error:
                    warnings.append(str(error))
            for warning in warnings:
                logger.warning("%s: %s", Path(source).name, warning)
            content = make_record(
                source=source,
                metadata=metadata,
                weights=self.bundle_root / "models" / "model.pt",
                lr=lr,
                sr=sr,
                scale=run.scale,
                intensity={"offset": offset, "scale": scale},
                settings=self.settings,
                seconds=run.seconds,
                tiles=run.tiles,
                warnings=warnings,
            )
            write_json_atomic(record, content)
            if run.deviation is not None:
                write_volume(deviation, run.deviation.cpu().numpy()[0, 0] * scale, sr.affine, like=meta)
            write_volume(image, sr_values.numpy()[0], sr.affine, like=meta)

    def _metadata(self) -> dict[str, Any]:
        path = self.bundle_root / "configs" / "metadata.json"
        return json.loads(path.read_text()) if path.is_file() else {}


def refuse_to_replace(paths: OutputPaths, source: str | Path) -> None:
    """Keep a result from taking the place of its input, or of the file of facts beside it (BIDS).

    Raises:
        InputError: the result has the folder and the name of its input, whatever the extensions.
    """
    given = Path(source)
    if not str(source) or given.is_dir() or paths.image.parent.resolve() != given.parent.resolve():
        return
    if split_suffix(given)[0] == split_suffix(paths.image)[0]:
        raise InputError(f"{paths.image} would be named as its input {given.name}; give another folder or name")


def _draw(path: Path, lr_image: torch.Tensor, lr: Grid, sr_image: torch.Tensor, sr: Grid, scale: Scale) -> None:
    """The preview of (1, X, Y, Z) images; only the slices shown are interpolated."""
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
    """The reader's warnings, which travel joined by semicolons."""
    return [part for part in str(text or "").split("; ") if part]
