"""The two ends of a ring in shared memory: this side writes one and reads another. Nobody waits for anybody."""

import os
import struct
import time

from ll_segment import (
    BEAT,
    CLOSED,
    GENERATION,
    NEWEST,
    OPEN,
    PID,
    PIXELS_AT,
    STATE,
    Ring,
    RingError,
    Segment,
    claim,
    fence,
)

CHECK_NS, FRESH_NS = 2 * 10**8, 10**9
_FIELDS = struct.Struct("<14q")


class RingWriter:
    """The writing end: `frame` gives the next slot's picture to fill, `publish` shows it."""

    def __init__(self, name, capacity):
        self._ring = ring = claim(name, capacity)
        words = ring.words
        self._generation = words[GENERATION] % 0xFFFFFFFF + 1
        self._number, self._slot = words[NEWEST] >> 8, (words[NEWEST] + 1) % ring.slots
        for word, value in ((GENERATION, self._generation), (PID, os.getpid()), (BEAT, time.perf_counter_ns())):
            words[word] = value
        words[STATE], self._checked = OPEN, 0
        self.capacity = ring.capacity

    def frame(self, height, width, channels):
        """The slot to fill, (height, width, channels) uint8; no reader takes it until `publish`."""
        ring, now = self._ring, time.perf_counter_ns()
        if ring.words[GENERATION] != self._generation:
            raise RingError(f"shared memory {ring.segment.name} was taken over by another program")
        if now - self._checked > CHECK_NS:
            self._checked = now
            if not ring.named():
                raise RingError(f"shared memory {ring.segment.name} was removed")
        at = ring.first + self._slot * ring.stride
        self._at, self._shape = at, (width, height, channels)
        ring.words[at // 8] = self._generation << 32 | ((ring.words[at // 8] & 0xFFFFFFFF) + 1 | 1) & 0xFFFFFFFF
        fence()
        return ring.view(at + PIXELS_AT, height, width, channels)

    def publish(self, seq, captured, media_ns):
        ring, at = self._ring, self._at
        head = (self._number + 1, seq, 0, *self._shape, media_ns, 0, captured, 0, 0, 0, 0, PIXELS_AT)
        _FIELDS.pack_into(ring.segment.buf, at + 8, *head)
        fence()
        ring.words[at // 8] = self._generation << 32 | (ring.words[at // 8] + 1) & 0xFFFFFFFF
        fence()
        self._number += 1
        ring.words[NEWEST] = self._number << 8 | self._slot
        ring.words[BEAT] = time.perf_counter_ns()
        self._slot = (self._slot + 1) % ring.slots

    def close(self):
        ring, ours = self._ring, self._ring.words[GENERATION] == self._generation
        if ours:
            ring.words[STATE] = CLOSED
            if ring.named():
                ring.segment.unlink()
        ring.close()


class RingReader:
    """The reading end. Follows the name: the writer may stop, crash and come back."""

    def __init__(self, name):
        self.name, self._ring, self._seen, self._checked, self.problem = name, None, 0, 0, ""
        self.torn = 0

    def read(self, picture):
        """(captured, media_ns, version) of a picture newer than the last, copied into `picture`; None without one."""
        ring = self._ring
        if ring is None or ring.words[NEWEST] == self._seen:
            self._follow(time.perf_counter_ns())
            return None
        words = ring.words
        for _ in range(4):
            newest = words[NEWEST]
            at = ring.first + (newest & 0xFF) % ring.slots * ring.stride
            lock = words[at // 8]
            fence()
            if lock & 1 or lock >> 32 != words[GENERATION]:
                break
            _, _, _, width, height, channels, media, version, captured, _, _, _, _, start = _FIELDS.unpack_from(
                ring.segment.buf, at + 8
            )
            size = width * height * channels
            if not (channels in (1, 3, 4) and 0 < width <= 16384 and 0 < height <= 16384 and size <= ring.capacity):
                break
            if not 128 <= start <= ring.stride - size:
                break
            picture.fill(ring.view(at + start, height, width, channels))
            fence()
            if words[at // 8] == lock:
                self._seen = newest
                self._checked = time.perf_counter_ns()
                picture.show()
                return captured, media, version
            self.torn += 1
        return None

    def _follow(self, now):
        if now - self._checked < CHECK_NS:
            return
        self._checked = now
        if self._ring is not None and (self._ring.words[STATE] == CLOSED or not self._ring.named()):
            self.close()
        if self._ring is None:
            try:
                ring = Ring(Segment(self.name))
            except FileNotFoundError:
                return
            except RingError as error:
                self.problem = str(error)
                return
            if ring.words[STATE] == CLOSED:
                ring.close()
                return
            self.problem, self._ring = "", ring
            fresh = now - ring.words[BEAT] < FRESH_NS
            self._seen = 0 if fresh else ring.words[NEWEST]

    def close(self):
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()
