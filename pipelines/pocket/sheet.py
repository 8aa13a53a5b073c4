"""Contact sheets: what the model does to some pictures, style by style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny, ControlNetModel, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedTokenizerFast

from pipelines.pocket import data, nets, text
from pipelines.pocket.scenes import scene
from pipelines.pocket.styles import STYLES, render

Pixels = NDArray[np.uint8]
UNSEEN = 1_000_000
"""Scenes from this number on are never trained on."""


@dataclass(frozen=True)
class Hint:
    """What one ControlNet is shown: (h, w, 3), and how much it matters."""

    net: ControlNetModel
    picture: Pixels
    weight: float = 1.0


@dataclass
class Model:
    """The networks with what turns words into tokens."""

    vae: AutoencoderTiny
    unet: UNet2DConditionModel
    words: CLIPTextModel
    tokenizer: PreTrainedTokenizerFast
    controls: dict[str, ControlNetModel] = field(default_factory=dict)
    """By kind: edge, temporal."""

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Model:
        """From a model folder. OSError if it is not one."""
        kept = {"local_files_only": True, "use_safetensors": True}
        return cls(
            AutoencoderTiny.from_pretrained(folder, subfolder="vae", torch_dtype=dtype, **kept).eval(),
            UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtype, **kept).eval(),
            CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=dtype, **kept).eval(),
            AutoTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True),
            {
                path.name.removeprefix("controlnet_"): ControlNetModel.from_pretrained(
                    path, torch_dtype=dtype, **kept
                ).eval()
                for path in sorted(folder.glob("controlnet_*"))
            },
        )

    def to(self, place: torch.device) -> Model:
        """The same networks, there, as training takes them."""
        for net in (self.vae, self.unet, self.words):
            net.to(place, memory_format=torch.channels_last).requires_grad_(False)
        return self

    def context(self, prompts: list[str]) -> Tensor:
        """(n, tokens, width)."""
        ids = self.tokenizer(
            prompts, padding="max_length", max_length=text.TOKENS, truncation=True, return_tensors="pt"
        ).input_ids
        out: Tensor = self.words(ids.to(self.words.device)).last_hidden_state
        return out

    @torch.inference_mode()
    def paint(
        self,
        picture: Pixels,
        prompts: list[str],
        strength: float = 0.6,
        seed: int = 1,
        steps: int = 1,
        hints: Sequence[Hint] = (),
        context: Tensor | None = None,
    ) -> Pixels:
        """One picture (h, w, 3) under several prompts: (n, h, w, 3). More steps re-noise the answer to a lower level,
        as consistency sampling does (Luo et al. 2023). `context` (n, tokens, width) is shown instead of the prompts."""
        device, dtype = self.unet.device, self.unet.dtype
        shown = data.tensor(picture[None]).to(device, dtype)
        x0 = self.vae.encode(shown).latents.expand(len(prompts), -1, -1, -1)
        context = self.context(prompts) if context is None else context
        generator = torch.Generator().manual_seed(seed)
        for i in range(steps):
            t = torch.full((1,), strength * 999 * (1 - i / steps))
            level = float(nets.alphas(t))
            noise = torch.randn(x0[:1].shape, generator=generator).to(device, dtype)
            noised = level**0.5 * x0 + (1 - level) ** 0.5 * noise
            times = t.to(device).expand(len(prompts))
            x0 = self.unet(noised, times, context, **self._residuals(noised, times, context, hints)).sample
        out = self.vae.decode(x0).sample.float().add(1).mul(127.5).round().clamp(0, 255)
        return np.asarray(out.byte().permute(0, 2, 3, 1).cpu().numpy())

    def _residuals(self, noised: Tensor, times: Tensor, context: Tensor, hints: Sequence[Hint]) -> dict[str, Any]:
        """What the ControlNets add, summed, as the UNet takes it."""
        total: list[Tensor] = []
        for hint in hints:
            shown = torch.from_numpy(hint.picture).permute(2, 0, 1)[None].to(noised).div(255)
            down, middle = hint.net(
                noised, times, context, shown.expand(len(noised), -1, -1, -1), hint.weight, return_dict=False
            )
            own = [*down, middle]
            total = [a + b for a, b in zip(total, own, strict=True)] if total else own
        if not total:
            return {}
        return {"down_block_additional_residuals": tuple(total[:-1]), "mid_block_additional_residual": total[-1]}

    @torch.inference_mode()
    def rebuild(self, picture: Pixels) -> Pixels:
        """Through the codec alone."""
        shown = data.tensor(picture[None]).to(self.vae.device, self.vae.dtype)
        out = self.vae.decode(self.vae.encode(shown).latents).sample.float().add(1).mul(127.5).round().clamp(0, 255)
        return np.asarray(out.byte().permute(0, 2, 3, 1).cpu().numpy()[0])


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal to noise ratio, dB."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def pictures(folder: Path | None, size: int) -> list[Pixels]:
    """Square crops of the picture files in `folder`, or else four scenes that training never sees."""
    if folder is None:
        return [data.pack([scene(UNSEEN + i, size)])[0] for i in (1, 4, 6, 9)]
    out = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg")):
        whole = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        side = min(whole.shape[:2])
        top, left = (whole.shape[0] - side) // 2, (whole.shape[1] - side) // 2
        square = whole[top : top + side, left : left + side]
        out.append(np.asarray(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA), np.uint8))
    return out


def label(picture: Pixels, words: str) -> Pixels:
    """With a caption in the lower left corner."""
    out = picture.copy()
    for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(out, words, (5, out.shape[0] - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thick, cv2.LINE_AA)
    return out


def sheet(
    model: Model, shown: list[Pixels], names: tuple[str, ...], strength: float = 0.6, teacher: bool = False
) -> Pixels:
    """Styles down, pictures across; the first row shows the inputs, `teacher` adds what each should have become."""
    rows = [np.concatenate([label(p, "input") for p in shown], 1)]
    painted = [model.paint(p, list(names), strength) for p in shown]
    for i, name in enumerate(names):
        cells = []
        for p, made in zip(shown, painted, strict=True):
            cells.append(label(made[i], name))
            if teacher:
                cells.append(data.pack([render((p / 255).astype(np.float32), name)])[0])
        rows.append(np.concatenate(cells, 1))
    width = max(r.shape[1] for r in rows)
    rows[0] = np.pad(rows[0], ((0, 0), (0, width - rows[0].shape[1]), (0, 0)))
    return np.concatenate(rows, 0)


def write(path: Path, picture: Pixels) -> None:
    """As PNG or JPEG by the name. OSError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}")


def contact(model: Model, path: Path, folder: Path | None = None, size: int = 256) -> None:
    """All styles over a few pictures, nine to a file's column block."""
    shown = pictures(folder, size)[:2]
    names = tuple(STYLES)
    blocks = [sheet(model, shown, names[i : i + 7]) for i in range(0, len(names), 7)]
    height = max(b.shape[0] for b in blocks)
    write(path, np.concatenate([np.pad(b, ((0, height - b.shape[0]), (0, 6), (0, 0))) for b in blocks], 1))
