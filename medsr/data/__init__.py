"""Read and write images of every format."""

from __future__ import annotations

import logging
import warnings

# MONAI's `LoadImaged` creates every reader that it knows, also those that are not used. One of them warns twice about a
# GPU library that no reader of medsr needs.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader: nvImageCodec decoder plugin")
