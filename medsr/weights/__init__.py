"""Weight files: which there are, where they lie, and that they are what they should be. Nothing is downloaded."""

from medsr.weights.catalogue import EXTERNAL, ExternalFile
from medsr.weights.feature_networks import inception_features, vgg19_features
from medsr.weights.loading import load_weights
from medsr.weights.recorded_hashes import RECORD, check_recorded, file_sha256, read_record, record_hashes
from medsr.weights.store import DIRECTORY_VARIABLE, directory, find, locate, place_copy

__all__ = [
    "DIRECTORY_VARIABLE",
    "EXTERNAL",
    "RECORD",
    "ExternalFile",
    "check_recorded",
    "directory",
    "file_sha256",
    "find",
    "inception_features",
    "load_weights",
    "locate",
    "place_copy",
    "read_record",
    "record_hashes",
    "vgg19_features",
]
