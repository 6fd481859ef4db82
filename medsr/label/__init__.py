"""The package's own app for a MONAI Label server, for what MONAI Label's `monaibundle` app cannot do.

`parameters`, `enlarging` and `public_messages` know nothing of MONAI Label. `app`, `tasks`, `training` and `datastore`
need it, and are imported by the server only: it lives in an environment of its own (docs/monai_label.md).
"""
