"""The facts that a figure depends on besides the code: processor, threads, versions; no host or user names."""

from __future__ import annotations

import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import monai
import torch

import medsr

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86, x86, ARM


def _cpuinfo(*keys: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() in keys), "")


def processor(device: torch.device) -> str:
    """Return the model of the processor that computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the processor computes in bfloat16; otherwise torch emulates it, much slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(_BFLOAT16_FLAGS & set(_cpuinfo("flags", "Features").split()))


def describe(device: torch.device) -> dict[str, Any]:
    """Return the facts that are stored with a figure."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = set(_cpuinfo("flags", "Features").split())
    return {
        "processor": processor(device),
        "device": device.type,
        "cores": cores,
        "threads": torch.get_num_threads(),
        "instructions": sorted(flags & (_BFLOAT16_FLAGS | {"avx2", "avx512f", "avx512_vnni", "asimd", "sve"})),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": {
            "medsr": medsr.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "monai": monai.__version__,
        },
    }


def slug(device: torch.device) -> str:
    """Return a file name for this machine, made of the model and the number of threads."""
    name = re.sub(r"[^a-z0-9]+", "-", processor(device).lower()).strip("-")
    return name if device.type == "cuda" else f"{name}-{torch.get_num_threads()}-threads"
