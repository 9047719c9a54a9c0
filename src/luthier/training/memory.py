"""How much memory this process has needed at most, and how much there is."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import torch


def peak_bytes(device: torch.device) -> int:
    """The most so far: on a GPU what torch has given out, else of the whole process; 0 unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if find_spec("resource") is None:  # Windows
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_of(device: torch.device) -> int:
    """Bytes that the device has in all; 0 unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    if not hasattr(os, "sysconf") or any(name not in os.sysconf_names for name in names):
        return 0
    return os.sysconf(names[0]) * os.sysconf(names[1])
