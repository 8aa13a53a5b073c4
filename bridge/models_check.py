"""`livelatent models check`: whether what is here is what came, and what we load."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from bridge.models_list import Entry, named
from engines import paths
from engines.errors import ModelError
from engines.hintentry import HintEntry
from engines.hintfiles import check_hint
from engines.ipentry import AdapterEntry
from engines.loraentry import LoraEntry
from engines.modelentry import ModelEntry
from engines.modelrows import Download
from engines.registry import Registry


def check(args: argparse.Namespace) -> int:
    """Judge and re-hash the models that are here; says what is wrong with each."""
    registry = Registry.open()
    others = [*registry.controlnet_ids()[1:], *registry.lora_ids()[1:], *registry.hintnet_ids()]
    others += registry.ipadapter_ids()[1:]
    entries = named(registry, args.id or [*registry.ids(), *others])
    wrong = 0
    for entry in entries:
        if not entry.here and not args.id:
            continue
        problems = list(_problems(entry))
        wrong += bool([problem for problem in problems if not problem.startswith("note: ")])
        for problem in problems:
            print(f"{entry.id}: {problem.removeprefix(f'{entry.id} ')}")
        if not problems:
            print(f"{entry.id}: every file is as it came")
    return 1 if wrong else 0


def _problems(entry: Entry) -> Iterator[str]:
    from engines import weights

    try:
        if isinstance(entry, LoraEntry):
            yield from _lora_problems(entry)
            return
        if isinstance(entry, AdapterEntry):
            yield from _adapter_problems(entry)
            return
        folder = entry.folder()
        if not isinstance(entry, ModelEntry):
            if isinstance(entry, HintEntry):
                check_hint(folder, entry.kind)
            else:
                weights.check_net(folder, weights.CLASSES["controlnet"])
            yield from _verified(entry.id, folder, entry.downloads[0] if entry.downloads else None)
            return
        weights.check_folder(folder)
        yield from _verified(entry.id, folder, entry.downloads[0] if entry.origin == "pulled" else None)
        for path, _ in entry.lora_files():
            weights.check_file(path)
        for download in entry.downloads[1 if entry.origin == "pulled" else 0 :]:
            if download.folder().is_dir():
                yield from _verified(download.id, download.folder(), download)
    except ModelError as error:
        yield str(error)


def _lora_problems(entry: LoraEntry) -> Iterator[str]:
    from engines import lorakeys
    from engines.header import read_header

    file = entry.file()
    lorakeys.pieces(read_header(file), entry.path.name)
    ours = entry.path.is_relative_to(paths.models())
    download = entry.downloads[0] if entry.downloads else None
    yield from _verified(download.id if download else entry.id, file.parent if ours else file, download)


def _adapter_problems(entry: AdapterEntry) -> Iterator[str]:
    from engines import ipfile

    ipfile.check_adapter(entry.file())
    ipfile.check_encoder(entry.encoder())
    for download in entry.downloads:
        yield from _verified(download.id, download.folder(), download)


def _verified(name: str, folder: Path, download: Download | None) -> Iterator[str]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from engines import manifest

    known = manifest.load(manifest.place(name, folder))
    if known is None:
        yield f"note: no hashes were recorded for {folder}; its layout and headers are sound"
        return
    total = sum(file.bytes for file in known.files.values())
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield from manifest.verify(
            folder, known, download.sha256 if download else {}, lambda done: progress.advance(task, done)
        )
