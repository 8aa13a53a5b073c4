"""`livelatent bench coherence`: looks side by side on a moving clip; figures, and a strip of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from bridge.clock import NS, now_ns
from bridge.config import Config
from bridge.context import Context
from bridge.drivers import make_source
from bridge.errors import ConfigError, LiveLatentError, SourceEnded
from bridge.frame import Pixels
from bridge.load_config import load_config, looks, read_file
from bridge.opening import initial_params
from engines.registry import Registry
from pipelines.params import Params
from pipelines.spec import StreamSpec, structural

if TYPE_CHECKING:
    from pipelines.coherence.bench import Take

PLAIN = "plain"
"""The parameters as they are, each frame for itself: what a look is compared with."""
STRUCTURAL = ("model", "width", "height", "vae")


def run(args: argparse.Namespace, base: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Each look's figures by name. `base`: parameters under every look, --set among them. Writes the strip.

    LiveLatentError, ConfigError or ModelError with a sentence.
    """
    from pipelines.coherence.bench import compare, strip
    from pipelines.stream import DiffusionStream

    if args.strip and args.strip.suffix not in (".png", ".jpg"):
        raise ConfigError(f"--strip {args.strip}: takes a .png or .jpg file")
    wanted = settings(args.look or [PLAIN, *looks()], base)
    plain = next(iter(wanted.values()))
    clip = read_clip(args.source or f"scene?size={args.size}x{args.size}&fps=30", args.frames, plain)
    stream = DiffusionStream.load(structural(StreamSpec(dtype=args.dtype), plain), plain)
    try:
        inputs, takes = compare(stream, wanted, clip)
    except ValueError as error:
        raise LiveLatentError(str(error)) from error
    finally:
        stream.close()
    if args.strip:
        _write(args.strip, strip({"input": inputs, **{name: take.pictures for name, take in takes.items()}}))
    for name, take in takes.items():
        if take.lacks:
            print(f"{name}: {take.lacks}")
    return {name: figures(take, next(iter(takes.values()))) for name, take in takes.items()}


def settings(names: Sequence[str], base: Mapping[str, Any]) -> dict[str, Params]:
    """Each look over `base`; `plain` is base alone. Names are those of looks, or paths of config files; model and size
    are base's for all. ConfigError for what can't be read."""
    registry, out = Registry.open(), {}
    for name in names:
        look = {} if name == PLAIN else dict(load_config([read_file(name)]).params)
        kept = {key: value for key, value in look.items() if key not in STRUCTURAL}
        out[PLAIN if name == PLAIN else Path(name).stem] = initial_params(Config(params={**base, **kept}), registry)
    return out


def read_clip(source: str, count: int, params: Params) -> list[Pixels]:
    """The first `count` frames of a source, every one in order; fewer if it ends before. LiveLatentError if it fails or
    gives none for five seconds."""
    size = {"width": params.width, "height": params.height}
    driver = make_source(source, Context(Config(source=source, every_frame=True, params=size)))
    clip: list[Pixels] = []
    driver.open()
    try:
        heard = now_ns()
        while len(clip) < count:
            frame = driver.read(0.2)
            if frame is not None:
                clip.append(np.array(frame.pixels))
                heard = now_ns()
            elif now_ns() - heard > 5 * NS:
                raise LiveLatentError(f"{source} gave {len(clip)} frames, and then none for five seconds")
    except SourceEnded:
        pass
    finally:
        driver.close()
    return clip


def figures(take: Take, first: Take) -> dict[str, float]:
    """A take's figures, and in percent of the first look's where that says more."""
    mine, its = take.coherence, first.coherence
    return {
        "warped error": mine.warped_error,
        "error %": 100 * mine.warped_error / its.warped_error,
        "sharpness": mine.sharpness,
        "sharpness %": 100 * mine.sharpness / its.sharpness,
        "colour drift": mine.drift,
        "edges": mine.edges,
        "frames/s": take.fps,
        "frames/s %": 100 * take.fps / first.fps,
        "skipped": float(take.skipped),
    }


def _write(path: Path, picture: Pixels) -> None:
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise ConfigError(f"--strip {path}: {error.strerror or error}") from error
    print(f"strip: {path}")
