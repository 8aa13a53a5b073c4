"""From a model's folder to compiled code in the cache, by torch's compiler. Takes minutes, and is done once.

`python -m engines.inductor_build` is an errand (engines.errand): an Order comes in, how far it is goes out, and it can
be called off. In a process of its own, since tracing is many seconds of Python, for which a show would stand still.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines.base import Nets
from engines.cache import EngineCache
from engines.control import EagerControlNet
from engines.eagernet import EagerUNet
from engines.errand import accept
from engines.errors import ModelError, first_line
from engines.given import Known
from engines.inductor_order import (
    CONTROL,
    EVERY,
    FAILED,
    FIRST,
    NOTHING,
    Order,
    Stage,
    Structure,
    attention_of,
    inputs,
    kind,
    options,
)
from engines.inductor_package import Package, needed

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
"""What a compiled network may be off from eager's, of its largest number."""
Tell = Callable[[Stage], None]


class Call(nn.Module):
    """One structure of the denoiser's calls, to be traced. Takes what `inputs` gives, in that order; gives what the
    network says, [B, C, h, w] fp32, and for `deep` what the outermost level is handed."""

    nothing: Tensor

    def __init__(self, unet: EagerUNet, structure: Structure, cond: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.net = unet.outer if structure.part == "outer" else unet.net
        self._unet, self._structure, self._cond = unet, structure, cond
        self.register_buffer(NOTHING, unet.nothing)  # as a weight: what code holds is lost where weights are left out

    def forward(self, x: Tensor, time: Tensor, text: Tensor, *more: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        unet, part, rest = self._unet, self._structure.part, list(more)
        assert unet.ahead is not None
        known = Known(time, unet.ahead.views(text) if text.numel() else ())
        state = rest.pop(0) if part == "outer" else None
        t = x[:, 0, 0, 0]  # nobody reads it; a tensor of ours would be held by the code
        told = x, t, self._cond, None, rest, None, known
        if state is None:
            return unet.with_deep(*told) if part == "deep" else unet(x, *told[1:5], known=known)
        nothing, unet.nothing = unet.nothing, self.nothing
        try:
            return unet.from_deep(state, *told)
        finally:
            unet.outer.mid_block.state, unet.nothing = None, nothing


class ControlCall(nn.Module):
    """The same of a ControlNet: gives its residuals, the middle block's last."""

    def __init__(self, control: EagerControlNet, cond: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.net, self._control, self._cond = control.net, control, cond

    def forward(self, x: Tensor, time: Tensor, text: Tensor, hint: Tensor) -> tuple[Tensor, ...]:
        assert self._control.ahead is not None
        known = Known(time, self._control.ahead.views(text) if text.numel() else ())
        return self._control(x, x[:, 0, 0, 0], self._cond, hint, known=known)


class Job(NamedTuple):
    """One structure to be compiled."""

    structure: Structure
    name: str
    control: EagerControlNet | None
    """Whose call it is; the denoiser's if None."""


def jobs(names: Mapping[str, str], control: EagerControlNet | None = None) -> list[Job]:
    """Those of a denoiser, or of a ControlNet, by the names of its structures."""
    known = EVERY if control is None else CONTROL
    return [Job(each, names[each.name], control) for each in known if each.name in names]


def carry_out(
    nets: Nets, wanted: Sequence[Job], cache: EngineCache, tell: Tell = lambda _: None,
    cancelled: threading.Event | None = None,
) -> list[str]:  # fmt: skip
    """Compile and keep what is not there yet, of eager's networks; a sentence for each structure that can't be
    compiled. Raises ModelError where the first can't be, and OSError where the cache can't be written."""
    lacking = [job for job in wanted if cache.get(job.name) is None]
    wrong = list[str]()
    with _workplace():
        for n, job in enumerate(lacking):
            if cancelled is not None and cancelled.is_set():
                raise ModelError("the build was called off")
            tell(Stage(job.structure.name, n / len(lacking)))
            try:
                notes, content = compiled(nets, job.structure, job.control, short=len(lacking) == 1)
            except Exception as error:  # a compiler has errors of all kinds
                wrong.append(f"inductor can't be had: {first_line(error)}")
                if job.structure == FIRST:
                    raise ModelError(wrong[-1]) from error
                notes, content = {FAILED: wrong[-1]}, b""  # lest every start tries it again
            cache.put(job.name, notes, content)
    return wrong


def compiled(
    nets: Nets, structure: Structure, control: EagerControlNet | None = None, short: bool = False
) -> tuple[dict[str, Any], bytes]:
    """Code for one structure, found to compute what eager does, and what is to be known of it. `short`: nothing else is
    compiled beside it. Raises whatever the compiler does."""
    unet = nets.unet
    assert isinstance(unet, EagerUNet)
    examples, cond = inputs(nets, structure, control), _cond(nets, structure.rows)
    with torch.inference_mode(False), torch.no_grad():
        call = (Call(unet, structure, cond) if control is None else ControlCall(control, cond)).eval()
        given = tuple(x.clone() for x in examples.values())
        content = _packed(call, given, {**options(nets.device), "aot_inductor.precompile_headers": not short}, unet)
    weights = call.state_dict()
    foreign = [name for name in needed(content) if name not in weights]
    if foreign:
        raise ModelError(f"it would need what is no weight: {foreign[0]}")
    notes = {
        "inputs": [kind(x) for x in given],
        "weights": {name: kind(weights[name]) for name in needed(content)},
    }
    _tried(call, Package(content, notes, weights), given, nets.dtype)
    return notes, content


def _packed(call: nn.Module, given: tuple[Tensor, ...], how: dict[str, Any], unet: EagerUNet) -> bytes:
    order = [getattr(SDPBackend, name) for name in attention_of(unet)]
    attention = sdpa_kernel(order, set_priority=True) if order else contextlib.nullcontext()
    with tempfile.TemporaryDirectory(prefix="livelatent-") as folder, warnings.catch_warnings(), attention:
        warnings.simplefilter("ignore")  # what torch's parts have to say to each other
        from torch._inductor import aoti_compile_and_package

        program = torch.export.export(call, given, strict=False)
        path = str(Path(folder) / "net.pt2")
        aoti_compile_and_package(program, package_path=path, inductor_configs=how)
        return Path(path).read_bytes()


@torch.inference_mode()
def _tried(call: nn.Module, package: Package, given: tuple[Tensor, ...], dtype: torch.dtype) -> None:
    found, wanted = package(given), call(*given)
    for one, other in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        off = float((one.float() - other.float()).abs().max() / other.float().abs().max().clamp(min=1e-6))
        if not off <= TOLERANCE[dtype]:
            raise ModelError(f"what it compiles computes something else here ({off:.2g} off)")


def _cond(nets: Nets, rows: int) -> tuple[Tensor, ...]:
    """A prompt that nobody reads: what is made of it comes in."""
    return tuple(
        torch.zeros(rows, *spec.shape[1:], dtype=nets.dtype, device=nets.device) for spec in nets.text.spec.outputs
    )


@contextlib.contextmanager
def _workplace() -> Iterator[None]:
    """Inductor and Triton keep what they make in folders of known names below a temporary one that others may write to:
    not so here, since what they find there ends up in what is sealed."""
    keys = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    before = {key: os.environ.get(key) for key in keys}
    with tempfile.TemporaryDirectory(prefix="livelatent-", ignore_cleanup_errors=True) as folder:
        os.environ.update({key: str(Path(folder) / key.lower()) for key in keys})
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key, None)
                if value is not None:
                    os.environ[key] = value


def _toolkit() -> None:
    """Let torch find CUDA's headers where they came with its own wheels: it looks for a whole toolkit."""
    for site in map(Path, sys.path):
        for folder in (site / "nvidia" / "cu13", site / "nvidia" / "cuda_runtime"):
            if "CUDA_HOME" not in os.environ and (folder / "include" / "cuda.h").is_file():
                os.environ["CUDA_HOME"] = str(folder)


def _nets(order: Order) -> Nets:
    """As the show has them."""
    from engines.compiled import tune_card
    from engines.eager import EagerEngine

    torch.set_num_threads(order.threads)
    nets = EagerEngine().load(order.folder, order.build)
    assert isinstance(nets.unet, EagerUNet)
    nets.unet.attention = [getattr(SDPBackend, name) for name in order.attention]
    if nets.device.type == "cuda":
        tune_card()
    return nets


def _wanted(nets: Nets, order: Order) -> list[Job]:
    """The denoiser's common calls, then those of the ControlNets that the show has, then what is rare."""
    mine, theirs, load = jobs(order.names), list[Job](), nets.load_control
    for each in order.controls:
        assert load is not None, "the engine eager runs ControlNets"
        control = load(each.folder)
        assert isinstance(control, EagerControlNet)
        theirs += jobs(each.names, control)
    common = [job for job in mine if job.structure.part == "whole"]
    return [*common, *theirs, *(job for job in mine if job not in common)]


def main() -> int:
    """An Order in, a Stage a line out; 0 when something was compiled, 1 with a sentence on stderr."""
    _toolkit()
    with accept() as task:
        order = msgspec.json.decode(task.text, type=Order, dec_hook=lambda kind, value: kind(value))
        try:
            nets, cache = _nets(order), EngineCache("inductor")

            def tell(stage: Stage) -> None:
                task.tell(msgspec.json.encode(stage))

            wrong = carry_out(nets, _wanted(nets, order), cache, tell, task.cancelled)
        except (ModelError, OSError, RuntimeError) as error:
            print(first_line(error), file=sys.stderr)
            return 1
        if wrong:
            print(wrong[0], file=sys.stderr)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
