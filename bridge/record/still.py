"""A picture that goes out, as a PNG with its settings, in the text chunk that AUTOMATIC1111's web UI reads."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bridge.frame import Frame, Pixels
from bridge.record import places
from bridge.record.journal import Fed
from bridge.record.made import acting_of, made_with
from bridge.record.reel import png
from bridge.version import __version__
from pipelines.caption import caption

CHUNK = "parameters"


def save(parent: Path, name: str, picture: Frame, fed: Fed | None, with_input: bool) -> Path:
    """Write `picture` as a new file of today's date, and its input beside it as `…_input.png`. Raises SinkError."""
    text, made = "", picture.made
    if fed is not None and made is not None:
        text = caption(made_with(fed.params, acting_of(made), made.spec), __version__)
    path = places.new_file(parent, name, ".png", with_text(picture.pixels, text))
    if with_input and fed is not None and fed.frame is not None:
        places.write_new(path.with_name(f"{path.stem}_input.png"), png(fed.frame.pixels))
    return path


def with_text(pixels: Pixels, text: str) -> bytes:
    """A PNG with `text` as `parameters`: tEXt where Latin-1 holds it, else iTXt."""
    info = PngInfo()
    if text:
        info.add_text(CHUNK, text)
    file = io.BytesIO()
    shown = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(shown).save(file, "PNG", pnginfo=info, compress_level=4)
    return file.getvalue()
