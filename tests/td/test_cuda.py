"""Pictures that stay on an NVIDIA card, from a TOP through a real bridge to a Script TOP.

Over a strict stand-in for the driver that both processes share (support.fake_cuda) and for TouchDesigner's use of it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from support.fake_cuda import Process
from support.fake_gpu import Machine
from td.test_loop import INVERTED, close_to

from td.component import BLACK, ROOT, Stage, corner, ready

SHELF = "livelatent_cuda_1"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "machine")
    yield made
    assert made.misuse == []


def costs(stage: Stage, driver: Process) -> dict[str, int]:
    """What a picture that stays on the card must not add to."""
    world = stage.world
    read = stage.comp.op("in1")._downloads, world._stalls, len(world._copied), driver.allocations
    return {"received": stage.ext.received, **dict(zip(("downloads", "stalls", "copies", "memory"), read, strict=True))}


@contextmanager
def lent(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """NVIDIA's driver, for whoever loads it in this process."""
    made, real = Process(machine), ctypes.CDLL
    names = ("libcuda.so.1", "nvcuda.dll")
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name, *rest, **more: made if name in names else real(name, *rest, **more)
    )
    sys.modules.pop(SHELF, None)
    yield made
    sys.modules.pop(SHELF, None)
    made.end()


@pytest.fixture
def driver(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    with lent(machine, monkeypatch) as made:
        yield made


def stage_on(folder: Path, machine: Machine, gpu: Any, transport: str = "cuda-ipc") -> Stage:
    """A stage whose bridge finds the same cards."""
    stage = ready(folder, gpu=gpu)
    script = folder / "with-cards"
    launcher = ROOT / "tests/support/cuda_bridge.py"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{launcher}" "{machine.folder}" "$@"\n', "utf-8")
    script.chmod(0o755)
    stage.comp.par.Command, stage.comp.par.Transport = str(script), transport
    stage.frame()
    return stage


@pytest.fixture
def stage(tmp_path: Path, machine: Machine, driver: Process) -> Iterator[Stage]:
    made = stage_on(tmp_path, machine, driver)
    yield made
    made.close()


def start(stage: Stage) -> None:
    stage.comp.par.Start.pulse()
    stage.until(lambda: on_card(stage), 60, "not on the card")


def on_card(stage: Stage) -> bool:
    return bool(stage.ext.links.words_for() == "cuda-ipc")


def test_right_side_up_in_the_right_colours_and_nothing_is_downloaded(
    stage: Stage, driver: Process, machine: Machine
) -> None:
    start(stage)
    for picture, sizes in ((corner(), (256, 256)), (corner(480, 854), (256, 256))):
        stage.movie._show(picture)
        stage.until(lambda: close_to(stage.out._seen(), INVERTED))
        assert stage.out._seen().shape == (*sizes, 4)
    stage.movie._show(corner()[::-1])
    swapped = {"red": INVERTED["blue"], "blue": INVERTED["red"], "green": INVERTED["grey"], "grey": INVERTED["green"]}
    stage.until(lambda: close_to(stage.out._seen(), swapped))
    # Larger than livelatent's first memory on the card: it takes new one, and the old is let go of here.
    stage.comp.par.Width = stage.comp.par.Height = 640
    stage.until(lambda: stage.out._seen().shape == (640, 640, 4) and on_card(stage))
    assert stage.ext.card.cuda.uuid in machine.cards
    assert machine.open_count == 2, "each side has the other's memory open, once"
    count = stage.ext.received
    stage.until(lambda: stage.ext.received > count + 2)  # by then both buffers have the new size
    before = costs(stage, driver)

    def steady() -> bool:
        """Twenty pictures on end; a machine under load may come back to shared memory for one."""
        nonlocal before
        before = before if on_card(stage) else costs(stage, driver)
        return bool(stage.ext.received > before["received"] + 20)

    stage.until(steady)
    assert {**costs(stage, driver), "received": 0} == {**before, "received": 0}
    gc.collect()
    assert stage.world._gpu.lent <= 5, "what TouchDesigner lent is given back"
    stage.until(lambda: "running" in stage.par("Status") and stage.par("Status").endswith("cuda-ipc"))
    assert stage.par("Sent") > 20
    assert stage.par("Roundtrip") > 0


def test_a_picture_comes_back_with_its_own_number(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read before the card has done its copy would carry another picture's number."""
    start(stage)
    sent: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    send, read = stage.ext.links.send_card, stage.ext.links.reader.read

    def note(top: Any, captured: int, media: int) -> None:
        sent[media] = round(float(stage.movie._pixels[20, 200, 0]) * 255)  # rows from the bottom
        send(top, captured, media)

    def match(picture: Any) -> Any:
        news = read(picture)
        if news is not None and news[1] in sent and stage.ext.links.reader.on_card:
            at, size = picture._buffers[1]
            with picture.card.cuda:
                allocation, start = stage.world._gpu._driver.find(at, size)
            raw = np.frombuffer(allocation.bytes[start : start + 256 * 256 * 4], np.uint8).reshape(256, 256, 4)
            pairs.append((sent[news[1]], 255 - int(raw[20, 200, 2])))
        return news

    monkeypatch.setattr(stage.ext.links, "send_card", note)
    monkeypatch.setattr(stage.ext.links.reader, "read", match)
    level = iter(range(100_000))

    def shown() -> bool:
        stage.movie._show(np.full((256, 256, 3), 5 + next(level) * 7 % 240, np.uint8))
        return len(pairs) >= 30

    stage.until(shown)
    assert len({a for a, _ in pairs}) > 10
    assert all(abs(a - b) <= 1 for a, b in pairs), pairs


def test_auto_leaves_the_driver_alone_where_it_would_work(
    tmp_path: Path, machine: Machine, driver: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    lend, loaded = ctypes.CDLL, []

    def load(name: Any, *rest: Any, **more: Any) -> Any:
        loaded.append(name)
        return lend(name, *rest, **more)

    monkeypatch.setattr(ctypes, "CDLL", load)
    stage = stage_on(tmp_path, machine, driver, "auto")
    try:
        stage.comp.par.Start.pulse()
        stage.until(lambda: stage.ext.received > 3 and stage.par("Status").endswith("frames/s, shm"), 60)
        assert close_to(stage.out._seen(), INVERTED)
        stage.ext.Stop()
        stage.until(lambda: stage.ext.bridge.state == "off")
        stage.comp.par.Host = "192.0.2.1"  # never anybody's
        stage.until(lambda: stage.ext.links.words_for() == "zmq")
        stage.comp.par.Host = "127.0.0.1"
        stage.until(lambda: stage.ext.links.words_for() == "shm")
        assert loaded == [], "no library is loaded"
        assert stage.ext.card.cuda is None
        assert driver.current is None, "nor is TouchDesigner asked for memory of its card"
        stage.comp.par.Transport = "cuda-ipc"
        stage.until(lambda: stage.ext.card.usable, 10, "who chooses it gets it")
        assert len(loaded) == 1
    finally:
        stage.close()


def test_a_bridge_of_shared_memory_stays_with_it_and_the_face_says_why(
    tmp_path: Path, machine: Machine, driver: Process
) -> None:
    stage = stage_on(tmp_path, machine, driver)
    try:
        words = stage.ext.links.words
        stage.ext.links.words = lambda par, transport, *sides: words(par, "shm", *sides)
        stage.comp.par.Start.pulse()
        stage.until(lambda: stage.ext.received > 3, 60)
        stage.until(lambda: "takes and gives no pictures on the card" in stage.par("Status"))
        assert close_to(stage.out._seen(), INVERTED)
    finally:
        stage.close()


FAULTS = ("cuMemcpyDtoDAsync_v2", "cuEventRecord", "cuEventQuery", "cuCtxPushCurrent_v2", "cuMemAlloc_v2")


def test_a_call_that_fails_sends_the_pictures_through_shared_memory(stage: Stage, driver: Process) -> None:
    start(stage)
    for fault in FAULTS:
        driver.refuses[fault] = 2
        stage.movie._show(corner(600, 640 + 64 * FAULTS.index(fault)))  # larger: memory is asked for too
        stage.comp.par.Width = 256 + 64 * FAULTS.index(fault)
        stage.until(lambda: not stage.ext.card.usable, 20, fault)
        count = stage.ext.received
        stage.until(lambda n=count: stage.ext.received > n + 5, 20, fault)
        stage.until(lambda: close_to(stage.out._seen(), INVERTED))
        stage.until(lambda: "shm (CUDA: out of memory" in stage.par("Status"))
        assert stage.par("Error") == ""
        driver.refuses.clear()
        stage.comp.par.Active = False
        stage.frame()
        stage.comp.par.Active = True
        stage.until(lambda: on_card(stage), 20, fault)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda stage, driver: setattr(stage.world, "_gpu", None), "works on an NVIDIA card alone"),
        (lambda stage, driver: driver.refuses.update(cuIpcGetMemHandle=1), "invalid argument"),
        (lambda stage, driver: driver.refuses.update(cuCtxGetCurrent=201), "invalid device context"),
        (lambda stage, driver: stage.comp.op("proof").__dict__.update(_form=lambda: "rgba32float"), "8 bits"),
        (lambda stage, driver: stage.comp.op("proof").__dict__.update(_form=lambda: "rgba16float"), "rgba16float"),
        (lambda stage, driver: sys.modules["td.fake.gpu"].BLUE_FIRST.__setitem__(slice(0, 3), [0, 1, 2]), "order"),
    ],
    ids=["no card", "no handle", "no context", "floats", "half floats", "another order"],
)
def test_the_card_is_taken_only_where_a_trial_succeeds(
    stage: Stage, driver: Process, spoil: Callable[[Stage, Process], None], said: str
) -> None:
    spoilt = stage.world._gpu
    try:
        sys.modules[SHELF].blocks.clear()  # type: ignore[attr-defined]
        spoil(stage, driver)
        stage.comp.par.Transport = "shm"
        stage.frame()
        stage.ext.card.cuda = None
        stage.comp.par.Transport = "cuda-ipc"
        stage.frame()
        stage.frame()
        assert said in stage.ext.card.problem
        assert stage.ext.links.words_for() == f"shm ({stage.ext.card.problem})", "who asks for it reads why not"
        sent = stage.ext.links.sender.sent
        stage.until(lambda: stage.ext.links.sender.sent > sent + 3)
        assert not stage.ext.links.by_card(False)
    finally:
        stage.world._gpu = spoilt
        sys.modules["td.fake.gpu"].BLUE_FIRST[:] = [2, 1, 0, 3]  # type: ignore[attr-defined]
        driver.refuses.clear()


