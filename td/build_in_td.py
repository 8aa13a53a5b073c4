"""Builds the component inside TouchDesigner and saves livelatent.tox beside this file. In the Textport, one line:

    import pathlib; __file__ = r'PATH/build_in_td.py'; exec(pathlib.Path(__file__).read_text('utf-8'))

Run again it builds anew in place: wires, position, presets and the values of its parameters stay. `livelatent td
install` prints the line with its path.
"""

import hashlib
import json
import os

COMPONENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "component")


def read(name):
    with open(os.path.join(COMPONENT, name), encoding="utf-8", newline="") as file:
        return file.read().replace("\r\n", "\n")


def fingerprint():
    """12 hex digits over names and contents of the sources, as the bridge computes them for its own copy."""
    digest = hashlib.sha256()
    for name in sorted(os.listdir(COMPONENT)):
        if name.endswith((".py", ".json")):
            digest.update(name.encode() + b"\0" + read(name).encode() + b"\0")
    return digest.hexdigest()[:12]


def build(place):
    """The component inside `place`, new or instead of the one that is there."""
    network, document = json.loads(read("network.json")), json.loads(read("pages.json"))
    former, kept = place.op(network["name"]), None
    if former is not None:
        kept = remember(former, [spec["name"] for spec in network["ops"] if spec.get("kept")])
        former.destroy()
    comp = place.create("baseCOMP", network["name"])
    for spec in network["ops"]:
        make_operator(comp, spec, document)
    for spec in network["ops"]:
        wire(comp, spec)
    comp.op("ll_pages").module.make(comp, document["pages"])
    for name, value in network["pars"].items():
        put(comp, name, value)
    if kept is not None:
        restore(comp, kept)
    else:
        comp.nodeX, comp.nodeY = 0, 0
    comp.viewer, comp.nodeWidth, comp.nodeHeight = True, 200, 150
    extend(comp, network["extension"])
    return comp


def make_operator(comp, spec, document):
    # TouchDesigner makes the callback DATs of some operators itself.
    node = comp.op(spec["name"]) or comp.create(spec["type"], spec["name"])
    if node.OPType != spec["type"] or node.name != spec["name"]:
        raise RuntimeError(f"{spec['name']} became {node.name}, a {node.OPType}")
    node.nodeX, node.nodeY = spec["at"]
    if spec["name"] == "build":
        note = {"version": document["version"], "hash": fingerprint(), "protocol": document["ring_protocol"]}
        node.text = json.dumps(note)
    elif "file" in spec:
        node.text = read(spec["file"])
    if node.family == "DAT" and spec["name"] not in ("info", "pages", "build") and "file" in spec:
        put(node, "language", "python")


def wire(comp, spec):
    node = comp.op(spec["name"])
    for index, name in enumerate(spec.get("inputs", ())):
        node.inputConnectors[index].connect(comp.op(name))
    if "dock" in spec:
        node.dock = comp.op(spec["dock"])
    for name, value in spec.get("pars", {}).items():
        put(node, name, value)


def put(node, names, value):
    """Set a parameter; `a|b` is whichever name this build of TouchDesigner has."""
    for name in names.split("|"):
        if hasattr(node.par, name):
            setattr(node.par, name, value)
            return
    raise RuntimeError(f"{node.path} has no parameter {names}: this build of TouchDesigner is not known here")


def extend(comp, extension):
    if hasattr(comp.par, "ext0object"):
        names = ("ext0object", "ext0name", "ext0promote")
    else:  # builds before 2023
        names = ("extension1", "extname1", "promoteextension1")
    for name, value in zip(names, (extension["object"], extension["name"], bool(extension["promote"])), strict=False):
        put(comp, name, value)
    comp.par.reinitextensions.pulse()


def remember(comp, dats):
    """Values, expressions, texts, place and wires of a component that is about to be built anew."""
    pars = [par for par in comp.customPars if not par.readOnly and par.style != "Pulse"]
    values = {par.name: (par.mode, par.expr, par.val) for par in pars}
    into = [list(end.connections) for end in comp.inputConnectors]
    out = [list(end.connections) for end in comp.outputConnectors]
    texts = {name: comp.op(name).text for name in dats if comp.op(name) is not None}
    return values, texts, (comp.nodeX, comp.nodeY), into, out


def restore(comp, kept):
    values, texts, (comp.nodeX, comp.nodeY), into, out = kept
    for name, text in texts.items():
        comp.op(name).text = text
    for par in comp.customPars:
        if par.name in values and not par.readOnly and par.style != "Pulse":
            mode, expr, value = values[par.name]
            try:
                par.val = value
                if mode == ParMode.EXPRESSION:
                    par.expr = expr
            except Exception as error:  # a choice that the new table has no more
                debug(f"livelatent: {par.name} starts with its default: {error}")
    for ends, others in ((comp.inputConnectors, into), (comp.outputConnectors, out)):
        for end, wired in zip(ends, others, strict=False):
            for other in wired:
                end.connect(other)


component = build(op("/project1") or root)
saved = component.save(os.path.join(os.path.dirname(COMPONENT), "livelatent.tox"))
print(f"livelatent: {component.path} is built, and saved as {saved}")
