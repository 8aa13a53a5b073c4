"""`livelatent models`: list, pull, add and check models, ControlNets, hint networks, LoRAs and IP-Adapters."""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from bridge.errors import ConfigError
from bridge.models_check import check
from bridge.models_list import Entry, named, show_list
from engines.hintentry import HintEntry
from engines.hintfiles import find_kind
from engines.ipentry import AdapterEntry
from engines.loraentry import LoraEntry
from engines.modelrows import Download, Family
from engines.registry import Registry

if TYPE_CHECKING:
    from engines.pull import Pull

_REFRESH_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    commands.add_parser("list", help="every model, its licence, its size, and whether it is here")
    pull = commands.add_parser("pull", help="fetch a model (again after a failure: files that are whole are kept)")
    pull.add_argument("id", nargs="+", help="id of the model, from `livelatent models list`")
    _configure_add(commands.add_parser("add", help="put a model of your own under an id"))
    check = commands.add_parser("check", help="verify every file of the models that are here")
    check.add_argument("id", nargs="*", help="id of the model; all of them without one")
    _configure_export(commands.add_parser("export", help="write a model's networks as ONNX files"))


def _configure_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("id", help="id of the model")
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the files go")
    export.add_argument("--controlnet", action="append", default=[], metavar="ID", help="this one too; again for more")
    export.add_argument("--free", action="store_true", help="for every height and width, not for the model's own alone")


