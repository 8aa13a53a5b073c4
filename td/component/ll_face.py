"""What the component says about itself: a state, a line, what is wrong, and what should be mended some time."""


def face(ext):
    """(state, line, problem, warning) as a user reads them. The last picture stays up in every one of them."""
    bridge, sync, links = ext.bridge, ext.sync, ext.links
    told = sync.reading("/state")
    if not ext.comp.par.Active.eval():
        return "off", "Off: Active is off.", bridge.problem, ""
    problem = bridge.problem or links.problem or sync.refusal()
    if not problem:
        problem = (sync.reading("/error") or "") if sync.live else _deaf(ext)
    if not sync.live:
        state, line = _absent(ext)
    elif not ext.comp.inputConnectors[0].connections:
        state, line = told or "running", "Connected; nothing is wired to the input."
    else:
        state, line = told or "running", f"{told}: {sync.reading('/fps') or 0:.1f} frames/s, {ext.transport}"
    mismatch = _mismatch(ext)
    if problem:
        state = "error" if not sync.live or links.problem else state
        line = problem
    elif mismatch:
        line = f"{line}. {mismatch}"
    return state, line[:200], problem[:200], mismatch


def _deaf(ext):
    """Why no bridge is heard, where that is not the bridge's doing."""
    if not (ext.ear.errors() or ext.ear.warnings()):
        return ""
    return f"UDP port {ext.ear.par.port.eval()} is taken by another program or component: choose another Listen port."


def _absent(ext):
    if ext.bridge.state in ("running", "stopping"):
        return "starting" if ext.bridge.state == "running" else "waiting", f"livelatent is {_verb(ext.bridge.state)} …"
    held = "the last picture stays" if ext.received else "the input passes through"
    where = f"{ext.comp.par.Host.eval()}:{ext.comp.par.Oscport.eval()}"
    return "waiting", f"No livelatent answers at {where}; press Start. Meanwhile {held}."


def _verb(state):
    return "starting" if state == "running" else "stopping"


def _mismatch(ext):
    """A component and a bridge of different releases say so and go on: the table of parameters may differ."""
    told = (ext.sync.reading("/info/version") or "").split()
    if not told or not ext.sync.live or told[-1] == ext.build["hash"]:
        return ""
    mine, theirs = _number(ext.build["version"]), _number(told[0])
    what = "another" if mine == theirs else "an older" if mine < theirs else "a newer"
    own = f"{ext.build['version']} {ext.build['hash']}"
    return f"This is {what} component ({own}) than the bridge's ({' '.join(told)}): run `livelatent td install`"


def _number(version):
    return [int(part) for part in version.split(".") if part.isdigit()]
