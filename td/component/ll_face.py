"""What the component says about itself: a state, a line, what is wrong, and what should be mended some time."""

import statistics


def show(ext):
    """Five times a second: state, figures, the log, and what the component's face says."""
    state, text, problem, ext.warning = face(ext)
    sender, figure = ext.links.sender, ext.sync.figure
    for name, value in (("State", state), ("Status", text), ("Error", problem), ("Received", ext.received)):
        figure(name, value)
    figure("Sent", sender.sent if sender else 0)
    figure("Skipped", sender.skipped if sender else 0)
    figure("Roundtrip", round(statistics.median(ext.trips), 1) if ext.trips else 0.0)
    ext.sync.show()
    if (problem, ext.warning) != ext.face:
        ext.face = problem, ext.warning
        ext.comp.clearScriptErrors(recurse=False)
        if problem:
            ext.comp.addScriptError(problem)
        ext.screen.cook(force=True)
        ext.info.text = "\n".join([text, problem, ext.warning, *ext.bridge.lines])


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
        state, line = told or "running", f"{told}: {sync.reading('/fps') or 0:.1f} frames/s, {links.words_for()}"
    mismatch = " ".join(filter(None, (_mismatch(ext), _late(ext))))
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


def _late(ext):
    """What was wired after the bridge was started: it was not told to open a way for it."""
    names = zip(("third input", "second output"), ext.side_ways(), ext.asked, strict=True)
    late = [name for name, wired, asked in names if wired and not asked]
    if not (late and ext.bridge.pid):
        return ""
    verb = "were" if len(late) > 1 else "was"
    return f"The {' and the '.join(late)} {verb} wired after Start: press Restart, and livelatent opens a way for it"


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
