"""Operators of MONAI Deploy applications that enlarge DICOM series to derived series, or an image to an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.deploy.core import ConditionType, Fragment, Image, IOType, OperatorSpec
from monai.deploy.core import Operator as SdkOperator
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator

from medsr.bundle import DEFAULT_BUNDLE, find_bundle
from medsr.bundle.settings import SETTINGS
from medsr.errors import InputError
from medsr.geometry import ScaleLike, ras_lps, spacing_of
from medsr.upscaling import Upscaler
from medsr.weights import check_hash


class SuperResolutionSeriesOperator(SdkOperator):
    """An operator that enlarges DICOM series and writes each result as a derived series.

    medsr's own reader reads the files (it rescales each slice, refuses uneven or missing slices, and gives the exact
    affine), and medsr's own writer writes them, so the results are those of `medsr upscale --format dicom`.

    Named input:
        study_selected_series_list: The series that `DICOMSeriesSelectorOperator` has selected.

    Named output:
        series_folders: A list of paths, one folder for each derived series; its record, `<folder>.json`, is beside it.

    Args:
        fragment: The application.
        args: The conditions of the operator, as for any operator of the SDK.
        output_folder: The folder in which the results appear as sr-1, sr-2 and so on, in the order of the selection.
        bundle: The name of an installed bundle, or a bundle's folder.
        scale: The enlargement, one number or one per array axis.
        spacing: The target voxel size in mm, instead of `scale`.
        settings: Further entries of the bundle's `inference.json` to replace (`device`, `preview`, ...).
        kwargs: Further arguments of the SDK's operators, such as `name`.

    Raises:
        MedsrError: If the bundle is unknown, its weights are unusable, or neither or both of `scale` and `spacing` are
            given.
    """

    SERIES = "study_selected_series_list"
    FOLDERS = "series_folders"

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        output_folder: str | Path,
        bundle: str | Path = DEFAULT_BUNDLE,
        scale: ScaleLike | None = None,
        spacing: float | Sequence[float] | None = None,
        settings: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.bundle = bundle
        self._request: dict[str, Any] = {"preview": False, **(settings or {}), "scale": scale, "spacing": spacing}
        self._request.update(output_dir=str(output_folder), output_ext="dicom", output_postfix="")
        self._upscaler(None)  # refuses a request that cannot be met before the application runs
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports; no other operator needs to take the output."""
        spec.input(self.SERIES)
        spec.output(self.FOLDERS).condition(ConditionType.NONE)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Enlarge the selected series one after the other.

        Raises:
            MedsrError: If no series is selected, or an input cannot be read or a result written.
        """
        selected = [series for study in op_input.receive(self.SERIES) for series in study.selected_series]
        if not selected:
            raise InputError("expected at least one selected series, got none; check the rules of the selector")
        folders = []
        for number, chosen in enumerate(selected, start=1):
            folder, uid = _files_of(chosen.series)
            folders.append(self._upscaler(uid).save(folder, f"sr-{number}"))
        op_output.emit(folders, self.FOLDERS)

    def _upscaler(self, series: str | None) -> Upscaler:
        """Return an upscaler that reads the series of this UID where a folder holds several."""
        return Upscaler(self.bundle, **{**self._request, **({"series": series} if series else {})})


class SuperResolutionOperator(MonaiBundleInferenceOperator):
    """An operator that enlarges an `Image` in memory; it gives float32 on the SR grid, not uint8 on the LR grid.

    The operator trusts the affine of the image. `DICOMSeriesToVolumeOperator` (SDK 4.0.0) exchanges the two in-plane
    spacings, so use its images only if their pixels are square; `SuperResolutionSeriesOperator` reads DICOM files
    itself.

    Named input:
        image: An `Image` with index order (slice, row, column), as the SDK's operators make it.

    Named output:
        pred: An `Image` in the same order, float32, in the units of the input. Its metadata are those of the input with
            the geometry of the SR grid.

    Args:
        fragment: The application.
        args: The conditions of the operator, as for any operator of the SDK.
        app_context: The context of the application.
        bundle: The name of an installed bundle, or a bundle's folder.
        scale: The enlargement, one number or one per array axis (column, row, slice).
        spacing: The target voxel size in mm, instead of `scale`. Without either, the bundle's own default holds.
        kwargs: Further arguments of the SDK's operators, such as `name`.

    Raises:
        MedsrError: If the bundle is unknown, its weights are missing or not those whose hash is recorded, or both
            `scale` and `spacing` are given.
    """

    INPUT = "image"
    OUTPUT = "pred"

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        app_context: Any,
        bundle: str | Path = DEFAULT_BUNDLE,
        scale: ScaleLike | None = None,
        spacing: float | Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        root = find_bundle(bundle)
        stale = root.weights.with_suffix(".ts")
        if stale.exists():
            raise InputError(f"{stale} would be used instead of {root.weights.name}; remove it")
        if not root.weights.is_file():
            raise InputError(f"{root.weights} is missing; copy it there (medsr weights list shows all weight files)")
        check_hash(root.weights)  # the SDK loads the file itself, without this check
        if scale is not None and spacing is not None:
            raise InputError("expected a scale or a target spacing, got both; leave one out")
        self.scale, self.spacing = (
            SETTINGS["scale"].parse("scale", scale),
            SETTINGS["spacing"].parse("spacing", spacing),
        )
        super().__init__(
            fragment,
            *args,
            app_context=app_context,
            input_mapping=[IOMapping(self.INPUT, Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping(self.OUTPUT, Image, IOType.IN_MEMORY)],
            bundle_path=root.root.resolve(),
            **kwargs,
        )

    def _init_config(self, config_names: Any) -> None:
        """Read the config of the bundle, and set the scale or spacing of its inferer."""
        super()._init_config(config_names)
        if self.scale is not None or self.spacing is not None:
            self._inferer.scale, self._inferer.spacing = self.scale, self.spacing

    def pre_process(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Convert images to float32 with a channel axis, as the bundle's loader does, and do the base class's work."""
        loaded = {name: image.float() if image.ndim > 3 else image.float()[None] for name, image in data.items()}
        return super().pre_process(loaded, *args, **kwargs)

    def _send_output(self, value: Any, name: str, metadata: dict[str, Any], op_output: Any, context: Any) -> None:
        """Emit the image in float32 with its own grid, where the base class gives uint8 with the grid of the input."""
        op_output.emit(sr_image(value, metadata), name)


