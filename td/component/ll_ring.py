"""The two ends of a ring in shared memory: this side writes one and reads another. Nobody waits for anybody."""

import os
import struct
import time

from ll_segment import (
    BEAT,
    CARD,
    CLOSED,
    GENERATION,
    NEWEST,
    OPEN,
    PID,
    PIXELS_AT,
    REACH,
    STATE,
    Ring,
    RingError,
    Segment,
    claim,
    fence,
)

CHECK_NS, FRESH_NS = 2 * 10**8, 10**9
BLOB_AT, MAX_BLOB = 128, 16384
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

    @property
    def number(self):
        """Of the frame that was published last."""
        return self._number

    def reached(self):
        """Whether livelatent takes pictures on the card. Its word holds for a second."""
        return 0 <= time.perf_counter_ns() - self._ring.words[REACH] < FRESH_NS

    def publish(self, seq, captured, media_ns, blob=b""):
        ring, at = self._ring, self._at
        head = (self._number + 1, seq, 0, *self._shape, media_ns, 0, captured, 0, 0, 0, len(blob), PIXELS_AT)
        _FIELDS.pack_into(ring.segment.buf, at + 8, *head)
        ring.segment.buf[at + BLOB_AT : at + BLOB_AT + len(blob)] = blob
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
    """The reading end. Follows the name: the writer may stop, crash and come back. `card` is where pictures may come
    on the graphics card, None if they may not."""

    def __init__(self, name, card=None):
        self.name, self._ring, self._seen, self._checked, self.problem = name, None, 0, 0, ""
        self.torn, self.on_card, self._card = 0, False, card

    def read(self, picture):
        """(captured, media_ns, version) of a picture newer than the last, copied into `picture`; None without one."""
        ring, now = self._ring, time.perf_counter_ns()
        if ring is not None and self._card is not None:
            ring.words[CARD], ring.words[REACH] = self._card.number, now if self._card.usable else 0
            news = self._landed(picture)
            if news is not None or picture.waiting is not None:
                return news
        if ring is None or ring.words[NEWEST] == self._seen:
            self._follow(now, picture)
            return None
        for _ in range(4):
            found = self._look(ring, picture)
            if found is not None:
                return found or (self._landed(picture) if self._card is not None else None)
        return None

    def _landed(self, picture):
        """Of a copy on the card that is done, if nothing was written there meanwhile."""
        note = picture.landed()
        if note is None:
            return None
        number, news = note
        words = self._ring.words
        if words[NEWEST] >> 8 > number + picture.spare or words[STATE] == CLOSED:
            self.torn += 1
            return None
        picture.land()
        self.on_card = True
        return news

    def _look(self, ring, picture):
        """The news of the newest slot; () for one on the card, None when it was written meanwhile."""
        words = ring.words
        newest = words[NEWEST]
        at = ring.first + (newest & 0xFF) % ring.slots * ring.stride
        lock = words[at // 8]
        fence()
        if lock & 1 or lock >> 32 != words[GENERATION]:
            return ()
        _, _, _, width, height, channels, media, version, captured, _, _, _, length, start = _FIELDS.unpack_from(
            ring.segment.buf, at + 8
        )
        size = width * height * channels
        if not (channels in (1, 3, 4) and 0 < width <= 16384 and 0 < height <= 16384 and size <= ring.capacity):
            return ()
        if not (0 <= length <= MAX_BLOB and BLOB_AT + length <= start <= ring.stride - size):
            return ()
        blob = bytes(ring.segment.buf[at + BLOB_AT : at + BLOB_AT + length])
        if not blob:
            picture.fill(ring.view(at + start, height, width, channels))
        fence()
        if words[at // 8] != lock:
            self.torn += 1
            return None
        self._seen, self._checked = newest, time.perf_counter_ns()
        news = captured, media, version
        if blob:
            if self._card is not None and self._card.usable:
                picture.begin(blob, (newest >> 8, news))
            return ()
        picture.show()
        self.on_card = False
        return news

    def _follow(self, now, picture):
        if now - self._checked < CHECK_NS:
            return
        self._checked = now
        if self._ring is not None and (self._ring.words[STATE] == CLOSED or not self._ring.named()):
            self.close()
            if self._card is not None:
                picture.let_go()
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
            if self._card is not None:
                ring.words[REACH] = 0
            ring.close()
