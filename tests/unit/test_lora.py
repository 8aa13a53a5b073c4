"""LoRAs over a loaded model: what they do to its networks is what diffusers does, and at 0 nothing is left of them."""

from __future__ import annotations

import gc
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.base import Build, Nets
from engines.eager import EagerEngine
from engines.errors import ModelError
from tests.support import loras

SIDE = 64
CLOSE = 1e-5

pytestmark = pytest.mark.filterwarnings("ignore")

Load = Callable[..., Nets]


@pytest.fixture
def load(model_folder) -> Load:
    def run(kind: str = "sd15", **options: Any) -> Nets:
        return EagerEngine().load(model_folder(kind), Build(SIDE, SIDE, device="cpu", dtype="fp32", **options))

    return run


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def denoised(nets: Nets) -> torch.Tensor:
    cond = [noise(n, *spec.shape).to(nets.dtype) for n, spec in enumerate(nets.text.spec.outputs)]
    return nets.unet(noise(9, 1, *nets.latent), torch.tensor(500.0), cond)


def said(nets: Nets, *wanted: tuple[Any, float]) -> tuple[torch.Tensor, ...]:
    return nets.text("neon gold", 1, wanted).cond[:2]


def pipeline(folder: Path, kind: str) -> Any:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

    cls = StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline
    extra = {"add_watermarker": False} if kind == "sdxl" else {"safety_checker": None, "requires_safety_checker": False}
    return cls.from_pretrained(folder, local_files_only=True, **extra)


@torch.inference_mode()
def theirs(folder: Path, kind: str, files: dict[Path, float], nets: Nets) -> tuple[torch.Tensor, ...]:
    """What diffusers' pipeline denoises and says with these LoRAs."""
    pipe = pipeline(folder, kind)
    for number, file in enumerate(files):
        pipe.load_lora_weights(file, adapter_name=f"n{number}")
    pipe.set_adapters([f"n{n}" for n in range(len(files))], [*files.values()])
    cond = [noise(n, *spec.shape) for n, spec in enumerate(nets.text.spec.outputs)]
    added = {"text_embeds": cond[1], "time_ids": cond[2]} if len(cond) > 1 else None
    out = pipe.unet(noise(9, 1, *nets.latent), torch.tensor(500.0), cond[0], added_cond_kwargs=added).sample
    if kind != "sdxl":
        return out, pipe.encode_prompt("neon gold", "cpu", 1, False)[0]
    found = pipe.encode_prompt("neon gold", device="cpu", do_classifier_free_guidance=False)
    return out, found[0], found[2]


def written(folder: Path, root: Path, layout: str, seed: int = 1) -> Path:
    """A LoRA for the model in `folder`, in a layout."""
    if layout == "old":
        made = loras.make(folder, seed, layers=rf"{loras.ATTENTION}|.*self_attn\.\w+_proj")
        return loras.write(root / f"old{seed}.safetensors", loras.diffusers_old(made))
    made = loras.make(folder, seed, layers=loras.CONVS if layout == "locon" else loras.LAYERS)
    if layout == "peft":
        return loras.write(root / f"peft{seed}.safetensors", loras.peft(made), loras.metadata(made))
    return loras.write(root / f"{layout}{seed}.safetensors", loras.kohya(made))


@pytest.mark.parametrize(
    ("kind", "layout"), [*itertools.product(["sd15", "sdxl"], ["kohya", "locon", "old", "peft"]), ("sd21", "locon")]
)
def test_every_layout_does_what_diffusers_does_with_it(kind, layout, load, model_folder, tmp_path):
    nets, file = load(kind), written(model_folder(kind), tmp_path, layout)
    plain, mute = denoised(nets), said(nets)
    lora = nets.loras.load(file)
    assert (lora.note, lora.speaks) == ("", True)
    expected = theirs(model_folder(kind), kind, {file: 0.7}, nets)
    assert nets.loras.merge([(lora, 0.7)])
    assert (denoised(nets) - expected[0]).abs().max() < CLOSE
    for mine, other in zip(said(nets, (lora, 0.7)), expected[1:], strict=True):
        assert (mine - other).abs().max() < CLOSE
    assert (plain - expected[0]).abs().max() > 100 * CLOSE, "the LoRA matters"
    assert (mute[0] - expected[1]).abs().max() > 100 * CLOSE, "to the words too"


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_several_add_up_and_any_order_of_changes_leads_back_bit_by_bit(kind, load, model_folder, tmp_path):
    nets = load(kind)
    files = [
        written(model_folder(kind), tmp_path, layout, seed) for seed, layout in enumerate(("locon", "old", "peft"))
    ]
    a, b, c = (nets.loras.load(file) for file in files)
    plain, mute = denoised(nets), said(nets)
    expected = theirs(model_folder(kind), kind, {files[0]: 0.5, files[1]: -0.4, files[2]: 1.3}, nets)
    wanted = ((a, 0.5), (b, -0.4), (c, 1.3))
    for way in ([wanted], [wanted[:1], wanted[1:], ((c, 2.0), (a, 1e3)), wanted]):
        for step in way:
            nets.loras.merge(step)
        assert (denoised(nets) - expected[0]).abs().max() < CLOSE
        assert (said(nets, *wanted)[0] - expected[1]).abs().max() < CLOSE
    for nothing in ([], [(a, 0.0), (b, 0.0)]):
        nets.loras.merge(nothing)
        assert torch.equal(denoised(nets), plain)
        assert all(map(torch.equal, said(nets, *nothing), mute))
        nets.loras.merge(wanted)
    nets.loras.merge([(a, 0.5), (b, 0.0)])
    with_a = denoised(nets)
    nets.loras.merge([(a, 0.5)])
    assert torch.equal(denoised(nets), with_a)


