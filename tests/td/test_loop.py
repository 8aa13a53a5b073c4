"""The whole way: a TOP's pixels in the fake TouchDesigner, a real bridge process, a Script TOP's pixels out of it."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient
from support.ports import free_port

from td.component import BLACK, Stage, build, corner, ready

INVERTED = {"red": (25, 235, 235), "green": (235, 55, 235), "blue": (235, 235, 25), "grey": (127, 127, 127)}
"""What the fake engine makes of `corner()`: the negative."""


def start(stage: Stage, seconds: float = 60) -> None:
    stage.comp.par.Start.pulse()
    first = stage.ext.received
    stage.until(lambda: stage.ext.received > first + 3, seconds, "no picture")


def quarters(picture: np.ndarray) -> dict[str, tuple[int, ...]]:
    """The four colours, away from the edges and from the number that the fake engine paints into a corner."""
    height, width = picture.shape[:2]
    at = {"red": (0.35, 0.25), "green": (0.25, 0.75), "blue": (0.75, 0.25), "grey": (0.75, 0.75)}
    return {name: tuple(int(v) for v in picture[int(y * height), int(x * width), :3]) for name, (y, x) in at.items()}


def close_to(picture: np.ndarray, wanted: dict[str, tuple[int, ...]], within: int = 3) -> bool:
    found = quarters(picture)
    return all(abs(a - b) <= within for name in wanted for a, b in zip(found[name], wanted[name], strict=True))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = ready(tmp_path_factory.mktemp("stage"))
    made.comp.par.Guidance, made.comp.par.Negative = 3.5, "fog"
    start(made)
    yield made
    made.close()


def test_right_side_up_in_the_right_colours(stage: Stage) -> None:
    stage.movie._show(corner())
    stage.until(lambda: close_to(stage.out._seen(), INVERTED))
    assert stage.out._seen().shape == (256, 256, 4)
    assert (stage.out._seen()[..., 3] == 255).all()
    # The fake engine does the same to every pixel: a flip on one side alone would swap red and blue.
    stage.movie._show(corner()[::-1])
    swapped = {"red": INVERTED["blue"], "blue": INVERTED["red"], "green": INVERTED["grey"], "grey": INVERTED["green"]}
    stage.until(lambda: close_to(stage.out._seen(), swapped))


def test_a_picture_comes_back_with_its_own_number(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    ext, put, read = stage.ext, stage.ext.links.sender.put, stage.ext.links.reader.read

    def note(source: np.ndarray, mask: Any, captured: int, media: int) -> None:
        sent[media] = round(float(source[20, 200, 0]) * 255)  # rows from the bottom
        put(source, mask, captured, media)

    def match(picture: Any) -> Any:
        news = read(picture)
        if news is not None and news[1] in sent:
            pairs.append((sent[news[1]], 255 - int(picture.front[20, 200, 0])))
        return news

    monkeypatch.setattr(ext.links.sender, "put", note)
    monkeypatch.setattr(ext.links.reader, "read", match)
    level = iter(range(10_000))
    deadline = time.monotonic() + 60
    while len(pairs) < 30 and time.monotonic() < deadline:
        stage.movie._show(np.full((256, 256, 3), 5 + next(level) * 7 % 240, np.uint8))
        stage.frame()
    assert len(pairs) >= 30, stage.figures()
    assert len({a for a, _ in pairs}) > 10
    assert all(abs(a - b) <= 1 for a, b in pairs), pairs
    assert stage.par("Roundtrip") > 0


def test_no_stall_no_memory_per_frame_and_nothing_but_what_is_new(stage: Stage) -> None:
    stage.movie._show(np.zeros((512, 512, 3), np.uint8))
    for _ in range(30):
        stage.frame()
    stalls, stage.world._copied[:] = stage.world._stalls, []
    gc.collect()
    tracemalloc.start()
    receive, before, cooks = stage.comp.op("receive"), stage.ext.received, stage.comp.op("receive").totalCooks
    try:
        for _ in range(20):
            stage.world.frame()
            time.sleep(0.02)
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        copy = receive.copyNumpyArray
        object.__setattr__(receive, "copyNumpyArray", lambda array: stage.world._copied.append(id(array)))
        frames, deadline = 0, time.monotonic() + 60
        while frames < 20 or (stage.ext.received == before and time.monotonic() < deadline):
            stage.world.frame()
            time.sleep(0.02)
            frames += 1
        peak = tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()
        object.__setattr__(receive, "copyNumpyArray", copy)
    assert stage.world._stalls == stalls, "numpyArray without delayed waits for the graphics card"
    assert len(set(stage.world._copied)) <= 2, "the same two buffers over and over"
    assert receive.totalCooks - cooks == stage.ext.received - before, "it cooks for new pictures alone"
    assert stage.ext.received > before
    assert peak < 200_000, f"{peak} bytes more at once than before: a picture is 1 MB"


def test_what_was_set_before_the_start_is_what_the_bridge_has(stage: Stage) -> None:
    stage.until(lambda: ask(stage, "/ll/guidance") == 3.5)
    for _ in range(20):
        stage.frame()
    assert (stage.par("Guidance"), stage.par("Negative")) == (3.5, "fog")
    assert ask(stage, "/ll/guidance") == 3.5


def test_a_slider_goes_there_and_what_changes_elsewhere_comes_back(stage: Stage) -> None:
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.bind(("127.0.0.1", 0))
    other = SimpleUDPClient("127.0.0.1", stage.par("Oscport"))
    try:
        other.send_message("/ll/subscribe", ear.getsockname()[1])
        stage.comp.par.Strength, stage.comp.par.Prompt, stage.comp.par.Bypass = 0.3, "ink", True
        heard = bytearray()
        ear.setblocking(False)

        def listen() -> bytes:
            try:
                while True:
                    heard.extend(ear.recv(65536))
            except BlockingIOError:
                return bytes(heard)

        stage.until(lambda: b"/ll/strength" in listen() and b"ink\0" in heard and b"/ll/bypass" in heard)
        other.send_message("/ll/strength", 0.7)
        other.send_message("/ll/control/2/weight", 1.5)
        other.send_message("/ll/sampler", "ddim")
        other.send_message("/ll/bypass", 0)
        stage.until(lambda: (stage.par("Strength"), stage.par("Sampler"), stage.par("Bypass")) == (0.7, "ddim", False))
        stage.until(lambda: stage.par("Control2weight") == 1.5)
        told = len(heard)
        for _ in range(20):
            stage.frame()
        tail = listen()[told:]
        assert b"/ll/sampler\0" not in tail, "what was heard must not be said again"
    finally:
        ear.close()
        other._sock.close()


def test_what_the_bridge_refuses_goes_back_to_what_it_was(stage: Stage) -> None:
    stage.comp.par.Control1model = "no-such-net"
    stage.until(lambda: stage.par("Control1model") == "none", what="the refused name stays")
    stage.until(lambda: "no-such-net" in stage.par("Error"))
    stage.comp.par.Control1model = "pocket-edge"
    for _ in range(30):
        stage.frame()
    assert stage.par("Control1model") == "pocket-edge"


def test_a_recalled_preset_is_what_the_bridge_has(stage: Stage) -> None:
    par = stage.comp.par
    par.Preset, par.Fade, par.Strength, par.Negative, par.Seed = "dusk", 0.5, 0.25, "haze", 77
    par.Store.pulse()
    stage.frame()
    par.Strength, par.Negative, par.Seed = 0.75, "rain", 5
    stage.until(lambda: ask(stage, "/ll/seed") == 5)
    par.Recall.pulse()
    stage.until(lambda: ask(stage, "/ll/seed") == 77)
    assert ask(stage, "/ll/strength") == 0.25, "where it is going"
    assert ask(stage, "/ll/negative") == "haze"


def ask(stage: Stage, address: str) -> Any:
    """What the bridge answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(30)
        asker.sendto(OscMessageBuilder(address).build().dgram, ("127.0.0.1", stage.par("Oscport")))
        return OscMessage(asker.recv(200)).params[0]


