"""`livelatent models list`: every model, ControlNet, LoRA, hint network and IP-Adapter in tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engines import paths
from engines.controlentry import ControlEntry
from engines.hintentry import HintEntry
from engines.ipentry import AdapterEntry
from engines.loraentry import LoraEntry
from engines.modelentry import ModelEntry
from engines.registry import Registry
from pipelines.params import Params
from pipelines.preprocess.registry import NETWORK_PREPROCESSORS

if TYPE_CHECKING:
    from rich.table import Table

Entry = ModelEntry | ControlEntry | LoraEntry | HintEntry | AdapterEntry


def show_list(args: argparse.Namespace) -> int:
    """A table of every model."""
    from rich.console import Console
    from rich.table import Table

    registry = Registry.open()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, justify in (("id", "left"), ("size", "right"), ("state", "left")):
        table.add_column(head, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("model, and its licence", overflow="fold")
    for entry in map(registry.get, registry.ids()):
        mark = " *" if entry.id == Params().model else ""
        table.add_row(f"{entry.id}{mark}", _size(entry), _state(entry), f"{entry.title}\n[dim]{entry.licence}[/dim]")
    console = Console()
    console.print(table)
    for title, head, entries in (
        ("ControlNets", "what it wants to be shown, and its licence", _controlnets(registry)),
        ("LoRAs", "what it is, for which family, and its licence", _loras(registry)),
        ("Networks that make hints", "what it is, for which preprocessors, and its licence", _hints(registry)),
        ("IP-Adapters", "what it makes of a picture, for which family, and its licence", _ipadapters(registry)),
    ):
        console.print(_parts(title, head, entries))
    console.print(f"\n* what runs without a choice. Models lie in {paths.models()}", highlight=False, soft_wrap=True)
    return 0


def _parts(title: str, head: str, entries: Sequence[ControlEntry | LoraEntry | HintEntry | AdapterEntry]) -> Table:
    """A table of what goes over a model."""
    from rich.table import Table

    table = Table(title=f"\n{title}", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, justify in (("id", "left"), ("size", "right"), ("state", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column(head, overflow="fold")
    for entry in entries:
        said = f"{entry.title}: {_about(entry)}\n[dim]{entry.licence}[/dim]"
        if isinstance(entry, HintEntry) and not (entry.here or entry.downloads):
            said += f"\n{entry.wanting()}"
        table.add_row(entry.id, _size(entry), "here" if entry.here else "not here", said)
    return table


def _about(entry: ControlEntry | LoraEntry | HintEntry | AdapterEntry) -> str:
    if isinstance(entry, HintEntry):
        return ", ".join(name for name, made in NETWORK_PREPROCESSORS.items() if made.needs == entry.kind)
    return entry.hint if isinstance(entry, ControlEntry) else entry.family


def _controlnets(registry: Registry) -> list[ControlEntry]:
    return [registry.controlnet(name) for name in registry.controlnet_ids()[1:]]


def _loras(registry: Registry) -> list[LoraEntry]:
    return [registry.lora(name) for name in registry.lora_ids()[1:]]


def _hints(registry: Registry) -> list[HintEntry]:
    return [registry.hintnet(name) for name in registry.hintnet_ids()]


def _ipadapters(registry: Registry) -> list[AdapterEntry]:
    return [registry.ipadapter(name) for name in registry.ipadapter_ids()[1:]]


def _size(entry: Entry) -> str:
    if not entry.here:
        return f"{entry.size_mb / 1000:.1f} GB" if entry.size_mb else ""
    from engines.weights import list_files

    files = [entry.path] if isinstance(entry, (LoraEntry, AdapterEntry)) else list(list_files(entry.path).values())
    files += list_files(entry.encoder_path).values() if isinstance(entry, AdapterEntry) else []
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.1f} MB"


def _state(entry: ModelEntry) -> str:
    if not entry.here:
        return "not here"
    return "here" if not entry.tiny_vae or entry.tiny_vae_folder() else "here, tiny VAE missing"


def named(registry: Registry, names: Sequence[str]) -> list[Entry]:
    """Those of these ids, of whichever kind. Raises ModelError for one that is of none."""
    others: dict[str, Entry] = {}
    others |= {entry.id: entry for entry in _controlnets(registry)}
    others |= {entry.id: entry for entry in _loras(registry)}
    others |= {entry.id: entry for entry in _hints(registry)}
    others |= {entry.id: entry for entry in _ipadapters(registry)}
    return [others[name] if name in others else registry.get(name) for name in names]