def test_no_weight_ever_moves_to_another_address_and_what_did_not_change_is_not_written(load, model_folder, tmp_path):
    nets = load()
    lora = nets.loras.load(written(model_folder(), tmp_path, "locon"))
    other = nets.loras.load(written(model_folder(), tmp_path, "old"))
    layers = nets.loras.unet.layers
    places = {path: weight.data_ptr() for path, weight in layers.items()}
    assert nets.loras.merge([(lora, 1.0)])
    assert not nets.loras.merge([(lora, 1.0)]), "as it was"
    versions = {path: weight.sum().item() for path, weight in layers.items()}
    nets.loras.merge([(lora, 1.0), (other, 1.0)])
    moved = {path for path, weight in layers.items() if weight.sum().item() != versions[path]}
    assert moved == other.unet.factors.keys(), "only the layers of the one that was added"
    assert {path: weight.data_ptr() for path, weight in layers.items()} == places


def test_kohyas_names_for_sdxl_are_found(model_folder, tmp_path):
    """LDM names, from the inverse that the conversion of checkpoints is tested with; two layers a block."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from engines.lora import Adapters

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = UNet2DConditionModel.load_config(model_folder("sdxl") / "unet")
        unet = UNet2DConditionModel.from_config({**config, "layers_per_block": 2})
    unet.save_pretrained(tmp_path / "model" / "unet")
    everything = rf"{loras.CONVS}|conv_(in|out)|(time|add)_embedding\.linear_\d"
    made = loras.make(tmp_path / "model", layers=everything)
    tensors = loras.kohya_ldm(made, unet)
    for number in (4, 5):
        assert any(f"lora_unet_input_blocks_{number}_1_transformer_blocks" in name for name in tensors)
    for part in ("middle_block_1", "output_blocks_2_2_conv", "label_emb_0_2", "time_embed_0", "input_blocks_3_0_op"):
        assert any(f"lora_unet_{part}" in name for name in tensors), part
    adapters = Adapters(unet.eval())
    lora = adapters.load(loras.write(tmp_path / "ldm.safetensors", tensors))
    assert lora.unet.factors.keys() == {path for _, path in made}
    for (_, path), (down, up, alpha) in made.items():
        found, change = lora.unet.factors[path], up.flatten(1) @ down.flatten(1) * (alpha / 4)
        assert torch.allclose(found.up @ found.down, change, atol=1e-5), path


def test_a_tucker_decomposition_is_multiplied_out(load, model_folder, tmp_path):
    path = "down_blocks.0.resnets.0.conv1"
    nets = load()
    weight = nets.loras.unet.layers[path]
    before = weight.clone()
    up, mid, down = noise(1, 32, 3, 1, 1), noise(2, 3, 3, 3, 3), noise(3, 3, 32, 1, 1)
    name = "lora_unet_" + path.replace(".", "_")
    tensors = {"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down, "alpha": torch.tensor(1.5)}
    file = loras.write(tmp_path / "cp.safetensors", {f"{name}.{key}": value for key, value in tensors.items()})
    nets.loras.merge([(nets.loras.load(file), 2.0)])
    x = noise(4, 1, 32, 8, 8)
    thin = torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down), mid, padding=1)
    expected = torch.nn.functional.conv2d(x, before, padding=1) + torch.nn.functional.conv2d(thin, up)
    found = torch.nn.functional.conv2d(x, weight, padding=1)
    assert torch.allclose(found, expected, atol=1e-3, rtol=1e-4)


def test_pefts_own_layout_takes_alpha_from_the_file_beside_it(load, tmp_path):
    """`save_pretrained` of a PEFT model: names without a component, and settings in a file of their own."""
    path, file = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", tmp_path / "adapter_model.safetensors"
    down, up = noise(1, 4, 64), noise(2, 64, 4)
    name = f"base_model.model.{path}"
    loras.write(file, {f"{name}.lora_A.weight": down, f"{name}.lora_B.default.weight": up})
    settings = {"lora_alpha": 8, "r": 4, "use_dora": False, "bias": "none"}
    nets = load()
    for beside, scale in (
        (None, 1.0),
        (settings, 2.0),
        ({**settings, "use_rslora": True}, 4.0),
        ({**settings, "alpha_pattern": {"attn1.to_q": 2}}, 0.5),
    ):
        if beside is not None:
            (tmp_path / "adapter_config.json").write_text(json.dumps(beside))
        found = nets.loras.load(file).unet.factors[path]
        assert torch.allclose(found.up @ found.down, up @ down * scale, atol=1e-5), beside
    for wrong, word in (({"use_dora": True}, "DoRA"), ({"bias": "all"}, "biases"), ([1], "settings")):
        (tmp_path / "adapter_config.json").write_text(json.dumps(wrong))
        with pytest.raises(ModelError, match=word):
            nets.loras.load(file)


NAME = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
LDM = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"
DOTTED = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
GOOD = {f"{NAME}.lora_down.weight": torch.ones(4, 64), f"{NAME}.lora_up.weight": torch.ones(64, 4)}
WRONG: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "dora": ({**GOOD, f"{NAME}.dora_scale": torch.ones(1, 64)}, "is a DoRA"),
    "peft dora": ({**GOOD, "unet.a.lora_magnitude_vector.weight": torch.ones(1, 64)}, "is a DoRA"),
    "loha": ({f"{NAME}.hada_w1_a": torch.ones(4, 4)}, "is a LoHa"),
    "lokr": ({f"{NAME}.lokr_w1": torch.ones(4, 4)}, "is a LoKr"),
    "whole": ({f"{NAME}.diff": torch.ones(64, 64)}, "whole differences"),
    "half": ({f"{NAME}.lora_down.weight": torch.ones(4, 64)}, "not whole"),
    "ranks": ({**GOOD, f"{NAME}.lora_up.weight": torch.ones(64, 5)}, "don't go together"),
    "size": ({**GOOD, f"{NAME}.lora_down.weight": torch.ones(4, 320)}, "64 by 320, this model's 64 by 64"),
    "alpha": ({**GOOD, f"{NAME}.alpha": torch.ones(3)}, "not one number"),
    "twice": ({**GOOD, f"{DOTTED}.lora_A.weight": torch.ones(4, 64)}, "two tensors"),
    "nan": ({**GOOD, f"{NAME}.lora_up.weight": torch.full((64, 4), float("nan"))}, "not finite"),
    "alpha nan": ({**GOOD, f"{NAME}.alpha": torch.tensor(float("inf"))}, "not finite"),
    "two ways": (
        {**GOOD, **{key.replace(NAME, LDM): value.clone() for key, value in GOOD.items()}}, "names a layer twice",
    ),
    "no lora": ({"model.weight": torch.ones(4, 4)}, "no LoRA that we know"),
    "foreign": ({f"{NAME}_x{key.removeprefix(NAME)}": value for key, value in GOOD.items()}, "another kind of model"),
    "flux": ({"transformer.blocks.0.attn.to_q.lora_A.weight": torch.ones(4, 64),
              "transformer.blocks.0.attn.to_q.lora_B.weight": torch.ones(64, 4)}, "another kind of model"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_a_sentence_and_changes_nothing(what, load, tmp_path):
    nets = load()
    plain = denoised(nets)
    tensors, words = WRONG[what]
    with pytest.raises(ModelError, match=words) as caught:
        nets.loras.load(loras.write(tmp_path / "wrong.safetensors", tensors))
    assert "wrong.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(denoised(nets), plain)


def test_what_is_no_safetensors_is_a_sentence(load, tmp_path):
    nets, whole = load(), loras.write(tmp_path / "whole.safetensors", GOOD).read_bytes()
    for name, data, words in (
        ("pickle", b"\x80\x04rest" * 9, "pickle"), ("cut", whole[:-9], "cut short"), ("empty", b"", "not a safet"),
    ):  # fmt: skip
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        with pytest.raises(ModelError, match=words):
            nets.loras.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match="can't be read"):
        nets.loras.load(tmp_path / "gone.safetensors")


@pytest.mark.parametrize(
    ("made_for", "kind"), [("sd15", "sdxl"), ("sdxl", "sd15"), ("sdxl", "sd21"), ("sd15", "pocket")]
)
def test_a_lora_for_another_base_model_is_refused(made_for, kind, load, model_folder, tmp_path):
    from engines.registry import Registry

    file = written(model_folder(made_for), tmp_path, "locon")
    folder = Registry.open().get("pocket").folder() if kind == "pocket" else model_folder(kind)
    nets = EagerEngine().load(folder, Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    with pytest.raises(ModelError, match=r"another (kind of model|size)"):
        nets.loras.load(file)


def test_a_few_layers_that_the_model_lacks_are_left_out_and_that_is_said(load, model_folder, tmp_path):
    made = loras.make(model_folder())
    tensors = loras.kohya(made)
    extra = NAME.replace("blocks_1", "blocks_7")
    tensors |= {f"{extra}{key.removeprefix(NAME)}": value for key, value in GOOD.items()}
    tensors["bundle_emb.word.string_to_param.*"] = torch.ones(1, 32)
    lora = load().loras.load(loras.write(tmp_path / "more.safetensors", tensors))
    assert "1 of its layers" in lora.note
    assert len(lora.unet.factors) == sum(component == "unet" for component, _ in made)


def test_pocket_takes_loras_to_its_denoiser_and_its_words(tmp_path):
    from engines.registry import Registry

    folder = Registry.open().get("pocket").folder()
    nets = EagerEngine().load(folder, Build(SIDE, SIDE, device="cpu", dtype="fp32"))
    made = loras.make(folder, layers=loras.CONVS)
    assert {component for component, _ in made} == {"unet", "text_encoder"}
    lora = nets.loras.load(loras.write(tmp_path / "a.safetensors", loras.kohya(made)))
    plain, mute = denoised(nets), said(nets)
    nets.loras.merge([(lora, 1.0)])
    assert not torch.allclose(denoised(nets), plain, atol=1e-2)
    assert not torch.allclose(said(nets, (lora, 1.0))[0], mute[0], atol=1e-2)
    nets.loras.merge([])
    assert torch.equal(denoised(nets), plain)
    assert torch.equal(said(nets)[0], mute[0])


def test_half_precision_comes_back_bit_by_bit_too(load, model_folder, tmp_path):
    nets = EagerEngine().load(model_folder(), Build(SIDE, SIDE, device="cpu", dtype="bf16"))
    lora = nets.loras.load(written(model_folder(), tmp_path, "locon"))
    plain = denoised(nets)
    for weight in (1.0, 0.3, -2.0):
        nets.loras.merge([(lora, weight)])
        assert not torch.equal(denoised(nets), plain)
    nets.loras.merge([])
    assert torch.equal(denoised(nets), plain)


def test_copies_of_the_base_go_when_the_last_one_that_needs_them_does(load, model_folder, tmp_path):
    nets = load()
    a, b = (nets.loras.load(written(model_folder(), tmp_path, layout)) for layout in ("locon", "old"))
    merger = nets.loras.unet
    both, only = set(a.unet.factors), set(b.unet.factors)
    assert set(merger._bases) == both | only
    nets.loras.merge([(a, 1.0)])
    del a
    gc.collect()
    nets.loras.merge([])
    nets.loras.merge([])
    assert set(merger._bases) == only, "one that rests will need its own"
    nets.loras.merge([(b, 1.0)])
    plain = load()
    del b
    gc.collect()
    nets.loras.merge([])
    nets.loras.merge([])
    assert merger._bases == {}
    assert torch.equal(denoised(nets), denoised(plain))
    again = nets.loras.load(written(model_folder(), tmp_path, "old"))
    nets.loras.merge([(again, 1.0)])
    nets.loras.merge([])
    assert torch.equal(denoised(nets), denoised(plain))


def test_a_merge_that_fails_half_way_is_done_anew(load, model_folder, tmp_path, monkeypatch):
    nets = load()
    lora = nets.loras.load(written(model_folder(), tmp_path, "kohya"))
    nets.loras.merge([(lora, 1.0)])
    plain = denoised(load())
    whole, merger, write, left = denoised(nets), nets.loras.unet, nets.loras.unet._write, [5]
    nets.loras.merge([(lora, 0.5)])

    def broken(path: str, recipe: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            monkeypatch.setattr(torch, "addmm", failing)
        write(path, recipe)

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    for after in ([(lora, 1.0)], []):
        monkeypatch.setattr(merger, "_write", broken)
        with pytest.raises(RuntimeError):
            nets.loras.merge([(lora, 0.9 + len(after))])
        monkeypatch.undo()
        nets.loras.merge(after)
        assert torch.equal(denoised(nets), whole if after else plain)
