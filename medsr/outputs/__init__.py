"""The results of a run: the SR image, a record of how it was made, and a preview."""

from medsr.files.hashes import sha256_of
from medsr.outputs.label_maps import SaveLabelMapd
from medsr.outputs.naming import OutputPaths, output_paths
from medsr.outputs.preview import draw_preview
from medsr.outputs.record import make_record
from medsr.outputs.saving import SaveImageWithRecordd

__all__ = [
    "OutputPaths",
    "SaveImageWithRecordd",
    "SaveLabelMapd",
    "draw_preview",
    "make_record",
    "output_paths",
    "sha256_of",
]
