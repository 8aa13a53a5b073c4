"""Whether torch's compiler, Inductor, can work on this machine. No torch: doctor asks."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version


def missing(cuda: bool) -> str:
    """Why it can't compile here, a sentence; empty where it may. Imports nothing."""
    if sys.platform == "win32":
        return "" if shutil.which("cl") else "Microsoft's C++ compiler is not here"
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))):
        return "there is no C++ compiler (g++)"
    return "Triton is not installed" if cuda and not version_of("triton") else ""


def version_of(package: str) -> str:
    """What is installed of it, or nothing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
