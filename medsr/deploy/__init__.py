"""Operators for applications of the MONAI Deploy App SDK.

`operators` needs the SDK, and is imported by applications only: the SDK lives in an environment of its own
(docs/monai_deploy.md).
"""
