"""What a worker said of a picture, read."""

from __future__ import annotations

import msgspec

from bridge.frame import Made
from pipelines.acting import Acting, effective
from pipelines.params import Params
from pipelines.spec import StreamSpec

_decoder = msgspec.msgpack.Decoder(Acting)


def acting_of(made: Made) -> Acting:
    """What took effect. A worker that says nothing we know says nothing."""
    try:
        return _decoder.decode(made.acting) if made.acting else Acting()
    except msgspec.MsgspecError:
        return Acting()


def made_with(params: Params, acting: Acting, spec: StreamSpec) -> Params:
    """The parameters as they took effect, the model and size that painted among them."""
    acted = effective(params, acting)
    structural = {"model": spec.model, "width": spec.width, "height": spec.height, "vae": spec.vae}
    return msgspec.structs.replace(acted, prompt_chunks=spec.prompt_chunks, **structural)
