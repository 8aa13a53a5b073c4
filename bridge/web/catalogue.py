"""The parameter table and the models as the page draws them."""

from __future__ import annotations

from bridge.web.messages import Choice, Row
from engines.controlentry import ControlEntry
from engines.errors import ModelError
from engines.ipentry import AdapterEntry
from engines.loraentry import LoraEntry
from engines.modelentry import ModelEntry
from engines.modelrows import NO_ADAPTER, NO_CONTROLNET, NO_LORA
from engines.registry import Registry
from pipelines.params import ParamSpec, table

_TYPES = {bool: "bool", int: "int", float: "float", str: "text"}


def rows() -> tuple[Row, ...]:
    """Every row of the table, in its order."""
    return tuple(_row(spec) for spec in table().values())


def _row(spec: ParamSpec) -> Row:
    choices = _IDS[spec.ids]() if spec.ids else tuple(Choice(text, text) for text in spec.choices)
    return Row(
        name=spec.name,
        address=spec.address,
        group=spec.group,
        type="choice" if choices else _TYPES[spec.type],  # type: ignore[arg-type]  # a dict's values are plain str
        kind=spec.kind,
        default=spec.default,
        doc=spec.doc,
        low=spec.low,
        high=spec.high,
        step=spec.step if spec.type is int else 0.0,
        unit=spec.unit,
        curve=spec.curve,
        ramps=spec.ramps,
        choices=choices,
    )


def models() -> tuple[Choice, ...]:
    """The models by id, those that are not here marked so; none if the user's list can't be read."""
    try:
        registry = Registry.open()
        entries = [registry.get(name) for name in registry.ids()]
    except ModelError:
        return ()
    return tuple(Choice(entry.id, _title(entry)) for entry in entries)


def controlnets() -> tuple[Choice, ...]:
    """The same for the ControlNets, none of them first."""
    try:
        registry = Registry.open()
        entries = [registry.controlnet(name) for name in registry.controlnet_ids() if name != NO_CONTROLNET]
    except ModelError:
        entries = []
    return (Choice(NO_CONTROLNET, NO_CONTROLNET), *(Choice(entry.id, _title(entry)) for entry in entries))


def loras() -> tuple[Choice, ...]:
    """The same for the LoRAs."""
    try:
        registry = Registry.open()
        entries = [registry.lora(name) for name in registry.lora_ids()[1:]]
    except ModelError:
        entries = []
    return (Choice(NO_LORA, NO_LORA), *(Choice(entry.id, _title(entry)) for entry in entries))


def ipadapters() -> tuple[Choice, ...]:
    """The same for the IP-Adapters."""
    try:
        registry = Registry.open()
        entries = [registry.ipadapter(name) for name in registry.ipadapter_ids()[1:]]
    except ModelError:
        entries = []
    return (Choice(NO_ADAPTER, NO_ADAPTER), *(Choice(entry.id, _title(entry)) for entry in entries))


def known(ids: str) -> tuple[str, ...]:
    """The ids of a registry, the user's own too."""
    return tuple(choice.id for choice in _IDS[ids]())


_IDS = {"models": models, "controlnets": controlnets, "loras": loras, "ipadapters": ipadapters}


def _title(entry: ModelEntry | ControlEntry | LoraEntry | AdapterEntry) -> str:
    if entry.here:
        return entry.id
    return f"{entry.id} (not pulled)" if entry.downloads else f"{entry.id} (missing)"
