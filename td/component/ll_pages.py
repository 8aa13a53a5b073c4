"""The custom parameter pages, made from the table that `pages` holds. Used by the builder, and by the extension of a
component that came without them (one that toecollapse packed).
"""

STYLES = ("Float", "Int", "Toggle", "Str", "Menu", "StrMenu", "File", "Pulse")


def make(comp, pages):
    for page in pages:
        made = comp.appendCustomPage(page["name"])
        for row in page["pars"]:
            make_parameter(made, row)


def make_parameter(page, row):
    if row["style"] not in STYLES:
        raise RuntimeError(f"no style {row['style']}")
    par = getattr(page, "append" + row["style"])(row["name"], label=row["label"])[0]
    par.help = row["help"]
    if "menu" in row:
        par.menuNames, par.menuLabels = row["menu"], row.get("labels", row["menu"])
    if "min" in row:
        par.min = par.normMin = row["min"]
        par.max = par.normMax = row["max"]
        par.clampMin = par.clampMax = True
    if "default" in row:
        par.default = par.val = row["default"]
    par.startSection = row.get("section", False)
    par.readOnly = row.get("readonly", False)
