"""Moving pictures for `livelatent run --source zmq`: zmq_send.py [ADDRESS] [WIDTH] [HEIGHT] [FPS] [COUNT]"""

import struct
import sys
import time

import msgpack
import numpy as np
import zmq

address, *numbers = [*sys.argv[1:], *["tcp://127.0.0.1:5571", "512", "512", "60", "0"][len(sys.argv) - 1 :]]
width, height, fps, count = map(int, numbers)
socket = zmq.Context.instance().socket(zmq.PUB)
socket.setsockopt(zmq.CONFLATE, 1)  # the newest frame is sent, older ones are dropped
socket.setsockopt(zmq.LINGER, 0)
socket.connect(address)  # livelatent binds
y, x, seq = np.arange(height)[:, None], np.arange(width)[None, :], 0
while not count or seq < count:
    picture = np.stack(np.broadcast_arrays(x + seq, y, x ^ y), axis=2).astype(np.uint8)  # rgb8, top row first
    header = msgpack.packb(
        {"seq": seq, "w": width, "h": height, "format": "rgb8", "stamps": (time.perf_counter_ns(), 0, 0, 0)}
    )
    socket.send(b"LLF\1" + struct.pack("<I", len(header)) + header + picture.tobytes())
    seq += 1
    time.sleep(1 / fps)
socket.close()
