"""A MONAI Deploy application that makes a derived SR series of every series of a study.

    python deploy/monai_deploy/app.py --input STUDY --output OUT

`MEDSR_BUNDLE` (default: the default bundle of medsr) and `MEDSR_SCALE` (default: 2) choose the method and the scale.
"""

from __future__ import annotations

import os
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator

from medsr.bundle import DEFAULT_BUNDLE
from medsr.deploy.operators import SuperResolutionSeriesOperator

# Only MR and CT, because other modalities cannot be written as derived series.
RULES = """
{"selections": [{"name": "images", "conditions": {"Modality": "(?i)^(MR|CT)$"}}]}
"""


class SuperResolutionApp(Application):
    """An application that loads a study, selects its series, enlarges them and writes the derived series."""

    def compose(self) -> None:
        """Connect the operators."""
        context = Application.init_app_context(self.argv)
        loader = DICOMDataLoaderOperator(
            self, CountCondition(self, 1), input_folder=Path(context.input_path), name="loader"
        )
        selector = DICOMSeriesSelectorOperator(self, rules=RULES, all_matched=True, name="selector")
        enlarge = SuperResolutionSeriesOperator(
            self,
            output_folder=Path(context.output_path),
            bundle=os.environ.get("MEDSR_BUNDLE", DEFAULT_BUNDLE),
            scale=float(os.environ.get("MEDSR_SCALE", "2")),
            name="super_resolution",
        )
        self.add_flow(loader, selector, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(selector, enlarge, {("study_selected_series_list", "study_selected_series_list")})


if __name__ == "__main__":
    SuperResolutionApp().run()
