"""Read and write images of every format."""

from __future__ import annotations

import logging
import warnings

# MONAI's `LoadImaged` sets up every reader it knows, whichever is asked for; one of them complains, twice,
# about a GPU library that no reader of ours needs.
logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader: nvImageCodec decoder plugin")
