"""A datastore in which DICOM series are images too, and which checks what clients send."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore

from medsr.data.dicom.archives import ARCHIVE
from medsr.data.dicom.reading import is_dicom
from medsr.data.readers import read_volume
from medsr.errors import InputError
from medsr.files.suffixes import split_suffix
from medsr.label.refusals import refusal
from medsr.label.uploads import UPLOADS, check_upload, is_received

_NAME = re.compile(r"[\w-][\w .@+-]{0,199}")


class StudiesFolder(LocalDatastore):
    """The local datastore of MONAI Label, with three differences.

    Images are all files that medsr reads as one image, archives of DICOM series, and folders that hold DICOM files at
    any depth; the name of such a folder is its id. An upload must be a readable image within the limit on voxels. Ids
    and tags, which become file names, have no path separators.

    Args:
        path: The folder of the studies.
        auto_reload: Whether to watch the folder for changes.
        read_only: Whether to list only images that are listed already.
    """

    def __init__(self, path: str, auto_reload: bool, read_only: bool) -> None:
        extensions = [f"*{suffix}" for suffix in (*UPLOADS, *ARCHIVE)]
        super().__init__(path, extensions=extensions, auto_reload=auto_reload, read_only=read_only)

    def names(self) -> dict[Path, str]:
        """Return the name by which clients know each image and label, by its file."""
        found = {}
        for image in super().list_images():
            found[Path(super().get_image_uri(image))] = image
            for tag in self.get_labels_by_image_id(image):
                found[Path(self.get_label_uri(image, tag))] = f"the label {tag} of {image}"
        return found

    def list_images(self) -> list[str]:
        """Return the ids of all images, also of folders that are new."""
        self.refresh()
        return list(super().list_images())

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of an image, or an empty text if there is none."""
        if not super().get_image_uri(image_id):
            self.refresh()
        return str(super().get_image_uri(image_id))

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an image that a client sent.

        Raises:
            HTTPException: If the id or the file cannot be used.
        """
        self._check(image_id, Path(image_filename))
        return str(super().add_image(image_id, image_filename, image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Add a label that a client sent: the HR image of a pair.

        Raises:
            HTTPException: If the tag or the file cannot be used, or there is no such image.
        """
        self._check(f"{label_tag}", Path(label_filename))
        return self.save_result(image_id, Path(label_filename), label_tag, label_info)

    def save_result(self, image_id: str, file: Path, tag: str, info: dict[str, Any]) -> str:
        """Add a label that the server made.

        Raises:
            InputError: If the tag is not a plain file name.
            HTTPException: If there is no such image.
        """
        check_name(tag)
        if not self.get_image_uri(image_id):
            raise refusal(InputError(f"there is no image {image_id!r} to save a label for; add it first"), {})
        return str(super().save_label(image_id, str(file), tag, info))

    def _check(self, name: str, file: Path) -> None:
        """Refuse a name or an upload that cannot be used, and remove the upload.

        Raises:
            HTTPException: If the name is not a plain file name, or the upload is not a readable image.
        """
        try:
            check_name(name)
            check_upload(file)
            read_volume(file)
        except Exception as error:
            answer = refusal(error, {file: "the upload"})
            if is_received(file):  # the endpoint removes an upload only after a success
                file.unlink(missing_ok=True)
            raise answer from None

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        """Return the files of a folder, and for the folder of images the folders that hold DICOM files too."""
        found = {name: file for name, file in super()._list_files(path, patterns).items() if not name.startswith(".")}
        folder = Path(path).resolve()
        if folder == Path(self._datastore.image_path()).resolve():
            labels = Path(self._datastore.label_path(None)).resolve()
            inner = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
            found.update({e.name: e.name for e in inner if e.resolve() != labels and _holds_dicom(e)})
        return found

    def _to_id(self, file: str) -> tuple[str, str]:
        """Split the name of a file into an id and an extension."""
        if (Path(self._datastore.image_path()) / file).is_dir():
            return file, ""
        name = file[: -len(ARCHIVE[0])] if file.lower().endswith(ARCHIVE) else split_suffix(file)[0]
        return name, file[len(name) :]


def check_name(name: str) -> None:
    """Refuse an id or tag that is not a plain file name.

    Raises:
        InputError: If the name has separators, starts with a dot, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"expected an id or tag of letters, digits, spaces and - _ . @ +, got {name[:60]!r}; choose another name"
        )


def _holds_dicom(folder: Path) -> bool:
    """Return whether a folder holds a DICOM file at any depth."""
    for place, _, files in os.walk(folder):
        for file in files:
            try:
                if is_dicom(Path(place, file)):
                    return True
            except OSError:
                continue
    return False
