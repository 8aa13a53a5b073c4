"""Read what livelatent paints from shared memory: shm_read.py [NAME] [COUNT]"""

import struct
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import numpy as np

name, count = [*sys.argv[1:], *["livelatent-out", "0"][len(sys.argv) - 1 :]]
resource_tracker.register = lambda *_: None  # or our exit would remove the segment (track=False from Python 3.13)
memory, seen, shown, quiet_since = None, (0, 0), 0, 0.0
while not int(count) or shown < int(count):
    if memory is None:
        try:
            memory = SharedMemory(name)
            if bytes(memory.buf[:16]) != b"LL-RING\n\1" + bytes(7):
                raise ValueError("not a ring of protocol 1, or not yet")
            words, quiet_since = memory.buf.cast("Q"), time.perf_counter()
        except (FileNotFoundError, ValueError):
            memory = time.sleep(0.05)
            continue
    newest = words[9]
    if newest == 0 or (words[6], newest) == seen:
        if words[10] == 2 or time.perf_counter() - quiet_since > 0.5:  # gone or silent: look the name up again
            words.release(), memory.close()
            memory = None
        time.sleep(0.0005)
        continue
    at = words[5] + (newest & 0xFF) * words[4]
    lock = words[at // 8]
    _, seq, _, w, h, channels, _, version, captured, *_, start = struct.unpack_from("<14q", memory.buf, at + 8)
    pixels = np.frombuffer(memory.buf[at + start : at + start + w * h * channels], np.uint8).copy()
    if lock & 1 or lock >> 32 != words[8] or words[at // 8] != lock:
        continue  # overwritten meanwhile: look again
    seen, quiet_since, shown = (words[6], newest), time.perf_counter(), shown + 1
    mean, age = pixels.reshape(h, w, channels).mean(), (time.perf_counter_ns() - captured) / 1e6
    print(f"frame {seq}: {w}x{h}x{channels}, params {version}, mean {mean:.1f}, {age:.1f} ms old", flush=True)
words.release(), memory.close()
