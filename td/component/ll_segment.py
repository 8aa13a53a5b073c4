"""Frames in shared memory as docs/wire.md specifies them: the ring's header, who owns it, and the memory under it.

Standard library and numpy only. `multiprocessing.shared_memory` is left alone where it brings its resource tracker
along: that is a child process of `sys.executable`, which inside TouchDesigner is TouchDesigner.
"""

import mmap
import os
import struct
import threading
import time

import numpy as np

MAGIC, PROTOCOL = b"LL-RING\n", 1
SLOTS, FIRST, PIXELS_AT = 3, 4096, 20480
IDENTITY, GENERATION, NEWEST, STATE, PID, BEAT, REACH, CARD = 6, 8, 9, 10, 11, 12, 13, 14
OPEN, CLOSED = 1, 2
LIVE_NS = 5 * 10**9
_fence = threading.Lock()


class RingError(Exception):
    """A sentence for the user."""


def fence():
    """No load or store moves across this line (ARM; x86 keeps them in order anyway)."""
    _fence.acquire()
    _fence.release()


class Segment:
    """A named piece of shared memory; `size` 0 opens one that is there. FileNotFoundError, FileExistsError."""

    def __init__(self, name, size=0):
        self.name, self._memory = name, None
        if os.name == "nt":  # no resource tracker there, and the name goes with its last user
            from multiprocessing.shared_memory import SharedMemory

            self._memory = SharedMemory(name, create=bool(size), size=size)
            self.buf = self._memory.buf
            return
        from _posixshmem import shm_open

        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if size else 0)
        handle = shm_open("/" + name, flags, mode=0o600)
        try:
            if os.fstat(handle).st_uid != os.geteuid():
                raise RingError(f"shared memory {name} belongs to another user")
            if size:
                os.ftruncate(handle, size)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(handle, 0, size)  # a full /dev/shm is an error here, and a crash later
            self._memory = mmap.mmap(handle, size or os.fstat(handle).st_size)
        except (OSError, ValueError) as error:
            if size:
                self.unlink()
            raise RingError(f"shared memory {name}: {error}") from error
        finally:
            os.close(handle)
        self.buf = memoryview(self._memory)

    def close(self):
        """Unmap. Views of the pictures must be gone."""
        memory, self._memory = self._memory, None
        if memory is not None:
            self.buf.release()
            memory.close()

    def unlink(self):
        if os.name != "nt":
            from _posixshmem import shm_unlink

            try:
                shm_unlink("/" + self.name)
            except FileNotFoundError:
                pass


class Ring:
    """A mapped ring, either end. RingError when it is none, or speaks another protocol."""

    def __init__(self, segment):
        self.segment = segment
        buf, problem = segment.buf, ""
        words = buf[: len(buf) // 8 * 8].cast("Q")
        if len(words) < 512 or bytes(buf[:8]) != MAGIC:
            problem = "is no ring of livelatent, or not yet"
        elif words[1] != PROTOCOL:
            problem = f"speaks protocol {words[1]}, this component {PROTOCOL}: run `livelatent td install`"
        elif not (2 <= words[3] <= 16 and words[4] >= PIXELS_AT and words[5] + words[3] * words[4] <= len(buf)):
            problem = "has a broken header"
        if problem:
            words.release()
            segment.close()
            raise RingError(f"shared memory {segment.name} {problem}")
        self.words, self.bytes, self._views = words, np.frombuffer(buf, np.uint8), {}
        self.capacity, self.slots, self.stride, self.first = words[2], words[3], words[4], words[5]
        self.identity = words[IDENTITY]

    def view(self, start, height, width, channels):
        """The picture at this byte, (height, width, channels) uint8, top row first. Made once per place and shape."""
        key = start, height, width, channels
        found = self._views.get(key)
        if found is None:
            if len(self._views) > 4 * self.slots:
                self._views.clear()
            size = height * width * channels
            found = self._views[key] = self.bytes[start : start + size].reshape(height, width, channels)
        return found

    def writer_lives(self):
        """Whether another process writes here. Windows can't be asked about a process without ending it."""
        pid, quiet = self.words[PID], abs(time.perf_counter_ns() - self.words[BEAT])
        if self.words[STATE] == CLOSED or pid == os.getpid() or quiet > LIVE_NS:
            return False
        try:
            os.name == "nt" or os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        return True

    def named(self):
        """Whether the name still leads here."""
        try:
            other = Segment(self.segment.name)
        except (FileNotFoundError, RingError):
            return False
        same = bytes(other.buf[48:56]) == self.identity.to_bytes(8, "little")
        other.close()
        return same

    def close(self):
        self.words.release()
        self._views.clear()
        self.bytes = None
        self.segment.close()


def claim(name, capacity):
    """A ring of this name with room for pictures of so many bytes: new, or one whose writer is gone."""
    stride = PIXELS_AT + -(-capacity // 4096) * 4096
    try:
        old = Ring(Segment(name))
    except FileNotFoundError:
        old = None
    except RingError:
        old = None
        if os.name != "nt":
            Segment(name).unlink()
    if old is not None:
        if old.writer_lives():
            pid = old.words[PID]
            old.close()
            raise RingError(f"shared memory {name} is written by another program (process {pid})")
        if old.capacity >= capacity and old.slots == SLOTS:
            return old
        old.words[STATE] = CLOSED  # its readers let go of it
        old.segment.unlink()
        old.close()
    try:
        segment = Segment(name, FIRST + SLOTS * stride)
    except FileExistsError:
        raise RingError(f"shared memory {name}: waiting for its readers to let go") from None
    identity = int.from_bytes(os.urandom(8), "little") | 1
    segment.buf[8:64] = struct.pack("<7Q", PROTOCOL, capacity, SLOTS, stride, FIRST, identity, 0)
    fence()
    segment.buf[:8] = MAGIC
    return Ring(segment)
