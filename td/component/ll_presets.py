"""Presets: how the parameters stood, under a name, as JSON in the DAT `presets`, which is saved with the project."""

import json


class Presets:
    """`store`, `recall` and `delete` the one that the parameter Preset names. A sentence where that can't be done."""

    def __init__(self, comp, dat, sync):
        self._comp, self._dat, self._sync = comp, dat, sync
        self._rows = {name: row for name, row in sync.rows.items() if row.get("preset")}
        self.list()

    def _all(self):
        try:
            found = json.loads(self._dat.text or "{}")
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    def list(self):
        """The names, as the menu of the parameter."""
        names = list(self._all())
        self._comp.par.Preset.menuNames = self._comp.par.Preset.menuLabels = names

    def _keep(self, presets):
        self._dat.text = json.dumps(presets, indent=1, ensure_ascii=False, sort_keys=True)
        self.list()

    def store(self):
        name = self._comp.par.Preset.eval().strip()
        if not name:
            return "write the preset's name into Preset first"
        values = {par: self._sync.plain(par) for par in self._rows}
        self._keep(self._all() | {name: values})
        return ""

    def recall(self):
        """Parameters that an expression or an export moves are the user's, and stay. Parts of the preset that this
        component does not know are left out."""
        name = self._comp.par.Preset.eval().strip()
        values = self._all().get(name)
        if not isinstance(values, dict):
            return f"there is no preset {name!r}"
        self._sync.turn({par: value for par, value in values.items() if par in self._rows}, self._comp.par.Fade.eval())
        return ""

    def delete(self):
        presets, name = self._all(), self._comp.par.Preset.eval().strip()
        if presets.pop(name, None) is None:
            return f"there is no preset {name!r}"
        self._keep(presets)
        return ""