def test_an_expression_is_the_users_and_stays(stage: Stage) -> None:
    stage.comp.par.Mix.expr = "0.25 + 0.5"
    stage.ext.Changed(stage.comp.par.Mix)
    other = SimpleUDPClient("127.0.0.1", stage.par("Oscport"))
    other.send_message("/ll/mix", 0.1)
    other.send_message("/ll/eta", 0.9)
    other._sock.close()
    stage.until(lambda: stage.par("Eta") == 0.9)
    assert stage.comp.par.Mix.mode.name == "EXPRESSION"
    stage.comp.par.Mix = 1.0


def test_the_figures_are_told_and_cost_nothing_when_they_stay(stage: Stage) -> None:
    stage.until(lambda: stage.par("Fps") > 0 and stage.par("State") == "running" and "pocket" in stage.par("Modelinfo"))
    assert stage.par("Bridge").endswith(stage.ext.build["hash"])
    assert stage.ext.warning == ""
    assert "running" in stage.comp.op("info").text or stage.par("Error")
    with pytest.raises(Exception, match="no parameter"):
        stage.comp.par.Frobnication = 1


def test_an_older_component_says_so_and_goes_on(stage: Stage) -> None:
    mine, count = dict(stage.ext.build), stage.ext.received
    stage.ext.build |= {"hash": "000000000000", "version": "0.0.9"}
    try:
        stage.until(lambda: stage.comp.op("receive").warnings())
        assert "livelatent td install" in stage.comp.op("receive").warnings()
        stage.until(lambda: "an older component (0.0.9 000000000000)" in stage.par("Status"))
        assert "running: " in stage.par("Status")
        stage.until(lambda: stage.ext.received > count + 5)
    finally:
        stage.ext.build |= mine
    stage.until(lambda: not stage.comp.op("receive").warnings())


