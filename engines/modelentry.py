"""Models in the registry: an id in, a diffusers folder out. No torch here: the bridge imports this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from engines import paths
from engines.entry import Entry, common
from engines.errors import ModelError
from engines.modelrows import Download, Emphasis, Family, Lora, Row, Sampler
from engines.places import absent, confined, place, settled

TINY_VAE: dict[Family, str] = {"sd15": "taesd", "sd21": "taesd", "sdxl": "taesdxl"}
"""The download with the small autoencoder that shares a family's latent space."""


class ModelEntry(Entry, frozen=True, kw_only=True):
    """A model and the values it runs best with. `path` is its diffusers folder; `folder()` checks."""

    family: Family
    revision: str
    variant: str
    """`fp16` where its weights are named so; `engines.weights.check_folder` says it for each component."""
    sampler: Sampler
    steps: int
    strength: float
    guidance: float
    """1 is off; where the network takes guidance as an input (LCM), its scale."""
    width: int
    height: int
    emphasis: Emphasis
    """How words in a prompt get their weights: see engines.text."""
    loras: tuple[Lora, ...]
    tiny_vae: str
    """Id of the download with its small autoencoder; empty where the model's own is all there is."""

    @property
    def here(self) -> bool:
        """Whether all it needs is on this machine (the tiny autoencoder excepted: the full one serves as well)."""
        loras = [paths.models() / path for path, _ in self._lora_paths()]
        return (self.path / "model_index.json").is_file() and all(path.is_file() for path in loras)

    def folder(self) -> Path:
        """Its local diffusers folder. Raises ModelError when it is not here, or leaves the folder it belongs in."""
        if not (self.path / "model_index.json").is_file():
            raise ModelError(self._absent(self.path))
        return settled(self.path, self.origin)

    def lora_files(self) -> list[tuple[Path, float]]:
        """Each LoRA's file and weight, in order. Raises ModelError when one is not here."""
        out = []
        for path, weight in self._lora_paths():
            if not (paths.models() / path).is_file():
                raise ModelError(self._absent(path))
            out.append((path if path.is_absolute() else confined(paths.models() / path, paths.models()), weight))
        return out

    def tiny_vae_folder(self) -> Path | None:
        """The folder of its small autoencoder, or None where there is none here (use the one in `folder()`)."""
        folder = paths.models() / self.tiny_vae
        if not self.tiny_vae or not (folder / "config.json").is_file():
            return None
        return confined(folder, paths.models())

    def _lora_paths(self) -> Iterator[tuple[Path, float]]:
        """Absolute, or relative to the models folder."""
        for lora in self.loras:
            yield Path(lora.path) if lora.path else Path(lora.download) / lora.file, lora.weight

    def _absent(self, path: Path) -> str:
        return absent(self.id, self.origin if path == self.path else "pulled", path)


def entry(file: Path, name: str, row: Row, downloads: Mapping[str, Download]) -> ModelEntry:
    """A `[models.ID]` table as an entry. Raises ModelError."""
    also = (*(lora.download for lora in row.loras), row.tiny_vae)
    facts = common(f"{file}: models", name, row, downloads, *also, source=row.source)
    main = downloads.get(row.download)
    origin, path = place(file, name, row.folder, main)
    same = ("family", "sampler", "steps", "strength", "guidance", "width", "height", "emphasis", "loras", "tiny_vae")
    return ModelEntry(
        **facts,
        **{key: getattr(row, key) for key in same},
        origin=origin,
        path=path,
        revision=main.revision if main else "",
        variant=main.variant if main else row.variant,
    )
