"""The engine `openvino`: processors and Intel graphics. Pictures as eager's, in a half to two thirds of the time.

The UNet, the autoencoder and ControlNets are compiled once for each model, size and machine (engines.openvino_build)
and read from the cache from then on, without torch's own networks in memory. Text is eager's: it is encoded beside the
stream, seldom. Batches run one row after the other: on a processor that takes no longer, and needs no second network.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engines import device as devices
from engines.base import Build, Nets, NetSpec, TensorSpec
from engines.cache import EngineCache, Entry, name_of, weights_of
from engines.eager import load_text, sentences, unet_spec
from engines.errors import ModelError
from engines.given import Ahead, Outer
from engines.openvino_build import Order, carry_out, is_picture, send_out
from engines.openvino_device import OpenvinoDevice, openvino
from engines.openvino_nets import (
    OpenvinoControlNet,
    OpenvinoDecode,
    OpenvinoEncode,
    OpenvinoUNet,
    OpenvinoWindowUNet,
)
from engines.openvino_window import Loaded, OpenvinoWindow
from engines.outer import outer_of
from engines.text import ClipText
from engines.weights import CLASSES, check_folder, check_net, read_json
from engines.window import Painters

FORMAT = 6
"""Of what is in the cache: another number for other graphs."""
CPU = torch.device("cpu")


class Program:
    """A compiled network, its tensors read and written where they lie: `levels` uint8, all others fp32. Pictures lie
    channels last: an `image` is [1, C, H, W] to whoever sees it, `levels` come out as [1, H, W, C]."""

    def __init__(self, compiled: Any, entry: Entry) -> None:
        notes, self._memory = entry.notes, entry.content
        """The file's, which the network may still use."""
        self._request = compiled.create_infer_request()
        self._tensor = openvino().Tensor
        self._shapes = [tuple(port.shape) for port in compiled.inputs]
        self._types = [_type(name) for name in notes["inputs"]]
        self._last = [
            is_picture(name, (1, shape[-1])) for name, shape in zip(notes["inputs"], self._shapes, strict=True)
        ]
        self._made = [
            (tuple(port.shape), _type(name), name == "image")
            for port, name in zip(compiled.outputs, notes["outputs"], strict=True)
        ]
        self._held: list[Tensor] = [torch.empty(0)] * len(self._shapes)
        self._given: list[tuple[Tensor | None, int]] = [(None, 0)] * len(self._shapes)
        """The tensors that were given last and are read where they lie, and where."""
        self._zeros: dict[tuple[int, ...], Tensor] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """All inputs in order, of the shapes it was compiled for; the last ones may be left out and are zeros."""
        with self._lock:
            for i, shape in enumerate(self._shapes):
                self._put(i, inputs[i] if i < len(inputs) else self._zero(shape))
            outputs = [torch.empty(shape, dtype=dtype) for shape, dtype, _ in self._made]
            for i, out in enumerate(outputs):
                self._request.set_output_tensor(i, self._tensor(out.numpy(), shared_memory=True))
            self._request.infer()
        return [out.permute(0, 3, 1, 2) if last else out for out, (_, _, last) in zip(outputs, self._made, strict=True)]

    def _put(self, i: int, given: Tensor) -> None:
        # what was given last is held on to, so that the same address is the same memory
        before, at = self._given[i]
        if given is before and given.data_ptr() == at:
            return
        x = given.permute(0, 2, 3, 1) if self._last[i] else given
        x = x.to(self._types[i]).expand(self._shapes[i]).contiguous()
        if x.data_ptr() != self._held[i].data_ptr():
            self._request.set_input_tensor(i, self._tensor(x.numpy(), shared_memory=True))
            self._held[i] = x
        self._given[i] = (given, x.data_ptr()) if x.data_ptr() == given.data_ptr() else (None, 0)

    def _zero(self, shape: tuple[int, ...]) -> Tensor:
        if shape not in self._zeros:
            self._zeros[shape] = torch.zeros(shape)
        return self._zeros[shape]


def _type(name: str) -> torch.dtype:
    return torch.uint8 if name == "levels" else torch.float32


class Found(NamedTuple):
    """What the cache had."""

    programs: dict[str, Program]
    notes: dict[str, dict[str, Any]]
    ahead: Ahead | None


