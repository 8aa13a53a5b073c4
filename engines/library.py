"""Put a model of the user's own under an id: a diffusers folder (linked or copied), a checkpoint, a LoRA, or a network
that makes hints."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from engines import convert, ipfile, lorakeys, manifest, modelfile, modelrows, paths, weights
from engines.controlentry import ControlEntry
from engines.errors import ModelError
from engines.header import read_header
from engines.hintentry import HintEntry
from engines.hintfiles import check_hint, find_kind
from engines.ipentry import AdapterEntry
from engines.loraentry import LoraEntry
from engines.modelentry import TINY_VAE, ModelEntry
from engines.modelrows import Family, HintKind, is_id
from engines.pull import settle
from engines.registry import Registry

_KEPT = (".safetensors", ".json", ".txt")
_KEPT_HINT = (*_KEPT, ".onnx")
_LINKED = ("depth", "pose")
"""Hint networks that come as a folder."""
Kind = Literal["models", "loras", "ipadapters"]
Lora = tuple[str, float]
"""Id of a download or path of a file, and its weight."""


def add(
    path: Path, model_id: str, *, family: Family | None = None, copy: bool = False, force: bool = False,
    loras: Sequence[Lora] = (), prediction: str = "", configs: Path | None = None,
) -> ModelEntry:  # fmt: skip
    """Record a model in the user's models.toml and return its entry. Raises ModelError with a sentence.

    A folder is linked, or copied (weights, JSON and text alone); a file is converted into `models/<model_id>`.
    `prediction` and `configs` are `engines.convert.convert`'s. Nothing is recorded or replaced unless all went well.
    """
    registry = Registry.open()
    _check_free(registry, model_id, force)
    path = path.expanduser().absolute()
    for lora in loras:
        _check_lora(registry, lora[0])
    values: dict[str, str | int | float] = {"title": path.stem if path.is_file() else path.name, "source": str(path)}
    ours = paths.models() / model_id
    if path.is_dir():
        values |= _folder(path, ours, family, copy)
    elif path.is_file():
        if ipfile.is_adapter(read_header(path.resolve(), path.name)):
            raise ModelError(f"{path.name} is an IP-Adapter: name its image encoder's folder with --encoder")
        family = family or convert.detect(read_header(path.resolve(), path.name), path.name)
        with _staging(ours) as staging:
            convert.convert(path, family, _tokenizer(registry), staging, prediction, configs)
            values |= _finish(staging, ours, family, str(path))
    else:
        raise ModelError(f"there is no {path}")
    modelfile.add(model_id, values, [_lora_row(registry, lora) for lora in loras])
    return Registry.open().get(model_id)


def add_hint(path: Path, hint_id: str, *, copy: bool = False, force: bool = False) -> HintEntry:
    """Record a network that makes hints, and return its entry. Raises ModelError with a sentence.

    The folder of a depth model or a pose estimator is linked, or copied; an edge detector, one small file, is always
    copied. An id that livelatent lists without a download (`hed`) is thereby filled.
    """
    registry = Registry.open()
    path = path.expanduser().absolute()
    kind = find_kind(path)
    if kind is None:
        raise ModelError(f"{path.name} is no network that makes hints")
    listed = _check_hint_free(registry, hint_id, kind, force)
    ours = paths.models() / hint_id
    values: dict[str, str | int | float] = {"title": path.stem, "kind": kind, "source": str(path)}
    if kind in _LINKED and not copy:
        check_hint(path, kind)
        values["folder"] = str(path)
        manifest.write(manifest.place(hint_id, path), manifest.record(path, str(path), ""))
    else:
        with _staging(ours) as staging:
            staging.mkdir()
            for file in [path] if path.is_file() else sorted(path.iterdir()):
                if file.suffix in _KEPT_HINT and file.is_file():
                    shutil.copyfile(file, staging / file.name)
            check_hint(staging, kind)
            manifest.write(staging / manifest.NAME, manifest.record(staging, str(path), ""))
            settle(staging, ours)
    if not listed:
        modelfile.add(hint_id, values, kind="hintnets")
    return Registry.open().hintnet(hint_id)


def _check_hint_free(registry: Registry, hint_id: str, kind: HintKind, force: bool) -> bool:
    """Whether models.toml lists this id already, and waits for its files."""
    if hint_id not in registry.hintnet_ids():
        _check_free(registry, hint_id, force=False)
        return False
    entry = registry.hintnet(hint_id)
    if entry.kind != kind:
        raise ModelError(f"{hint_id} stands for a network of the kind {entry.kind}, and this is {kind}")
    if entry.origin != "added":
        raise ModelError(f"{hint_id} is one of livelatent's own: choose another id")
    if entry.here and not force:
        raise ModelError(f"{hint_id} is taken: choose another id, or replace it with --force")
    return hint_id in modelfile.read(modelfile.shipped_file()).hintnets


def is_lora(path: Path) -> bool:
    """Whether a file that is to be added is a LoRA. Raises ModelError if it is no sound safetensors file."""
    path = path.expanduser()
    return path.is_file() and lorakeys.is_lora(read_header(path.resolve(), path.name))


def add_lora(
    path: Path, lora_id: str, *, family: Family | None = None, copy: bool = False, force: bool = False
) -> LoraEntry:
    """Record a LoRA in the user's models.toml, linked or copied, and return its entry. Raises ModelError."""
    registry = Registry.open()
    _check_free(registry, lora_id, force, "loras")
    path = path.expanduser().absolute()
    tensors = read_header(path.resolve(), path.name)
    family = family or lorakeys.family(lorakeys.pieces(tensors, path.name), tensors)
    values: dict[str, str | int | float] = {"title": path.stem, "family": family}
    ours = paths.models() / lora_id
    if copy:
        with _staging(ours) as staging:
            staging.mkdir()
            shutil.copyfile(path, staging / f"{lora_id}.safetensors")
            settings = path.with_name(lorakeys.SETTINGS)
            if settings.is_file():
                shutil.copyfile(settings, staging / lorakeys.SETTINGS)
            manifest.write(staging / manifest.NAME, manifest.record(staging, str(path), ""))
            settle(staging, ours)
    else:
        record = manifest.record_file(path)
        shutil.rmtree(ours, ignore_errors=True)
        manifest.write(ours.with_suffix(".json"), record)
        values["path"] = str(path)
    modelfile.add(lora_id, values, kind="loras")
    return Registry.open().lora(lora_id)


