"""A bundle's inference as a task of the server."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list, name_to_device

from medsr.bundle import Bundle, load_bundle
from medsr.label.enlarging import Enlarged, enlarge, packed
from medsr.label.parameters import parse_request
from medsr.runtime import choose_device

# One image at a time on each device: the memory that a run may take is planned for one.
_BUSY: dict[str, threading.Lock] = defaultdict(threading.Lock)


class SuperResolutionTask(InferTask):
    """A task that enlarges images with a bundle.

    MONAI Label is not told the path of the weights, so clients can neither fetch, replace nor remove them.

    Args:
        bundle: The bundle, which is loaded once so that a server with unusable weights does not start.
        defaults: The entries of `inference.json` that the server sets.

    Raises:
        MedsrError: If the bundle or its weights cannot be used.
    """

    def __init__(self, bundle: Bundle, defaults: Mapping[str, Any]) -> None:
        # Viewers show these entries as a form and send it back; an empty field is one that was not filled in.
        form = {"device": device_list(), "scale": "", "spacing": "", "consistency": False, "uncertainty": False}
        super().__init__(InferType.OTHERS, [], 3, str(bundle.metadata.get("description", "")), form)
        self.bundle = bundle
        self.defaults = dict(defaults)
        load_bundle(bundle, {**self.defaults, "device": "cpu"})

    def is_valid(self) -> bool:
        """Return True, because a task that exists can be used."""
        return True

    def info(self) -> dict[str, Any]:
        """Return the facts by which clients choose a model."""
        metadata = self.bundle.metadata
        facts = {key: metadata[key] for key in ("version", "licence", "intended_use", "trained_on") if key in metadata}
        return {**super().info(), **facts}

    def enlarge(
        self, image: Path, params: Mapping[str, Any], folder: Path, name: str
    ) -> tuple[Enlarged, dict[str, Any]]:
        """Enlarge one image; see `medsr.label.enlarging.enlarge`.

        Args:
            image: The file, archive or DICOM folder.
            params: The parameters of `parse_request`.
            folder: The empty folder for the files.
            name: The client's name of the image.

        Returns:
            The files, and the facts that a client gets with them.
        """
        request = parse_request(params)
        device = choose_device(name_to_device(request.device))  # viewers send a GPU's product name
        started = time.perf_counter()
        with _BUSY[str(device)]:
            defaults = {**self.defaults, "device": device}
            result = enlarge(self.bundle, image, request, folder, name=name, defaults=defaults)
        latencies = {"total": round(time.perf_counter() - started, 2), "infer": result.record["seconds"]}
        return result, {"record": result.record, "label_names": [], "latencies": latencies}

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Enlarge the image of the path `request["image"]`; MONAI Label's own code calls a task in this way."""
        with TemporaryDirectory(prefix="medsr-label-") as folder:
            result, answer = self.enlarge(Path(request["image"]), request, Path(folder), "image")
            return str(packed(result, "image")), answer