def test_a_mask_goes_with_the_picture_through_shared_memory(stage: Stage) -> None:
    start(stage)
    stage.movie.outputConnectors[0].connect(stage.comp.inputConnectors[1])
    stage.until(lambda: "it carries the mask" in stage.par("Status"))
    sent = stage.ext.links.sender.sent
    stage.until(lambda: stage.ext.links.sender.sent > sent + 3)
    stage.comp.inputConnectors[1].disconnect()
    stage.until(lambda: on_card(stage))


def held(driver: Process) -> tuple[int, int, int, int]:
    gc.collect()
    opened = sum(a.owner != driver.token for a in driver.mappings.values())
    return len(driver.mappings), opened, len(driver.events), psutil.Process().num_fds()


@pytest.mark.timeout(300)
def test_either_side_is_killed_or_built_again_and_nothing_is_left(
    tmp_path: Path, machine: Machine, driver: Process
) -> None:
    """Ten times each: tests/soak/test_td_kills.py."""
    cycles(tmp_path, machine, driver, 1)


def cycles(folder: Path, machine: Machine, driver: Process, times: int) -> None:
    """A watcher sees every frame of it."""
    stage = stage_on(folder, machine, driver)
    try:
        start(stage)
        base = None
        for _ in range(times):
            os.kill(stage.ext.bridge.pid, signal.SIGKILL)
            stage.until(lambda: watch(stage) and stage.ext.bridge.state == "failed")
            count = stage.ext.received
            stage.comp.par.Start.pulse()
            stage.until(lambda n=count: watch(stage) and stage.ext.received > n + 3 and on_card(stage), 60)
            now = held(driver)
            base = base or now
            assert now[1:3] == base[1:3], "open memory and events"
            assert now[0] <= base[0] + 5, "memory: TouchDesigner's own five come and go"
            assert now[3] <= base[3] + 8
        stage.ext.Stop()
        stage.until(lambda: stage.ext.bridge.state == "off")
        assert base is not None
        rebuilds(stage, machine, driver, times, base)
    finally:
        stage.close()
    gc.collect()
    blocks = sys.modules[SHELF].blocks  # type: ignore[attr-defined]
    assert [a for a in driver.mappings.values() if a.owner != driver.token] == []
    assert len(driver.mappings) == len(blocks), "nothing but what may be used again"
    assert len(driver.events) == 4 * len(blocks)


