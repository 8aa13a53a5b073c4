"""The check of `livelatent doctor` on engines: which one a run would use here, and why."""

from __future__ import annotations

from bridge.checkup import Check
from bridge.config import Config
from bridge.opening import initial_params
from engines.errors import ModelError
from engines.registry import Registry
from pipelines import choose
from pipelines.choose import Card
from pipelines.ladder import Rung
from pipelines.spec import StreamSpec, structural
from pipelines.upgrade import AFTER_S

OPENVINO = "`pip install livelatent[openvino]` for a processor's pictures in about half the time"
TENSORRT = "`pip install livelatent[tensorrt]` (a few gigabytes) lets NVIDIA's compiler be tried too"


def engine(config: Config, graphics: bool, card: Card | None = None) -> Check:
    """`graphics`: whether torch has a card to run on. `card`: which, if it is one of NVIDIA's."""
    worker = config.worker
    card = card if worker.device in ("auto", "cuda") else None
    if worker.engine != "auto":
        return _asked(worker.engine, card)
    if graphics and worker.device in ("auto", "mps") and card is None:
        return Check("engine", "ok", "eager, on the graphics card")
    if worker.device == "intel":
        return _asked("openvino", card)
    try:
        spec = StreamSpec(engine="auto", device=worker.device, dtype=worker.dtype, threads=worker.threads)
        spec = structural(spec, initial_params(config, Registry.open()))
        rungs, verdict = choose.rungs(spec, card), choose.recall(spec, card)
    except ModelError as error:  # said by the model's own line
        return Check("engine", "note", f"not known: {error}")
    fix, without = _fix(card), _uncompiled(card)
    if not rungs:
        return Check("engine", "note" if fix else "ok", f"eager: {choose.unfit(spec)}", fix)
    what = f"{spec.model} at {spec.width}x{spec.height}"
    if verdict is not None:
        return Check("engine", "ok", f"{verdict.rung.name} for {what}: {verdict.why}{without}", fix)
    names = ", then ".join(_named(rung) for rung in rungs)
    first = "eager" if card is None else "compiled (eager's networks, whole frames recorded as graphs)"
    text = f"{first} at first; once a show has run for {AFTER_S:.0f} s, {names} {'is' if len(rungs) == 1 else 'are'}"
    return Check(
        "engine", "ok", f"{text} measured against it ({what}); what is faster and paints alike takes over{without}", fix
    )


def _named(rung: Rung) -> str:
    version = {"openvino": choose.openvino(), "tensorrt": choose.tensorrt()}.get(rung.engine, "")
    return f"{rung.name} ({version})" if version else rung.name


def _uncompiled(card: Card | None) -> str:
    """Why torch's compiler is not among the rungs of a card."""
    why = choose.uncompiled(cuda=True) if card is not None else ""
    return f"; torch's compiler is left out: {why}" if why else ""


def _fix(card: Card | None) -> str:
    """What else could be tried here if it were installed."""
    if card is not None:
        return "" if choose.tensorrt() else TENSORRT
    return "" if choose.openvino() else OPENVINO


def _asked(name: str, card: Card | None) -> Check:
    absent = {"openvino": not choose.openvino(), "tensorrt": not choose.tensorrt()}.get(name, False)
    if absent:
        return Check("engine", "bad", f"{name} is asked for, and is not installed", f"`pip install livelatent[{name}]`")
    if name in ("tensorrt", "compiled") and card is None:
        does = "eager paints" if name == "tensorrt" else "nothing is painted"
        return Check("engine", "bad", f"{name} is asked for, and there is no NVIDIA card: {does}", "--engine auto")
    return Check("engine", "ok", f"{name}, as the configuration says")
