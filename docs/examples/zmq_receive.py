"""Receive what livelatent paints over ZMQ: zmq_receive.py [ADDRESS] [COUNT]"""

import struct
import sys
import time

import msgpack
import numpy as np
import zmq

address, count = [*sys.argv[1:], *["tcp://127.0.0.1:5572", "0"][len(sys.argv) - 1 :]]
socket = zmq.Context.instance().socket(zmq.SUB)
socket.setsockopt(zmq.CONFLATE, 1)  # keep the newest frame only
socket.setsockopt(zmq.LINGER, 0)
socket.setsockopt(zmq.SUBSCRIBE, b"")
socket.connect(address)
shown, channels = 0, {"gray8": 1, "rgb8": 3, "rgba8": 4}
while not int(count) or shown < int(count):
    if not socket.poll(1000):
        print("no frame for a second", flush=True)
        continue
    message = socket.recv(copy=False).buffer
    magic, protocol, length = struct.unpack_from("<3sBI", message)
    if (magic, protocol) != (b"LLF", 1):
        sys.exit("not a livelatent frame of protocol 1")
    header, body = msgpack.unpackb(message[8 : 8 + length]), message[8 + length :]
    w, h, codec, shown = header["w"], header["h"], header.get("codec", "raw"), shown + 1
    if codec == "raw":
        picture = np.frombuffer(body, np.uint8).reshape(h, w, channels[header["format"]])
        what = f"mean {picture.mean():.1f}"
    else:
        what = f"{len(body)} bytes of JPEG, for any JPEG library"
    age = (time.perf_counter_ns() - header["stamps"][0]) / 1e6
    print(f"frame {header['seq']}: {w}x{h} {header['format']} {codec}, {what}, {age:.1f} ms old", flush=True)
socket.close()
