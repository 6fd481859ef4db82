"""A small DICOM node: series in by C-STORE, derived SR series out by C-STORE. See docs/dicom_node.md."""

from __future__ import annotations
