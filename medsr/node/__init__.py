"""A small DICOM node that receives series by C-STORE and sends derived SR series by C-STORE; see docs/dicom_node.md."""

from __future__ import annotations
