"""The OSC reference, made from the tables that the program itself obeys: `livelatent params`, and docs/osc.md."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby

import msgspec

from bridge.config import OscConfig
from bridge.dispatch import COMMANDS, MAX_SUBSCRIBE_S, SUBSCRIBE_S, VERBS
from bridge.osc import MAX_ADDRESS, MAX_DEPTH, MAX_PACKET, MAX_PARTS
from bridge.show.act_list import ACTS
from bridge.store import MAX_RAMP_S
from bridge.subscribers import MAX_PEERS
from bridge.telemetry import READINGS, SHOW, Reading
from pipelines.loraslots import SLOTS
from pipelines.params import MAX_TEXT_BYTES, ParamSpec, table
from pipelines.unitrow import UNITS

WHEN = {
    "live": "next frame",
    "encode": "once ready",
    "structural": "once built",
}
_TYPES = {bool: "0 or 1", int: "int", float: "float", str: "text"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the tables as JSON, for programs")


def main(args: argparse.Namespace) -> int:
    sys.stdout.write(as_json() if args.json else markdown())
    return 0


def markdown(prefix: str = OscConfig().prefix) -> str:
    """The whole reference. docs/osc.md is this text."""
    parts = [_INTRO]
    head = ("address", "value", "default", "effect", "what it is")
    rows = [spec for spec in table().values() if not _NUMBERED.match(spec.address)]
    for group, specs in groupby(rows, key=lambda spec: spec.group):
        title = _FIRST.sub(rf"\1 1 to {UNITS}", group) if group != "lora" else f"lora 1 to {SLOTS}"
        parts += [f"\n### {title}\n\n", _grid(head, (_param(prefix, spec) for spec in specs))]
    verbs = {**VERBS, **COMMANDS}
    parts += ["\n## Verbs\n\n", _grid(("address", "what it does"), ((f"`{prefix}/{n}`", d) for n, d in verbs.items()))]
    parts += [_SHOW, _grid(("address", "what it does"), ((f"`{prefix}/{n}`", d) for n, d in ACTS.items()))]
    parts += [
        _TELEMETRY,
        _grid(("address", "type", "unit", "what it is"), (_reading(prefix, row) for row in (*READINGS, *SHOW))),
    ]
    parts.append(_SENDERS)
    return "".join(parts).replace("{prefix}", prefix)


def as_json(prefix: str = OscConfig().prefix) -> str:
    """The tables as JSON: prefix, parameters, verbs, commands, show, telemetry."""
    tree = {
        "prefix": prefix,
        "parameters": [
            {"address": f"{prefix}/{spec.address}"}
            | {**asdict(spec), "address": f"{prefix}/{spec.address}", "type": spec.type.__name__}
            for spec in table().values()
        ],
        "verbs": [{"address": f"{prefix}/{name}", "doc": doc} for name, doc in VERBS.items()],
        "commands": [{"address": f"{prefix}/{name}", "doc": doc} for name, doc in COMMANDS.items()],
        "show": [{"address": f"{prefix}/{name}", "doc": doc} for name, doc in ACTS.items()],
        "telemetry": [
            {"address": prefix + row.address, "type": row.type.__name__, "unit": row.unit, "doc": row.doc}
            for row in (*READINGS, *SHOW)
        ],
    }
    return msgspec.json.format(msgspec.json.encode(tree)).decode() + "\n"


_FIRST = re.compile(r"^(control) 1$")
_NUMBERED = re.compile(r"(control|lora)/(?!1/)\d+/")
"""Rows of the second control unit or LoRA and on: they are those of the first under another number, and shown once."""


def _param(prefix: str, spec: ParamSpec) -> tuple[str, ...]:
    default = int(spec.default) if spec.type is bool else spec.default
    shown = f"`{default:g}`" if isinstance(default, float) else f"`{default}`" if default != "" else "empty"
    return f"`{prefix}/{spec.address}`", _takes(spec), shown, WHEN[spec.kind], spec.doc


def _takes(spec: ParamSpec) -> str:
    if spec.choices:
        return ", ".join(f"`{choice}`" for choice in spec.choices)
    if spec.ids:
        return f"an id from the {spec.ids}"
    words = _TYPES[spec.type]
    if spec.low is not None and spec.high is not None:
        words += f" {_plain(spec.low)} to {_plain(spec.high)}"
    return f"{words} {spec.unit}".rstrip()


def _plain(bound: float) -> str:
    return f"{bound:.0f}" if float(bound).is_integer() else f"{bound:g}"


def _reading(prefix: str, row: Reading) -> tuple[str, ...]:
    return f"`{prefix}{row.address}`", _TYPES[row.type], row.unit, row.doc


def _grid(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table that reads well as it is, too."""
    cells = [head, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head) - 1)]
    lines = []
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("| " + " | ".join([*padded, row[-1]]) + " |")
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|---|")
    return "\n".join(lines) + "\n"


