"""Where our data lies: in a checkout beside the packages, in a wheel below `livelatent_data`. No torch here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def data(name: str) -> Path:
    """The folder `configs` or `td` as shipped."""
    packed = ROOT / "livelatent_data" / name
    return packed if packed.is_dir() else ROOT / name


def home() -> Path:
    """The user's own folder (models, tokens, keys): `LIVELATENT_HOME`, or the platform's place for application data."""
    override = os.environ.get("LIVELATENT_HOME")
    if override:
        return Path(override)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "livelatent"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "livelatent"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "livelatent"


def models() -> Path:
    """Where pulled and added models live."""
    return home() / "models"
