"""Encoding, and who gets which picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg
from support.stage import picture

from bridge.context import Context
from bridge.drivers import make_sink
from bridge.errors import ConfigError
from bridge.frame import Frame
from bridge.web.messages import Packet
from bridge.web.pictures import IN_FLIGHT, MAX_SIDE, Seat, encode_jpeg, encode_png, shrink


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_and_png_show_the_same_picture(channels: int) -> None:
    rgb = picture(3, 96, (0.9, 0.3, 0.6))
    pixels = {1: rgb[..., :1], 3: rgb, 4: np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)])}[channels]
    shown = np.repeat(pixels, 3, axis=2) if channels == 1 else rgb
    jpeg = simplejpeg.decode_jpeg(encode_jpeg(pixels))
    png = cv2.cvtColor(cv2.imdecode(np.frombuffer(encode_png(pixels), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.array_equal(png, shown)
    assert np.abs(jpeg.astype(int) - shown).mean() < 4


@pytest.mark.parametrize(("height", "width"), [(1, 1), (288, 1550), (2160, 4096), (16000, 3), (1280, 1280)])
def test_pictures_of_any_size(height: int, width: int) -> None:
    small = shrink(np.zeros((height, width, 3), np.uint8))
    assert max(small.shape[:2]) <= MAX_SIDE
    assert small.shape[2] == 3
    if max(height, width) <= MAX_SIDE:
        assert small.shape[:2] == (height, width)
    assert simplejpeg.decode_jpeg_header(encode_jpeg(small))[:2] == small.shape[:2]


def test_gray_stays_gray_when_it_shrinks() -> None:
    assert shrink(np.zeros((1400, 10, 1), np.uint8)).shape[2] == 1


def packets(count: int) -> list[Packet]:
    return [Packet("output", number, b"") for number in range(count)]


def test_a_seat_takes_no_more_than_it_paints() -> None:
    taken: list[int] = []
    seat = Seat("output", lambda packet: bool(taken.append(packet.number)))
    seat.offer(packets(1)[0])
    assert taken == [], "nobody watches"
    seat.watching = True
    for packet in packets(9):
        seat.offer(packet)
    assert taken == list(range(IN_FLIGHT))
    assert not seat.hungry
    seat.acknowledge(1)
    seat.offer(Packet("output", 20, b""))
    assert taken[-1] == 20
    seat.offer(Packet("output", 20, b""))
    assert taken.count(20) == 1, "the same picture is offered again to late comers only"


def test_a_picture_replaced_in_the_outbox_takes_no_second_place() -> None:
    seat = Seat("output", lambda packet: packet.number > 0)
    seat.watching = True
    for packet in packets(50):
        seat.offer(packet)
    assert seat.hungry


def test_acknowledging_nonsense_does_no_harm() -> None:
    seat = Seat("output", lambda packet: False)
    seat.watching = True
    seat.acknowledge(-5)
    seat.acknowledge(10**12)
    seat.offer(packets(1)[0])
    assert seat.hungry


def test_the_preview_sink_passes_the_frame_on() -> None:
    context = Context()
    sink = make_sink("preview", context)
    frame = Frame(picture(0, 8, (1, 1, 1)), 5)
    sink.open()
    sink.write(frame)
    sink.close()
    assert context.preview.newest("output") is frame
    assert "page" in sink.describe()
    with pytest.raises(ConfigError, match="quality"):
        make_sink("preview?quality=3", context)
