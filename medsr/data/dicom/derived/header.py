"""The tags that a derived series keeps from its source (PS3.3 A.3 CT Image, A.4 MR Image, C.7, C.8, C.12.1).

Tags are kept by name: what is not listed here is dropped. So dose, tube and gradient settings, matrix and bandwidth,
times per slice, raw-data references and private tags, which are facts about the acquired slices and wrong of the
derived ones, cannot slip through. A dose that two series state is counted twice.
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

# True of the patient, the study and the series' place in space.
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
# True of the derived images where it is true of every source image.
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
# Type 2: there, if without a value.
_ALWAYS = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName PatientPosition PositionReferenceIndicator
"""
_ALWAYS_OF_MODALITY = {
    "MR": "ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength",
    "CT": "KVP AcquisitionNumber",
}
_ONE_OF_A_KIND = ("Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID")
# Parts of the body of which there are two (PS3.16, annex L).
_PAIRED = """
    ACJOINT ANKLE ARM AXILLA BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CHEEK CLAVICLE CORNEA EAR ELBOW EXTREMITY
    EYE EYELID FEMUR FIBULA FINGER FOOT FOREARM HAND HIP HUMERUS IAC KIDNEY KNEE LEG LUNG ORBIT PAROTID PATELLA RADIUS
    SCAPULA SHOULDER SUBMANDIBULAR THIGH THUMB TIBIA TMJ TOE ULNA WRIST ZYGOMA
"""
_TEXTS = ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UI")  # an age of "42" is none: "042Y" is
_ALWAYS_LOSSY = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless}
_OFTEN_LOSSY = {uid.JPEG2000, uid.UID("1.2.840.10008.1.2.4.203")}  # high-throughput too; unless the header says not


def check_sources(headers: Sequence[Any]) -> str:
    """Return the modality of a source that a derived series can be made of, "MR" or "CT".

    Raises:
        InputError: Nothing, another modality, images of several patients, studies or series, or without UIDs.
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
    """Return the tags that a derived image shares with its source, type 2 tags included.

    Args:
        headers: Data sets of the source, classic or enhanced, one series.
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
    kept.remove_private_tags()  # those inside kept sequences
    return kept


def _words(*texts: str) -> Iterable[str]:
    return " ".join(texts).split()


def _may_be_kept(element: Any) -> bool:
    """Whether a value is well-formed; what identifies the patient and the study stays as it is, well-formed or not."""
    if element.VR not in _TEXTS or element.keyword in _words(_ALWAYS, "StudyInstanceUID FrameOfReferenceUID Modality"):
        return True
    try:
        for value in element.value if element.VM > 1 else [element.value]:
            validate_value(element.VR, "" if value is None else str(value), RAISE)
    except ValueError:
        return False
    return True


def _third_values(views: Sequence[Any], modality: str) -> list[str]:
    """ImageType from its third value on, where all images agree: AXIAL of CT, what kind of MR image (M, P, ...)."""
    first = [str(v) for v in views[0].get("ImageType") or ()][2:]
    same = all([str(v) for v in view.get("ImageType") or ()][2:] == first for view in views)
    if modality == "CT":  # type 1 there, with two values to choose from
        return first if same and first[:1] in (["AXIAL"], ["LOCALIZER"]) else ["AXIAL"]
    return first if same and first else ["OTHER"]


def _complete_sequence(kept: pydicom.Dataset) -> None:
    """Fill what the MR Image module demands."""
    if not kept.get("ScanningSequence"):
        kept.ScanningSequence = "RM"  # "research mode": the one value that claims no pulse sequence
    if not kept.get("SequenceVariant"):
        kept.SequenceVariant = "NONE"
    if "IR" in kept.ScanningSequence and "InversionTime" not in kept:
        kept.InversionTime = None


def _complete_laterality(kept: pydicom.Dataset) -> None:
    """Have an empty Laterality exactly where the standard wants one: a paired or unknown part of the body."""
    part = str(kept.get("BodyPartExamined") or "")
    if kept.get("Laterality"):
        return
    if not part or part in _words(_PAIRED):
        kept.Laterality = None
    elif "Laterality" in kept:
        del kept.Laterality


def _keep_warnings(kept: pydicom.Dataset, headers: Sequence[Any]) -> None:
    """Carry over what a reader must know of the source: lossy compression, burned-in text; any image counts."""
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