def test_sizes_may_change_at_any_frame(stage: Stage) -> None:
    for size in ((64, 64), (480, 854), (720, 1280), (256, 256)):
        stage.movie._show(corner(*size))
        count = stage.ext.received
        stage.until(lambda n=count: stage.ext.received > n + 10)
        assert stage.ext.links.problem == ""
    stage.comp.par.Width = 128
    stage.until(lambda: stage.comp.op("receive").width == 128)
    stage.comp.par.Width = 256
    stage.until(lambda: stage.comp.op("receive").width == 256)


def test_off_holds_the_last_picture_and_lets_go_of_all(stage: Stage) -> None:
    stage.comp.par.Active = False
    stage.frame()
    shown = stage.out._seen()
    for _ in range(20):
        stage.frame()
    stage.until(lambda: stage.par("State") == "off")
    stage.until(lambda: {t.name for t in threading.enumerate() if t.name.startswith("ll-td-")} <= {"ll-td-lines"})
    assert (stage.out._seen() == shown).all()
    stage.comp.par.Active = True
    count = stage.ext.received
    stage.until(lambda: stage.ext.received > count + 3)
    stage.until(lambda: stage.par("State") == "running" and stage.par("Error") == "")


@pytest.mark.parametrize(
    ("codec", "deferred", "kind"), [("raw", False, "videodeviceinTOP"), ("jpeg", True, "moviefileinTOP")]
)
def test_over_zmq(tmp_path: Path, codec: str, deferred: bool, kind: str) -> None:
    stage = ready(tmp_path, deferred=deferred, kind=kind)
    try:
        stage.comp.par.Transport, stage.comp.par.Codec = "zmq", codec
        start(stage)
        stage.until(lambda: close_to(stage.out._seen(), INVERTED, 6 if codec == "jpeg" else 3))
        stage.until(lambda: "zmq" in stage.par("Status"))
    finally:
        stage.close()


def leaks() -> tuple[int, int, set[str]]:
    gc.collect()
    names = [t.name for t in threading.enumerate() if t.name.startswith("ll-")]
    return len(names), psutil.Process().num_fds(), {p.name for p in Path("/dev/shm").glob(f"lltd-?{os.getpid()}-*")}


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="looks at /dev/shm")
def test_nothing_black_and_nothing_left_however_often_either_side_goes(tmp_path: Path) -> None:
    """Fifty times each: tests/soak/test_td_kills.py."""
    cycles(tmp_path, bridges=1, worlds=2)


def cycles(folder: Path, bridges: int, worlds: int) -> None:
    """Kill the bridge and start it again; delete the component and build it again. A watcher sees every frame."""
    before = leaks()
    stage = ready(folder)
    try:
        start(stage)
        base = None
        for _ in range(bridges):
            killed = stage.ext.bridge.pid
            os.kill(killed, signal.SIGKILL)
            count = stage.ext.received
            stage.until(lambda pid=killed: watch(stage) and stage.ext.bridge.pid != pid)
            stage.until(lambda: watch(stage) and stage.ext.bridge.state == "failed")
            stage.until(lambda: watch(stage) and stage.par("State") in ("error", "waiting"))
            stage.comp.par.Start.pulse()
            stage.until(lambda n=count: watch(stage) and stage.ext.received > n + 3, 60)
            now = leaks()[:2]
            base = base or now
            assert now[0] <= base[0], "threads"
            assert now[1] <= base[1] + 2, "files"
        stage.ext.Stop()
        stage.until(lambda: watch(stage) and stage.ext.bridge.state == "off")
    finally:
        stage.close()
    for _ in range(worlds):
        again = Stage(folder)
        again.frame()
        again.comp.par.Inname = f"lltd-a{os.getpid()}-0"
        for _ in range(5):
            again.frame()
        again.close()
    deadline = time.monotonic() + 30
    while (after := leaks())[0] > before[0] or after[1] > before[1] + 1 or not after[2] <= before[2]:
        assert time.monotonic() < deadline, (before, after)
        time.sleep(0.1)


def watch(stage: Stage) -> bool:
    """Every frame of it: bright somewhere."""
    assert stage.out._seen()[..., :3].max() > BLACK, "black"
    return True


def test_the_component_is_built_again_under_a_running_bridge(stage: Stage, tmp_path: Path) -> None:
    """Another TouchDesigner comes to a bridge that was there before: it takes over how that stands."""
    other = Stage(tmp_path)
    try:
        stage.comp.par.Active = False
        stage.comp.par.Strength = 0.55
        stage.frame()
        for name in ("Oscport", "Inname", "Outname"):
            setattr(other.comp.par, name, stage.par(name))
        other.comp.par.Listenport = free_port()
        sender = SimpleUDPClient("127.0.0.1", stage.par("Oscport"))
        sender.send_message("/ll/strength", 0.45)
        sender._sock.close()
        other.until(lambda: other.ext.received > 3, 60)
        other.until(lambda: other.par("Strength") == 0.45)
        build(other.world, tmp_path)
        other.comp = other.world.op("/project1/livelatent")
        other.until(lambda: other.ext.received > 3, 60)
    finally:
        other.close()
        stage.comp.par.Active = True
    count = stage.ext.received
    stage.until(lambda: stage.ext.received > count + 3)
