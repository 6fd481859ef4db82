"""Reasons and warnings for the log: what is wrong, without what a header says of the patient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom

from medsr.data.dicom.decoders import check_deflated
from medsr.data.dicom.errors import BoundedFile, quiet_pydicom

_TOLD = "(hidden)"
_TEXTS = {"AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT"}  # of these any may tell who it is
_ABOUT_THE_PATIENT = 0x0010  # the group of PatientName, PatientID and so on
_SHORTEST = 3  # shorter parts of names would be found in any word
_FOLDERS = re.compile(r"(?<![\w/])/[^\s:;,'\"]*/")


def without_private(message: str, files: Iterable[Path]) -> str:
    """Hide in a message whatever texts the headers of some files hold: names, IDs, dates, descriptions.

    Args:
        message: The message of an error, or a warning.
        files: DICOM files that it may have been made of.

    Returns:
        One line, in which files have no folders.
    """
    words: set[str] = set()
    for file in files:
        try:
            check_deflated(file)
            with quiet_pydicom(), BoundedFile(file) as opened:
                header = pydicom.dcmread(opened, stop_before_pixels=True, force=True)
                words.update(_private(header))
        except Exception:  # pydicom raises what it likes; what the message repeats of such a header cannot be known
            return "the header of an image cannot be read"
    line = _FOLDERS.sub("", " ".join(message.split()))
    for word in sorted(words, key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", _TOLD, line, flags=re.IGNORECASE)
    return line


def _private(header: Any) -> Iterator[str]:
    """Yield all texts of a header, and of names and other facts about the patient their parts."""
    for element in header.iterall():
        if element.VR not in _TEXTS:
            continue
        values = element.value if element.VM > 1 else [element.value]
        about_the_patient = element.VR == "PN" or element.tag.group == _ABOUT_THE_PATIENT
        for value in values:
            text = " ".join(str(value or "").split())
            parts = [text, *(re.split(r"[\s^=,;]+", text) if about_the_patient else ())]
            yield from (part for part in parts if len(part) >= _SHORTEST or (about_the_patient and part == text != ""))
