"""Which roads the frames take: writers on threads of their own, and readers that never wait."""

from ll_ring import RingReader, RingWriter
from ll_send import Sender
from ll_zmq import ZmqReader, ZmqWriter


class Links:
    """`sender` and `reader` of the picture, None where TouchDesigner's operators do it; `control` and `hints` of the
    third input and the second output, None while nothing is wired there.
    """

    def __init__(self, picture, hint):
        self.sender = self.reader = self.control = self.hints = None
        self._picture, self._hint = picture, hint
        self._way = "", (), (), "", ""

    def open(self, transport, names, addresses, codec, keyfile):
        """Close what was open, and open this. Nothing here waits for the other side, or fails without it.

        `names` of shared memory and `addresses` of ZMQ: in, out, control, hint.
        """
        self.close()
        self._way = transport, names, addresses, codec, keyfile
        if transport in ("shm", "zmq"):
            self.sender, self.reader = self._writer(0), self._reader(1, self._picture)

    def follow(self, control, hints):
        """Open or close the two side roads, as what is wired wants them; with TouchDesigner's own operators for the
        picture they are shared memory."""
        if not self._way[0]:
            return
        if control != (self.control is not None):
            self.control = self._writer(2) if control else _shut(self.control)
        if hints != (self.hints is not None):
            self.hints = self._reader(3, self._hint) if hints else _shut(self.hints)

    def _writer(self, place):
        transport, names, addresses, codec, keyfile = self._way
        if transport == "zmq":
            return Sender(lambda room: ZmqWriter(addresses[place], codec, keyfile))
        return Sender(lambda room: RingWriter(names[place], room))

    def _reader(self, place, picture):
        transport, names, addresses, _, keyfile = self._way
        return ZmqReader(addresses[place], keyfile, picture) if transport == "zmq" else RingReader(names[place])

    @staticmethod
    def words(par, transport, control, hints):
        """Options of `livelatent run` for the other end of this transport, on this machine; `control`: of the third
        input too, `hints`: of the second output."""
        into, out = par.Inname.eval(), par.Outname.eval()
        third, second = (f"shm?name={name.eval()}" for name in (par.Controlname, par.Hintname))
        if transport in ("auto", "shm"):
            ends = [f"shm?name={into}", f"shm?name={out}"]
        elif transport == "zmq":
            ports = par.Inport, par.Outport, par.Controlport, par.Hintport
            ways = [f"zmq:tcp://127.0.0.1:{port.eval()}" for port in ports]
            ends, (third, second) = [ways[0], f"{ways[1]}?codec={par.Codec.eval()}"], ways[2:]
        else:
            ends = [f"{transport}:{into}", f"{transport}:{out}"]
        words = ["--source", ends[0], "--sink", ends[1], "--sink", "preview"]
        words += ["--control-source", f"1={third}"] if control else []
        return [*words, "--hint-sink", second] if hints else words

    @property
    def problem(self):
        """What keeps frames from their way, as a sentence."""
        ends = [end for end in (self.sender, self.reader, self.control, self.hints) if end is not None]
        return next((end.problem for end in ends if end.problem), "")

    def close(self):
        for end in (self.sender, self.reader, self.control, self.hints):
            _shut(end)
        self.sender = self.reader = self.control = self.hints = None
        self._way = "", (), (), "", ""


def _shut(end):
    if end is not None:
        end.close()
