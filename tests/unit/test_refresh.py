"""Motion-gated refresh: what stands still keeps its pixels, what moves does not, and nothing for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from bridge.sources.scene import draw
from engines.base import Build
from engines.compiled import CompiledEngine
from engines.eager import EagerEngine
from engines.emulated import EmulatedMachine
from pipelines.coherence.refresh import BLOCK, QUIET, Refresh
from pipelines.params import Params
from pipelines.stream import DiffusionStream

SIDE, CPU = 128, torch.device("cpu")
GREY = torch.zeros(1, 3, SIDE, SIDE)
YES = torch.tensor(True)


def moved(*places: tuple[int, int], levels: float = 40.0) -> Tensor:
    """The grey input with something in these blocks (row, column)."""
    out = GREY.clone()
    for row, column in places:
        out[:, :, row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] += levels / 127.5
    return out


def new(number: int) -> Tensor:
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(number)) * 2 - 1


class Still:
    """A Refresh that has shown picture 0 of the grey input."""

    def __init__(self, threshold: float = 8.0, longest: float = 1000.0) -> None:
        self.refresh = Refresh((SIDE, SIDE), CPU)
        self.numbers = torch.tensor(threshold), torch.tensor(longest)
        assert torch.equal(self.show(0, GREY), new(0)), "with no past everything is shown"

    def show(self, number: int, source: Tensor, known: Tensor = YES) -> Tensor:
        return self.refresh(new(number), source, known, *self.numbers).clone()

    def painted(self, number: int, source: Tensor) -> np.ndarray:
        """Which blocks show picture `number`, wholly: their middles are equal to it. (rows, columns)"""
        shown = self.show(number, source)
        same = (shown == new(number)).all(1)[0]
        blocks = same.view(SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK).float().mean((1, 3))
        return blocks.numpy()


def test_what_stands_still_is_kept_to_the_bit():
    still = Still()
    for n in range(1, 4):
        assert torch.equal(still.show(n, GREY), new(0))


def test_a_block_that_moves_is_painted_with_its_neighbours_and_the_rest_is_kept():
    still = Still()
    found = still.painted(1, moved((3, 3)))
    assert found[3, 3] == 1.0
    assert (found[2:5, 2:5] > 0.2).all()
    assert (found[:1] == 0.0).all()
    assert (found[:, 6:] == 0.0).all()
    shown = still.refresh.shown
    assert torch.equal(shown[..., 6 * BLOCK :, :], new(0)[..., 6 * BLOCK :, :])
    edge = shown[..., 3 * BLOCK + 8, 5 * BLOCK + 2]  # the feather: some of both
    assert not torch.equal(edge, new(1)[..., 3 * BLOCK + 8, 5 * BLOCK + 2])
    assert not torch.equal(edge, new(0)[..., 3 * BLOCK + 8, 5 * BLOCK + 2])


def test_a_drift_adds_up_and_grain_does_not():
    still = Still(threshold=8.0)
    drift = [still.painted(n, moved((3, 3), levels=3.0 * n))[3, 3] for n in range(1, 4)]
    assert drift == [0.0, 0.0, 1.0]
    still, rng = Still(threshold=8.0), torch.Generator().manual_seed(1)
    for n in range(1, 6):
        grain = torch.randn(GREY.shape, generator=rng) * 3.0 / 127.5
        assert torch.equal(still.show(n, GREY + grain), new(0))


def test_what_moves_comes_to_rest_below_a_lower_threshold():
    still = Still(threshold=8.0)
    between = 8.0 * (1 + QUIET) / 2
    assert still.painted(1, moved((3, 3), levels=between))[3, 3] == 0.0, "too little to wake it"
    assert still.painted(2, moved((3, 3), levels=40.0))[3, 3] == 1.0
    assert still.painted(3, moved((3, 3), levels=40.0 + between))[3, 3] == 1.0, "too much to let it rest"
    assert still.painted(4, moved((3, 3), levels=40.0 + between + 1.0))[3, 3] == 0.0
    assert still.painted(5, moved((3, 3), levels=40.0 + 2 * between - 1.0))[3, 3] == 0.0


def test_no_block_is_older_than_the_longest_and_not_all_are_painted_at_once():
    still, last, most = Still(longest=10.0), np.zeros((8, 8)), 0
    for n in range(1, 40):
        found = still.painted(n, GREY) > 0.0
        due = still.refresh.age[0, 0].numpy() == 0.0
        last = np.where(due, n, last)
        assert (n - last).max() <= 11
        most = max(most, int(due.sum()))
        assert found[due].all()
    assert 0 < most < 64


@pytest.mark.parametrize("forget", [True, False])
def test_without_a_past_everything_is_shown(forget):
    still = Still()
    if forget:
        still.refresh.forget()
    assert torch.equal(still.show(1, GREY, torch.tensor(forget)), new(1))
    assert torch.equal(still.show(2, GREY), new(1))


# In a stream

SMALL = 64
SCENE = draw(3.0, SMALL, SMALL, 1)
ON = {"refresh_threshold": 6.0, "noise_mode": "frame"}


def corner(n: int) -> np.ndarray:
    """The scene, with something that moves in its corner."""
    out = SCENE.copy()
    out[48:, 48:] = 255 * (n % 2)
    return out


@pytest.fixture
def make(model_folder) -> Iterator[Callable[..., DiffusionStream]]:
    made: list[DiffusionStream] = []

    def new(engine=None) -> DiffusionStream:
        nets = (engine or EagerEngine()).load(model_folder("sd15"), Build(SMALL, SMALL, device="cpu", dtype="fp32"))
        made.append(DiffusionStream(nets, (SMALL, SMALL), Params(), clock=lambda: 0.0))
        return made[-1]

    yield new
    for stream in made:
        stream.close()


def test_a_stream_keeps_what_stands_still_and_shows_at_once_what_people_steer(make):
    stream, plain = make(), make()
    pictures = [stream(corner(n), Params(**ON)).copy() for n in range(3)]
    free = [plain(corner(n), Params(noise_mode="frame")).copy() for n in range(3)]
    assert np.array_equal(pictures[0], free[0]), "off or at first, the picture as it is painted"
    assert np.array_equal(pictures[2][:16, :16], pictures[0][:16, :16])
    assert not np.array_equal(free[2][:16, :16], free[0][:16, :16])
    assert not np.array_equal(pictures[2][56:, 56:], pictures[1][56:, 56:])
    for values in ({"strength": 0.9}, {"seed": 4, "strength": 0.9}, {"strength": 0.9, "take": 1}):
        steered = stream(corner(3), Params(**ON, **values)).copy()
        assert not np.array_equal(steered[:16, :16], pictures[2][:16, :16]), values
        assert np.array_equal(stream(corner(3), Params(**ON, **values)), steered)
        pictures[2] = steered
    cut = np.ascontiguousarray(255 - SCENE[::-1])
    shown = stream(cut, Params(**ON, **values)).copy()
    assert not np.array_equal(shown[:16, :16], steered[:16, :16])
    assert np.array_equal(stream(cut, Params(**ON, **values)), shown)


def test_recorded_frames_keep_the_same_pixels_and_no_number_records_anew(make):
    machine = EmulatedMachine()
    eager, fast = make(), make(CompiledEngine(machine))

    def show() -> None:
        steered = {"refresh_threshold": 3.0}, {"refresh_max_age": 1}, {"strength": 0.9}, {}, {}, {}
        for n, values in enumerate(steered):
            params = Params(**{**ON, **values})
            assert np.array_equal(fast(corner(n), params), eager(corner(n), params)), values

    for _ in range(3):  # a mode is recorded when it comes again: all of it, all for what follows, a window
        show()
    before = fast.painter.records, machine.graphs, machine.made, machine.syncs
    show()
    assert (fast.painter.records, machine.graphs, machine.made, machine.syncs) == before
    assert 1 <= before[0] <= 3
    assert fast.painter.failed == ""
