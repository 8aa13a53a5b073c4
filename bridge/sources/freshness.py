"""How fresh a sender's pictures are: when the last one came, and whether it still changes."""

from __future__ import annotations

from bridge.clock import NS, now_ns, seconds
from bridge.frame import Pixels
from bridge.metrics import Metrics

STALE_NS = NS
"""A sender that has been silent for this long is reported."""


class Freshness:
    """Notes arrivals; counts each silence as one `source.stale`. `describe` may be called from any thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._arrived_ns = 0
        self._changed_ns = 0
        self._sample = b""
        self._what = ""
        self._stale = False

    def arrived(self, pixels: Pixels, what: str) -> None:
        """A picture is here; `what` names its size and format."""
        now = now_ns()
        height, width, _ = pixels.shape
        # A frozen sender repeats its last picture under new numbers: a few hundred of its pixels tell.
        sample = pixels[:: height // 16 + 1, :: width // 16 + 1].tobytes()
        if sample != self._sample:
            self._sample = sample
            self._changed_ns = now
        self._arrived_ns = now
        self._what = what
        self._stale = False

    def missed(self) -> None:
        """Nothing came in time."""
        if self._arrived_ns and not self._stale and now_ns() - self._arrived_ns > STALE_NS:
            self._stale = True
            self._metrics.count("source.stale")

    def describe(self) -> str:
        """`512x512 rgba8`, with how long nothing came or changed if that is over a second."""
        arrived, changed, now = self._arrived_ns, self._changed_ns, now_ns()
        if not arrived:
            return "no picture yet"
        if now - arrived > STALE_NS:
            return f"{self._what}, silent for {seconds(now - arrived):.0f} s"
        if now - changed > STALE_NS:
            return f"{self._what}, unchanged for {seconds(now - changed):.0f} s"
        return self._what


def capture_stamp(sent_ns: int) -> int:
    """The sender's capture stamp where it can be of our clock (the last ten seconds of this machine), else now."""
    now = now_ns()
    return sent_ns if 0 < sent_ns <= now < sent_ns + 10 * NS else now
