"""What engines.emulated checks: which operations a graph can't hold, and who may touch which memory when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

Clock = dict[int, int]
"""By stream: how much of its work is known to be done before."""
NAMES = {"_local_scalar_dense": "reads a number back to the host", "equal": "reads a truth value back to the host"}
TAGS = {
    torch.Tag.data_dependent_output: "reads a number back to the host",
    torch.Tag.dynamic_output_shape: "has a shape that depends on data",
    torch.Tag.nondeterministic_seeded: "draws random numbers, which would be the same each time",
}
WHOLE = {
    **dict.fromkeys(("argwhere", "nonzero_numpy", "combinations"), "has a shape that depends on data"),
    **dict.fromkeys(("allclose", "is_nonzero"), "reads a truth value back to the host"),
}
"""What torch puts together of parts, and shows as a whole here: it has none of its parts' tags."""
COUNTS = ("repeat_interleave.self_Tensor", "tensor_split.tensor_indices_or_sections", "where.default")
"""The same, where another form of it is harmless."""
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")
REPLACED = ("resize_", "resize_as_", "set_")
SHAPES = ("empty_like", "new_empty", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
"""What looks at a tensor's shape alone."""
BACK = ("cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__", "__index__", "__array__", "__len__")
"""Tensor's methods that bring something to the host. A length is a shape, and no data."""
FROM_HOST = ("tensor", "as_tensor", "from_numpy", "frombuffer", "asarray")


_known: dict[int, StorageWeakRef] = {}
"""While there is a weak reference to a storage, dead or not, no other gets its place."""


class BrokenRule(RuntimeError):
    """A card would have failed here, or painted something else."""


class NoHost(TorchFunctionMode):
    """Refuses what passes between host and device while a graph is recorded, as far as a processor alone can't tell."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in BACK and name != "__len__" and args and isinstance(args[0], Tensor):
            raise BrokenRule(f"{name} brings data to the host")
        if name in FROM_HOST:
            raise BrokenRule(f"{name} brings data from the host")
        if name == "pin_memory" or (kwargs or {}).get("pin_memory"):
            raise BrokenRule("memory is pinned while a graph is recorded")
        return func(*args, **(kwargs or {}))


def waits(func: Any) -> bool:
    """Whether the host has to wait for the device in this operation."""
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return func.overloadpacket.__name__ in NAMES or not tags.isdisjoint(func.tags)


def refuse(func: Any, args: Any, kwargs: Any) -> str:
    """Why a graph can't hold this operation; nothing if it can."""
    name = func.overloadpacket.__name__
    if name in NAMES:
        return f"{name} {NAMES[name]}"
    if not _drops(func, args, kwargs):
        return ""
    if name in INDEXED:  # tagged for what a mask does; numbers on the device are taken as they come
        masks = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        return "a mask as an index has a shape that depends on data" if masks else ""
    for tag in func.tags:
        if tag in TAGS:
            return f"{name} {TAGS[tag]}"
    if name in WHOLE:
        return f"{name} {WHOLE[name]}"
    if f"{name}.{func._overloadname}" in COUNTS:
        return f"{name} has a shape that depends on data"
    if name in REPLACED:
        return f"{name} gives a tensor other memory, from outside of the graph's pool"
    return "lift_fresh brings a number from the host" if name == "lift_fresh" else ""


def _drops(func: Any, args: Any, kwargs: Any) -> bool:
    """False for what could draw random numbers, and is told not to."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    names = {argument.name for argument in func._schema.arguments}
    if "dropout_p" in names:
        return bool(given.get("dropout_p", 0.0))
    return bool(given["train"]) if func.overloadpacket.__name__ == "dropout" else True


@dataclass
class Call:
    """One operation, as it was done and will be done again."""

    func: Any
    args: Any
    kwargs: Any
    out: Any = None
    made: list[Tensor] = field(default_factory=list)
    looks: bool = False
    """Whether it only looks at memory in another way, and touches none."""

    def took(self, out: Any) -> list[Tensor]:
        """Notes what it gave; returns what of that is new memory."""
        given = {key_of(tensor) for tensor in _tensors((self.args, self.kwargs))}
        self.out = out
        self.made = [tensor for tensor in _tensors(out) if key_of(tensor) not in given]
        returned = [value.alias_info for value in self.func._schema.returns]
        self.looks = (
            not self.made and bool(returned) and all(info is not None and not info.is_write for info in returned)
        )
        return self.made

    def again(self) -> None:
        """Every result lands where it was the first time."""
        _overwrite(self.out, self.func(*self.args, **self.kwargs))

    def spoil(self, owned: dict[int, Any]) -> None:
        """Leave nothing in the results that anybody could use."""
        for tensor in self.made:
            if key_of(tensor) in owned and tensor.dtype.is_floating_point:
                tensor.fill_(float("nan"))


class Memory:
    """A pool: what lies in it, and which graph filled it last."""

    def __init__(self) -> None:
        self.owners: dict[int, Any] = {}
        self.last: Any = None


class Ledger:
    """Who used which storage, and who waited for whom."""

    def __init__(self) -> None:
        self._clocks: dict[int, Clock] = {0: {}}
        self._writes: dict[int, tuple[int, int]] = {}
        self._reads: dict[int, Clock] = {}
        self._lock = RLock()
        self._pools: dict[int, Any] = {}
        """The graph whose memory a storage is."""

    def fork(self) -> Ledger:
        """One without a past, for a recording: whether its work comes after others' is seen when it is played."""
        other = Ledger()
        other._pools = self._pools
        return other

    def knows(self, key: int) -> bool:
        """Whether anybody has used it."""
        return key in self._writes or bool(self._reads.get(key))

    def now(self, stream: int) -> Clock:
        with self._lock:
            return dict(self._clock(stream))

    def learn(self, stream: int, clock: Clock) -> None:
        """`stream` goes on after `clock`."""
        with self._lock:
            mine = self._clock(stream)
            for other, at in clock.items():
                mine[other] = max(mine.get(other, 0), at)

    def behind(self, stream: int, other: int) -> bool:
        """Whether work of `other` may still go on when `stream` comes here."""
        return self._clock(stream).get(other, 0) < self._clock(other).get(other, 0)

    def begin(self, made: Iterable[Tensor]) -> None:
        """New memory has no past."""
        with self._lock:
            for tensor in made:
                key = key_of(tensor)
                self._writes.pop(key, None)
                self._reads.pop(key, None)

    def use(
        self, stream: int, reads: Iterable[int], writes: Iterable[int], graph: Any = None, recorded: bool = False
    ) -> None:
        """Work on `stream` touches these storages. Raises BrokenRule where it does not come after others' work on
        them. `graph`: whose work it is; `recorded`: which is not done now."""
        with self._lock:
            self._use(stream, set(reads), set(writes), graph, recorded)

    def _use(self, stream: int, reads: set[int], writes: set[int], graph: Any, recorded: bool) -> None:
        if stream:
            self.learn(stream, self._clock(0))  # what the host knew when it queued this
        clock = self._clock(stream)
        clock[stream] = clock.get(stream, 0) + 1
        if graph is not None:
            writes |= set() if recorded else {id(graph.pool)}
            for key in writes:
                if key in graph.pool.owners:
                    self._pools[key] = graph.pool.owners[key]
        for key in list(reads - writes):
            self._check_pool(key, graph, reads, recorded)
        for key in reads | writes:
            self._check(key, stream, key in writes)
        for key in writes:
            self._writes[key], self._reads[key] = (stream, clock[stream]), {}
        for key in reads - writes:
            self._reads.setdefault(key, {})[stream] = clock[stream]

    def _check(self, key: int, stream: int, writes: bool) -> None:
        clock = self._clock(stream)
        by, at = self._writes.get(key, (stream, 0))
        if clock.get(by, 0) < at:
            raise BrokenRule(f"stream {stream} uses what stream {by} wrote, and has not waited for it")
        if writes:
            for other, read in self._reads.get(key, {}).items():
                if clock.get(other, 0) < read:
                    raise BrokenRule(f"stream {stream} writes over what stream {other} may still read")

    def _check_pool(self, key: int, graph: Any, reads: set[int], recorded: bool) -> None:
        owner = self._pools.get(key)
        if owner is None or owner is graph:
            return
        if graph is None or owner.pool is not graph.pool:
            reads.add(id(owner.pool))
        if owner.pool.last is not owner and not recorded:
            raise BrokenRule("a graph's result is read after another graph of its pool has been played")

    def _clock(self, stream: int) -> Clock:
        return self._clocks.setdefault(stream, {})


def key_of(tensor: Tensor) -> int:
    """The storage's identity, which no later storage will have."""
    storage = tensor.untyped_storage()
    key = int(storage._cdata)
    if key not in _known:
        _known[key] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
    return key


def accesses(func: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors that an operation reads, and those that it writes in place."""
    reads: list[Tensor] = []
    writes: list[Tensor] = []
    if func.overloadpacket.__name__ in SHAPES:
        return reads, writes
    for i, argument in enumerate(func._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        info = argument.alias_info
        (writes if info is not None and info.is_write else reads).extend(_tensors(value))
    return reads, writes


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.numel():
            yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def replaced(value: Any, by: dict[int, Tensor]) -> Any:
    """`value` with other tensors in some tensors' places, by their ids."""
    if isinstance(value, Tensor):
        return by.get(id(value), value)
    if isinstance(value, (tuple, list)):
        return type(value)(replaced(part, by) for part in value)
    return {key: replaced(part, by) for key, part in value.items()} if isinstance(value, dict) else value


def _overwrite(old: Any, new: Any) -> None:
    if isinstance(old, Tensor):
        if old.data_ptr() != new.data_ptr():
            old.copy_(new)
    elif isinstance(old, (tuple, list)):
        for one, other in zip(old, new, strict=True):
            _overwrite(one, other)
