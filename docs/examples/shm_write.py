"""Moving pictures for `livelatent run --source shm`: shm_write.py [NAME] [WIDTH] [HEIGHT] [FPS] [COUNT]"""

import os
import struct
import sys
import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np

name, *numbers = [*sys.argv[1:], *["livelatent-in", "512", "512", "60", "0"][len(sys.argv) - 1 :]]
width, height, fps, count = map(int, numbers)
size, slots, first, pixels_at = width * height * 4, 3, 4096, 20480
stride = pixels_at + -(-size // 4096) * 4096
try:
    SharedMemory(name).unlink()  # left behind by a run that crashed
except FileNotFoundError:
    pass
memory = SharedMemory(name, create=True, size=first + slots * stride)
words = memory.buf.cast("Q")  # stores 8 bytes at once, as the lock words need
identity, generation, now = int.from_bytes(os.urandom(8), "little"), 1, time.perf_counter_ns()
for word, value in enumerate([0, 1, size, slots, stride, first, identity, 0, generation, 0, 1, os.getpid(), now]):
    words[word] = value
words[0] = int.from_bytes(b"LL-RING\n", "little")  # last: now it is a ring
number, y, x = 0, np.arange(height)[:, None], np.arange(width)[None, :]
try:
    while not count or number < count:
        number, slot = number + 1, (number + 1) % slots
        picture = np.stack(np.broadcast_arrays(x + number, y, x ^ y, 255), axis=2).astype(np.uint8)
        at, now = first + slot * stride, time.perf_counter_ns()
        lock = generation << 32 | (words[at // 8] + 1) % 2**32
        words[at // 8] = lock  # odd: being written
        head = (number, number, 0, width, height, 4, -1, 0, now, 0, 0, 0, 0, pixels_at)
        struct.pack_into("<14q", memory.buf, at + 8, *head)
        memory.buf[at + pixels_at : at + pixels_at + size] = picture.data.cast("B")
        words[at // 8], words[9], words[12] = lock + 1, number << 8 | slot, now
        time.sleep(1 / fps)
finally:
    words[10] = 2  # goodbye
    words.release(), memory.close(), memory.unlink()
