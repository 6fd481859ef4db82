"""The package's own app for a MONAI Label server, for what MONAI Label's `monaibundle` app cannot do.

`parameters`, `enlarging`, `uploads` and `public_messages` do not need MONAI Label. The other modules need it or its
libraries, and only the server imports them: it has an environment of its own (docs/monai_label.md).
"""
