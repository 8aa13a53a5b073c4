"""What the component has beside the picture's way: the third input, the second output, keys, what its face says."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.ports import free_port

from bridge import keys
from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.frame import Frame
from bridge.ring import RingWriter
from bridge.shm import remove
from td.component import Stage, corner


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Under names and ports of its own; no bridge runs."""
    made, tag = Stage(tmp_path), f"{os.getpid()}-{free_port()}"
    for what in ("In", "Out", "Control", "Hint"):
        setattr(made.comp.par, f"{what}name", f"lltd-{what[0].lower()}{tag}")
        setattr(made.comp.par, f"{what}port", free_port())
    made.comp.par.Oscport, made.comp.par.Listenport = free_port(), free_port()
    made.frame()
    yield made
    made.close()
    assert threads() == 0
    assert not list(Path("/dev/shm").glob(f"lltd-?{tag}"))


def side(stage: Stage, what: str) -> str:
    """The bridge's spec for the other end of a road."""
    if stage.par("Transport") == "zmq":
        return f"zmq:tcp://127.0.0.1:{stage.par(what + 'port')}"
    return f"shm?name={stage.par(what + 'name')}"


def threads() -> int:
    return sum(thread.name.startswith("ll-td-") for thread in threading.enumerate())


@pytest.mark.parametrize("transport", ["shm", "zmq", "ndi"])
def test_the_third_input_reaches_the_bridges_sources_upright(stage: Stage, transport: str) -> None:
    """With TouchDesigner's own operators for the picture, by shared memory."""
    stage.comp.par.Transport = transport
    for _ in range(3):
        stage.frame()
    before = threads()
    pose = stage.project.create("moviefileinTOP", "pose")
    pose._show(corner(96, 128))
    pose.outputConnectors[0].connect(stage.comp.inputConnectors[2])
    source = make_source(side(stage, "Control"), Context())
    source.open()
    try:
        found: list[Frame] = []

        def look() -> bool:
            frame = source.read(0.0)
            found.extend([frame] if frame is not None else [])
            return bool(found)

        stage.until(look)
        assert found[0].pixels.shape == (96, 128, 4)
        assert (found[0].pixels[..., :3] == corner(96, 128)).all()
        assert stage.ext.links.problem == ""
        stage.comp.inputConnectors[2].disconnect()
        stage.frame()
        assert (stage.ext.links.control, threads()) == (None, before), "nothing is kept for what is not wired"
    finally:
        source.close()


