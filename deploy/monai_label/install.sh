#!/usr/bin/env bash
# Make the environment in which medsr is tested under MONAI Label: `install.sh FOLDER [PYTHON]`.
#
# Python must be 3.11: MONAI Label 0.8.5 imports distutils, which 3.12 no longer has, and numpy 2.4 needs 3.11. If pip's
# default index offers a CUDA build of torch that you do not want, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU
# builds.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:?usage: install.sh FOLDER [PYTHON]}"
"${2:-python3.11}" -m venv "$folder"
python="$folder/bin/python"
pip() { "$python" -m pip --disable-pip-version-check install --quiet "$@"; }
unset PIP_CONSTRAINT PIP_BUILD_CONSTRAINT # the development environment's files pin other versions

pip torch==2.13.0
pip -r "$here/requirements.txt"
pip --no-deps monailabel==0.8.5 torchvision==0.28.0 pydicom-seg==0.4.1
pip --no-deps --editable "$here/../.."

packages="$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")"
rm -f "$packages/medsr_server_shims.pth" # of an earlier run, which would make torchvision seem to fit
fits=True
"$python" -c "import torchvision" 2> /dev/null || fits=False
cp "$here/shims.py" "$packages/medsr_server_shims.py"
echo "import medsr_server_shims; medsr_server_shims.install(torchvision=not $fits)" > "$packages/medsr_server_shims.pth"

"$python" -c "import monailabel.app, medsr.label.app" > /dev/null
echo "$python is ready"