_INTRO = f"""# OSC reference

Made by `livelatent params` from the program's own tables; `livelatent params --json` gives them to programs.

livelatent listens on UDP port {OscConfig().port} of this machine. `[osc]` in a config file changes `host`, `port`
and the prefix of all addresses, `{{prefix}}`; other machines are heard with `--lan` and the networks in `lan.allow`
alone.

## Parameters

    {{prefix}}/strength 0.7        change it
    {{prefix}}/strength 0.7 2.0    go there in two seconds, from wherever it is now
    {{prefix}}/strength            ask: the answer has the same address, and the value

- Any number type will do where a number is due (TouchDesigner and most surfaces send floats), and `T` `F` for 0 and 1.
- Seconds are 0 to {MAX_RAMP_S:g}. Every float moves when it is given seconds; the next message about it takes over.
- A prompt's seconds are the cross-fade of that one change; without them it is `{{prefix}}/prompt_fade`.
- What a parameter can't take is refused with `{{prefix}}/error <address> <sentence>`, sent to where it came from, and
  changes nothing.
- All messages of a bundle take effect with the same frame, those that are refused excepted. Time tags are not waited
  for.
- Effect: *next frame*; *once ready*: encoded or loaded beside the running stream; *once built*, in the standby worker,
  while the old picture stays.
- `{{prefix}}/control/1/…` is the first control unit ([control.md](control.md)); those numbered 2 to {UNITS} take the
  same. So do the LoRAs after `{{prefix}}/lora/1/…` ([lora.md](lora.md)), up to {SLOTS}.
- A text takes at most {MAX_TEXT_BYTES} bytes of UTF-8.
"""

_SHOW = """
## Looks, cues, schedules

[show.md](show.md) tells what these are. `<parameter>` is a parameter's address without the prefix.

"""

_TELEMETRY = f"""
## Telemetry

Sent {OscConfig().rate:g} times a second (`osc.rate`), as one bundle, to the peers of `osc.reply` and to at most
{MAX_PEERS} who asked with `{{prefix}}/subscribe`, which lasts {SUBSCRIBE_S:g} s, or up to {MAX_SUBSCRIBE_S:g} s if it
says so. A new subscriber gets every parameter first, and each change at once; nobody gets back a change that came from
the port where it listens or from which it subscribed. Answers and errors go there too, for
programs such as TouchDesigner that send from one port and listen at another. The worker's notes on the prompt come as
`{{prefix}}/prompt/<note>`, which LoRAs act and what is wrong with one as `{{prefix}}/lora/state` and `error`; those on
the image prompt ([ipadapter.md](ipadapter.md)) as `{{prefix}}/ip/state` (what acts, or is on its way),
`{{prefix}}/ip/error`, and `{{prefix}}/ip/age` (of the picture that was read, in ms).

"""

_SENDERS = f"""
## For those who write senders

OSC 1.0 over UDP, all its types. Refused, and counted in `{{prefix}}/rejected`: packets without a type tag string, over
{MAX_PACKET} bytes, with padding that is missing, too long or not zero, with strings that are not UTF-8, with addresses
over {MAX_ADDRESS} bytes, with more than {MAX_PARTS} bundle elements and arguments (a message of numbers alone counts
as one), or nested deeper than {MAX_DEPTH}. Addresses are matched exactly: `*` and `?` match nothing.

    oscsend 127.0.0.1 {OscConfig().port} {{prefix}}/prompt sf "a city of glass" 3
    oscsend 127.0.0.1 {OscConfig().port} {{prefix}}/strength ff 0.7 2
    oscsend 127.0.0.1 {OscConfig().port} {{prefix}}/subscribe i 9001
"""
