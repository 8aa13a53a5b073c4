"""Pictures to livelatent and from it that stay on the card, as docs/wire.md specifies them under `cuda-ipc`.

On TouchDesigner's thread, but nothing waits: copies are asked for, and events tell when they are done.
"""

from ctypes import c_uint64, c_void_p

from ll_card import show, texture
from ll_cuda import EVENT, PLACES, CudaError
from ll_pixels import Picture
from ll_wire import WireError, pack, unpack


class CardSender:
    """Puts what a TOP shows into the next of four places on the card, and into the ring where it lies."""

    def __init__(self, card):
        self._card, self._block, self._size = card, None, (0, 0)
        self._kept, self._parcels = [None] * PLACES, [b""] * PLACES

    def send(self, top, ring, seq, captured, media_ns):
        """Whether it was sent: not while the card still has to copy what lay in that place before."""
        card, place, memory = self._card, (ring.number + 1) % PLACES, None
        try:
            with card.cuda as cuda:
                if self._block is not None and not cuda.done(self._block.events[place]):
                    return False
            memory = texture(top, card.stream)
            height, width = memory.shape.height, memory.shape.width
            with card.cuda as cuda:
                self._fit(cuda, height, width)
                block, event = self._block, self._block.events[place]
                cuda.copy(block.start + place * block.place, memory.ptr, height * width * 4, card.stream)
                cuda.call("cuEventRecord", event, card.stream)
                cuda.done(event)  # to ask makes Windows hand the work to the card at once
        except Exception as error:  # whatever TouchDesigner or the driver raises: shared memory does it then
            card.fail(error)
            card.held = memory
            return False
        # TouchDesigner frees it with the object. When this place comes round again, the copy has been done.
        self._kept[place] = memory
        ring.frame(1, 1, 1)[:] = 0
        ring.publish(seq, captured, media_ns, self._parcels[place])
        return True

    def _fit(self, cuda, height, width):
        if self._size == (height, width):
            return
        size = height * width * 4
        if self._block is None or self._block.place < size:
            self.close()
            self._block = cuda.borrow(size)
        block, self._size = self._block, (height, width)
        words = {"card": cuda.uuid, "handle": block.handle, "width": width, "height": height, "channels": 4}
        words |= {"order": "bgr", "rows": "bottom"}
        self._parcels = [pack({**words, "at": n * block.place, "event": block.tokens[n]}) for n in range(PLACES)]

    def close(self):
        block, self._block, self._size = self._block, None, (0, 0)
        kept, self._kept = self._kept, [None] * PLACES
        if block is None:
            return
        try:
            if self._card.settled(block.events):
                self._card.cuda.give_back(block)
                return
        except CudaError as error:
            self._card.fail(error)
        self._card.held = kept  # a card that hangs keeps what it has


class CardPicture(Picture):
    """The last whole picture, wherever it lies. `begin` has one copied out of livelatent's memory on the card, `landed`
    tells when that is done, and `show` exchanges front and back, as for pictures in the processor's memory.
    """

    spare = PLACES - 2
    """So many newer pictures may be out before the place of this one can have been written again."""

    def __init__(self, card):
        super().__init__()
        self.card, self.waiting, self._event, self._handle = card, None, None, b""
        self._theirs = 0, 0
        self._buffers, self._next, self._shown = [(0, 0), (0, 0)], (0, 0), (0, 0)
        """(address, bytes) of the back one and the front one; (height, width) of the one that is copied, and of the one
        that is shown, if that lies on the card."""

    def begin(self, blob, note):
        """Start the copy of what this parcel tells of. `note` comes back from `landed`."""
        try:
            parcel, _ = unpack(blob)
            height, width, at = (int(parcel[name]) for name in ("height", "width", "at"))
            if (parcel["card"], parcel["channels"]) != (self.card.cuda.uuid, 4):
                raise CudaError("livelatent's pictures lie on another card than TouchDesigner's")
            if (parcel.get("order"), parcel.get("rows")) != ("bgr", "bottom") or "event" in parcel:
                raise CudaError("livelatent's pictures lie on the card in another order than TouchDesigner's")
            with self.card.cuda as cuda:
                self._copy(cuda, parcel["handle"], at, height * width * 4)
            self.waiting, self._next = note, (height, width)
        except (CudaError, WireError, KeyError, TypeError, ValueError) as error:
            self.card.fail(error)

    def _copy(self, cuda, handle, at, size):
        if handle != self._handle:
            self._shut(cuda)
            self._theirs, self._handle = cuda.open(handle), handle
        start, room = self._theirs
        if at < 0 or not 0 < size <= room - at:
            raise CudaError("livelatent's picture reaches beyond its memory")
        if self._event is None:
            self._event = cuda.make("cuEventCreate", c_void_p, EVENT)
        if self._buffers[0][1] < size:
            self._free(cuda, 0)
            self._buffers[0] = cuda.make("cuMemAlloc_v2", c_uint64, size), size
        cuda.copy(self._buffers[0][0], start + at, size, self.card.stream)
        cuda.call("cuEventRecord", self._event, self.card.stream)

    def landed(self):
        """The note of a copy that is done, once; `show` it then, or leave it."""
        if self.waiting is None:
            return None
        try:
            with self.card.cuda as cuda:
                if not cuda.done(self._event):
                    return None
        except CudaError as error:
            self.card.fail(error)
        note, self.waiting = self.waiting, None
        return note if self.card.usable else None

    def land(self):
        """Show what has landed."""
        self._buffers.reverse()
        self._shown = self._next

    def show(self):
        super().show()
        self._shown = 0, 0

    @property
    def there(self):
        """Whether there is one."""
        return super().there or self._shown != (0, 0)

    def paint(self, scriptOp):
        height, width = self._shown
        if not height:
            super().paint(scriptOp)
            return
        try:
            show(scriptOp, self._buffers[1][0], height, width, self.card.stream)
        except Exception as error:  # as above; the Script TOP keeps what it shows
            self.card.fail(error)

    def let_go(self):
        """Of livelatent's memory. What is shown stays."""
        if self.card.cuda is None:
            return
        try:
            # With a copy that hangs it stays open.
            if self.waiting is None or self.card.settled([self._event]):
                with self.card.cuda as cuda:
                    self._shut(cuda)
        except CudaError as error:
            self.card.fail(error)
        self.waiting, self._handle = None, b""

    def _shut(self, cuda):
        handle, self._handle = self._handle, b""
        if handle:
            cuda.shut(handle)

    def _free(self, cuda, index):
        (at, _), self._buffers[index] = self._buffers[index], (0, 0)
        if at:
            cuda.call("cuMemFree_v2", at)

    def close(self):
        """For good."""
        self.let_go()
        self._shown = 0, 0
        if self._event is not None:
            try:
                with self.card.cuda as cuda:
                    self._free(cuda, 0)
                    self._free(cuda, 1)
                    cuda.call("cuEventDestroy_v2", self._event)
            except CudaError as error:
                self.card.fail(error)
            self._event = None
