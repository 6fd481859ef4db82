"""Errors a user can act on: every message is one line that says what was expected, what came, what to do."""


class MedsrError(ValueError):
    """Base of all errors that are the input's fault, never the program's."""


class InputError(MedsrError):
    """An image, file or argument cannot be used as it is."""


class OutputError(MedsrError):
    """A result cannot be written."""


class GridError(MedsrError):
    """A scale, spacing or affine does not describe a usable grid."""
