"""Streams that come to control units, hints that leave: real shared memory, ZMQ, processes; only networks are absent.

The fake engine paints the mean colour of unit n's picture as the n-th patch of the lower edge, and that of the image
prompt's as the fifth.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import zmq

from bridge.app import App
from bridge.clock import now_ns
from bridge.config import Config, ControlSources, OscConfig, WebConfig, WorkerConfig
from bridge.errors import ConfigError
from bridge.frame import Frame, Stamps
from bridge.ring import RingReader, RingWriter
from bridge.wire import encode
from engines.fake import CODE_WIDTH, LAST_PATCH

pytestmark = pytest.mark.usefixtures("nothing_left")
RED, GREEN, BLUE = (200, 10, 20), (10, 200, 30), (5, 15, 210)


class Run:
    def __init__(
        self, sources: ControlSources, hint_sinks: tuple[str, ...] = (), image: str = "", **params: object
    ) -> None:
        self.app = App(
            Config(
                source="scene?size=160x120&fps=60",
                sinks=("null",),
                params={"width": 128, "height": 128, "bypass": True, **params},
                control_sources=sources,
                image_source=image,
                hint_sinks=hint_sinks,
                worker=WorkerConfig(engine="fake", fake={"ms": 2.0}, stall_s=30.0),
                osc=OscConfig(port=0),
                web=WebConfig(enabled=False),
            )
        )
        self.newest: Frame | None = None
        self.count = 0
        self.app.output.sinks[0].tap = self._tap
        try:
            self.app.start()
            self.until(lambda: self.count > 3)
        except BaseException:
            self.app.close()
            raise

    def _tap(self, frame: Frame) -> None:
        self.newest, self.count = frame, self.count + 1

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.app.metrics.snapshot()
            time.sleep(0.005)

    def shows(self, number: int, colour: tuple[int, int, int]) -> bool:
        """Whether the newest output was painted with a picture of that colour for unit `number`."""
        frame = self.newest
        patch = frame.pixels[-CODE_WIDTH:, (number - 1) * CODE_WIDTH : number * CODE_WIDTH] if frame else np.zeros(3)
        return bool((patch == np.uint8(colour)).all())

    def metric(self, name: str) -> float | str:
        return self.app.metrics.snapshot().get(name, 0)


@pytest.fixture
def run() -> Iterator[Callable[..., Run]]:
    made: list[App] = []

    def new(sources: ControlSources, **params: Any) -> Run:
        begun = Run(sources, **params)
        made.append(begun.app)
        return begun

    yield new
    for app in made:
        app.close()


def plain(colour: tuple[int, ...], size: tuple[int, int] = (30, 40), seq: int = 0) -> Frame:
    return Frame(np.full((*size, len(colour)), colour, np.uint8), seq, Stamps(now_ns()))


@pytest.fixture
def writer() -> Iterator[RingWriter]:
    ring = RingWriter.create(256 * 256 * 4, name=f"ll-own-{secrets.token_hex(4)}")
    yield ring
    ring.close()
    ring.unlink()


def keep(run: Run, send: Callable[[], object], number: int, colour: tuple[int, int, int]) -> None:
    """Send until it shows: a receiver that just came may miss the first."""

    def shown() -> bool:
        send()
        return run.shows(number, colour)

    run.until(shown)


def test_a_unit_is_shown_pictures_from_shared_memory_of_any_size(run, writer) -> None:
    sources = ControlSources(two=f"shm?name={writer.name}")
    mine = run(sources, control2_source="stream")
    keep(mine, lambda: writer.write(plain(RED)), 2, RED)
    keep(mine, lambda: writer.write(plain((*GREEN, 7), (90, 20))), 2, GREEN)
    keep(mine, lambda: writer.write(plain((60,), (11, 200))), 2, (60, 60, 60))
    mine.until(lambda: str(mine.metric("control.streams")).startswith("2 stream "))
    mine.until(lambda: str(mine.metric("control.streams")).endswith(" ms"))
    assert mine.metric("control2.frames") > 2
    assert "shared memory" in str(mine.metric("control2"))
    assert mine.metric("worker.restarts") == 0


def test_zmq_feeds_two_units_of_which_only_those_that_ask_look(run, free_port, writer) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    mine = run(ControlSources(one=f"zmq:{address}", three=f"shm?name={writer.name}"), control1_source="stream")
    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(address)
    try:
        keep(mine, lambda: (socket.send(encode(plain(BLUE))), writer.write(plain(RED))), 1, BLUE)
        mine.until(lambda: mine.metric("control3.frames"))
        assert not mine.shows(3, RED), "its unit's source is the input"
        mine.app.store.set_many({"control3_source": "stream"})
        mine.until(lambda: mine.shows(3, RED))
        assert mine.shows(1, BLUE)
    finally:
        socket.close()
        context.term()


def test_the_heir_of_a_killed_worker_has_the_newest_picture_though_no_other_comes(run, writer) -> None:
    mine = run(ControlSources(one=f"shm?name={writer.name}"), control1_source="stream")
    keep(mine, lambda: writer.write(plain(RED)), 1, RED)
    writer.write(plain(GREEN))
    mine.until(lambda: mine.shows(1, GREEN))  # and so all that was sent has come
    mine.until(lambda: mine.app.supervisor.standby_pid)
    sent = mine.metric("control1.frames")
    os.kill(mine.app.supervisor.active_pid, signal.SIGKILL)
    mine.until(lambda: mine.metric("worker.restarts") == 1)
    count = mine.app.output.count
    mine.until(lambda: mine.app.output.count > count + 3)
    mine.until(lambda: mine.shows(1, GREEN))
    assert mine.metric("control1.frames") == sent


def test_the_image_prompt_has_a_stream_of_its_own_beside_the_units(run, writer) -> None:
    mine = run(ControlSources(), image=f"shm?name={writer.name}", width=192)
    mine.until(lambda: [writer.write(plain(RED)), mine.metric("image.frames")][-1])
    assert not mine.shows(LAST_PATCH, RED), "it reads the input"
    mine.app.store.set_many({"ip_source": "stream"})
    keep(mine, lambda: writer.write(plain(BLUE)), LAST_PATCH, BLUE)
    mine.until(lambda: re.fullmatch(r"stream \d+ ms", str(mine.metric("ip.state"))))
    assert mine.metric("control.streams") == mine.metric("control.state") == ""
    assert "shared memory" in str(mine.metric("image"))


def test_a_source_that_is_not_there_holds_up_nobody_and_is_said(run, tmp_path) -> None:
    mine = run(ControlSources(four=f"movie:{tmp_path / 'gone.mp4'}"), control4_source="stream")
    mine.until(lambda: mine.metric("control4.errors"))
    count = mine.app.output.count
    mine.until(lambda: mine.app.output.count > count + 20)
    mine.until(lambda: mine.metric("control.state") == "4 stream waits")
    assert "gone.mp4" in str(mine.metric("control4"))
    assert str(mine.metric("error")).startswith("control unit 4's stream:")
    assert mine.metric("source.errors") == 0, "that is the input's"


def test_the_last_picture_stays_when_its_sender_goes(run, writer) -> None:
    mine = run(ControlSources(one=f"shm?name={writer.name}"), control1_source="stream")
    keep(mine, lambda: writer.write(plain(RED)), 1, RED)
    writer.close()
    count = mine.app.output.count
    mine.until(lambda: mine.app.output.count > count + 20)
    assert mine.shows(1, RED)


def test_a_hint_leaves_beside_the_picture_only_while_it_is_wanted_and_from_the_heir_too(run) -> None:
    name = f"ll-hint-{secrets.token_hex(4)}"
    mine = run(ControlSources(), hint_sinks=(f"shm?name={name}", "null"), hint_preview=0)
    mine.until(lambda: mine.app.output.count > 20)
    assert mine.app.hints.count == 0
    assert mine.app.context.preview.newest("hint") is None
    mine.app.store.set_many({"hint_preview": 2})
    mine.until(lambda: mine.app.hints.count > 3)
    reader = RingReader(name)
    try:

        def level() -> int | None:
            """The grey of a new hint that a stranger reads from shared memory."""
            got = reader.read()
            return None if got is None or got.frame.pixels.shape != (128, 128, 3) else int(got.frame.pixels.mean())

        mine.until(lambda: level() == 80)
        mine.app.store.set_many({"hint_preview": 3})
        mine.until(lambda: level() == 120)
        shelved = mine.app.context.preview.newest("hint")
        assert shelved is not None
        assert shelved.version > 0
        assert mine.metric("hint.age") > 0
        mine.until(lambda: mine.app.supervisor.standby_pid)
        os.kill(mine.app.supervisor.active_pid, signal.SIGKILL)
        mine.until(lambda: mine.metric("worker.restarts") == 1)
        reader.skip()
        mine.until(lambda: level() == 120)
    finally:
        reader.close()
    mine.app.store.set_many({"hint_preview": 0})
    wanted = mine.app.store.snapshot().version
    mine.until(lambda: mine.newest is not None and mine.newest.version >= wanted)
    count, painted = mine.app.hints.count, mine.app.output.count
    mine.until(lambda: mine.app.output.count > painted + 20)
    assert mine.app.hints.count == count


def test_what_is_wrong_is_said_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="no source 'sene'"):
        App(
            Config(
                sinks=("null",), control_sources=ControlSources(one="scene", two="sene"), web=WebConfig(enabled=False)
            )
        )
