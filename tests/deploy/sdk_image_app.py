"""Run by the SDK's Python: STUDY BUNDLE SCALE RESULT.npz. A DICOM study by the SDK's own loader to an SR image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Operator, OperatorSpec
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator

from medsr.deploy.operators import SuperResolutionOperator


class Keep(Operator):
    """Save what arrives: SR image, and the input it was made of."""

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("lr")
        spec.input("sr")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        lr, sr = op_input.receive("lr"), op_input.receive("sr")
        np.savez(
            sys.argv[4],
            lr=lr.asnumpy(),
            sr=sr.asnumpy(),
            lr_affine=lr.metadata()["nifti_affine_transform"],
            **{key: sr.metadata()[key] for key in ("affine", "nifti_affine_transform", "dicom_affine_transform")},
        )


class ImageApp(Application):
    def compose(self) -> None:
        loader = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=Path(sys.argv[1]), name="loader")
        selector = DICOMSeriesSelectorOperator(self, name="selector")
        volume = DICOMSeriesToVolumeOperator(self, name="volume")
        context = Application.init_app_context([sys.argv[0]])
        enlarge = SuperResolutionOperator(
            self, app_context=context, bundle=sys.argv[2], scale=float(sys.argv[3]), name="enlarge"
        )
        keep = Keep(self, name="keep")
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, volume, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(volume, enlarge, {("image", "image")})
        self.add_flow(volume, keep, {("image", "lr")})
        self.add_flow(enlarge, keep, {("pred", "sr")})


if __name__ == "__main__":
    ImageApp([sys.argv[0]]).run()
