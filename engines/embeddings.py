"""Textual inversion (Gal et al. 2023): learned vectors that stand for a word of the prompt.

An embedding is a safetensors file in a folder of the user's; its name, without the suffix, is the word. Files that can
carry code (.pt, .bin) are never opened: a prompt that names one is told so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from engines.errors import ModelError
from engines.weights import CODE_SUFFIXES, check_file

MAX_FILES = 2000
MAX_BYTES = 16 << 20
_KEYS = (("clip_l", "emb_params"), ("clip_g",))
"""How the tensors for the first and the second text encoder are called; with one tensor, any name will do."""


class Span(NamedTuple):
    """A stretch of a prompt: plain text, or the name of an embedding with one tensor [n, D] per text encoder."""

    text: str
    vectors: tuple[Tensor, ...] = ()


class Embeddings:
    """The embeddings in a folder, loaded when a prompt first names them. Used by the prompt's thread alone."""

    def __init__(self, folder: Path, widths: Sequence[int], most: int) -> None:
        """`widths`: D of each text encoder; `most`: the vectors that a chunk has room for."""
        self.folder, self.widths, self.most = folder, tuple(widths), most
        self._files: dict[str, Path] = {}
        self._stamp = -1
        self._loaded: dict[Path, tuple[int, tuple[Tensor, ...]]] = {}

    def split(self, text: str, notes: list[str]) -> list[Span]:
        """`text` cut at the names of embeddings. What can't be used stays text, and `notes` says why."""
        names = self._names()
        if not names:
            return [Span(text)]
        pattern = rf"(?<!\w)({'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?!\w)"
        out, at = [], 0
        for found in re.finditer(pattern, text, re.IGNORECASE):
            vectors = self._vectors(names[found[0].lower()], notes)
            if vectors:
                out += [Span(text[at : found.start()]), Span(found[0], vectors)]
                at = found.end()
        return [span for span in (*out, Span(text[at:])) if span.text]

    def _names(self) -> dict[str, Path]:
        """Files by their name in lower case; looked up again when the folder has changed."""
        try:
            stamp = self.folder.stat().st_mtime_ns
            if stamp == self._stamp:
                return self._files
            with os.scandir(self.folder) as entries:
                paths = sorted(Path(entry.path) for _, entry in zip(range(MAX_FILES), entries, strict=False))
        except OSError:
            return {}
        wanted = CODE_SUFFIXES | {".safetensors"}
        paths.sort(key=lambda path: path.suffix == ".safetensors")  # where both are there, this one counts
        self._files = {p.stem.lower(): p for p in paths if p.suffix.lower() in wanted and p.stem.strip()}
        self._stamp = stamp
        return self._files

    def _vectors(self, path: Path, notes: list[str]) -> tuple[Tensor, ...]:
        if path.suffix.lower() != ".safetensors":
            notes.append(f"the embedding {path.name} can carry code: only safetensors are loaded")
            return ()
        try:
            stamp = path.stat().st_mtime_ns
            known = self._loaded.get(path)
            if known is None or known[0] != stamp:
                known = stamp, self._load(path)
                self._loaded[path] = known
            return known[1]
        except (ModelError, OSError, ValueError, KeyError, RuntimeError) as error:
            notes.append(f"the embedding {path.stem} can't be used: {str(error)[:200]}")
            return ()

    def _load(self, path: Path) -> tuple[Tensor, ...]:
        from safetensors.torch import load_file

        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise ModelError("it is a link that leads out of its folder")
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"it is larger than {MAX_BYTES >> 20} MB")
        check_file(path)
        tensors = load_file(path)
        return tuple(self._fitting(tensors, n, width) for n, width in enumerate(self.widths))

    def _fitting(self, tensors: dict[str, Tensor], n: int, width: int) -> Tensor:
        """The tensor for the n-th text encoder, as [vectors, width]."""
        found = next((tensors[key] for key in _KEYS[n] if key in tensors), None)
        if found is None and len(tensors) == len(self.widths) == 1:
            found = next(iter(tensors.values()))
        if found is None:
            raise ModelError("it is not made for this kind of model")
        found = found[None] if found.ndim == 1 else found
        if found.ndim != 2 or found.shape[1] != width:
            raise ModelError(f"it has vectors of {found.shape[-1]} numbers, and this model takes {width}")
        if not 0 < len(found) <= self.most:
            raise ModelError(f"it has {len(found)} vectors, and a chunk has room for {self.most}")
        if not found.is_floating_point() or not bool(torch.isfinite(found).all()):
            raise ModelError("its numbers are not finite")
        return found.float()
