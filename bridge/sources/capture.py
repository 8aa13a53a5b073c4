"""A camera's blocking calls, on a thread that nobody waits for.

Drivers may block for ever in any call, even in the one that closes the device. So the device belongs to its thread
from opening to release, and whoever wants to get rid of it only raises a flag. A thread that does not come back is
abandoned: it holds the device and one picture until the driver lets go, then releases both and ends. There may be
MAX_ABANDONED of these; with so many, no camera is opened, since each costs a stack and a device handle.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from bridge.clock import NS, now_ns
from bridge.errors import SourceError
from bridge.frame import Frame, Pixels, Stamps, check_size
from bridge.slot import LatestSlot

MAX_ABANDONED = 3
GONE_NS = NS
"""A device that has failed to give a picture for this long is gone."""
_CODES = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}

Opener = Callable[[], Any]
"""Opens the device: something with the methods of cv2.VideoCapture."""
_abandoned: list[threading.Thread] = []
_abandoned_lock = threading.Lock()


def abandoned() -> int:
    """How many threads are stuck in a driver at the moment."""
    with _abandoned_lock:
        _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
        return len(_abandoned)


class Capture:
    """One opened device. `slot` receives its frames; `error` says why there will be no more."""

    def __init__(self, name: str, opener: Opener, frozen_s: float, first_seq: int = 0) -> None:
        """`frozen_s`: bit-identical pictures for so long are an error; 0 accepts them for ever."""
        if abandoned() >= MAX_ABANDONED:
            raise SourceError(
                f"{name}: {MAX_ABANDONED} earlier calls still hang in the camera's driver; unplug it, or start again"
            )
        self.slot: LatestSlot[Frame] = LatestSlot()
        self.error = ""
        self.shape = ""
        self.next_seq = first_seq
        self.changed_ns = now_ns()
        """When the picture last changed."""
        self._name, self._opener, self._frozen_ns = name, opener, round(frozen_s * NS)
        self._stop = threading.Event()
        self._before: Pixels | None = None
        self._thread = threading.Thread(target=self._run, name=f"ll-{name}", daemon=True)
        self._thread.start()

    def let_go(self, deadline_s: float) -> bool:
        """Ask it to end; False if it has not within `deadline_s`, and is left to itself."""
        self._stop.set()
        self._thread.join(deadline_s)
        if not self._thread.is_alive():
            return True
        with _abandoned_lock:
            _abandoned.append(self._thread)
        return False

    def _run(self) -> None:
        device = None
        try:
            device = self._opener()
            if device.isOpened():
                self._pump(device)
            else:
                self.error = f"no camera answers at {self._name}: {_what_to_check()}"
        except (cv2.error, OSError, SourceError) as error:
            self.error = f"{self._name}: {error}"
        finally:
            if device is not None:
                device.release()
            self._before = None
            if not self._stop.is_set():
                self.error = self.error or f"{self._name}: reading it ended unexpectedly"
            self.slot.close()

    def _pump(self, device: Any) -> None:
        good_ns = now_ns()
        while not self._stop.is_set():
            ok, image = device.read()
            at = now_ns()
            if ok and image is not None and image.size:
                good_ns = at
                self._deliver(image, at)
            elif at - good_ns > GONE_NS:
                self.error = f"{self._name} is gone: unplugged, or taken by another program"
                return
            else:
                time.sleep(0.005)

    def _deliver(self, image: Pixels, at: int) -> None:
        if self._moved(image):
            self.changed_ns = at
        elif self._frozen_ns and at - self.changed_ns > self._frozen_ns:
            raise SourceError("the same picture again and again; it has frozen (?freeze=0 accepts that)")
        pixels = _rgb(image)
        self.shape = f"{pixels.shape[1]}x{pixels.shape[0]}"
        self.slot.put(Frame(pixels, self.next_seq, Stamps(captured=at)))
        self.next_seq += 1

    def _moved(self, image: Pixels) -> bool:
        """Whether any bit differs. One pixel in 64 nearly always tells, for a sensor's noise does."""
        before, self._before = self._before, image
        if before is None or before.shape != image.shape:
            return True
        return not np.array_equal(before[::8, ::8], image[::8, ::8]) or not np.array_equal(before, image)


def _rgb(image: Pixels) -> Pixels:
    if image.ndim == 2:
        image = image[..., None]
    wrong = check_size(image.shape[1], image.shape[0], image.shape[2])
    if wrong or image.dtype != np.uint8:
        raise SourceError(f"its pictures can't be used: {wrong or image.dtype}")
    code = _CODES.get(image.shape[2])
    return np.ascontiguousarray(image if code is None else cv2.cvtColor(image, code))


def _what_to_check() -> str:
    if sys.platform == "darwin":
        return "is it plugged in, and may this terminal use the camera (System Settings, Privacy & Security, Camera)?"
    if sys.platform == "win32":
        return "is it plugged in, free of other programs, and are desktop apps allowed the camera in Settings, Privacy?"
    return "is it plugged in, free of other programs, and may you read /dev/video* (group video)?"
