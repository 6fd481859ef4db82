"""Give the tags of an enhanced multi-frame image the names that they have in classic MR and CT images.

An enhanced image has in functional groups the tags that a classic one has at the top level (PS3.3 C.7.6.16, C.8.13,
C.8.15), and describes its pulse sequence by other tags.
"""

from __future__ import annotations

from typing import Any

import pydicom

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")

# The classic keyword, and the functional group and the keyword in an enhanced image.
_FROM_GROUPS = {
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "RescaleType": ("PixelValueTransformationSequence", "RescaleType"),
    "WindowCenter": ("FrameVOILUTSequence", "WindowCenter"),
    "WindowWidth": ("FrameVOILUTSequence", "WindowWidth"),
    "WindowCenterWidthExplanation": ("FrameVOILUTSequence", "WindowCenterWidthExplanation"),
    "VOILUTFunction": ("FrameVOILUTSequence", "VOILUTFunction"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "EchoTrainLength": ("MRTimingAndRelatedParametersSequence", "EchoTrainLength"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "NumberOfAverages": ("MRAveragesSequence", "NumberOfAverages"),
    "ImagingFrequency": ("MRImagingModifierSequence", "TransmitterFrequency"),
    "ReceiveCoilName": ("MRReceiveCoilSequence", "ReceiveCoilName"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "KVP": ("CTXRayDetailsSequence", "KVP"),
    "FilterType": ("CTXRayDetailsSequence", "FilterType"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "ReconstructionDiameter": ("CTReconstructionSequence", "ReconstructionDiameter"),
    "DataCollectionDiameter": ("CTAcquisitionDetailsSequence", "DataCollectionDiameter"),
    "GantryDetectorTilt": ("CTAcquisitionDetailsSequence", "GantryDetectorTilt"),
}
_NUMBERS = {"FD", "FL"}  # binary in functional groups, decimal text in classic images


def is_enhanced(header: Any) -> bool:
    """Return whether an image keeps its tags in functional groups."""
    return any(header.get(group) for group in _GROUPS)


def classic_view(header: Any) -> Any:
    """Return a data set with classic keywords for an enhanced header, or a classic header itself.

    Tags in which the frames differ are omitted.
    """
    if not is_enhanced(header):
        return header
    view = pydicom.Dataset()
    for element in header:
        if element.keyword not in (*_GROUPS, "ImageType"):
            view.add(element)
    view.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if header.get("Modality") == "CT" else "OTHER"]
    for keyword, (group, name) in _FROM_GROUPS.items():
        element = _common(header, group, name)
        if element is not None and element.value not in (None, ""):
            setattr(view, keyword, _plain(element))
    if header.get("Modality") == "MR":
        view.ScanningSequence, view.SequenceVariant = _pulse_sequence(header)
    return view


def _common(header: Any, group: str, name: str) -> Any | None:
    """Return the element of a tag if it has the same value in all frames, else None."""
    found = [
        item[group][0].get(name) is not None and item[group][0][name]
        for sequence in _GROUPS
        for item in header.get(sequence) or ()
        if item.get(group)
    ]
    values = [element for element in found if element is not False]
    return values[0] if values and all(v.value == values[0].value for v in values) else None


def _plain(element: Any) -> Any:
    if element.VR not in _NUMBERS:
        return element.value
    values = [f"{float(v):.9g}" for v in (element.value if element.VM > 1 else [element.value])]
    return values[0]  # the classic tags have a single value


def _pulse_sequence(header: Any) -> tuple[list[str], list[str]]:
    """Return ScanningSequence and SequenceVariant (PS3.3 C.8.3.1) by the MR Pulse Sequence module (C.8.13.4)."""
    kind = str(header.get("EchoPulseSequence") or "")
    scanning = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(kind, [])
    if header.get("EchoPlanarPulseSequence") == "YES":
        scanning.append("EP")
    if _modifier(header, "InversionRecovery") == "YES":
        scanning.append("IR")
    variants = []
    if header.get("SegmentedKSpaceTraversal") in ("PARTIAL", "FULL"):
        variants.append("SK")
    if str(header.get("SteadyStatePulseSequence") or "NONE") != "NONE":
        variants.append("SS")
    if _modifier(header, "Spoiling") not in (None, "NONE"):
        variants.append("SP")
    if _modifier(header, "MagnetizationTransfer") not in (None, "NONE"):
        variants.append("MTC")
    return scanning or ["RM"], variants or ["NONE"]


def _modifier(header: Any, name: str) -> Any:
    element = _common(header, "MRModifierSequence", name) or _common(header, "MRImagingModifierSequence", name)
    return None if element is None else element.value
