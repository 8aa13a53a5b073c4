"""The check of `livelatent doctor` on engines: which one a run would use here, and why."""

from __future__ import annotations

from bridge.app import initial_params
from bridge.checkup import Check
from bridge.config import Config
from engines.errors import ModelError
from engines.openvino_device import installed
from engines.registry import Registry
from pipelines import choose
from pipelines.spec import StreamSpec, structural
from pipelines.upgrade import AFTER_S


def engine(config: Config, graphics: bool) -> Check:
    """`graphics`: whether torch has a card to run on."""
    worker = config.worker
    if worker.engine != "auto":
        return _asked(worker.engine)
    if graphics and worker.device == "auto":
        return Check("engine", "ok", "eager, on the graphics card")
    if worker.device == "intel":
        return _asked("openvino")
    try:
        spec = StreamSpec(engine="auto", device=worker.device, dtype=worker.dtype, threads=worker.threads)
        spec = structural(spec, initial_params(config, Registry.open()))
        reason, verdict = choose.unfit(spec), choose.recall(spec)
    except ModelError as error:  # said by the model's own line
        return Check("engine", "note", f"not known: {error}")
    what = f"{spec.model} at {spec.width}x{spec.height}"
    if reason and not installed():
        fix = "`pip install livelatent[openvino]` for a processor's pictures in about half the time"
        return Check("engine", "note", f"eager: {reason}", fix)
    if reason:
        return Check("engine", "ok", f"eager: {reason}")
    if verdict is None:
        text = f"eager at first; openvino {installed()} is measured against it once a show has run for {AFTER_S:.0f} s"
        return Check("engine", "ok", f"{text} ({what}), and takes over if it is faster")
    return Check("engine", "ok", f"{verdict.engine} for {what}: {verdict.why}")


def _asked(name: str) -> Check:
    if name == "openvino" and not installed():
        return Check(
            "engine", "bad", "openvino is asked for, and is not installed", "`pip install livelatent[openvino]`"
        )
    return Check("engine", "ok", f"{name}, as the configuration says")
