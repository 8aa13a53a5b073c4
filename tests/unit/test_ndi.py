"""NDI's source and sink against a strict fake of the library: who is chosen, who is waited for, and what hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.fake_ndi import FakeNdi

from bridge import drivers, ndi
from bridge.clock import now_ns
from bridge.config import Config, LanConfig
from bridge.context import Context
from bridge.drivers import make_sink, make_source
from bridge.errors import ConfigError, DriverMissing, SinkError, SourceError
from bridge.frame import Frame, Stamps
from bridge.metrics import Metrics
from bridge.ndi import Announced, Picture
from bridge.sinks.ndi import NdiSink
from bridge.sources import ndi as source_module
from bridge.sources.ndi import NdiSource, choose, mark

pytestmark = pytest.mark.usefixtures("nothing_left")
HERE = Announced("DESK (Stage Left)", "127.0.0.1:5961")
ALSO = Announced("DESK (Stage)", "127.0.0.1:5962")
THERE = Announced("ATTIC (Stage)", "203.0.113.9:5961")
PIXELS = np.full((4, 6, 3), 9, np.uint8)
LAN = Config(lan=LanConfig(enabled=True, allow=("127.0.0.0/8",)))


def picture(metadata: str = "", sent_ns: int = -1) -> Picture:
    return Picture(PIXELS, sent_ns, metadata)


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def fake() -> Iterator[FakeNdi]:
    fake = FakeNdi(HERE)
    yield fake
    fake.hang.set()
    eventually(lambda: not fake.open_handles)
    assert fake.misuse == []


@pytest.fixture
def source(fake: FakeNdi) -> Iterator[NdiSource]:
    source = NdiSource(Metrics(), "stage", library=fake)
    source.open()
    yield source
    source.close()


def test_a_part_of_the_name_in_any_case_is_enough() -> None:
    assert choose([HERE], "STAGE l", set(), lan=False) == HERE
    assert choose([HERE], "desk", set(), lan=False) == HERE
    assert choose([HERE], "camera", set(), lan=False) is None


def test_a_whole_name_wins_then_this_machine_then_the_alphabet() -> None:
    assert choose([THERE, HERE, ALSO], "stage", set(), lan=True) == ALSO
    assert choose([THERE, HERE], "stage", set(), lan=True) == THERE
    assert choose([THERE, HERE], "", set(), lan=True) == HERE
    assert choose([ALSO, HERE], "desk", set(), lan=True) == HERE


def test_other_machines_take_lan_and_ourselves_are_never_taken() -> None:
    assert choose([THERE], "stage", set(), lan=False) is None
    assert choose([ALSO, HERE], "", {HERE.name}, lan=False) == ALSO


def test_what_is_local_is_told_by_its_address() -> None:
    assert HERE.local
    assert not THERE.local
    assert not Announced("X (Y)", "").local


def test_frames_come_with_age_and_position_of_a_sender_here(fake: FakeNdi, source: NdiSource) -> None:
    at = now_ns() - 50_000_000
    fake.pictures.append(picture(mark(Frame(PIXELS, 7, Stamps(at), media_ns=1234))))
    frame = source.read(20.0)
    assert frame is not None
    assert (frame.seq, frame.stamps.captured, frame.media_ns) == (0, at, 1234)
    before = now_ns()
    fake.pictures.append(picture(sent_ns=time.time_ns() - 80_000_000)._replace(skipped=4))
    frame = source.read(20.0)
    assert frame is not None
    assert frame.seq == 5, "what was passed over counts as dropped"
    assert before - 0.1e9 < frame.stamps.captured <= now_ns() - 0.08e9
    assert "6x4 rgb8" in source.describe()


def test_a_mark_that_lies_or_is_broken_is_as_good_as_none(fake: FakeNdi, source: NdiSource) -> None:
    for text in ('<livelatent seq="1" captured="9999999999999999999" media="-1"/>', "<livelatent", "x" * 5000):
        before = now_ns()
        fake.pictures.append(picture(text))
        frame = source.read(20.0)
        assert frame is not None
        assert before <= frame.stamps.captured <= now_ns()


def test_a_sender_that_goes_and_comes_back_elsewhere_is_followed(fake: FakeNdi, source: NdiSource) -> None:
    fake.pictures.append(picture())
    first = source.read(20.0)
    fake.live = False
    fake.there = []
    eventually(lambda: "waiting for a sender 'stage' (there is none)" in source.describe())
    assert source.read(0.01) is None
    moved = Announced(HERE.name, "127.0.0.1:5970")
    fake.live, fake.there = True, [moved]
    fake.pictures.append(picture())
    again = source.read(20.0)
    assert first is not None
    assert again is not None
    assert again.seq == first.seq + 1
    assert fake.connections == [HERE, moved]


def test_unusable_pictures_are_counted_and_passed_over(fake: FakeNdi, source: NdiSource) -> None:
    fake.pictures.extend([ValueError("a picture of the format 'P216'"), picture()])
    assert source.read(20.0) is not None
    assert source._metrics.get("source.rejected") == 1


def test_nobody_waits_for_a_receiver_that_hangs(fake: FakeNdi, source: NdiSource) -> None:
    eventually(lambda: fake.connections)
    fake.hang.clear()
    began = time.monotonic()
    source.close()
    source.open()
    assert time.monotonic() - began < 20.0, "it hangs for thirty"
    fake.pictures.append(picture())
    assert source.read(20.0) is not None


def test_hanging_calls_are_limited_in_number(fake: FakeNdi, source: NdiSource) -> None:
    fake.hang.clear()
    for n in range(source_module.MAX_ABANDONED):
        eventually(lambda n=n: len(fake.connections) > n)
        source.close()
        if n < source_module.MAX_ABANDONED - 1:
            source.open()
    with pytest.raises(SourceError, match="hang"):
        source.open()


def test_it_says_who_is_there_and_who_takes_lan(fake: FakeNdi, source: NdiSource) -> None:
    fake.live, fake.there = False, [THERE]
    eventually(lambda: "run with --lan" in source.describe())
    fake.there = [Announced("DESK (Camera)", "127.0.0.1:5961")]
    eventually(lambda: "there are DESK (Camera)" in source.describe())


def test_reading_a_closed_one_and_writing_to_one_are_errors(fake: FakeNdi) -> None:
    with pytest.raises(SourceError, match="not open"):
        NdiSource(Metrics(), library=fake).read(0.1)
    with pytest.raises(SinkError, match="not open"):
        NdiSink(library=fake).write(Frame(PIXELS, 0))


def test_the_sink_sends_to_somebody_only(fake: FakeNdi) -> None:
    sink = NdiSink("out", fps=29.97, library=fake)
    sink.open()
    sink.write(Frame(PIXELS, 3, Stamps(5), media_ns=-1))
    fake.watchers = 0
    sink.write(Frame(PIXELS, 4))
    assert sink.describe() == "NDI HERE (out), 0 receivers"
    sink.close()
    sink.close()
    ((pixels, rate, text),) = fake.sent
    assert pixels is PIXELS
    assert rate == (2997, 100)
    assert text == '<livelatent seq="3" captured="5" media="-1"/>'


def test_a_thousand_reopenings_leave_nothing(fake: FakeNdi) -> None:
    sink = NdiSink("out", library=fake)
    for _ in range(1000):
        sink.open()
    assert len(fake.open_handles) == 1
    sink.close()
    assert fake.open_handles == []


def test_options_and_lan(monkeypatch: pytest.MonkeyPatch, fake: FakeNdi) -> None:
    monkeypatch.setattr(ndi, "library", lambda: fake)
    made = make_source("ndi:Stage?ips=10.0.0.5,10.0.0.6&groups=show", Context())
    assert isinstance(made, NdiSource)
    assert (made._wanted, made._ips, made._groups) == ("Stage", ("10.0.0.5", "10.0.0.6"), "show")
    with pytest.raises(ConfigError, match="IPv4"):
        make_source("ndi?ips=host", Context())
    with pytest.raises(ConfigError, match="--lan"):
        make_sink("ndi", Context())
    assert isinstance(make_sink("ndi:stage", Context(LAN)), NdiSink)


def test_without_a_library_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ndi.library.cache_clear()
    monkeypatch.setattr(ndi, "find", lambda: None)
    with pytest.raises(DriverMissing, match=r"pip install livelatent\[ndi\]"):
        make_source("ndi", Context())
    assert drivers.EXTRAS["cyndilib"] == "ndi"
