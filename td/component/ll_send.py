"""One thread that turns the newest frame into bytes and sends it, so that TouchDesigner's own never waits for either.

It touches no operator: it gets arrays, and gives back numbers and sentences.
"""

import threading
import time
from contextlib import contextmanager

from ll_pixels import Painter

RETRY_S = 0.25


class Sender(threading.Thread):
    """`put` frames, read `sent`, `skipped` and `problem`. Newest wins; `link_for(size)` opens what they go into."""

    def __init__(self, link_for):
        super().__init__(name="ll-td-send", daemon=True)
        self.sent = self.skipped = 0
        self.problem = ""
        self._link_for, self._link, self._room = link_for, None, 0
        self._ready, self._waiting, self._stopping = threading.Condition(), None, False
        self._painter, self._retry = Painter(), 0.0
        self._hand = threading.Lock()
        """Held by whoever has the link in hand."""
        self.start()

    def put(self, source, mask, captured, media_ns):
        """The newest frame; one that was not sent yet is left out."""
        with self._ready:
            if self._waiting is not None:
                self.skipped += 1
            self._waiting = source, mask, captured, media_ns
            self._ready.notify()

    @contextmanager
    def borrowed(self):
        """The link, for the caller's own thread; None where there is none yet, or this one has it in hand."""
        if not self._hand.acquire(blocking=False):
            yield None
            return
        try:
            yield self._link if self._waiting is None else None
        except Exception as error:  # as in `run`
            self._broke(error)
        finally:
            self._hand.release()

    def close(self):
        """Ends the thread; it finishes the frame in its hands first."""
        with self._ready:
            self._stopping, self._waiting = True, None
            self._ready.notify()
        if self.ident is not None:
            self.join(2.0)

    def run(self):
        while True:
            with self._ready:
                while self._waiting is None and not self._stopping:
                    self._ready.wait()
                if self._stopping:
                    break
                self._hand.acquire()  # first: to a borrower the frame is waiting, or in this hand
                item, self._waiting = self._waiting, None
            try:
                self._send(*item)
            except Exception as error:  # whatever it was: the next frame tries again, and the user reads why
                self._broke(error)
            finally:
                self._hand.release()
        with self._hand:
            self._shut()

    def _broke(self, error):
        self.problem = str(error) or type(error).__name__
        self._shut()
        self._retry = time.monotonic() + RETRY_S

    def _send(self, source, mask, captured, media_ns):
        if time.monotonic() < self._retry:
            return
        height, width = source.shape[:2]
        if self._link is None or height * width * 4 > self._room:
            self._shut()
            self._room = height * width * 4
            self._link = self._link_for(self._room)
        self._painter.paint(source, mask, self._link.frame(height, width, 4))
        self._link.publish(self.sent, captured, media_ns)
        self.sent += 1
        self.problem = ""

    def _shut(self):
        link, self._link = self._link, None
        if link is not None:
            try:
                link.close()
            except Exception as error:
                self.problem = str(error)