def _configure_add(add: argparse.ArgumentParser) -> None:
    add.add_argument("path", type=Path, help="a diffusers folder, a checkpoint, a LoRA, or a network that makes hints")
    add.add_argument("--id", required=True, help="the name to call it by: a-z 0-9 _ -")
    add.add_argument("--kind", choices=("model", "lora"), help="what it is (found out without this)")
    add.add_argument("--family", choices=get_args(Family), help="what it is built like (found out without this)")
    add.add_argument(
        "--encoder", metavar="FOLDER|ID", default="",
        help="the path is an IP-Adapter's file, and this its image encoder's folder, or a download such as clip-vit-h",
    )  # fmt: skip
    add.add_argument("--copy", action="store_true", help="copy the folder instead of linking to it")
    add.add_argument("--force", action="store_true", help="replace the model that has this id")
    add.add_argument(
        "--lora", action="append", default=[], metavar="LORA[@WEIGHT]", help="over it: a .safetensors, or lcm-lora-sd15"
    )
    add.add_argument(
        "--prediction", choices=("epsilon", "v_prediction", "sample"), default="",
        help="what a checkpoint in one file predicts: v_prediction for SD 2.1 at 768²",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Run one of them; 0 done, 1 something is wrong with a model."""
    if not args.debug:
        logging.getLogger().setLevel(logging.WARNING)  # the hub's client tells of every request
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": show_list, "pull": pull, "add": add, "check": check, "export": export,
    }  # fmt: skip
    return actions[args.action](args)


def pull(args: argparse.Namespace) -> int:
    """Fetch what is missing of each model. Asks for nothing."""
    registry = Registry.open()
    for entry in named(registry, args.id):
        missing = [download for download in entry.downloads if not _complete(download)]
        if not entry.downloads:
            print(f"{entry.id} {'is here already' if entry.here else _by_hand(entry)}")
        elif not missing:
            print(f"{entry.id} is here already")
        for download in missing:
            print(f"{download.id}: {download.repo} at {download.revision[:12]}; licence: {download.licence}")
            _pull_one(download)
        if missing:
            print(f"{entry.id} is here: {_place(entry)}")
    return 0


def _by_hand(entry: Entry) -> str:
    if isinstance(entry, HintEntry) and entry.source:
        return f"can not be fetched: {entry.source}; then `livelatent models add FILE.safetensors --id {entry.id}`"
    return "can not be fetched: it was added by hand"


def _place(entry: Entry) -> Path:
    return entry.file() if isinstance(entry, (LoraEntry, AdapterEntry)) else entry.folder()


def _complete(download: Download) -> bool:
    """Whether the folder of a download holds what each of its patterns names."""
    return all(any(download.folder().glob(pattern)) for pattern in download.files)


def _pull_one(download: Download) -> None:
    from engines.pull import Pull

    job = Pull(download)
    with _watched(job):
        job.run()


@contextmanager
def _watched(job: Pull) -> Iterator[None]:
    """A progress bar fed by the bytes on disk: right however the hub's client transfers them, and after a resume."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    over = threading.Event()
    with Progress(*columns) as progress:
        task = progress.add_task(job.download.id, total=job.total)

        def follow() -> None:
            while not over.wait(_REFRESH_S):
                progress.update(task, total=job.total, completed=min(job.done(), job.total))

        thread = threading.Thread(target=follow, name="pull-progress", daemon=True)
        thread.start()
        try:
            yield
            progress.update(task, total=job.total, completed=job.total)
        finally:
            over.set()
            thread.join(5)


def add(args: argparse.Namespace) -> int:
    """Put a model of the user's own under an id."""
    from engines import library

    if kind := find_kind(args.path.expanduser()):
        if args.lora or args.family or args.prediction:
            raise ConfigError(
                f"{args.path} is a network of the kind {kind}: it takes no --lora, --family or --prediction"
            )
        hint = library.add_hint(args.path, args.id, copy=args.copy, force=args.force)
        print(f"{hint.id} is here, for the preprocessors that need {hint.kind}: {hint.folder()}")
        return 0
    loras = [_lora(text) for text in args.lora]
    if args.kind == "lora" or (args.kind is None and library.is_lora(args.path)):
        return _add_lora(args)
    if args.encoder:
        adapter = library.add_adapter(args.path, args.id, args.encoder, family=args.family, force=args.force)
        print(f"{adapter.id} is here: {adapter.file()}")
        print(f"Made for {adapter.family}. Send /ll/ip/model {adapter.id}, and /ll/ip/on 1.")
        return 0
    entry = library.add(
        args.path,
        args.id,
        family=args.family,
        copy=args.copy,
        force=args.force,
        loras=loras,
        prediction=args.prediction,
    )
    print(f"{entry.id} is here: {entry.folder()}")
    print(f"It runs as {entry.family} with {entry.sampler}, {entry.steps} steps; change that in its models.toml.")
    if entry.sampler == "lcm" and entry.guidance == 1.0 and not entry.loras and entry.family == "sd15":
        print("If it was not distilled for few steps, add it again with `--lora lcm-lora-sd15 --force`.")
    if [download for download in entry.downloads if not _complete(download)]:
        print(f"Fetch its small extra parts with `livelatent models pull {entry.id}`.")
    return 0


def _add_lora(args: argparse.Namespace) -> int:
    from engines import library

    if args.lora or args.prediction:
        raise ConfigError("--lora and --prediction belong to models: a LoRA takes neither")
    entry = library.add_lora(args.path, args.id, family=args.family, copy=args.copy, force=args.force)
    print(f"{entry.id} is here: {entry.file()}")
    print(f"Made for {entry.family}. Write <lora:{entry.id}:0.8> in a prompt, or send /ll/lora/1/id {entry.id}.")
    return 0


def export(args: argparse.Namespace) -> int:
    """Write ONNX files."""
    registry = Registry.open()
    entry, controlnets = registry.get(args.id), [registry.controlnet(name).folder() for name in args.controlnet]
    folder = entry.folder()
    from engines.base import Build
    from engines.export import export as write

    build = Build(
        entry.height, entry.width, tiny_vae=entry.tiny_vae_folder(), loras=tuple(entry.lora_files()), device="cpu"
    )
    for path in write(folder, build, args.out, controlnets, args.free):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _lora(text: str) -> tuple[str, float]:
    name, at, weight = text.rpartition("@")
    if not at:
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError as error:
        raise ConfigError(f"--lora {text}: the weight after @ is a number, such as 0.8") from error
