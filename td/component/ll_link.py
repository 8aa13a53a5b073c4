"""Which roads the frames take: writers on threads of their own, and readers that never wait."""

from ll_cardroad import CardSender
from ll_ring import RingReader, RingWriter
from ll_send import Sender
from ll_zmq import ZmqReader, ZmqWriter

RINGS = "shm", "cuda-ipc"


class Links:
    """`sender` and `reader` of the picture, None where TouchDesigner's operators do it; `control` and `hints` of the
    third input and the second output, None while nothing is wired there.
    """

    def __init__(self, picture, hint, card):
        self.sender = self.reader = self.control = self.hints = self._road = None
        self._picture, self._hint, self._card = picture, hint, card
        self._way, self._on_card, self._masked = ("", (), (), "", ""), False, False

    def open(self, transport, par, host):
        """Close what was open, and open this, under the names of the page. Nothing here waits for the other side, or
        fails without it."""
        self.close()
        names = [name.eval() for name in (par.Inname, par.Outname, par.Controlname, par.Hintname)]
        ports = par.Inport, par.Outport, par.Controlport, par.Hintport
        ends = [f"tcp://{host or '127.0.0.1'}:{port.eval()}" for port in ports]
        self._way = transport, names, ends, par.Codec.eval(), par.Keyfile.eval()
        if transport in (*RINGS, "zmq"):
            self.sender, self.reader = self._writer(0), self._reader(1, self._picture)
        if transport == "cuda-ipc":
            self._road = CardSender(self._card)

    def by_card(self, masked):
        """Whether the next picture can stay on the card: as long as livelatent takes it there. A mask is laid into the
        picture on the processor."""
        self._on_card, self._masked = False, masked
        if self._road is not None and self._card.usable and not masked:
            with self.sender.borrowed() as ring:
                self._on_card = ring is not None and ring.reached()
        return self._on_card

    def send_card(self, top, captured, media_ns):
        """What this TOP shows, from the card to the card."""
        sender = self.sender
        if self._road is None:
            return
        with sender.borrowed() as ring:
            if ring is not None and self._road.send(top, ring, sender.sent, captured, media_ns):
                sender.sent += 1
            else:
                sender.skipped += 1

    def words_for(self):
        """How the pictures go at the moment, and why not on the card where they might."""
        transport = self._way[0]
        if transport != "cuda-ipc" or (self._on_card and self.reader.on_card):
            return transport
        if not self._card.usable:
            return f"shm ({self._card.problem})"
        if self._masked:
            return f"{'cuda-ipc' if self.reader.on_card else 'shm'} back, shm there (it carries the mask)"
        return "shm (this livelatent takes and gives no pictures on the card; press Restart if it was started here)"

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
        if transport == "zmq":
            return ZmqReader(addresses[place], keyfile, picture)
        return RingReader(names[place], self._card if transport == "cuda-ipc" and place == 1 else None)

    @staticmethod
    def words(par, transport, control, hints):
        """Options of `livelatent run` for the other end of this transport, on this machine; `control`: of the third
        input too, `hints`: of the second output."""
        into, out = par.Inname.eval(), par.Outname.eval()
        third, second = (f"shm?name={name.eval()}" for name in (par.Controlname, par.Hintname))
        if transport in ("auto", *RINGS):
            ends = [f"{transport if transport in RINGS else 'shm'}?name={name}" for name in (into, out)]
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
        for end in (self.sender, self.reader, self.control, self.hints, self._road):
            _shut(end)
        if self._road is not None:
            self._picture.let_go()
        self.sender = self.reader = self.control = self.hints = self._road = None
        self._way = "", (), (), "", ""


def _shut(end):
    if end is not None:
        end.close()
