"""Weight files: which are known, where they are kept, and checks of their hashes. Nothing is downloaded."""

from medsr.files.hashes import file_sha256
from medsr.weights.catalogue import EXTERNAL, ExternalFile
from medsr.weights.feature_networks import inception_features, vgg19_features
from medsr.weights.hash_file import HASH_FILE, check_hash, read_hashes, write_hashes
from medsr.weights.loading import load_weights
from medsr.weights.notes import CONSISTENT, INTERPOLATED, STARTS, check_start, notes_path, read_notes, start_of
from medsr.weights.store import DIRECTORY_VARIABLE, directory, find, locate, place_copy

__all__ = [
    "CONSISTENT",
    "DIRECTORY_VARIABLE",
    "EXTERNAL",
    "HASH_FILE",
    "INTERPOLATED",
    "STARTS",
    "ExternalFile",
    "check_hash",
    "check_start",
    "directory",
    "file_sha256",
    "find",
    "inception_features",
    "load_weights",
    "locate",
    "notes_path",
    "place_copy",
    "read_hashes",
    "read_notes",
    "start_of",
    "vgg19_features",
    "write_hashes",
]