class OpenvinoEngine:
    """Implements engines.base.Engine."""

    def __init__(self, here: bool = False, cache: EngineCache | None = None) -> None:
        """`here`: compile in this process, where nobody waits for frames. `cache`: the user's own if None."""
        self._here = here
        self._cache = cache or EngineCache("openvino")

    @torch.inference_mode()
    def load(self, folder: Path, build: Build) -> Nets:
        """Networks of the model in `folder`, compiled first if they never were. Raises ModelError with a sentence."""
        checked = check_folder(folder)
        device = OpenvinoDevice(build)
        with sentences(folder):
            dtype = devices.choose_dtype(build.dtype if build.dtype == "fp32" else "auto", CPU)
            text = load_text(folder, build, checked.variants, CPU, dtype)
        names, cond = self._names(folder, build, device, text), _shapes(text)
        found = self._revived(device, names) or self._made(device, names, Order(folder, build, names, cond))
        return self._nets(folder, build, device, text, found)

    def _names(self, folder: Path, build: Build, device: OpenvinoDevice, text: ClipText) -> dict[str, str]:
        vae = build.tiny_vae if build.vae == "tiny" and build.tiny_vae is not None else folder / "vae"
        sizes = [build.height, build.width, build.vae, _shapes(text)]
        loras = [[weights_of([path]), weight] for path, weight in build.loras]
        eight = ["int8"] if device.rounded else []
        unet = name_of(FORMAT, "unet", device.facts(), sizes, weights_of([folder / "unet"]), loras, *eight)
        ways = ("encode", "decode", *(("encode_bytes",) if build.vae == "tiny" else ()))
        weights = weights_of([folder / "vae", vae])
        codec = {way: name_of(FORMAT, way, device.facts(), sizes, weights, *eight) for way in ways}
        outer = _outer(folder, (0, 0, 0))
        parts = {
            part: name_of(FORMAT, part, device.facts(), sizes, weights_of([folder / "unet"]), loras, *eight)
            for part in ("ahead", *(["outer"] if outer else []))
        }
        return {"unet": unet, **codec, **parts}

    def _window_names(
        self, folder: Path, build: Build, device: OpenvinoDevice, text: ClipText, size: tuple[int, int]
    ) -> dict[str, str]:
        """Of what paints windows of this size; where it is the picture's, of what leaves behind what they need."""
        there = self._names(folder, replace(build, height=size[0], width=size[1]), device, text)
        if size == (build.height, build.width):
            return {"whole": name_of(FORMAT, "whole", there["unet"])}
        codec: dict[str, str] = {part: there[part] for part in ("encode", "encode_bytes", "decode") if part in there}
        return {"part": name_of(FORMAT, "part", there["unet"]), **codec}

    def _made(self, device: OpenvinoDevice, names: dict[str, str], order: Order) -> Found:
        """The programs of these names, compiled now."""
        try:
            carry_out(order, device, self._cache) if self._here else send_out(order)
        except OSError as error:
            where = self._cache.folder
            raise ModelError(f"OpenVINO's networks can't be kept in {where}: {error.strerror or error}") from error
        found = self._revived(device, names)
        if found is None:
            raise ModelError(f"OpenVINO's networks could not be read back from {self._cache.folder}")
        return found

    def _revived(self, device: OpenvinoDevice, names: dict[str, str]) -> Found | None:
        from engines.aheadfile import unpack

        entries = {part: self._cache.get(name) for part, name in names.items()}
        programs, notes, ahead = dict[str, Program](), dict[str, dict[str, Any]](), None
        for part, entry in entries.items():
            if entry is None:
                return None
            notes[part] = entry.notes
            if part == "ahead":
                ahead = unpack(entry.notes, entry.content, CPU, torch.float32)
                continue
            try:
                programs[part] = Program(device.revive(entry.content, device.precision), entry)
            except RuntimeError:  # of another build of the same version, or of a processor that reports as this one
                self._cache.drop(names[part])
                return None
        return Found(programs, notes, ahead)

    def _nets(self, folder: Path, build: Build, device: OpenvinoDevice, text: ClipText, found: Found) -> Nets:
        notes, programs = found.notes["unet"], found.programs
        channels, height, width = notes["latent"]
        latent = channels, height, width
        encode, decode = _codec(programs, build, latent)
        residuals = tuple((c, h, w) for c, h, w in notes["residuals"])
        outer = _outer(folder, latent)
        return Nets(
            unet=OpenvinoUNet(
                programs["unet"], unet_spec(latent, text, CPU), notes["guided"], programs.get("outer"), found.ahead
            ),
            encode=encode,
            decode=decode,
            text=text,
            scheduler=read_json(folder / "scheduler" / "scheduler_config.json", "scheduler_config.json"),
            latent=latent,
            takes_guidance=notes["guided"],
            device=CPU,
            dtype=torch.float32,
            described=f"openvino {device.name.lower()} {device.described}, {notes['kind']}",
            residuals=residuals,
            outer=outer,
            window=self._window(folder, build, device, text, found),
            threads=1
            if device.name == "CPU"
            else 0,  # others of torch's would wait for cores that OpenVINO's still hold
            load_control=lambda control: self._control(
                control, build, device, text, latent, residuals, outer is not None
            ),
        )

    def _window(
        self, folder: Path, build: Build, device: OpenvinoDevice, text: ClipText, found: Found
    ) -> OpenvinoWindow | None:
        notes, size = found.notes["unet"], (build.height, build.width)
        if notes["kind"] != "tiny autoencoder":
            return None

        @torch.inference_mode()
        def load(wanted: tuple[int, int]) -> Loaded:
            names = self._window_names(folder, build, device, text, wanted)
            there = replace(build, height=wanted[0], width=wanted[1])
            order = Order(folder, there, names, _shapes(text))
            loaded = self._revived(device, names) or self._made(device, names, order)
            ((denoiser, notes),) = ((part, loaded.notes[part]) for part in ("whole", "part") if part in loaded.notes)
            spec = unet_spec(tuple(notes["latent"]), text, CPU)
            unet = OpenvinoWindowUNet(loaded.programs[denoiser], spec, notes["guided"], None, found.ahead)
            programs = found.programs | loaded.programs
            encode, decode = _codec(programs, there, tuple(notes["latent"]))
            return Loaded(Painters(encode, unet, decode), notes["numbers"])

        return OpenvinoWindow(load, size, notes["grid"], beside=not self._here)

    @torch.inference_mode()
    def _control(
        self, folder: Path, build: Build, device: OpenvinoDevice, text: ClipText, latent: tuple[int, int, int],
        residuals: tuple[tuple[int, int, int], ...], outer: bool,
    ) -> OpenvinoControlNet:  # fmt: skip
        check_net(folder, CLASSES["controlnet"])
        cond = _shapes(text)
        facts = [device.facts(), cond, latent, residuals, weights_of([folder])]
        parts = ("embed", "control", "ahead", *(["shallow"] if outer else []))
        names = {part: name_of(FORMAT, part, *facts) for part in parts}
        order = Order(folder, replace(build, loras=()), names, cond, latent, list(residuals))
        found = self._revived(device, names) or self._made(device, names, order)
        x, t, *rest = unet_spec(latent, text, CPU).inputs
        outputs = tuple(TensorSpec(f"residual{i}", (1, *shape), torch.float32) for i, shape in enumerate(residuals))
        channels = int(found.notes["control"]["channels"])
        spec = NetSpec((x, t, *rest), outputs, CPU)
        return OpenvinoControlNet(found.programs, spec, channels, found.ahead)


def _codec(
    programs: dict[str, Program], build: Build, latent: tuple[int, int, int]
) -> tuple[OpenvinoEncode, OpenvinoDecode]:
    picture = TensorSpec("image", (1, 3, build.height, build.width), torch.float32)
    hidden = TensorSpec("latent", (1, *latent), torch.float32)
    encode = OpenvinoEncode(programs["encode"], programs.get("encode_bytes"), NetSpec((picture,), (hidden,), CPU))
    return encode, OpenvinoDecode(programs["decode"], NetSpec((hidden,), (picture,), CPU))


def _outer(folder: Path, latent: tuple[int, int, int]) -> Outer | None:
    return outer_of(read_json(folder / "unet" / "config.json", "unet/config.json"), latent)


def _shapes(text: ClipText) -> list[tuple[str, list[int]]]:
    return [(spec.name, list(spec.shape)) for spec in text.spec.outputs]
