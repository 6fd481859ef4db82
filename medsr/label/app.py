"""The app of medsr for a MONAI Label server."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import monailabel
import torch
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.sessions import Sessions

from medsr.bundle import Bundle, find_bundle, list_bundles
from medsr.data.dicom.archives import is_archive
from medsr.data.volume import MAX_VOXELS_VARIABLE
from medsr.errors import InputError
from medsr.label.datastore import StudiesFolder
from medsr.label.enlarging import packed
from medsr.label.parameters import parse_request
from medsr.label.refusals import NOT_FOUND, refusal
from medsr.label.tasks import SuperResolutionTask
from medsr.label.training import TrainingTask
from medsr.label.uploads import MAX_BYTES_VARIABLE, check_upload, is_received
from medsr.outputs.naming import DICOM
from medsr.version import __version__

logger = logging.getLogger(__name__)

_UPLOAD = "the upload"
_CONF = ("models", "paths", "max_voxels", "max_result_voxels", "max_upload_bytes", "skip_trainers", "server_mode")


class MedsrApp(MONAILabelApp):
    """An app that offers super-resolution by medsr's bundles.

    Args:
        app_dir: The folder with `main.py`; trained networks go to its `runs`.
        studies: The folder of images, or the address of a DICOMweb server.
        conf: The entries of `--conf`. `models`: the names of bundles, or "all" (default); `paths`: folders below which
            clients may name files of the server, besides the studies; `max_voxels`: the limit for an input (default
            2^30, or the environment variable MEDSR_MAX_VOXELS); `max_result_voxels`: the limit for a result (default
            2^30); `max_upload_bytes` (default 2^32); `skip_trainers`: "true" offers no training.

    Raises:
        InputError: If an entry of `conf` is unknown or wrong, or a bundle cannot be used.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        # MONAI Label logs every request with its paths and file names, which may identify a patient.
        logging.getLogger("monailabel").setLevel(logging.WARNING)
        logging.getLogger("medsr").setLevel(logging.ERROR)  # the client gets warnings in the record
        unknown = sorted(set(conf) - set(_CONF))
        if unknown:
            raise InputError(f"there is no --conf {unknown[0]}; use one of {', '.join(_CONF[:-1])}")
        if "max_voxels" in conf:
            os.environ[MAX_VOXELS_VARIABLE] = str(_count(conf, "max_voxels"))
        if "max_upload_bytes" in conf:
            os.environ[MAX_BYTES_VARIABLE] = str(_count(conf, "max_upload_bytes"))
        self.bundles = _bundles(conf.get("models", "all"))
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"medsr {__version__} (MONAI Label {monailabel.__version__})",
            description="Super-resolution of medical images. Research use only; not for diagnosis.",
            version=__version__,
        )

    def init_datastore(self) -> Datastore:
        """Return the studies: a folder with DICOM series among its images, or a DICOMweb server."""
        if self.studies.startswith(("http://", "https://")):
            settings.MONAI_LABEL_DICOMWEB_CONVERT_TO_NIFTI = False  # medsr's reader checks what conversion would hide
            return super().init_datastore()
        reload, read_only = settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD, settings.MONAI_LABEL_DATASTORE_READ_ONLY
        return StudiesFolder(self.studies, reload, read_only)

    def init_infers(self) -> dict[str, InferTask]:
        """Return one task for each bundle."""
        count = _count(self.conf, "max_result_voxels") if "max_result_voxels" in self.conf else None
        defaults = {} if count is None else {"inferer::max_voxels": count}
        return {bundle.name: SuperResolutionTask(bundle, defaults) for bundle in self.bundles}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return one task for each bundle that can be trained."""
        if self.conf.get("skip_trainers", "").lower() == "true":
            return {}
        runs = Path(self.app_dir) / "runs"
        tasks = {bundle.name: TrainingTask(bundle, runs / bundle.name) for bundle in self.bundles}
        return {name: task for name, task in tasks.items() if task.is_valid()}

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Enlarge one image.

        Args:
            request: The entries `model`; `image`, an id or a path; the parameters of `parse_request`; `save_label` and
                `label_tag` to keep the result in the datastore, its maps under the tags "consistency" and
                "uncertainty".
            datastore: The datastore to use instead of the app's own.

        Returns:
            The label or file, its tag, and the facts about the result as "params".

        Raises:
            HTTPException: If the model or the image is unknown (404), or the request or the image cannot be used (400).
        """
        store = datastore or self.datastore()
        names: dict[Path, str] = {}
        places = {bundle.root: f"bundle {bundle.name}" for bundle in self.bundles}
        try:
            task = self._infers[self._model(request, self._infers)]
            image, known = self._locate(request.get("image"), store)
            names[image] = str(request["image"]) if known else _UPLOAD if is_received(image) else "the image"
            if not known and image.is_file():
                check_upload(image)
            keep = known and bool(request.get("save_label"))
            if keep and parse_request(request).extension == DICOM:
                raise InputError("derived series are not kept in the datastore; omit save_label or result_extension")
            with TemporaryDirectory(prefix="medsr-label-") as folder:
                places[Path(folder)] = "the result"
                result, facts = task.enlarge(image, request, Path(folder), names[image])
                tag = str(request.get("label_tag") or "original")
                if not keep:
                    file = str(packed(result, str(request["image"]) if known else "image"))
                    return {"label": file, "tag": tag, "file": file, "params": facts}
                for key, path in {tag: result.image, **result.maps}.items():
                    info = {"model": request["model"], "params": facts}
                    label = _save(store, str(request["image"]), path, key, info)
                return {"label": label, "tag": tag, "file": None, "params": facts}
        except Exception as error:
            answer = refusal(error, names, places)  # needs the upload, which holds the names that must be hidden
            for path in names:
                if is_received(path):  # the endpoint removes an upload only after a success
                    path.unlink(missing_ok=True)
            raise answer from None

    def batch_infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Enlarge many images of the datastore; one that cannot be enlarged does not stop the others.

        Returns:
            What `infer` returns for each image, or the reason as "error".

        Raises:
            HTTPException: If the model is unknown (404), or the request cannot be used (400).
            SystemExit: If an image cannot be enlarged, or for the same reasons, in a background task.
        """
        try:
            self._model(request, self._infers)
            parse_request(request)
        except Exception as error:
            raise self._last_word(refusal(error, {})) from None
        several = torch.cuda.device_count() > 1 and bool(request.get("multi_gpu", True))
        result = self._batch_infer(
            {**request, "multi_gpu": several}, datastore or self.datastore(), self._infer_or_tell
        )
        if not self._server_mode:
            _end_background_task(result)
        return dict(result)

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Train a bundle on the datastore's images and their labels "final"; see `TrainingTask`.

        Raises:
            HTTPException: If the model is unknown (404), or the parameters or the images cannot be used (400).
            SystemExit: If training fails for the same reasons in a background task.
        """
        names: dict[Path, str] = {}
        try:
            self._model(request, self._trainers)
            store = self.datastore()
            names = store.names() if isinstance(store, StudiesFolder) else {}
            return dict(super().train(request))
        except (Exception, SystemExit) as error:  # a bundle's program ends by SystemExit, which must not end the server
            raise self._last_word(refusal(error, names)) from None

    def _model(self, request: Mapping[str, Any], tasks: Mapping[str, Any]) -> str:
        """Return the model of a request.

        Raises:
            HTTPException: If no task has this model.
        """
        model = request.get("model")
        if model not in tasks:
            there = ", ".join(tasks) or "none"
            raise HTTPException(NOT_FOUND, f"there is no model {str(model)[:60]!r} for this; use one of: {there}")
        return str(model)

    def _locate(self, image: Any, datastore: Datastore) -> tuple[Path, bool]:
        """Return the file or folder of an image that a request names, and whether it belongs to the datastore.

        Raises:
            HTTPException: If there is no such image, or the client may not use it.
        """
        if isinstance(image, str) and image:
            path = Path(image)
            if path.is_absolute():
                if path.exists() and self._is_allowed(path):
                    return path, False
            elif path.name == image:  # an id has no separators, because a remote datastore makes a path of it
                uri = _fetched(image, datastore)
                if uri and os.path.exists(uri):
                    return Path(uri), True
        raise HTTPException(
            NOT_FOUND,
            "there is no such image; use an id of GET /datastore/?output=all, an upload, or a path below the studies "
            "or a folder of --conf paths",
        )

    def _is_allowed(self, path: Path) -> bool:
        """Return whether a client may name a file or folder of the server."""
        if is_received(path):
            return True
        folders = [folder for folder in self.conf.get("paths", "").split(os.pathsep) if folder]
        folders += [self.studies] if os.path.isdir(self.studies) else []
        folders += [self._sessions.store_path] if self._sessions is not None else []
        return any(path.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)

    def _infer_or_tell(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Return what `infer` returns, or the reason of its error as "error"."""
        try:
            return self.infer(request, datastore)
        except HTTPException as error:
            return {"error": error.detail}

    def _last_word(self, error: HTTPException) -> BaseException:
        """Return the exception that reports an error: an answer, or in a background task an exit with a last line."""
        return error if self._server_mode else SystemExit(f"medsr: error: {error.detail}")

    def _load_sessions(self, load: bool = False) -> Sessions | None:
        """Return the sessions of the server, which unpack nothing."""
        if not load:
            return None
        return _Sessions(settings.MONAI_LABEL_SESSION_PATH, settings.MONAI_LABEL_SESSION_EXPIRY)

    def _download_dcmqi_tools(self) -> None:
        """Do nothing, where the base class downloads tools for segmentations."""


class _Sessions(Sessions):
    """The sessions of the server, which unpack nothing: the reader takes archives and checks their content."""

    def add_session(self, data_file: str, expiry: int = 0, uncompress: bool = False, session_id: Any = None) -> Any:
        """Add a session without unpacking its file.

        Raises:
            HTTPException: If the file is to be unpacked and is not a .zip.
        """
        if uncompress and not is_archive(data_file):
            received = Path(data_file).parent
            if is_received(received):
                shutil.rmtree(received, ignore_errors=True)
            raise refusal(InputError("expected a .zip of a DICOM series, got another kind of archive; send a .zip"), {})
        return super().add_session(data_file, expiry, False, session_id)


def _bundles(names: str) -> list[Bundle]:
    """Return the bundles that `--conf models` names."""
    if names.strip() == "all":
        return [bundle for bundle in list_bundles() if bundle.enlarges]
    return [find_bundle(name.strip()) for name in names.split(",") if name.strip()]


def _count(conf: Mapping[str, str], key: str) -> int:
    """Return an entry of `conf` that is a number.

    Raises:
        InputError: If the entry is not a whole number of at least 1.
    """
    if not conf[key].isdigit() or int(conf[key]) < 1:
        raise InputError(f"expected a whole number of at least 1 for --conf {key}, got {conf[key]!r}; correct it")
    return int(conf[key])


def _end_background_task(result: Mapping[str, dict[str, Any]]) -> None:
    """End a background task with an error if an image failed; its output goes to a log, which names no image.

    Raises:
        SystemExit: If an image failed.
    """
    lines = [
        f"image {place} in the order of the ids: {done['error'].replace(image, 'the image')}"
        for place, (image, done) in enumerate(sorted(result.items()), start=1)
        if "error" in done
    ]
    if lines:
        raise SystemExit("\n".join((f"medsr: error: {len(lines)} of {len(result)} images failed", *lines)))


def _fetched(image: str, datastore: Datastore) -> str:
    """Return the path of an image, which a remote datastore first fetches.

    Raises:
        InputError: If the remote datastore cannot give the image.
    """
    try:
        return str(datastore.get_image_uri(image))
    except Exception as error:  # the client of a remote datastore raises many kinds of error
        logger.error("the remote datastore gave no image (%s); check that server", type(error).__name__)
        raise InputError("the DICOMweb server gave no series of this UID; check the UID and that server") from error


def _save(store: Datastore, image: str, file: Path, tag: str, info: dict[str, Any]) -> str:
    """Save a result as a label in the datastore, and return the label's id."""
    if isinstance(store, StudiesFolder):
        return store.save_result(image, file, tag, info)
    return str(store.save_label(image, str(file), tag, info))
