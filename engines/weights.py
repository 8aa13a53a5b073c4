"""What may be loaded: safetensors and plain JSON in the diffusers layout, nothing that can carry code.

Everything is judged by content before torch, diffusers or transformers sees the folder. A pickle runs code when it is
loaded, and configs have let repositories run theirs (auto_map, custom pipelines, attention kernels by repository name:
CVE-2026-4372; trust_remote_code in a config: CVE-2026-5241); so there is no flag that allows any of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from engines.errors import ModelError
from engines.header import carries_code, read_header

MAX_JSON_BYTES = 16 << 20
MAX_FILES = 1000
MAX_DEPTH = 4

PIPELINES = frozenset(
    {
        "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline",
        "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline",
        "LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline",
    }
)  # fmt: skip
CLASSES: dict[str, frozenset[str]] = {
    "unet": frozenset({"UNet2DConditionModel"}),
    "vae": frozenset({"AutoencoderKL", "AutoencoderTiny"}),
    "text_encoder": frozenset({"CLIPTextModel", "CLIPTextModelWithProjection"}),
    "text_encoder_2": frozenset({"CLIPTextModel", "CLIPTextModelWithProjection"}),
    "tokenizer": frozenset({"CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast"}),
    "tokenizer_2": frozenset({"CLIPTokenizer", "CLIPTokenizerFast"}),
    "scheduler": frozenset(
        {
            "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler", "EulerDiscreteScheduler",
            "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
            "LMSDiscreteScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler",
        }
    ),
    "controlnet": frozenset({"ControlNetModel"}),
}  # fmt: skip
"""Which classes a component may name; every one of them is diffusers' or transformers' own."""
UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
"""Components that a pipeline may list and that we never load."""
_NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2", "controlnet")

CODE_SUFFIXES = frozenset(
    {
        ".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".engine", ".plan", ".trt",
        ".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle",
    }
)  # fmt: skip
_CODE_KEYS = frozenset({"auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code"})
_ATTENTION = frozenset({"eager", "sdpa", "flash_attention_2"})
_PART = re.compile(r"[A-Za-z0-9_.-]+\.safetensors")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a folder turned out to hold."""

    pipeline: str
    variants: dict[str, str]
    """Each component to load, with its weights' variant: empty, or `fp16` where only `*.fp16.safetensors` is there."""


def check_folder(folder: Path) -> Checked:
    """Judge a diffusers model before anything loads it. Raises ModelError: one sentence naming the file.

    Reads JSON and the headers of weights (milliseconds), hashes nothing, opens no file outside `folder`. A snapshot
    in a hub cache, whose files are links into the `blobs` beside it, may use its own repository's blobs.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder")
    files = list_files(folder)
    if "model_index.json" not in files:
        raise ModelError(f"{folder.name} has no model_index.json: it is not a model in the diffusers layout")
    _judge(files)
    index = read_json(files["model_index.json"], "model_index.json")
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or pipeline not in PIPELINES:
        raise ModelError(f"model_index.json names the pipeline {ascii(pipeline)[:80]}, which is not one that we know")
    return Checked(pipeline, {name: _check_component(folder, name, files) for name in _components(index)})


def check_net(folder: Path, classes: frozenset[str]) -> str:
    """The same for the folder of a single network (a tiny autoencoder, a ControlNet) of one of `classes`.

    Returns the weights' variant: empty, or `fp16`.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder")
    files = list_files(folder)
    if "config.json" not in files:
        raise ModelError(f"{folder.name} has no config.json: it is not a network in the diffusers layout")
    _judge(files)
    name = read_json(files["config.json"], "config.json").get("_class_name")
    if name not in classes:
        raise ModelError(f"{folder.name} is {ascii(name)[:80]}, not {' or '.join(sorted(classes))}")
    return _network_files(folder, "", files)


def check_file(path: Path) -> None:
    """The same for a single safetensors file, such as a LoRA."""
    if not path.is_file():
        raise ModelError(f"{path.name} is not a file")
    read_header(path.resolve(), path.name)


def check_loose(folder: Path) -> None:
    """The same for a folder of files that belong to no layout, such as LoRAs."""
    _judge(list_files(folder))