@pytest.mark.parametrize("transport", ["auto", "zmq", "ndi"])
def test_a_bridge_that_is_started_hears_of_the_third_input(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """If it is wired, and if this bridge has a way for it."""
    asked: list[list[str]] = []
    monkeypatch.setattr(stage.ext.bridge, "start", lambda command, words: asked.append(words))
    stage.comp.par.Transport = transport
    stage.movie.outputConnectors[0].connect(stage.comp.inputConnectors[2])
    for knows in (False, True):
        monkeypatch.setitem(stage.ext.document, "control_source", knows)
        stage.comp.par.Start.pulse()
        stage.frame()
    stage.comp.inputConnectors[2].disconnect()
    stage.comp.par.Start.pulse()
    stage.frame()
    way = side(stage, "Control")
    assert [words[words.index("--control-source") + 1] if "--control-source" in words else "" for words in asked] == [
        "",
        f"1={way}",
        "",
    ]


@pytest.mark.parametrize("transport", ["auto", "zmq", "ndi"])
def test_a_bridge_that_is_started_hears_of_the_second_output(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """If somebody looks at it, and the sink that it is told to open is one that the reader here reads."""
    asked: list[list[str]] = []
    monkeypatch.setattr(stage.ext.bridge, "start", lambda command, words: asked.append(words))
    stage.comp.par.Transport = transport
    stage.comp.par.Start.pulse()
    stage.frame()
    look = stage.project.create("outTOP", "hints")
    look.inputConnectors[0].connect(stage.comp.outputConnectors[1])
    stage.comp.par.Start.pulse()
    stage.frame()
    assert "--hint-sink" not in asked[0]
    assert asked[1][asked[1].index("--hint-sink") + 1] == side(stage, "Hint")


def test_what_is_wired_after_the_start_is_said_on_the_face(stage: Stage) -> None:
    """The bridge that runs was not told to open a way for it."""
    stage.comp.par.Command = "/bin/sh -c 'read line'"
    stage.comp.par.Start.pulse()
    stage.until(lambda: stage.ext.bridge.pid)
    stage.until(lambda: "is starting" in stage.par("Status"))
    stage.movie.outputConnectors[0].connect(stage.comp.inputConnectors[2])
    stage.until(lambda: "The third input was wired after Start: press Restart" in stage.par("Status"))
    look = stage.project.create("outTOP", "hints")
    look.inputConnectors[0].connect(stage.comp.outputConnectors[1])
    stage.until(lambda: "The third input and the second output were wired" in stage.par("Status"))
    stage.comp.par.Restart.pulse()
    stage.until(lambda: "wired after" not in stage.par("Status"))
    assert stage.ext.bridge.state != "failed"
    stage.ext.Stop()
    stage.until(lambda: stage.ext.bridge.state == "off")


@pytest.mark.parametrize("transport", ["shm", "zmq"])
def test_the_second_output_shows_the_hints_and_holds_the_last(stage: Stage, transport: str) -> None:
    stage.comp.par.Transport = transport
    sink = make_sink(side(stage, "Hint"), Context())
    sink.open()
    hint = np.repeat(corner(64, 96)[..., :1], 1, axis=2)

    def send() -> None:
        sink.write(Frame(hint, 0))

    try:
        cooks = stage.comp.op("hint").totalCooks
        for _ in range(10):
            send()
            stage.frame()
        assert stage.ext.links.hints is None
        assert stage.comp.op("hint").totalCooks <= cooks + 1, "nobody looks, so nothing is read"
        look = stage.project.create("outTOP", "hints")
        look.inputConnectors[0].connect(stage.comp.outputConnectors[1])
        stage.until(lambda: send() or stage.ext.hint.front is not None)
    finally:
        sink.close()
    for _ in range(20):
        stage.frame()
    stage.until(lambda: look._seen().shape == (64, 96, 4) and (look._seen()[..., :3] == hint).all())
    assert (look._seen()[..., :3] == hint).all(), "grey is grey in all three, top row up, after its sender has gone"
    assert (stage.out._seen()[0, 0, :3] == corner()[0, 0]).all(), "the first output is none of its business"


def test_a_listen_port_that_is_taken_is_said_on_the_face(stage: Stage) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        stage.comp.par.Listenport = port
        stage.until(lambda: f"UDP port {port} is taken" in stage.par("Status"))
        assert stage.par("State") == "error"
    stage.comp.par.Listenport = free_port()
    stage.until(lambda: stage.par("Error") == "" and "press Start" in stage.par("Status"))


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="writes into the segment's file")
def test_a_bridge_of_another_protocol_is_said_on_the_face_and_the_picture_stays(stage: Stage) -> None:
    ring = RingWriter.create(name=stage.par("Outname"))
    try:
        stage.until(lambda: ring.write(Frame(corner(), 0)) or stage.ext.received > 2)
        with (Path("/dev/shm") / stage.par("Outname")).open("r+b") as file:
            file.seek(8)
            file.write((2).to_bytes(8, "little"))
        ring.close()  # it says goodbye, so the component looks for a new one
        stage.until(lambda: "speaks protocol 2" in stage.par("Status"))
        assert "td install" in stage.par("Error")
        assert stage.par("State") == "error"
        assert (stage.out._seen()[..., :3] == corner()).all()
    finally:
        ring.disown()
        remove(stage.par("Outname"))
    heir = RingWriter.create(name=stage.par("Outname"))
    try:
        count = stage.ext.received
        stage.until(lambda: heir.write(Frame(corner(), 0)) or stage.ext.received > count + 2)
        stage.until(lambda: stage.par("Error") == "")
    finally:
        heir.close()
        heir.unlink()


def test_a_frame_of_touchdesigner_costs_few_operations(stage: Stage) -> None:
    """What the component touches of TouchDesigner in one frame with everything wired: each is about a microsecond."""
    for number in (1, 2):
        stage.movie.outputConnectors[0].connect(stage.comp.inputConnectors[number])
    look = stage.project.create("outTOP", "hints")
    look.inputConnectors[0].connect(stage.comp.outputConnectors[1])
    for _ in range(20):
        stage.frame()
    counts, reads = [], []
    for _ in range(40):
        downloads = [op._downloads for op in stage.comp.children if op._family == "TOP"]
        touched = stage.world._touches
        stage.ext.Frame()
        counts.append(stage.world._touches - touched)
        reads.append(sum(op._downloads for op in stage.comp.children if op._family == "TOP") - sum(downloads))
        stage.frame()
    assert set(reads) == {3}, "picture, mask and control are read once each"
    assert sorted(counts)[len(counts) // 2] <= 20, counts
    assert max(counts) <= 120, "five times a second the figures are shown"
    assert stage.world._stalls == 0


def test_a_key_file_opens_the_way_to_another_machine_and_another_key_does_not(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVELATENT_HOME", str(tmp_path / "home"))
    par = stage.comp.par
    good, _ = keys.new_client("td")
    ways = [f"zmq:tcp://127.0.0.1:{stage.par(port)}?curve=1" for port in ("Inport", "Outport")]
    source, sink = make_source(ways[0], Context()), make_sink(ways[1], Context())
    stranger, _ = keys.new_client("stranger")
    (keys.allowed() / "stranger.key").unlink()
    source.open()
    sink.open()
    came: list[Frame] = []

    def exchange() -> bool:
        sink.write(Frame(corner(value), 0))
        frame = source.read(0.0)
        came.extend([frame] if frame is not None else [])
        return bool(came) and stage.ext.received > 0

    value = 64
    try:
        par.Transport, par.Keyfile = "zmq", str(stranger)
        for _ in range(90):
            exchange()
            stage.frame()
        assert (came, stage.ext.received) == ([], 0)
        par.Keyfile = str(good)
        stage.until(exchange)
        assert (came[0].pixels[..., :3] == corner()).all()
        assert (stage.out._seen()[..., :3] == corner(value)).all()
        par.Keyfile = str(tmp_path / "nowhere.key_secret")
        stage.until(lambda: "nowhere.key_secret" in stage.par("Error"))
        assert (stage.out._seen()[..., :3] == corner(value)).all(), "the last picture stays"
    finally:
        source.close()
        sink.close()
