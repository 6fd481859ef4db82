#!/usr/bin/env bash
# Make the environment in which medsr's operators are tested with the MONAI Deploy App SDK: `install.sh FOLDER [PYTHON]`.
#
# It needs Linux with glibc 2.35 or newer, but no GPU. If pip's default index offers a CUDA build of torch that you do not
# want, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:?usage: install.sh FOLDER [PYTHON]}"
"${2:-python3.11}" -m venv "$folder"
python="$folder/bin/python"
pip() { "$python" -m pip --disable-pip-version-check install --quiet "$@"; }
unset PIP_CONSTRAINT PIP_BUILD_CONSTRAINT # the development environment's files pin other versions

pip torch==2.13.0
pip -r "$here/requirements.txt"
# The SDK is part of the package `monai`, so it is installed after MONAI and into the same environment.
pip --no-deps monai-deploy-app-sdk==4.0.0 holoscan-cu13==4.6.0 holoscan-cli==5.0.0 cupy-cuda13x==14.2.0 tritonclient==2.73.0
pip --no-deps --editable "$here/../.."

"$python" -c "import medsr.deploy.operators" > /dev/null # also lets holoscan link its libraries
echo "$python is ready"
