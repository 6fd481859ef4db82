"""The tags that a derived series keeps from its source (PS3.3 A.3 CT Image, A.4 MR Image, C.7, C.8, C.12.1).

Tags are kept by name: tags that are not listed here are dropped. Therefore facts about the acquired slices that are
wrong for the derived ones cannot slip through: dose, tube and gradient settings, matrix and bandwidth, times per slice,
references to raw data, and private tags. (A dose that two series state is counted twice.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import pydicom
from pydicom import uid
from pydicom.config import RAISE
from pydicom.valuerep import validate_value

from medsr.data.dicom.classic import classic_view
from medsr.errors import InputError

SOP_CLASSES = {"MR": uid.MRImageStorage, "CT": uid.CTImageStorage}

# Tags that are true of the patient, the study, and the series' position in space.
_PATIENT = """
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID PatientBirthDate
    PatientBirthTime PatientSex OtherPatientIDsSequence OtherPatientNames EthnicGroup PatientComments
    QualityControlSubject PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription
    PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization
    PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    LongitudinalTemporalInformationModified ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName
    ClinicalTrialSiteID ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
    ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
"""
_STUDY = """
    StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber IssuerOfAccessionNumberSequence StudyDescription
    ReferringPhysicianName ReferringPhysicianIdentificationSequence PhysiciansOfRecord
    PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy RequestingService ReferencedStudySequence
    ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence AdmittingDiagnosesDescription
    AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight PatientSexNeutered PregnancyStatus
    MedicalAlerts Allergies AdditionalPatientHistory AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID
    ServiceEpisodeDescription ClinicalTrialTimePointID ClinicalTrialTimePointDescription
    ClinicalTrialCoordinatingCenterName TimezoneOffsetFromUTC SpecificCharacterSet
"""
_SERIES = """
    Modality BodyPartExamined AnatomicRegionSequence Laterality ProtocolName PatientPosition AnatomicalOrientationType
    RequestAttributesSequence InstitutionName InstitutionAddress InstitutionalDepartmentName FrameOfReferenceUID
    PositionReferenceIndicator
"""
# Tags that are true of the derived images if they are true of every source image.
_IMAGE = """
    AcquisitionNumber AcquisitionDate AcquisitionTime AcquisitionDateTime PhotometricInterpretation
    PresentationLUTShape BurnedInAnnotation RecognizableVisualFeatures RescaleType WindowCenter WindowWidth
    WindowCenterWidthExplanation VOILUTFunction DerivationDescription DerivationCodeSequence
    ContributingEquipmentSequence ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusRoute
    ContrastBolusVolume ContrastBolusTotalDose ContrastBolusIngredient ContrastBolusIngredientConcentration
"""
_OF_MODALITY = {
    "MR": """
        ScanningSequence SequenceVariant ScanOptions MRAcquisitionType SequenceName AngioFlag RepetitionTime EchoTime
        EchoNumbers EchoTrainLength InversionTime TriggerTime FlipAngle NumberOfAverages MagneticFieldStrength
        ImagingFrequency ImagedNucleus ReceiveCoilName TransmitCoilName InPlanePhaseEncodingDirection
        DiffusionBValue DiffusionGradientOrientation
    """,
    "CT": """
        KVP ScanOptions ConvolutionKernel FilterType DataCollectionDiameter ReconstructionDiameter GantryDetectorTilt
    """,
}
# Tags of type 2, which must exist but may be empty.
_ALWAYS = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName PatientPosition PositionReferenceIndicator
"""
_ALWAYS_OF_MODALITY = {
    "MR": "ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength",
    "CT": "KVP AcquisitionNumber",
}
_ONE_OF_A_KIND = ("Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
# The paired parts of the body (PS3.16, annex L).
_PAIRED = """
    ACJOINT ANKLE ARM AXILLA BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CHEEK CLAVICLE CORNEA EAR ELBOW EXTREMITY
    EYE EYELID FEMUR FIBULA FINGER FOOT FOREARM HAND HIP HUMERUS IAC KIDNEY KNEE LEG LUNG ORBIT PAROTID PATELLA RADIUS
    SCAPULA SHOULDER SUBMANDIBULAR THIGH THUMB TIBIA TMJ TOE ULNA WRIST ZYGOMA
"""
_TEXTS = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UI")  # an age must be "042Y", not "42"
_ALWAYS_LOSSY = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless}
_OFTEN_LOSSY = {
    uid.JPEG2000,
    uid.UID("1.2.840.10008.1.2.4.203"),
}  # also high-throughput; lossy unless the header denies it


