"""One training run: optimiser, schedule, averaged weights, checkpoints without pickle, log."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WARM = 100
"""Steps over which the rate rises: the codec starts close to good, and a cold optimiser would throw that away."""
FLOOR = 0.04
"""Rate at the end, as a share of the peak."""
FACTORS = {"words": 2.0, "gates": 3.0}
"""Of the rate: a word is seen far less often than a convolution is used, and a gate begins at zero."""
DECAY = 0.997
"""Of the averaged weights."""


class Journal:
    """JSON lines in a file, and the same on the terminal. Only the first process writes."""

    def __init__(self, path: Path, rank: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._rank = path, rank

    def write(self, **values: object) -> None:
        """Appends one line with the time."""
        if self._rank:
            return
        line = json.dumps({"time": round(time.time(), 1), **values})
        with self._path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


class Team:
    """The processes that share one training run, each with one thread: on a busy machine they wait for each other once
    a step, where the threads of one process wait at every operation."""

    def __init__(self, rank: int, size: int, folder: Path) -> None:
        self.rank, self.size = rank, size
        if size > 1:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            store = dist.FileStore(  # type: ignore[attr-defined]
                str(folder / "team"), size
            )
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(minutes=60))

    def wait(self) -> None:
        """Until everybody is here."""
        if self.size > 1:
            dist.barrier()

    def mean(self, tensors: list[Tensor]) -> None:
        """Replaces tensors by their means over the team."""
        if self.size > 1:
            flat = torch.cat([t.flatten() for t in tensors])
            dist.all_reduce(flat)
            for tensor, part in zip(
                tensors, torch.split(flat.div_(self.size), [t.numel() for t in tensors]), strict=True
            ):
                tensor.copy_(part.view_as(tensor))

    def agree(self, value: float) -> float:
        """The mean of everybody's value: a decision that all take alike."""
        kept = torch.tensor([value], dtype=torch.float64)
        self.mean([kept])
        return float(kept)

    def close(self) -> None:
        """Leave."""
        if self.size > 1:
            dist.destroy_process_group()


class Run:
    """Trains some modules for `steps` steps or `minutes`, whichever is shorter; goes on from `path` if it is there."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        path: Path,
        rate: float,
        steps: int,
        team: Team,
        minutes: float = math.inf,
        momentum: float = 0.9,
    ) -> None:
        self.modules, self.path, self.rate, self.steps, self.minutes = modules, path, rate, steps, minutes
        self.team = team
        self.names = [f"{m}.{n}" for m, module in modules.items() for n, _ in module.named_parameters()]
        self.weights: list[Tensor] = [p for module in modules.values() for p in module.parameters()]
        groups = [{"params": list(m.parameters()), "factor": FACTORS.get(name, 1.0)} for name, m in modules.items()]
        self.optimiser = torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.99), weight_decay=1e-3, fused=True)
        self.mean = [p.detach().clone() for p in self.weights]
        self.step, self.seconds = 0, 0.0
        self._last = time.monotonic()
        if path.exists():
            self._load()

    @property
    def fraction(self) -> float:
        """How much of the run is done, 0..1."""
        return min(1.0, max(self.step / max(1, self.steps), self.seconds / 60 / self.minutes))

    @property
    def remaining(self) -> float:
        """Estimated seconds to go."""
        return self.seconds * (1 - self.fraction) / self.fraction if self.fraction else math.nan

    def update(self, loss: Tensor) -> float:
        """One step down the gradient; answers its norm."""
        rate = (
            self.rate
            * min(1.0, (self.step + 1) / WARM)
            * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * self.fraction)))
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.team.mean([p.grad for p in self.weights if p.grad is not None])
        norm = float(nn.utils.clip_grad_norm_(self.weights, 2.0))
        self.optimiser.step()
        decay = min(DECAY, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self.weights, 1 - decay)
        self.step += 1
        now = time.monotonic()
        self.seconds, self._last = self.team.agree(self.seconds + now - self._last), now
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the modules hold their averaged weights."""
        kept = [p.detach().clone() for p in self.weights]
        self._fill(self.mean)
        try:
            yield
        finally:
            self._fill(kept)

    def _fill(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.weights, values)

    def adopt(self) -> None:
        """Puts the averaged weights in place, for good."""
        self._fill(self.mean)

    def save(self) -> None:
        """Weights, averages and optimiser into one safetensors file, replaced in one piece."""
        if self.team.rank:
            return
        out = {"run.step": torch.tensor(self.step), "run.seconds": torch.tensor(self.seconds)}
        for name, weight, mean in zip(self.names, self.weights, self.mean, strict=True):
            out[f"weight/{name}"], out[f"mean/{name}"] = weight.detach().contiguous(), mean.contiguous()
            for key, value in self.optimiser.state.get(weight, {}).items():
                out[f"{key}/{name}"] = value.contiguous()
        part = self.path.with_suffix(".part")
        save_file(out, part)
        part.replace(self.path)

    def _load(self) -> None:
        kept = load_file(self.path, device=str(self.weights[0].device))
        self.step, self.seconds = int(kept["run.step"]), float(kept["run.seconds"])
        # What was added to the script since the checkpoint begins where it would have begun.
        pairs = list(zip(self.names, self.weights, self.mean, strict=True))
        self._fill([kept.get(f"weight/{name}", weight.detach()) for name, weight, _ in pairs])
        torch._foreach_copy_(self.mean, [kept.get(f"mean/{name}", mean) for name, _, mean in pairs])
        for name, weight in zip(self.names, self.weights, strict=True):
            state = {k: kept[f"{k}/{name}"] for k in ("step", "exp_avg", "exp_avg_sq") if f"{k}/{name}" in kept}
            if state:
                state["step"] = state["step"].cpu()
                self.optimiser.state[weight] = state
