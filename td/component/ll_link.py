"""Which road the frames take: a writer on a thread of its own, and a reader that never waits."""

from ll_ring import RingReader, RingWriter
from ll_send import Sender
from ll_zmq import ZmqReader, ZmqWriter


class Links:
    """`sender` and `reader` of the transport that is open; both None where TouchDesigner's operators do it."""

    def __init__(self, picture, protocol):
        self.sender = self.reader = None
        self._picture = picture

    def open(self, transport, names, addresses, codec, keyfile):
        """Close what was open, and open this. Nothing here waits for the other side, or fails without it."""
        self.close()
        into, out = names
        if transport == "shm":
            self.sender = Sender(lambda room: RingWriter(into, room))
            self.reader = RingReader(out)
        elif transport == "zmq":
            self.sender = Sender(lambda room: ZmqWriter(addresses[0], codec, keyfile))
            self.reader = ZmqReader(addresses[1], keyfile, self._picture)

    @staticmethod
    def words(par, transport):
        """Options of `livelatent run` for the other end of this transport, on this machine."""
        into, out = par.Inname.eval(), par.Outname.eval()
        if transport in ("auto", "shm"):
            return ["--source", f"shm?name={into}", "--sink", f"shm?name={out}", "--sink", "preview"]
        if transport == "zmq":
            codec = par.Codec.eval()
            ports = [f"zmq:tcp://127.0.0.1:{port.eval()}" for port in (par.Inport, par.Outport)]
            return ["--source", ports[0], "--sink", f"{ports[1]}?codec={codec}", "--sink", "preview"]
        return ["--source", f"{transport}:{into}", "--sink", f"{transport}:{out}", "--sink", "preview"]

    @property
    def problem(self):
        """What keeps frames from their way, as a sentence."""
        ends = [end for end in (self.sender, self.reader) if end is not None]
        return next((end.problem for end in ends if end.problem), "")

    def close(self):
        ends, self.sender, self.reader = (self.sender, self.reader), None, None
        for end in ends:
            if end is not None:
                end.close()
