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
from medsr.errors import InputError, MedsrError
from medsr.geometry import Grid
from medsr.inferers import SuperResolutionInferer
from medsr.interpolation import resize
from medsr.outputs.preview import draw_preview
from medsr.outputs.record import make_record, trained_range_warnings
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
    it. Nothing is resampled, and every file appears complete or not at all; the image comes last.

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
        """Write the files; `data` is returned as it came, with their paths under `saved`.

        Raises:
            OutputError: the folder or a file cannot be written.
        """
        result = dict(data)
        lr_image, run = result[self.reference], self.inferer.last
        if run is None:
            raise InputError("nothing to save: the inferer has not run")
        for key in self.key_iterator(result):
            sr_image = result[key]
            meta = lr_image.meta
            source = str(meta.get("filename_or_obj", ""))
            paths = output_paths(
                self.output_dir, str(result.get("stem") or split_suffix(source)[0]), self.output_postfix, self.output_ext
            )
            sr = Grid(tuple(sr_image.shape[1:]), sr_image.affine.numpy())
            lr = Grid(tuple(lr_image.shape[1:]), lr_image.affine.numpy())
            metadata = self._metadata()
            warnings = [*_listed(meta.get("warnings")), *run.warnings]
            warnings += trained_range_warnings(metadata.get("trained_on", {}), lr, sr, run.scale)
            for warning in warnings:
                logger.warning("%s: %s", Path(source).name, warning)
            scale = float(meta.get(SCALE, 1.0))
            if self.preview:
                try:
                    self._draw(paths, lr_image, lr, sr_image, sr, scale, float(meta.get(OFFSET, 0.0)))
                except MedsrError as error:
                    warnings.append(str(error))
            record = make_record(
                source=source,
                metadata=metadata,
                weights=self.bundle_root / "models" / "model.pt",
                lr=lr,
                sr=sr,
                scale=run.scale,
                intensity={"offset": float(meta.get(OFFSET, 0.0)), "scale": scale},
                settings=self.settings,
                seconds=run.seconds,
                tiles=run.tiles,
                warnings=warnings,
            )
            write_json_atomic(paths.record, record)
            if run.deviation is not None:
                write_volume(paths.deviation, run.deviation.numpy()[0, 0] * scale, sr.affine, like=meta)
            write_volume(paths.image, sr_image.as_tensor().cpu().numpy()[0], sr.affine, like=meta)
            result["saved"] = str(paths.image)
        return result

    def _metadata(self) -> dict[str, Any]:
        path = self.bundle_root / "configs" / "metadata.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def _draw(
        self,
        paths: OutputPaths,
        lr_image: MetaTensor,
        lr: Grid,
        sr_image: MetaTensor,
        sr: Grid,
        scale: float,
        offset: float,
    ) -> None:
        assert self.inferer.last is not None
        values = lr_image.as_tensor().cpu().float() * scale + offset
        interpolated = resize(values[None], self.inferer.last.scale, new_shape=sr.shape)[0, 0]
        panels: dict[str, tuple[torch.Tensor, Grid]] = {
            "LR": (values[0], lr),
            "cubic spline": (interpolated, sr),
            "SR": (sr_image.as_tensor().cpu()[0], sr),
        }
        draw_preview(paths.preview, {name: (np.asarray(image), grid) for name, (image, grid) in panels.items()})


def _listed(text: Any) -> list[str]:
    """The reader's warnings, which travel joined by semicolons."""
    return [part for part in str(text or "").split("; ") if part]