def check_sources(headers: Sequence[Any]) -> str:
    """Return the modality of a source, "MR" or "CT", after checking that a derived series can be made from it.

    Raises:
        InputError: If there is no header, the modality is another one, the images are of several patients, studies or
            series, or a UID is missing.
    """
    if not headers:
        raise InputError("expected the DICOM headers of the source, got none; a DICOM result needs a DICOM input")
    for keyword in _ONE_OF_A_KIND:
        if len({str(header.get(keyword) or "") for header in headers}) > 1:
            raise InputError(f"expected the images of one series, got different {keyword}; give one series")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
        if not all(header.get(keyword) for header in headers):
            raise InputError(
                f"expected a {keyword} in every image of the source, got one without; repair it or write .nii.gz"
            )
    modality = str(headers[0].get("Modality") or "")
    if modality not in SOP_CLASSES:
        raise InputError(
            f"expected a source of modality MR or CT to write DICOM, got {modality or 'none'}; write .nii.gz instead"
        )
    return modality


def kept_header(headers: Sequence[Any], modality: str) -> pydicom.Dataset:
    """Return the tags that a derived image shares with its source, including those of type 2.

    Args:
        headers: The data sets of the source, classic or enhanced, of one series.
        modality: The modality of the source.
    """
    views = [classic_view(header) for header in headers]
    kept = pydicom.Dataset()
    for keyword in _words(_PATIENT, _STUDY, _SERIES):
        if keyword in views[0] and _may_be_kept(views[0][keyword]):
            kept.add(deepcopy(views[0][keyword]))
    for keyword in _words(_IMAGE, _OF_MODALITY[modality]):
        same = all(keyword in view and view[keyword].value == views[0][keyword].value for view in views)
        if same and _may_be_kept(views[0][keyword]):
            kept.add(deepcopy(views[0][keyword]))
    for keyword in _words(_ALWAYS, _ALWAYS_OF_MODALITY[modality]):
        if keyword not in kept:
            setattr(kept, keyword, None)
    kept.SOPClassUID = SOP_CLASSES[modality]
    kept.ImageType = ["DERIVED", "SECONDARY", *_third_values(views, modality)]
    if modality == "MR":
        _complete_sequence(kept)
    _complete_laterality(kept)
    _keep_warnings(kept, headers)
    kept.remove_private_tags()  # removes those inside kept sequences
    return kept


def _words(*texts: str) -> Iterable[str]:
    return " ".join(texts).split()


def _may_be_kept(element: Any) -> bool:
    """Return whether a value is well-formed; values that identify the patient or the study are kept in any case."""
    if element.VR not in _TEXTS or element.keyword in _words(_ALWAYS, "StudyInstanceUID FrameOfReferenceUID Modality"):
        return True
    try:
        for value in element.value if element.VM > 1 else [element.value]:
            validate_value(element.VR, "" if value is None else str(value), RAISE)
    except ValueError:
        return False
    return True


def _third_values(views: Sequence[Any], modality: str) -> list[str]:
    """Return ImageType from its third value on if all images agree: AXIAL for CT, the kind of image for MR (M, P)."""
    first = [str(v) for v in views[0].get("ImageType") or ()][2:]
    same = all([str(v) for v in view.get("ImageType") or ()][2:] == first for view in views)
    if modality == "CT":  # in CT it is type 1, and there are two possible values
        return first if same and first[:1] in (["AXIAL"], ["LOCALIZER"]) else ["AXIAL"]
    return first if same and first else ["OTHER"]


def _complete_sequence(kept: pydicom.Dataset) -> None:
    """Fill the tags that the MR Image module demands."""
    if not kept.get("ScanningSequence"):
        kept.ScanningSequence = "RM"  # "research mode", the only value that does not claim a pulse sequence
    if not kept.get("SequenceVariant"):
        kept.SequenceVariant = "NONE"
    if "IR" in kept.ScanningSequence and "InversionTime" not in kept:
        kept.InversionTime = None


def _complete_laterality(kept: pydicom.Dataset) -> None:
    """Add an empty Laterality if the part of the body is paired or unknown, as the standard demands, else remove it."""
    part = str(kept.get("BodyPartExamined") or "")
    if kept.get("Laterality"):
        return
    if not part or part in _words(_PAIRED):
        kept.Laterality = None
    elif "Laterality" in kept:
        del kept.Laterality


def _keep_warnings(kept: pydicom.Dataset, headers: Sequence[Any]) -> None:
    """Keep the tags that warn of lossy compression or burned-in text in any image of the source."""
    lossy = [header for header in headers if _is_lossy(header)]
    if lossy:
        kept.LossyImageCompression = "01"
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if lossy[0].get(keyword) is not None:
                kept.add(deepcopy(lossy[0][keyword]))
    elif all(header.get("LossyImageCompression") == "00" for header in headers):
        kept.LossyImageCompression = "00"
    for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"):
        if any(header.get(keyword) == "YES" for header in headers):
            setattr(kept, keyword, "YES")


def _is_lossy(header: Any) -> bool:
    syntax = getattr(header, "file_meta", pydicom.Dataset()).get("TransferSyntaxUID")
    flag = header.get("LossyImageCompression")
    return flag == "01" or syntax in _ALWAYS_LOSSY or (syntax in _OFTEN_LOSSY and flag != "00")
