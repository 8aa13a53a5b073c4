"""The rows of `livelatent bench gpu`, what matters most first. No torch: who only writes them down needs none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from engines.base import KERNELS, DTypeName, Kernels
from pipelines.params import Params

if TYPE_CHECKING:
    from engines.random_nets import Kind
    from pipelines.schedule import SamplerName


class Case(NamedTuple):
    """One row of the table."""

    kind: Kind
    engine: str
    dtype: DTypeName = "fp16"
    steps: int = 1
    controls: int = 0
    temporal: bool = False
    kernels: Kernels = ""
    """For compiled."""
    attention: Literal["measured", "torch's"] = "measured"
    """Whose order of kernels; of eager always torch's."""

    @property
    def name(self) -> str:
        extras = [f"{self.steps} step{'s' if self.steps > 1 else ''}"]
        extras += [f"{self.controls} ControlNet{'s' if self.controls > 1 else ''}"] if self.controls else []
        extras += ["TemporalNet"] if self.temporal else []
        engine = [f"{self.engine} {self.dtype}", *([KERNELS[self.kernels]] if self.kernels else [])]
        engine += [f"{self.attention} attention"] if self.attention != "measured" else []
        return f"{self.kind}, {', '.join(extras)}, {', '.join(engine)}"

    @property
    def made(self) -> DTypeName:
        """What its networks are made in before an engine compiles them, and what its share of the peak is of."""
        return "fp16" if self.engine == "tensorrt" and self.dtype == "fp8" else self.dtype

    @property
    def sampler(self) -> SamplerName:
        return "lcm" if self.kind == "sd15" else "turbo"

    @property
    def alone(self) -> bool:
        """Whether it gets a process of its own: a compiler at work can take one down, and
        another's package does what it likes."""
        return self.engine in ("tensorrt", "StreamDiffusion") or bool(self.kernels)

    @property
    def builds(self) -> bool:
        """Whether it begins with minutes of compiling."""
        return self.engine == "tensorrt" or self.kernels == "inductor"

    def params(self, **more: Any) -> Params:
        values: dict[str, Any] = {"steps": self.steps, "sampler": self.sampler, "strength": 0.5, **more}
        for number in range(1, self.controls + self.temporal + 1):
            values |= {f"control{number}_on": True, f"control{number}_model": f"random{number}"}
        if self.temporal:
            values[f"control{self.controls + 1}_source"] = "previous_output"
        return Params(**values)


def find(name: str, smoke: bool) -> Case:
    """The case of that name."""
    return next(case for case in every_case(smoke) if case.name == name)


def every_case(smoke: bool) -> Iterator[Case]:
    """`smoke`: those of tiny networks, for a processor."""
    if smoke:
        yield from (Case("tiny", engine, "fp32") for engine in ("compiled", "eager"))
        yield Case("tiny", "compiled", "fp32", steps=2, controls=1, temporal=True)
        yield Case("tiny", "compiled", "fp32", attention="torch's")
        yield from (Case("tiny", "compiled", "fp32", kernels=kernels) for kernels in ("triton", "inductor"))
        yield Case("tiny", "tensorrt", "fp32")
        return
    turbo = Case("sd-turbo", "compiled")
    yield from (turbo, turbo._replace(controls=1), turbo._replace(engine="eager"))
    yield turbo._replace(engine="StreamDiffusion")
    yield from (turbo._replace(attention="torch's"), turbo._replace(kernels="triton"))
    yield from (turbo._replace(steps=2), turbo._replace(steps=4), turbo._replace(controls=2))
    yield from (turbo._replace(temporal=True), turbo._replace(controls=1, temporal=True))
    yield from (turbo._replace(dtype="fp16-accumulate"), turbo._replace(engine="eager", dtype="fp16-accumulate"))
    yield turbo._replace(engine="eager", controls=1)
    lcm = turbo._replace(kind="sd15")
    yield from (lcm._replace(steps=steps) for steps in (1, 2, 4))
    yield from (lcm._replace(engine="eager"), lcm._replace(controls=1), lcm._replace(temporal=True))
    large = turbo._replace(kind="sdxl-turbo")
    yield from (large, large._replace(engine="eager"))
    yield from (turbo._replace(dtype="bf16"), turbo._replace(engine="eager", dtype="bf16"))
    # last, as a build takes minutes: they get what is left
    yield from (turbo._replace(engine="tensorrt", dtype=dtype) for dtype in ("fp16", "fp8"))
    yield turbo._replace(kernels="inductor")