def list_files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by its relative posix name, links followed. Raises where one leads out of it."""
    real = folder.resolve()
    roots = [real]
    if real.parent.name == "snapshots" and (real.parent.parent / "blobs").is_dir():
        roots.append((real.parent.parent / "blobs").resolve())
    out: dict[str, Path] = {}
    for name, path in _walk(real, "", 0):
        try:
            target = path.resolve()
        except (OSError, RuntimeError) as error:  # a loop of links is RuntimeError before Python 3.13
            raise ModelError(f"{name} is a link that leads nowhere") from error
        if not any(target.is_relative_to(root) for root in roots):
            raise ModelError(f"{name} is a link that leads out of {folder.name}")
        out[name] = target
        if len(out) > MAX_FILES:
            raise ModelError(f"{folder.name} holds more than {MAX_FILES} files: it is not one model")
    return out


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path]]:
    """Files below `folder`; a linked folder is handed out like a file, so that the caller judges where it leads."""
    if depth > MAX_DEPTH:
        raise ModelError(f"{prefix} lies too deep for a model")
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=attrgetter("name")):
            if entry.name.startswith("."):
                continue  # .cache, .git, .gitattributes: nothing loads them
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)
            else:
                yield f"{prefix}{entry.name}", Path(entry.path)


def _judge(files: dict[str, Path]) -> None:
    """Refuse whatever can carry code, whether or not a component points to it."""
    for name, path in files.items():
        suffix = Path(name).suffix.lower()
        if suffix in CODE_SUFFIXES:
            raise ModelError(f"{name} can carry code: remove it, or add the model with --copy, which leaves it out")
        if not path.is_file():  # a device or a pipe would block, a linked folder would be walked twice
            raise ModelError(f"{name} is not a plain file")
        if suffix == ".safetensors":
            read_header(path, name)
        elif suffix == ".json":
            read_json(path, name)
        else:
            with path.open("rb") as file:
                kind = carries_code(file.read(24))
            if kind:
                raise ModelError(f"{name} is {kind}; we load safetensors only")


def _components(index: dict[str, Any]) -> Iterator[str]:
    """The components to load that model_index.json names, each checked against the allow-list."""
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or value in ([None, None], []):
            continue
        if name in UNUSED:
            continue
        known = CLASSES.get(name)
        if known is None:
            raise ModelError(f"model_index.json names the component {ascii(name)[:80]}, which we don't know")
        if len(value) != 2 or value[0] not in ("diffusers", "transformers") or value[1] not in known:
            raise ModelError(f"model_index.json wants {ascii(value)[:80]} for {name}: code that is not in diffusers")
        yield name


def _check_component(folder: Path, name: str, files: dict[str, Path]) -> str:
    """That a component's files are there; its variant (`fp16` or none)."""
    if name not in _NETWORKS:
        if not any(file.startswith(f"{name}/") for file in files):
            raise ModelError(f"{folder.name} has no {name} folder")
        return ""
    config = f"{name}/config.json"
    if config not in files:
        raise ModelError(f"{folder.name} has no {config}")
    class_name = read_json(files[config], config).get("_class_name")
    if class_name is not None and class_name not in CLASSES[name]:
        raise ModelError(f"{config} names the class {ascii(class_name)[:80]}, which is not one that we know")
    return _network_files(folder, f"{name}/", files)


def _network_files(folder: Path, prefix: str, files: dict[str, Path]) -> str:
    """That a network has weights, whole where they are in parts; `fp16` if only that variant is there."""
    stem = "model" if prefix.startswith("text_encoder") else "diffusion_pytorch_model"
    for variant in ("", "fp16"):
        dot = f".{variant}" if variant else ""
        if f"{prefix}{stem}{dot}.safetensors" in files:
            return variant
        for index in (f"{prefix}{stem}.safetensors.index{dot}.json", f"{prefix}{stem}{dot}.safetensors.index.json"):
            if index in files:
                _check_parts(prefix, index, files)
                return variant
    raise ModelError(f"{prefix or folder.name + '/'} has no weights ({stem}.safetensors)")


def _check_parts(prefix: str, index: str, files: dict[str, Path]) -> None:
    parts = read_json(files[index], index).get("weight_map")
    if not isinstance(parts, dict):
        raise ModelError(f"{index} has no weight_map")
    for part in set(map(str, parts.values())):
        if not _PART.fullmatch(part) or prefix + part not in files:
            raise ModelError(f"{index} names {ascii(part)[:80]}, which is not a file beside it")


def read_json(path: Path, name: str) -> dict[str, Any]:
    """A JSON object from a model's folder. Raises ModelError if it is none, too large, or asks for code."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise ModelError(f"{name} is larger than {MAX_JSON_BYTES >> 20} MB")
        value = msgspec.json.decode(data)
    except OSError as error:
        raise ModelError(f"{name} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{name} is not a JSON object")
    _refuse_code(value, name)
    return value


def _refuse_code(value: object, name: str) -> None:
    stack: list[object] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(inner for inner in item if isinstance(inner, (dict, list)))
        elif isinstance(item, dict):
            for key, inner in item.items():
                asks = key in _CODE_KEYS and inner
                kernel = "attn_implementation" in key and isinstance(inner, str) and inner not in _ATTENTION
                if asks or kernel:
                    raise ModelError(f"{name} asks for code of its own ({key}): we run none from a model")
                if isinstance(inner, (dict, list)):
                    stack.append(inner)
