"""Which engine paints a stream: the one that it began with, or a faster one once that is there and can."""

from __future__ import annotations

import dataclasses

import torch

from engines.base import Nets
from pipelines.painter import Painter
from pipelines.params import Params
from pipelines.upgrade import Upgrade

Acting = tuple[tuple[str, float], ...]
"""LoRAs with their weights."""


class Handover:
    """One stream's engines. Belongs to the frame's thread, but for `notes`."""

    def __init__(self, plain: Nets) -> None:
        self.plain = self.paints = plain
        """What it began with, and what it paints with."""
        self.fast: Nets | None = None
        self.note = ""
        """Why it paints with the engine that it began with; empty where nothing was to choose."""
        self.upgrade: Upgrade | None = None
        self._threads = torch.get_num_threads()
        self._refused: Acting | None = None
        """LoRAs that the faster engine could not paint with."""

    def poll(self, painting: bool, wanted: bool) -> None:
        """Look whether a faster one has come; see Upgrade.poll."""
        if self.upgrade is not None:
            self.fast = self.upgrade.poll(painting, wanted) or self.fast

    def choose(self, acting: Acting, params: Params) -> Nets:
        """The faster one, once it is there, if it can paint with the LoRAs that act; pictures as prompts only the
        first can."""
        self.poll(painting=True, wanted=params.upgrade)
        fast = self.fast
        if fast is None or params.ip_on or acting == self._refused or (acting and fast.follow is None):
            return self.plain
        return fast

    def follows(self, acting: Acting) -> bool:
        """Have the engine that paints take over the LoRAs that were merged into the first one's denoiser; whether it
        could, or had not to."""
        follow, loras = self.paints.follow, self.plain.loras
        if follow is not None and loras is not None and not follow(loras):
            self._refused = acting
            return False
        if acting != self._refused:
            self._refused = None
        return True

    def take(self, nets: Nets, kept: Nets) -> Nets:
        """Paint with these of the same model from now on, and with what was loaded beside the ones before."""
        self.paints = nets
        return dataclasses.replace(nets, text=kept.text, controlnets=kept.controlnets, hintnets=kept.hintnets)

    def set_threads(self) -> None:
        """Give torch as many as the engine that paints wants around it, or as it had."""
        threads = self.paints.threads or self._threads
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)

    def notes(self, painter: Painter, *more: str) -> dict[str, float | str]:
        """Telemetry. `more`: what else there is to say of the engine."""
        upgrade, described = self.upgrade, self.paints.described
        why = "; ".join(filter(None, ((upgrade.note if upgrade else "") or self.note, *more)))
        return {
            "device": described,
            "engine.failed": (upgrade.failed if upgrade else "") or painter.failed,
            "engine": f"{described}; {why}".rstrip("; "),
            "engine.doing": (upgrade.doing if upgrade else "") or painter.doing,
            "engine.share": upgrade.share if upgrade else 0.0,
        }
