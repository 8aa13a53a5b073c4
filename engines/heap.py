"""Memory that networks free and ask for again in every frame stays with the process."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""malloc.h's names for what mallopt sets."""
LARGEST = 32 << 20
"""Bytes. More at once is weights, or an autoencoder of large pictures; glibc takes no larger limit."""
FREE = 1 << 30
"""Bytes that may lie free at the heap's end."""


def keep_freed() -> bool:
    """Have glibc keep freed blocks for the next frame: it gives them back to the system as soon as they are freed, and
    each page of them, asked for again, costs a fault (2,000 a frame and a tenth of the processor time with `pocket` and
    the engine eager). Whether that is how it is now; other systems' allocators are left alone."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, FREE))
