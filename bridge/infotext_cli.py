"""`livelatent infotext`: the settings beside a picture of AUTOMATIC1111's web UI, as a look of ours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bridge.errors import LiveLatentError
from engines.tomltext import quoted
from pipelines.infotext import read

MAX_BYTES = 64 << 20
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `infotext`."""
    parser.add_argument("file", help="a picture that the web UI saved, or its .txt file; - for standard input")


def main(args: argparse.Namespace) -> int:
    """Print TOML for `--config`; what can't be done the same is said in comments above it."""
    found = read(_text(args.file))
    for note in found.notes:
        print(f"# {''.join(c if c.isprintable() else ' ' for c in note)}")
    print("[params]")
    for name, value in found.values.items():
        print(f"{name} = {quoted(value)}")
    return 0


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.read(MAX_BYTES)
    path = Path(name)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LiveLatentError(f"{path.name} is larger than {MAX_BYTES >> 20} MB")
        if path.suffix.lower() in PICTURES:
            return _beside(path)
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise LiveLatentError(f"{path.name} can't be read: {error.strerror or error}") from error


def _beside(path: Path) -> str:
    """The text chunk `parameters` of a PNG, or the comment in the EXIF block of a JPEG or WebP. Decodes no pixels."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            said = picture.info.get("parameters")
            comment = picture.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LiveLatentError(f"{path.name} can't be read: {error}") from error
    if isinstance(said, str):
        return said
    if isinstance(comment, bytes) and len(comment) > 8:
        wide = comment.startswith(b"UNICODE")
        return comment[8:].decode("utf-16-be" if wide else "utf-8", errors="replace")
    raise LiveLatentError(f"{path.name} holds no settings: a program that saved it again has dropped them")
