"""What computes ahead (engines.ahead), without the network that it belongs to: its few weights as one piece of memory,
kept beside what a compiler has made of the rest.

Imports diffusers, as engines.ahead: what loads networks does so when it loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models.embeddings import TextTimeEmbedding, TimestepEmbedding, Timesteps
from torch import Tensor

from engines import given
from engines.ahead import Ahead, Stacks
from engines.guidancescale import GuidanceScale

ALIGNED = 64
"""Bytes: each tensor begins at a multiple."""
Facts = dict[str, Any]
"""What JSON can hold."""


class AheadAlone(Ahead):
    """For a compiled network, which takes all keys and values in one piece."""

    def __init__(self, net: Any, stacks: Stacks, scale: GuidanceScale, room: torch.dtype) -> None:
        """`room`: the type of what it gives."""
        super().__init__(net, stacks, lambda: self.changes, scale)
        self.changes, self._room = 0, room
        self.layers: dict[str, Tensor] = dict(_layers(net, stacks))
        """The weight of each of its layers, by its path in the whole network."""

    @torch.inference_mode()
    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Give layers other weights."""
        for path, weight in weights.items():
            self.layers[path].copy_(weight)
        self.changes += 1

    def room(self, steps: int, length: int) -> tuple[Tensor, Tensor]:
        times, texts = super().room(steps, length)
        return times.to(self._room), texts.to(self._room)

    def views(self, reads: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """All of it at once: [B, L, sum]."""
        return ((reads,),) if reads.shape[-1] else ()


def pack(ahead: given.Ahead | None, dtype: torch.dtype | None = None) -> tuple[Facts, bytes]:
    """What `unpack` takes. `dtype`: of the weights, their own if None. For nothing, nothing."""
    if ahead is None:
        return {}, b""
    assert isinstance(ahead, Ahead), "what computes ahead elsewhere has no weights to be kept"
    net, stacks = ahead.net, ahead.stacks
    tensors = {"time": stacks.time, "bias": stacks.bias, "text": stacks.text, **_state("time_embedding", net)}
    facts: Facts = {
        "added": net.config.addition_embed_type,
        "turn": _turn(net.time_proj),
        "blocks": stacks.blocks,
        "readers": stacks.readers,
        "heads": stacks.heads,
    }
    if facts["added"] is not None:
        tensors |= _state("add_embedding", net)
    if facts["added"] == "text":
        facts["pool"] = net.add_embedding.pool.num_heads
    elif facts["added"] == "text_time":
        facts["added_turn"] = _turn(net.add_time_proj)
    places, parts, at = dict[str, tuple[str, list[int], int]](), list[bytes](), 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().to("cpu", dtype).contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        places[name] = str(tensor.dtype).removeprefix("torch."), list(tensor.shape), at
        parts.append(raw + bytes(-len(raw) % ALIGNED))
        at += len(parts[-1])
    return {**facts, "places": places}, b"".join(parts)


def unpack(
    facts: Facts, content: memoryview, device: torch.device, room: torch.dtype | None = None
) -> AheadAlone | None:
    """What was packed; on the processor over `content` itself. `room`: the type of what it gives, that of its weights
    if None."""
    if not facts:
        return None
    found = {name: _tensor(content, *place).to(device) for name, place in facts["places"].items()}
    stacks = Stacks(
        found["time"], found["bias"], _rows(facts["blocks"]), found["text"], _rows(facts["readers"]), facts["heads"]
    )
    inner, added = _inside("time_embedding", found), _inside("add_embedding", found)
    with torch.device("meta"):
        embedding = _timestep_embedding(inner)
        more = None
        if facts["added"] == "text":
            width, reads = added["proj.weight"].shape
            more = TextTimeEmbedding(reads, width, facts["pool"])
        elif facts["added"] == "text_time":
            more = _timestep_embedding(added)
    embedding.load_state_dict(inner, assign=True)
    if more is not None:
        more.load_state_dict(added, assign=True)
        more.requires_grad_(False)
    cond = embedding.cond_proj.in_features if embedding.cond_proj is not None else None
    net = SimpleNamespace(
        config=SimpleNamespace(addition_embed_type=facts["added"], time_cond_proj_dim=cond),
        time_proj=Timesteps(*facts["turn"]),
        time_embedding=embedding.requires_grad_(False),
        add_time_proj=Timesteps(*facts["added_turn"]) if "added_turn" in facts else None,
        add_embedding=more,
    )
    return AheadAlone(net, stacks, GuidanceScale(cond, found["time"].dtype, device), room or found["time"].dtype)


def _state(name: str, net: Any) -> dict[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in getattr(net, name).state_dict().items()}


def _inside(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def _timestep_embedding(tensors: Mapping[str, Tensor]) -> Any:
    width, channels = tensors["linear_1.weight"].shape
    cond = tensors["cond_proj.weight"].shape[1] if "cond_proj.weight" in tensors else None
    return TimestepEmbedding(channels, width, out_dim=len(tensors["linear_2.weight"]), cond_proj_dim=cond)


def _turn(sinusoids: Any) -> list[Any]:
    return [sinusoids.num_channels, sinusoids.flip_sin_to_cos, sinusoids.downscale_freq_shift, sinusoids.scale]


def _rows(found: list[list[Any]]) -> list[tuple[str, int]]:
    return [(str(path), int(rows)) for path, rows in found]


def _layers(net: Any, stacks: Stacks) -> list[tuple[str, Tensor]]:
    found = []
    for stack, parts in ((stacks.time, stacks.blocks), (stacks.text, stacks.readers)):
        split = torch.split(stack, [rows for _, rows in parts]) if parts else ()
        found += [(path, part) for (path, _), part in zip(parts, split, strict=True)]
    for name in ("time_embedding", "add_embedding"):
        for path, layer in getattr(net, name).named_modules() if getattr(net, name) is not None else ():
            if isinstance(layer, torch.nn.Linear):
                found.append((f"{name}.{path}", layer.weight))
    return found


def _tensor(content: memoryview, dtype: str, shape: list[int], at: int) -> Tensor:
    count = torch.Size(shape).numel()
    if not count:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.frombuffer(content, dtype=getattr(torch, dtype), count=count, offset=at).view(shape)
