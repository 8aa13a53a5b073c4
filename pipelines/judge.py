"""Climbs the ladder for one spec, in a process of its own: `python -m pipelines.judge` is an errand (engines.errand).

A StreamSpec comes in; lines of pipelines.choose.News go out, the last one with the Verdict.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from engines import device as devices
from engines.base import Nets
from engines.errand import accept
from engines.errors import ModelError, first_line
from pipelines import choose, gate
from pipelines.choose import Card, News
from pipelines.ladder import Near, Painter, Rung, Verdict, climb
from pipelines.params import Params
from pipelines.spec import StreamSpec
from pipelines.start import inductor, other_kernels, recorded
from pipelines.stream import DiffusionStream
from pipelines.transfer import Pixels

FRAMES = 4
"""Pictures that are compared."""
Report = Callable[[str, float], None]


class Painted:
    """A rung that paints the fixed pictures. Implements pipelines.ladder.Painter."""

    def __init__(self, nets: Nets, spec: StreamSpec, wanted: Sequence[Tensor] = ()) -> None:
        """`wanted`: eager's pictures in fp32."""
        self._params = Params(prompt="neon", model=spec.model, width=spec.width, height=spec.height)
        self._frames, self._wanted = scenes(spec.height, spec.width), wanted
        self._stream = DiffusionStream(nets, (spec.height, spec.width), self._params)
        self._stream.tune(self._params)
        self._stream.warm_up(self._params)

    def pictures(self) -> list[Tensor]:
        """[1, 3, H, W] in [-1, 1] each; every frame as a stream's first."""
        out = []
        for frame in self._frames:
            self._stream.reset()
            self._stream(frame, self._params)
            out.append(self._stream.state.picture.float().cpu().clone())
        return out

    def near(self) -> Near:
        pairs = list(zip(self.pictures(), self._wanted, strict=True))
        return Near(min(gate.likeness(a, b) for a, b in pairs), max(gate.distance(a, b) for a, b in pairs))

    def cost(self) -> float:
        """On a processor its time, all threads together: the clock would tell how much others left, since a show runs
        beside this, and engines spread over the same cores. On a card the median by the clock, download included."""
        if self._stream.nets.device.type == "cpu":
            began = time.process_time()
            for frame in self._frames:
                self._stream(frame, self._params)
            return (time.process_time() - began) * 1e3 / len(self._frames)
        times = []
        for frame in self._frames * 8:
            start = time.perf_counter()
            self._stream(frame, self._params)
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1e3

    def close(self) -> None:
        self._stream.close()


def judge(
    spec: StreamSpec, rungs: Sequence[Rung] | None = None, report: Report = lambda *_: None,
    cancelled: threading.Event | None = None,
) -> Verdict:  # fmt: skip
    """Paint the same frames on all rungs, compare pictures and times. Leaves what was compiled in its cache. Raises
    ModelError where eager itself can't be had."""
    if spec.threads:
        torch.set_num_threads(spec.threads)
    card = this_card(spec)
    exact = Painted(_nets(replace(spec, dtype="fp32"), Rung("eager", "fp32")), spec)
    wanted = exact.pictures()
    exact.close()
    del exact

    def load(rung: Rung) -> Painter:
        nets, _ = recorded(_nets(spec, rung, report, cancelled))  # as a show would paint
        folder, build = choose.build_of(replace(spec, dtype=rung.dtype))
        made = other_kernels(nets, rung, lambda nets: inductor(nets, folder, build, report, cancelled, first=True))
        return Painted(made, spec, wanted)

    base = Rung("eager", spec.dtype) if spec.dtype not in ("fp8", "int8") else choose.BASE
    what = "of processor time a frame" if card is None else "a frame"
    above = choose.rungs(spec, card) if rungs is None else rungs
    return climb(base, above, load, what, lambda rung: report(f"trying {rung.name}", 0.0))


def this_card(spec: StreamSpec) -> Card | None:
    """The card that a spec would be painted on; None for the processor."""
    try:
        device = devices.choose_device(spec.device)
    except ModelError:  # openvino's `intel`
        return None
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return Card(found.name, (found.major, found.minor))


def scenes(height: int, width: int) -> list[Pixels]:
    """Fixed inputs: soft shapes and sharp edges, always the same."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    out = []
    for _ in range(FRAMES):
        picture = np.zeros((height, width, 3))
        for _ in range(6):
            cx, cy, radius, edge = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.1, 0.4), rng.uniform(0.005, 0.2)
            disc = np.clip((radius - np.hypot(x - cx, y - cy)) / edge, 0, 1)[..., None]
            picture = picture * (1 - disc) + rng.uniform(0, 255, 3) * disc
        out.append(picture.astype(np.uint8))
    return out


def _nets(
    spec: StreamSpec, rung: Rung, report: Report = lambda *_: None, cancelled: threading.Event | None = None
) -> Nets:
    """Compiled here, where nobody waits for frames."""
    folder, build = choose.build_of(replace(spec, dtype=rung.dtype))
    if rung.engine == "openvino":
        from engines.openvino import OpenvinoEngine

        return OpenvinoEngine(here=True).load(folder, build)
    if rung.engine == "tensorrt":
        from engines.tensorrt import TensorrtEngine
        from engines.tensorrt_build import Stage

        def tell(stage: Stage) -> None:
            report(f"{rung.name}: {stage.part}", stage.share)

        return TensorrtEngine(here=True, tell=tell, cancelled=cancelled).load(folder, build)
    from engines.eager import EagerEngine

    return EagerEngine().load(folder, build)


def main() -> int:
    """0 when a Verdict was reported; 1, with a sentence on stderr, when there was nothing to judge."""
    with accept() as task:
        spec = msgspec.json.decode(task.text, type=StreamSpec)

        def report(doing: str, share: float) -> None:
            task.tell(msgspec.json.encode(News(doing, share)))

        try:
            found = judge(spec, report=report, cancelled=task.cancelled)
        except (ModelError, RuntimeError) as error:  # of torch: no memory for both, beside the show
            print(first_line(error), file=sys.stderr)
            return 1
        task.tell(msgspec.json.encode(News(verdict=found)))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