def rebuilds(stage: Stage, machine: Machine, driver: Process, times: int, base: tuple[int, ...]) -> None:
    """The extension is made anew under a bridge that goes on, as when the component is built again."""
    words = stage.ext.links.words(stage.comp.par, "cuda-ipc", False, False)
    words += ["--osc-port", str(stage.par("Oscport")), "--no-web", "--engine", "fake", "--with-stdin"]
    bridge = subprocess.Popen([stage.par("Command"), "run", *words], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert bridge.stdin is not None
    try:
        stage.until(lambda: on_card(stage), 60)
        for number in range(times):
            stage.comp.par.reinitextensions.pulse()
            stage.until(lambda: stage.ext.received > 3 and on_card(stage), 60, f"time {number}")
            stage.until(lambda: close_to(stage.out._seen(), INVERTED))
            now = held(driver)
            assert now[1:3] == base[1:3]
            assert now[0] <= base[0] + 5
            assert machine.open_count == 2, "each side has the other's memory open, once"
    finally:
        bridge.stdin.close()
        bridge.wait(60)
    stage.until(lambda: machine.open_count == 0, 60, "the memory of what has ended is let go of")


def suppressed(act: Callable[..., object], *arguments: object) -> None:
    with suppress(AssertionError):
        act(*arguments)


def watch(stage: Stage) -> bool:
    """Every frame of it: bright somewhere."""
    assert stage.out._seen()[..., :3].max() > BLACK, "black"
    return True


def test_the_fake_lets_nothing_pass(stage: Stage, driver: Process, machine: Machine) -> None:
    """Where CUDA would do anything at all, it fails."""
    cuda, eight = stage.ext.card.cuda, stage.comp.op("eight")
    memory = eight.cudaMemory(stream=stage.ext.card.stream)
    at, size = memory.ptr, memory.size
    with cuda:
        block = cuda.borrow(size)
        wrong = {
            "context": lambda: cuda._dll.cuCtxPushCurrent_v2(1001),
            "stream": lambda: cuda.copy(block.start, at, 4, 12345),
            "not there": lambda: cuda.copy(block.start, 1 << 40, 4, stage.ext.card.stream),
            "beyond": lambda: cuda.copy(block.start, at, size + 1, stage.ext.card.stream),
            "an event": lambda: cuda.done(99),
        }
        for said, act in wrong.items():
            with pytest.raises(AssertionError, match=said):
                act()
        with pytest.raises(Exception, match="invalid device context"):
            cuda.open(block.handle)
        cuda.copy(block.start, at, size, stage.ext.card.stream)
    driver.queue.lag_s = 0.2
    with cuda:
        cuda.copy(block.start, at, size, stage.ext.card.stream)
    del memory
    gc.collect()
    driver.queue.drain()
    assert machine.misuse[-1] == "freed or closed before the copy was done"
    thread = threading.Thread(target=lambda: suppressed(cuda.done, block.events[0]))
    thread.start()
    thread.join()
    assert machine.misuse[-1] == "no context on this thread"
    driver._cuDevicePrimaryCtxRetain(ctypes.c_void_p(), 1)
    driver._cuCtxPushCurrent_v2(1001)
    with pytest.raises(AssertionError, match="another context was left current"):
        eight.cudaMemory(stream=stage.ext.card.stream)
    driver._stack().clear()
    (machine.folder / "misuse").unlink()
