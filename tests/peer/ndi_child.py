"""The other end of an NDI connection, by cyndilib's own classes: `send NAME W H FPS [rgba]`, `receive NAME SECONDS`
or `watch NAME SECONDS`.

A sender's pictures are black with a red top left corner; their blue counts up. It prints when it began, and every
second how many pictures it has sent. A receiver prints what it saw as JSON; one that watches does so through the frame
synchroniser, which misses nothing. Either has crashed in 1 of 20 runs while it connected.
"""

from __future__ import annotations

import json
import sys
import time
from fractions import Fraction

import numpy as np
from cyndilib.finder import Finder, Source
from cyndilib.receiver import ReceiveFrameType, Receiver
from cyndilib.sender import Sender
from cyndilib.video_frame import VideoFrameSync, VideoRecvFrame, VideoSendFrame
from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
from cyndilib.wrapper.ndi_structs import FourCC
from numpy.typing import NDArray

HOW = {"color_format": RecvColorFormat.RGBX_RGBA, "bandwidth": RecvBandwidth.highest}
FINDER = Finder()
LEAST = 5
"""Pictures that `receive` waits for at least."""


def send(name: str, width: int, height: int, fps: int, alpha: bool) -> None:
    sender, frame = Sender(name, clock_video=False), VideoSendFrame()
    frame.set_resolution(width, height)
    frame.set_frame_rate(Fraction(fps))
    frame.set_fourcc(FourCC.RGBA if alpha else FourCC.RGBX)
    sender.set_video_frame(frame)
    sender.open()
    picture = np.zeros((height, width, 4), np.uint8)
    picture[..., 3] = 64 if alpha else 255
    picture[: height // 4, : width // 4, 0] = 255
    print(time.time(), flush=True)
    due = time.perf_counter()
    for n in range(10**9):
        picture[height // 2 :, :, 2] = n % 200
        sender.write_video(picture.reshape(-1))
        if n % fps == 0:
            print(n, flush=True)
        due += 1 / fps
        time.sleep(max(0.0, due - time.perf_counter()))


def found(name: str) -> Source:
    FINDER.open()
    while not (sources := [source for source in FINDER if name in source.name]):
        FINDER.wait(0.1)
    return sources[0]


def what(frame: VideoRecvFrame | VideoFrameSync, pixels: NDArray[np.uint8]) -> list[object]:
    pixels = pixels.reshape(frame.yres, frame.xres, 4)
    return [frame.xres, frame.yres, frame.fourcc.name, pixels[1, 1].tolist(), pixels[-2, -2].tolist()]


def receive(name: str, seconds: float) -> None:
    receiver, frame = Receiver(**HOW), VideoRecvFrame()
    receiver.set_video_frame(frame)
    receiver.set_source(found(name))
    seen: dict[float, list[object]] = {}
    first = 0.0
    while time.time() < first + seconds or len(seen) < LEAST:
        if receiver.receive(ReceiveFrameType.recv_video, 100) & ReceiveFrameType.recv_video:
            first = first or time.time()
            pixels = np.empty(frame.get_data_size(), np.uint8)
            frame.fill_p_data(pixels)
            seen[frame.get_timestamp_posix()] = what(frame, pixels)
    print(json.dumps(list(seen.values())), flush=True)


def watch(name: str, seconds: float) -> None:
    receiver, frame = Receiver(**HOW), VideoFrameSync()
    receiver.frame_sync.set_video_frame(frame)
    receiver.set_source(found(name))
    seen: dict[float, list[object]] = {}
    first = 0.0
    while not first or time.time() < first + seconds:
        receiver.frame_sync.capture_video()
        if min(frame.get_resolution()) > 0:
            first = first or time.time()
            seen[frame.get_timestamp_posix()] = what(frame, frame.get_array())
        time.sleep(0.002)
    print(json.dumps(list(seen.values())), flush=True)


if sys.argv[1] == "send":
    send(sys.argv[2], *map(int, sys.argv[3:6]), alpha=sys.argv[6:] == ["rgba"])
else:
    {"receive": receive, "watch": watch}[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
