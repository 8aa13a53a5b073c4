"""Frames over ZMQ, to and from a livelatent that may run on another machine.

Needs pyzmq, which `livelatent td install` puts beside the component. Sockets stay on the thread that made them.
"""

import re
import threading

import numpy as np
from ll_wire import MAX_MESSAGE, WireError, decode, header


def connect(kind, address, keyfile):
    """(context, socket), connected, newest wins. RuntimeError, a sentence, without pyzmq or with a wrong key file."""
    try:
        import zmq
    except ImportError:
        raise RuntimeError("ZMQ needs pyzmq: run `livelatent td install`, or choose another transport") from None
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kind))
    options = {"LINGER": 0, "MAXMSGSIZE": MAX_MESSAGE, "RECONNECT_IVL": 100, "RECONNECT_IVL_MAX": 1000}
    # A receiver with CONFLATE aborts its whole process, here TouchDesigner, when a peer sends it several parts.
    options |= {"CONFLATE": 1} if kind == "PUB" else {"RCVHWM": 2, "SUBSCRIBE": b""}
    try:
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        if keyfile:
            with open(keyfile, encoding="ascii") as file:
                keys = dict(re.findall(r'([a-z-]+)\s*=\s*"([^"]*)"', file.read()))
            socket.curve_publickey = keys["public-key"].encode()
            socket.curve_secretkey = keys["secret-key"].encode()
            socket.curve_serverkey = keys["server-public-key"].encode()
        socket.connect(address)
    except (OSError, KeyError, zmq.ZMQError) as error:
        socket.close()
        context.term()
        raise RuntimeError(f"{keyfile or address}: {error}") from error
    return context, socket


class ZmqWriter:
    """The sending end, as RingWriter: `frame` gives the picture to fill, `publish` sends it."""

    def __init__(self, address, codec, keyfile):
        self._context, self._socket = connect("PUB", address, keyfile)
        self._codec, self._message, self._shape, self._start = codec, bytearray(), None, 0

    def frame(self, height, width, channels):
        if self._shape != (height, width, channels):
            self._shape = height, width, channels
            self._start = len(header(width, height, "rgba8", "raw", 0, 0, 0))
            self._message = bytearray(self._start + height * width * channels)
            self._pixels = np.frombuffer(self._message, np.uint8)[self._start :].reshape(self._shape)
        return self._pixels

    def publish(self, seq, captured, media_ns):
        height, width, _ = self._shape
        if self._codec == "jpeg":
            import cv2

            _, data = cv2.imencode(".jpg", self._pixels[..., 2::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
            self._socket.send(header(width, height, "rgb8", "jpeg", seq, captured, media_ns) + data.tobytes())
            return
        self._message[: self._start] = header(width, height, "rgba8", "raw", seq, captured, media_ns)
        self._socket.send(self._message)

    def close(self):
        self._socket.close()
        self._context.term()


class ZmqReader(threading.Thread):
    """The receiving end, as RingReader: `read(picture)` never waits. Its thread receives and decodes."""

    def __init__(self, address, keyfile, picture):
        super().__init__(name="ll-td-receive", daemon=True)
        self.problem, self._address, self._keyfile, self._picture = "", address, keyfile, picture
        self._lock, self._news, self._stopping = threading.Lock(), None, threading.Event()
        self.start()

    def read(self, picture):
        """(captured, media_ns, version) of a picture newer than the last, now in `picture.front`; None without one."""
        with self._lock:
            news, self._news = self._news, None
            if news is not None:
                picture.show()
            return news

    def close(self):
        self._stopping.set()
        self.join(2.0)

    def run(self):
        while not self._stopping.is_set():
            try:
                self._receive()
            except Exception as error:  # the thread must outlive whatever a peer sends
                self.problem = str(error) or type(error).__name__
                self._stopping.wait(0.25)

    def _receive(self):
        context, socket = connect("SUB", self._address, self._keyfile)
        try:
            while not self._stopping.is_set():
                if socket.poll(100):
                    message = socket.recv_multipart(copy=False)
                    while socket.poll(0):
                        message = socket.recv_multipart(copy=False)
                    self._take(message)
        finally:
            socket.close()
            context.term()

    def _take(self, message):
        try:
            if len(message) != 1:
                raise WireError("a message of several parts is no frame")
            pixels, *news = decode(message[0].buffer)
        except WireError as error:
            self.problem = str(error)
            return
        with self._lock:  # `read` exchanges the buffers under it, so what is filled here is never shown half done
            self._picture.fill(pixels)
            self._news, self.problem = tuple(news), ""
