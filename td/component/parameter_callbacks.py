"""Callbacks of the Parameter Execute DAT: the component's custom parameters.

They may come while the component is still being built, or while its extension makes them.
"""


def extension():
    comp = parent()
    return getattr(comp.ext, "LiveLatent", None) if comp.extensionsReady else None


def onValueChange(par, prev):
    found = extension()
    if found is not None:
        found.Changed(par)


def onPulse(par):
    found = extension()
    if found is not None:
        found.Pulsed(par)
