"""libndi through ctypes: finding senders, receiving and sending pictures. Knows neither sources nor sinks.

The library is the one inside cyndilib's wheel, or the installed NDI runtime. cyndilib's own classes are not used: they
hold Python's lock in calls that block (taking down a receiver whose sender died: half a second in which no thread of
the bridge runs), can't change size, and start a FrameSync beside every receiver that eats its frames. ctypes lets go of
the lock in every call.
"""

from __future__ import annotations

import ctypes
import importlib.util
import ipaddress
import os
import socket
import sys
from collections.abc import Iterable
from ctypes import c_uint32
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from bridge.errors import DriverError
from bridge.frame import Pixels, check_size
from bridge.ndi_abi import FUNCTIONS, FindCreate, Queue, RecvCreate, SendCreate, SourceT, Video

HIGHEST, RGBX_RGBA, PROGRESSIVE = 100, 2, 1
SYNTHESIZE = 2**63 - 1
_VIDEO = 1
_RUNTIMES = ("NDI_RUNTIME_DIR_V6", "NDI_RUNTIME_DIR_V5")
"""Where NDI's own installers say that they put the library."""


def fourcc(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


_TO_RGB = {fourcc("RGBX"): cv2.COLOR_RGBA2RGB, fourcc("BGRX"): cv2.COLOR_BGRA2RGB, fourcc("BGRA"): cv2.COLOR_BGRA2RGBA}
_TO_FOUR = {1: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_RGB2RGBA}


class Announced(NamedTuple):
    """A sender in the list: `HOST (stream)`, and `address:port`."""

    name: str
    url: str

    @property
    def local(self) -> bool:
        """Whether it runs on this machine. Only an address of ours can be bound."""
        try:
            address = ipaddress.ip_address(self.url.rpartition(":")[0].strip("[]"))
            with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as probe:
                probe.bind((str(address), 0))
        except (OSError, ValueError):
            return False
        return True


class Picture(NamedTuple):
    """A received frame. `pixels` is RGB or RGBA, top row first, and ours."""

    pixels: Pixels
    sent_ns: int
    """When the sender submitted it: nanoseconds of its wall clock (UTC); -1 where it does not say."""
    metadata: str
    skipped: int = 0
    """Older ones that waited in the library and were passed over."""


class Library:
    """The loaded libndi."""

    def __init__(self, path: Path) -> None:
        """DriverError when it can't be loaded, or does not run on this processor."""
        try:
            self._dll = ctypes.CDLL(str(path))
            self._calls = {name: self._bind(name, *types) for name, types in FUNCTIONS.items()}
        except (OSError, AttributeError) as error:
            raise DriverError(f"the NDI library {path} can't be used: {error}") from error
        if not self._calls["initialize"]():
            raise DriverError("NDI does not run on this processor (it needs SSE4.2 or NEON)")
        self.version = str(self._calls["version"]().decode("utf-8", "replace"))
        self.own: set[str] = set()
        """Full names of the senders of this process."""

    def _bind(self, name: str, result: Any, arguments: tuple[Any, ...]) -> Any:
        function = getattr(self._dll, f"NDIlib_{name}")
        function.restype, function.argtypes = result, arguments
        return function

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_calls"][name]
        except KeyError:
            raise AttributeError(name) from None

    def finder(self, ips: Iterable[str] = (), groups: str = "") -> Finder:
        return Finder(self, ips, groups)

    def receiver(self, sender: Announced) -> Receiver:
        return Receiver(self, sender)

    def sender(self, name: str, groups: str = "") -> Sender:
        return Sender(self, name, groups)


class Finder:
    """Keeps a list of the senders around. One thread at a time."""

    def __init__(self, library: Library, ips: Iterable[str], groups: str) -> None:
        """`ips` are asked directly, beside mDNS. Those of this machine too, so that it needs no mDNS service."""
        self._library = library
        settings = FindCreate(True, groups.encode() or None, ",".join(dict.fromkeys(("127.0.0.1", *ips))).encode())
        self._handle = library.find_create_v2(settings)
        if not self._handle:
            raise DriverError("NDI can't look for senders here")

    def senders(self, wait_s: float = 0.0) -> list[Announced]:
        """Who is there, by name; waits up to `wait_s` for a change first."""
        if wait_s > 0:
            self._library.find_wait_for_sources(self._handle, round(wait_s * 1000))
        count = c_uint32()
        found = self._library.find_get_current_sources(self._handle, count)
        texts = ((found[i].name or b"", found[i].url or b"") for i in range(count.value))
        return sorted(Announced(name.decode("utf-8", "replace"), url.decode("utf-8", "replace")) for name, url in texts)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._library.find_destroy(handle)


class Receiver:
    """A connection to one sender. One thread at a time; `close` may take a second when the sender died."""

    def __init__(self, library: Library, sender: Announced) -> None:
        self._library = library
        self._video, self._queue = Video(), Queue()
        source = SourceT(sender.name.encode(), sender.url.encode())
        self._handle = library.recv_create_v3(RecvCreate(source, RGBX_RGBA, HIGHEST, False, b"livelatent"))
        if not self._handle:
            raise DriverError(f"NDI can't receive {sender.name}")

    @property
    def connected(self) -> bool:
        return bool(self._library.recv_get_no_connections(self._handle) > 0)

    def capture(self, timeout_s: float) -> Picture | None:
        """The newest picture, or None after the time. ValueError, with a sentence, for one that can't be used."""
        video, skipped = self._video, 0
        if not self._next(timeout_s):
            return None
        # The library queues what we were too slow for; shown in turn, it would stay late for ever.
        while self._waiting():
            self._library.recv_free_video_v2(self._handle, video)
            skipped += 1
            if not self._next(0.0):
                return None
        try:
            sent = video.timestamp * 100 if 0 < video.timestamp < SYNTHESIZE else -1
            return Picture(_pixels(video), sent, (video.metadata or b"").decode("utf-8", "replace"), skipped)
        finally:
            self._library.recv_free_video_v2(self._handle, video)

    def _next(self, timeout_s: float) -> bool:
        kind = self._library.recv_capture_v3(self._handle, self._video, None, None, round(timeout_s * 1000))
        return bool(kind == _VIDEO)

    def _waiting(self) -> bool:
        self._library.recv_get_queue(self._handle, self._queue)
        return bool(self._queue.video > 0)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._library.recv_destroy(handle)


class Sender:
    """Announces itself and sends to whoever connects. One thread at a time."""

    def __init__(self, library: Library, name: str, groups: str) -> None:
        self._library = library
        self._handle = library.send_create(SendCreate(name.encode(), groups.encode() or None, False, False))
        if not self._handle:
            raise DriverError(f"NDI can't send as {name!r}: is there another sender of this name on this machine?")
        self.name = str(library.send_get_source_name(self._handle).contents.name.decode("utf-8", "replace"))
        """In full: `HOST (name)`."""
        library.own.add(self.name)

    @property
    def receivers(self) -> int:
        return int(self._library.send_get_no_connections(self._handle, 0))

    def send(self, pixels: Pixels, rate: tuple[int, int], metadata: str = "") -> None:
        """Encode and send; returns when done. `pixels` has 1, 3 or 4 channels and any size; `rate` is frames per
        seconds, as a fraction, for receivers that show it."""
        height, width, channels = pixels.shape
        four = np.ascontiguousarray(pixels if channels == 4 else cv2.cvtColor(pixels, _TO_FOUR[channels]))
        kind = fourcc("RGBA" if channels == 4 else "RGBX")
        text = metadata.encode() or None
        video = Video(width, height, kind, *rate, 0, PROGRESSIVE, SYNTHESIZE, four.ctypes.data, width * 4, text, 0)
        self._library.send_send_video_v2(self._handle, video)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            self._library.own.discard(self.name)
            self._library.send_destroy(handle)


def _pixels(video: Video) -> Pixels:
    width, height, stride = video.width, video.height, video.stride or video.width * 4
    wrong = check_size(width, height, 4)
    if wrong or not video.data or stride < width * 4:
        raise ValueError(wrong or "a picture without pixels")
    name = int(video.fourcc).to_bytes(4, "little").decode("latin-1")
    if video.fourcc not in (fourcc("RGBA"), *_TO_RGB):
        raise ValueError(f"a picture of the format {name!r}")
    memory = (ctypes.c_uint8 * (stride * height)).from_address(video.data)
    view = np.ndarray((height, width, 4), np.uint8, memory, strides=(stride, 4, 1))
    code = _TO_RGB.get(video.fourcc)
    # Its memory goes back to the library: both ways this is the one copy.
    return np.array(view) if code is None else np.asarray(cv2.cvtColor(view, code), np.uint8)


@cache
def library() -> Library:
    """The one of this process. ModuleNotFoundError of cyndilib when there is none, DriverError when it can't run."""
    return Library(require())


def require() -> Path:
    """Where libndi is; ModuleNotFoundError of cyndilib when it is nowhere. Loads nothing."""
    path = find()
    if path is None:
        raise ModuleNotFoundError("no NDI library on this machine", name="cyndilib")
    return path


def find() -> Path | None:
    """Where libndi is: in cyndilib's wheel, else the installed runtime; None when it is nowhere."""
    pattern = {"win32": "Processing.NDI.Lib.x64.dll", "darwin": "libndi*.dylib"}.get(sys.platform, "libndi*.so*")
    folders = [Path(os.environ[name]) for name in _RUNTIMES if os.environ.get(name)]
    spec = importlib.util.find_spec("cyndilib")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        # In this order: the repaired copies find the libraries that they need themselves.
        folders[:0] = [Path(f"{place}.libs"), Path(place, ".dylibs"), Path(place, "wrapper", "bin")]
    folders += [Path("/usr/local/lib"), Path("/usr/lib")] if sys.platform != "win32" else []
    return next((path for folder in folders for path in sorted(folder.glob(pattern))), None)
