"""styles.csv, as AUTOMATIC1111's web UI keeps it: named texts that are worked into a prompt, `<style:name>`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 4 << 20


class Style(NamedTuple):
    """What a style adds; `{prompt}` in it stands for what the user wrote."""

    prompt: str
    negative: str


def read_styles(path: Path, notes: list[str]) -> dict[str, Style]:
    """The styles in a file, by name in lower case. Never fails: without the file there are none, and what can't be
    read goes to `notes`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        notes.append(f"{path.name} can't be read: {error.strerror}")
        return {}
    if len(data) > MAX_BYTES:
        notes.append(f"{path.name} is larger than {MAX_BYTES >> 20} MB")
        return {}
    return parse_styles(data.decode("utf-8-sig", errors="replace"), notes)


def parse_styles(text: str, notes: list[str]) -> dict[str, Style]:
    """Columns name, prompt (in old files: text), negative_prompt; rows whose name begins with # are comments."""
    out: dict[str, Style] = {}
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), restkey="", restval=""):
            name = (row.get("name") or "").strip()
            if name and not name.startswith("#"):
                out[name.lower()] = Style(row.get("prompt") or row.get("text") or "", row.get("negative_prompt") or "")
    except csv.Error as error:
        notes.append(f"styles.csv: {error}")
    return out


def apply_style(style: str, text: str) -> str:
    """`text` in the style: put into its place, or before it."""
    if "{prompt}" in style:
        return style.replace("{prompt}", text)
    return ", ".join(part for part in (text.strip(), style.strip()) if part)


def styled(style: Style, prompt: str, negative: str) -> tuple[str, str]:
    return apply_style(style.prompt, prompt), apply_style(style.negative, negative)


Styles = Mapping[str, Style]