def sr_image(value: Any, metadata: dict[str, Any]) -> Image:
    """Return a MetaTensor (1, X, Y, Z) as an image of the SDK.

    Args:
        value: The MetaTensor.
        metadata: The metadata of the input.

    Returns:
        The image, (Z, Y, X) in float32, with the metadata of the input and the geometry of the MetaTensor.
    """
    affine = np.asarray(value.affine, dtype=np.float64)
    array = np.ascontiguousarray(value.as_tensor().cpu().numpy()[0].transpose(2, 1, 0), dtype=np.float32)
    spacing = np.array(spacing_of(affine))
    geometry = {
        "affine": affine,
        "original_affine": affine,
        "nifti_affine_transform": affine,
        "dicom_affine_transform": ras_lps(affine),
        "spatial_shape": np.array(value.shape[1:]),
        "spacing": spacing,
        # The SDK assigns these names to the axes X, Y, Z of the array in this order.
        **dict(zip(("row_pixel_spacing", "col_pixel_spacing", "depth_pixel_spacing"), spacing.tolist(), strict=True)),
    }
    plain = {key: item.cpu().numpy() if isinstance(item, torch.Tensor) else item for key, item in metadata.items()}
    return Image(array, {**plain, **geometry})


def _files_of(series: Any) -> tuple[Path, str]:
    """Return the folder that holds all files of a series, and the UID by which the reader finds them there.

    Raises:
        InputError: If the series was not loaded from files.
    """
    files = [getattr(sop.get_native_sop_instance(), "filename", None) for sop in series.get_sop_instances()]
    if not files or not all(files):
        raise InputError("expected a series loaded from files, got one without; load it by DICOMDataLoaderOperator")
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(str(file))) for file in files])
    return Path(folder), str(series.SeriesInstanceUID)
