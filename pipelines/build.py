"""From a spec to a running stream. Heavy imports happen inside, so that the fake engine needs no torch."""

from __future__ import annotations

import os

from pipelines.params import Params
from pipelines.spec import Stream, StreamSpec


def build(spec: StreamSpec, params: Params) -> Stream:
    """Load the networks and warm them up at the spec's size. Raises engines.errors.ModelError with a sentence."""
    if spec.engine == "fake":
        from engines.fake import FakeStream

        return FakeStream(spec.width, spec.height, spec.fake)
    # read when torch is loaded: threads that spin while they wait slow each other down several-fold on a shared CPU
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from engines.heap import keep_freed
    from pipelines.stream import DiffusionStream

    keep_freed()
    return DiffusionStream.load(spec, params)
