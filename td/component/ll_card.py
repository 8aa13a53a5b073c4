"""The NVIDIA card that TouchDesigner draws on: whether pictures can stay there, and its memory as TouchDesigner has it.

Nothing waits here but the trial, once. Whatever fails is said in `problem`, and from then on pictures go through shared
memory: nobody hears any more that they are taken on the card, and none is put there.
"""

import time
from ctypes import c_void_p

import numpy as np
from ll_cuda import NON_BLOCKING, Cuda, CudaError

BLUE_FIRST = [2, 1, 0, 3]
PATIENCE_S = 0.1


class Card:
    """`usable` once `try_out` has found it so, until something fails."""

    def __init__(self):
        self.problem, self.cuda, self.stream, self.number = "it was not tried yet", None, None, 0
        self.held = self._act = None
        """`held`: memory of TouchDesigner's, freed with the object, that the card may still read after a failure."""

    def act(self, scriptOp):
        """The Script TOP of the trial cooks."""
        if self._act is not None:
            self._act(scriptOp)

    @property
    def usable(self):
        return not self.problem

    def fail(self, error):
        self.problem = (str(error) or type(error).__name__)[:120]

    def try_out(self, proof):
        """Do all of it once with the small picture of a Script TOP, and look whether it is what it should be: the order
        of channels and rows, too, is known from documentation alone.
        """
        picture = np.arange(4 * 8 * 4, dtype=np.uint8).reshape(4, 8, 4)
        try:
            cuda = self.cuda or Cuda()
            self._cook(proof, lambda scriptOp: scriptOp.copyNumpyArray(picture))
            if self.cuda is None:
                self.held = texture(proof, None)
                cuda.settle(self.held.ptr)
                with cuda:
                    self.stream = cuda.make("cuStreamCreate", c_void_p, NON_BLOCKING)
                self.cuda, self.number = cuda, int.from_bytes(bytes.fromhex(cuda.uuid)[:8], "little")
            self._try_both(proof, picture)
            self.problem = ""
        except Exception as error:  # whatever TouchDesigner or the driver raises: shared memory does it then
            self.fail(error)
        self._act = None

    def _try_both(self, proof, picture):
        cuda, found = self.cuda, np.empty_like(picture)
        other = np.ascontiguousarray(picture[::-1, ::-1])
        self.held = memory = texture(proof, self.stream)
        with cuda:
            block = cuda.borrow(picture.nbytes)
            cuda.copy(block.start, memory.ptr, picture.nbytes, self.stream)
            cuda.call("cuEventRecord", block.events[0], self.stream)
            cuda.call("cuStreamSynchronize", self.stream)
            cuda.call("cuMemcpyDtoH_v2", found.ctypes.data, block.start, found.nbytes)
            there = np.ascontiguousarray(other[..., BLUE_FIRST])
            cuda.call("cuMemcpyHtoD_v2", block.start, there.ctypes.data, there.nbytes)
        self._cook(proof, lambda scriptOp: show(scriptOp, block.start, 4, 8, self.stream))
        back = np.rint(proof.numpyArray() * 255).astype(np.uint8)
        cuda.give_back(block)
        right = (found[..., BLUE_FIRST] == picture).all() and back.shape == other.shape and (back == other).all()
        if not right:
            raise CudaError("this TouchDesigner has the pictures on its card in an order that is not known here")

    def _cook(self, proof, act):
        self._act = act
        proof.cook(force=True)

    def settled(self, events):
        """Whether all of these have happened, within a moment: before something is closed."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with self.cuda:
                if all(self.cuda.done(event) for event in events):
                    return True
            time.sleep(0.001)
        return False


def texture(top, stream):
    """What a TOP shows, as memory of the card; it is there when the stream gets that far, and freed with the object."""
    memory = top.cudaMemory(stream=stream)
    if memory is None:
        raise CudaError("TouchDesigner gave no memory of its card")
    if np.dtype(memory.shape.dataType) != np.uint8 or memory.shape.numComps != 4:
        raise CudaError("TouchDesigner gave a picture that is not of four channels with 8 bits")
    return memory


def show(scriptOp, at, height, width, stream):
    """Have a Script TOP that cooks show what lies there: blue first, bottom row first."""
    shape = CUDAMemoryShape()
    shape.width, shape.height, shape.numComps, shape.dataType = width, height, 4, np.uint8
    scriptOp.copyCUDAMemory(at, width * height * 4, shape, stream=stream)