def add_adapter(
    path: Path, adapter_id: str, encoder: str, *, family: Family | None = None, force: bool = False
) -> AdapterEntry:
    """Record an IP-Adapter, a file that stays where it is, with its image encoder: the id of a download that some
    adapter of ours uses, or a folder. Raises ModelError with a sentence."""
    registry = Registry.open()
    _check_free(registry, adapter_id, force, "ipadapters")
    path = path.expanduser().absolute()
    shape = ipfile.check_adapter(path)
    values: dict[str, str | int | float] = {"title": path.stem, "path": str(path)}
    values["family"] = family or _family({"cross_attention_dim": shape.width})
    known = [registry.ipadapter(name) for name in registry.ipadapter_ids()[1:]]
    ours = next((entry for entry in known if entry.encoder_id == encoder), None)
    if ours is not None:
        folder = ours.encoder_path.relative_to(paths.models() / encoder).as_posix()
        values |= {"encoder": encoder, "encoder_folder": folder}
    else:
        eyes = Path(encoder).expanduser().absolute()
        ipfile.check_encoder(eyes)
        values["encoder_path"] = str(eyes)
    modelfile.add(adapter_id, values, kind="ipadapters")
    return Registry.open().ipadapter(adapter_id)


def _check_free(registry: Registry, new_id: str, force: bool, kind: Kind = "models") -> None:
    if not is_id(new_id):
        raise ModelError(f"{new_id[:80]!a} is no id: 1 to 64 of a-z 0-9 _ -, the first a letter or digit")
    if new_id in registry.downloads:
        raise ModelError(f"{new_id} is the name of one of livelatent's own downloads: choose another id")
    entries: dict[str, ModelEntry | ControlEntry | LoraEntry | HintEntry | AdapterEntry] = {
        **{name: registry.get(name) for name in registry.ids()},
        **{name: registry.controlnet(name) for name in registry.controlnet_ids()[1:]},
        **{name: registry.lora(name) for name in registry.lora_ids()[1:]},
        **{name: registry.ipadapter(name) for name in registry.ipadapter_ids()[1:]},
        **{name: registry.hintnet(name) for name in registry.hintnet_ids()},
    }
    if new_id not in entries and new_id != modelrows.NO_LORA:
        return
    same = {"models": ModelEntry, "loras": LoraEntry, "ipadapters": AdapterEntry}[kind]
    if new_id not in entries or entries[new_id].origin != "added" or not isinstance(entries[new_id], same):
        raise ModelError(f"{new_id} is one of livelatent's own models, or of another kind: choose another id")
    if not force:
        raise ModelError(f"{new_id} is taken: choose another id, or replace it with --force")


