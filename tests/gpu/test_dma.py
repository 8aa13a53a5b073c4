"""A real card fetches frames out of one ring and puts pictures into another: whole, in place, and let go of in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from support import card

from bridge.frame import Frame
from bridge.lent import LentRing
from bridge.ring import RingReader, RingWriter
from engines.compiled import compiled
from pipelines.params import Params
from pipelines.spec import Overtaken
from pipelines.stream import DiffusionStream

pytestmark = card.MARKS
SIZE = card.SIDE, card.SIDE


@pytest.fixture
def streams() -> Iterator[tuple[DiffusionStream, DiffusionStream]]:
    """Eager's, and one whose frames are recorded; of the same networks."""
    nets = card.nets()
    made = DiffusionStream(nets, SIZE, Params()), DiffusionStream(compiled(nets, card.machine()), SIZE, Params())
    yield made
    for stream in made:
        stream.close()


def frame(n: int, height: int = 320, width: int = 384) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (height, width, 3), np.uint8)


def test_two_frames_under_way_come_out_of_one_ring_and_go_into_the_other(streams):
    eager, fast = streams
    with closing(RingWriter.create(1 << 20)) as source, closing(RingWriter.create(1 << 20)) as sink:
        lent = LentRing(sink)
        fast.lend(lent)
        with closing(RingReader(source.name)) as ring_in, closing(RingReader(sink.name)) as shown:
            for n in range(13):
                source.write(Frame(frame(n), n))
                view = ring_in.view()
                fast.begin(view.item.frame.pixels, Params(strength=0.3 + n / 30), None, view.valid)
                if n:
                    lent.write(Frame(fast.end(), n - 1), 0)
                    wanted = eager(frame(n - 1), Params(strength=0.3 + (n - 1) / 30)).astype(int)
                    assert np.abs(wanted - shown.read().frame.pixels).max() <= 4
            fast.end()
            assert fast.painter.failed == ""
            assert len(fast.painter._pins._known) == 6, "three slots of each ring"
            fast.lend(None)
            assert not fast.painter._pins._known
        source.unlink()
        sink.unlink()


def test_a_frame_that_is_overwritten_meanwhile_is_not_painted(streams):
    eager, fast = streams
    with closing(RingWriter.create(1 << 20)) as source, closing(RingReader(source.name)) as ring_in:
        for n in range(6):
            source.write(Frame(frame(n), n))
            view = ring_in.view()
            if n % 2:
                with pytest.raises(Overtaken):
                    fast.begin(view.item.frame.pixels, Params(), None, lambda: False)
            else:
                fast.begin(view.item.frame.pixels, Params(), None, view.valid)
                assert np.abs(fast.end().astype(int) - eager(frame(n), Params())).max() <= 4
        fast.lend(None)
        source.unlink()


def test_rings_come_and_go(streams):
    """As when a worker is replaced or a size changes: no page is registered once its ring is gone."""
    _, fast = streams
    for height in (320, 64, 200):
        with closing(RingWriter.create(1 << 20)) as source, closing(RingWriter.create(1 << 20)) as sink:
            lent = LentRing(sink)
            fast.lend(lent)
            with closing(RingReader(source.name)) as ring_in:
                for n in range(5):
                    source.write(Frame(frame(n, height), n))
                    view = ring_in.view()
                    fast.begin(view.item.frame.pixels, Params(), None, view.valid)
                    picture = fast.end()
                    assert picture.std() > 1.0
                    lent.write(Frame(picture, n), 0)
                fast.lend(None)
            assert fast.painter.failed == ""
            source.unlink()
            sink.unlink()
