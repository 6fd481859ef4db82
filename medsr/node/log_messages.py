"""Reasons and warnings for the log, without anything that a header says about the patient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom

from medsr.data.dicom.decoders import check_deflated
from medsr.data.dicom.errors import BoundedFile, quiet_pydicom

_TOLD = "(hidden)"
_TEXTS = {"AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT"}  # VRs that may identify the patient
_ABOUT_THE_PATIENT = 0x0010  # the group of PatientName, PatientID and so on
_SHORTEST = 3  # characters; shorter parts of names occur in any message
_FOLDERS = re.compile(r"(?<![\w/])/[^\s:;,'\"]*/")


def without_private(message: str, files: Iterable[Path]) -> str:
    """Hide in a message the texts that the headers of some files hold: names, IDs, dates, descriptions.

    Args:
        message: The message of an error or a warning.
        files: The DICOM files that the message may be about.

    Returns:
        The message on one line, with file names but without folders.
    """
    words: set[str] = set()
    for file in files:
        try:
            check_deflated(file)
            with quiet_pydicom(), BoundedFile(file) as opened:
                header = pydicom.dcmread(opened, stop_before_pixels=True, force=True)
                words.update(_private(header))
        except Exception:  # pydicom raises many kinds of error; what the message repeats of the header is unknown
            return "the header of an image cannot be read"
    line = _FOLDERS.sub("", " ".join(message.split()))
    for word in sorted(words, key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", _TOLD, line, flags=re.IGNORECASE)
    return line


def _private(header: Any) -> Iterator[str]:
    """Yield all texts of a header, and also the parts of texts about the patient, such as a first name."""
    for element in header.iterall():
        if element.VR not in _TEXTS:
            continue
        values = element.value if element.VM > 1 else [element.value]
        about_the_patient = element.VR == "PN" or element.tag.group == _ABOUT_THE_PATIENT
        for value in values:
            text = " ".join(str(value or "").split())
            parts = [text, *(re.split(r"[\s^=,;]+", text) if about_the_patient else ())]
            yield from (part for part in parts if len(part) >= _SHORTEST or (about_the_patient and part == text != ""))