def _folder(path: Path, ours: Path, family: Family | None, copy: bool) -> dict[str, str | int | float]:
    if not copy:
        checked = weights.check_folder(path)
        values = _defaults(path, checked, family)
        record = manifest.record(path, str(path), "")
        shutil.rmtree(ours, ignore_errors=True)
        manifest.write(manifest.place(ours.name, path), record)
        return values | {"folder": str(path)}
    with _staging(ours) as staging:
        for name, file in weights.list_files(path).items():
            if name.endswith(_KEPT) and (name.count("/") == 1 or name == "model_index.json"):
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, staging / name)
        return _finish(staging, ours, family, str(path))


def _tokenizer(registry: Registry) -> Path:
    return convert.vocabulary([entry.path for entry in map(registry.get, registry.ids()) if entry.here])


@contextmanager
def _staging(ours: Path) -> Iterator[Path]:
    """A folder beside the final one, not there yet; nothing of it stays."""
    staging = ours.with_name(f".add-{ours.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield staging
    except OSError as error:
        raise ModelError(f"{ours.name} can't be written to {ours.parent}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _finish(staging: Path, ours: Path, family: Family | None, source: str) -> dict[str, str | int | float]:
    """Judge what was copied or converted, hash it, and move it into its place."""
    values = _defaults(staging, weights.check_folder(staging), family)
    manifest.write(staging / manifest.NAME, manifest.record(staging, source, ""))
    settle(staging, ours)
    return values


def _defaults(folder: Path, checked: weights.Checked, family: Family | None) -> dict[str, str | int | float]:
    """What a model's own configs say of how it wants to be run."""
    unet = weights.read_json(folder / "unet" / "config.json", "unet/config.json")
    family = family or _family(unet)
    scheduler = weights.read_json(folder / "scheduler" / "scheduler_config.json", "scheduler_config.json")
    name = str(scheduler.get("_class_name", ""))
    values: dict[str, str | int | float] = {"family": family, "sampler": "lcm", "steps": 4}
    if "Consistency" in checked.pipeline or unet.get("time_cond_proj_dim"):
        values["guidance"] = 8.0
    elif name == "TCDScheduler":
        values |= {"sampler": "tcd"}
    elif name.startswith("Euler") and scheduler.get("timestep_spacing") == "trailing":
        values |= {"sampler": "turbo", "steps": 1}
    if checked.variants.get("unet"):
        values["variant"] = checked.variants["unet"]
    if family in TINY_VAE and _latents(folder) == 4:
        values["tiny_vae"] = TINY_VAE[family]
    return values


def _family(unet: dict[str, object]) -> Family:
    width = unet.get("cross_attention_dim")
    return next((family for family, known in convert.SCALE.items() if known == width), "other")


def _latents(folder: Path) -> object:
    return weights.read_json(folder / "vae" / "config.json", "vae/config.json").get("latent_channels")


def _check_lora(registry: Registry, lora: str) -> None:
    if lora not in registry.downloads:
        weights.check_file(Path(lora).expanduser())


def _lora_row(registry: Registry, lora: Lora) -> dict[str, str | float]:
    name, weight = lora
    download = registry.downloads.get(name)
    if download:
        return {"download": name, "file": download.files[0], "weight": weight}
    return {"path": str(Path(name).expanduser().absolute()), "weight": weight}
