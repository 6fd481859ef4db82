"""A bundle's training as a task of the server, on the LR/HR pairs of the datastore."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monai.bundle import create_workflow
from monai.utils import set_determinism
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_list

from medsr.bundle import Bundle
from medsr.errors import InputError

_OF_THE_HOST = frozenset({"model", "bundle_path", "images", "gpus", "multi_gpu", "local_rank", "name", "enqueue"})
_FORM = {"max_epochs": 1, "val_split": 0.2, "pretrained": True}


class TrainingTask(BundleTrainTask):
    """A task that trains a bundle by its own `train.json`, from its shipped weights unless the request says otherwise.

    Besides `max_epochs`, `val_split`, `pretrained` and `device`, a request may replace the numbers of the config
    (`steps_per_epoch`, `learning_rate`, ...). Every run has a new folder below the app's `runs`; the shipped weights
    are never overwritten.

    Args:
        bundle: The bundle to train.
        runs: The folder in which each run gets its own folder.
    """

    def __init__(self, bundle: Bundle, runs: Path) -> None:
        super().__init__(str(bundle.root), {}, load_strict=True)
        self.runs = runs
        self.name = bundle.name

    def numbers(self) -> dict[str, float]:
        """Return the entries of the config that are numbers."""
        entries = {key: value for key, value in self.bundle_config.config.items() if key not in _FORM}
        return {k: v for k, v in entries.items() if isinstance(v, int | float) and not isinstance(v, bool)}

    def config(self) -> dict[str, Any]:
        """Return the parameters that viewers show as a form."""
        return {"device": device_list(), **_FORM, **self.numbers()}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train the bundle on the pairs of the datastore.

        Returns:
            The name of the run, and the path of its weights below the app's folder.

        Raises:
            InputError: If a parameter is unknown or wrong, or there are too few pairs.
        """
        folder = self.runs / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        numbers = self._checked(request)
        pairs = len(self._fetch_datalist(request, datastore))
        if pairs < 2:
            raise InputError(
                f"expected at least two images with their HR images as label 'final', to train and to validate on, "
                f"got {pairs}; upload more by PUT /datastore/label"
            )
        wanted = {key: request[key] for key in (*_FORM, "device") if key in request}
        hook = sys.excepthook
        self._run = {**numbers, "output_dir": str(folder), "resume": False}
        try:
            super().__call__({**_FORM, **wanted, "multi_gpu": False, "model": self.name}, datastore)
        finally:
            sys.excepthook = hook
            set_determinism(None)
        return {"run": folder.name, "weights": str((folder / "model.pt").relative_to(self.runs.parent.parent))}

    def run_single_gpu(self, request: Mapping[str, Any], overrides: dict[str, Any]) -> None:
        """Run the config like `monai.bundle.run`, but leave the server's logging as it is."""
        known = self.bundle_config.config
        entries: dict[str, Any] = {**overrides, **{key: value for key, value in self._run.items() if key in known}}
        workflow = create_workflow(
            config_file=self.bundle_config_path,
            meta_file=self.bundle_metadata_path,
            workflow_type="train",
            logging_file=False,
            **entries,
        )
        workflow.run()
        workflow.finalize()

    def _checked(self, request: Mapping[str, Any]) -> dict[str, float]:
        """Return the numbers of the config that a request replaces.

        Raises:
            InputError: If a parameter is unknown or has a wrong value.
        """
        numbers = self.numbers()
        unknown = sorted(set(request) - _OF_THE_HOST - {*_FORM, "device", *numbers})
        if unknown:
            known = ", ".join((*_FORM, "device", *numbers))
            raise InputError(f"there is no parameter {unknown[0]!r}; use one of {known}")
        for key in {*_FORM, *numbers} - {"pretrained"}:
            value = request.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"expected a number for {key}, got {value!r}; correct it")
        if not 0 < request.get("val_split", _FORM["val_split"]) < 1:
            raise InputError(f"expected a val_split between 0 and 1, got {request['val_split']}; correct it")
        if request.get("max_epochs", 1) < 1:
            raise InputError(f"expected max_epochs of at least 1, got {request['max_epochs']}; correct it")
        return {key: request[key] for key in numbers if key in request}
