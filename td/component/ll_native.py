"""Transports that are TouchDesigner's own operators, and which of `pick`'s inputs shows what came."""

HELD, OURS, NDI, SPOUT = 0, 1, 2, 3
"""Inputs of the Switch TOP: what comes in, what we received, and the two operators."""


def switch(comp, kind, names, received):
    """Switch the pair of this kind on and all others off, under the names of the page."""
    into, out = names
    for name, active, label in (
        ("ndiout", kind == "ndi", into),
        ("ndiin", kind == "ndi", out),
        ("spoutout", kind == "syphonspout", into),
        ("spoutin", kind == "syphonspout", out),
    ):
        node = comp.op(name)
        setattr(node.par, "name" if name.startswith("ndi") else "sendername", label)
        if hasattr(node.par, "active"):
            node.par.active = active
    comp.op("pick").par.index = {"ndi": NDI, "syphonspout": SPOUT}.get(kind, OURS if received else HELD)
