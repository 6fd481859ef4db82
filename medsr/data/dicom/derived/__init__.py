"""Derived DICOM series: an SR volume as new images of the same patient, study and frame of reference."""
