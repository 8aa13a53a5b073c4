"""Checkpoints in one file, converted by diffusers' own code: small ones of each family, tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engines import convert, library, paths
from engines.errors import ModelError
from engines.header import read_header
from engines.modelrows import Family
from engines.registry import Registry
from tests.support.model_files import audited, model_folder, write_json

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

Of = Callable[[Family], "Small"]
FAMILIES: tuple[Family, ...] = ("sd15", "sd21", "sdxl")
SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    yield
    torch.set_num_threads(threads)


def small_configs(family: Family, folder: Path) -> Path:
    """The family's shipped configs with everything but the sizes left as it is."""
    shutil.copytree(convert.templates(family), folder)
    levels = 3 if family == "sdxl" else 4
    width = 64 if family == "sdxl" else 32
    unet = {"block_out_channels": [32, 64, 64, 64][:levels], "cross_attention_dim": width, "norm_num_groups": 16}
    unet["attention_head_dim"] = 4 if family == "sd15" else [2, 4, 4, 4][:levels]
    if family == "sdxl":
        unet |= {"transformer_layers_per_block": [1, 1, 2], "addition_time_embed_dim": 8}
        unet["projection_class_embeddings_input_dim"] = 6 * 8 + 48
    change(folder / "unet/config.json", unet)
    change(folder / "vae/config.json", {"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 8})
    change(folder / "text_encoder/config.json", {**SMALL_TEXT, "projection_dim": 32})
    if family == "sdxl":
        change(folder / "text_encoder_2/config.json", {**SMALL_TEXT, "hidden_size": 48, "projection_dim": 48})
        change(folder / "text_encoder_2/config.json", {"num_hidden_layers": 11})
    return folder


def change(path: Path, values: dict[str, Any]) -> None:
    write_json(path, {**json.loads(path.read_text()), **values})


def networks(configs: Path) -> dict[str, Any]:
    """Networks of these configs, every tensor filled with numbers of its own that float16 holds exactly."""
    torch.manual_seed(5)
    nets = {
        "unet": diffusers.UNet2DConditionModel.from_config(json.loads((configs / "unet/config.json").read_text())),
        "vae": diffusers.AutoencoderKL.from_config(json.loads((configs / "vae/config.json").read_text())),
        "text_encoder": transformers.CLIPTextModel(text_config(configs, "text_encoder")),
    }
    if (configs / "text_encoder_2").is_dir():
        nets["text_encoder_2"] = transformers.CLIPTextModelWithProjection(text_config(configs, "text_encoder_2"))
    for net in nets.values():
        for value in net.parameters():
            value.data = torch.randn(value.shape).half().float()
    return nets


def text_config(configs: Path, part: str) -> Any:
    return transformers.CLIPTextConfig(**json.loads((configs / part / "config.json").read_text()))


def checkpoint(family: Family, nets: dict[str, Any]) -> dict[str, Any]:
    from tests.support import ldm

    out = {**ldm.unet(nets["unet"]), **ldm.vae(nets["vae"]), "betas": torch.zeros(4)}
    if family == "sd15":
        out |= ldm.clip(nets["text_encoder"], "cond_stage_model.transformer.")
    elif family == "sd21":
        out |= ldm.open_clip(nets["text_encoder"], "cond_stage_model.model.")
    else:
        out |= ldm.clip(nets["text_encoder"], "conditioner.embedders.0.transformer.")
        out |= ldm.open_clip(nets["text_encoder_2"], "conditioner.embedders.1.model.")
    return out


def save(tensors: dict[str, Any], path: Path, dtype: Any = None) -> Path:
    from safetensors.torch import save_file

    cast = {key: (value.to(dtype) if dtype and value.is_floating_point() else value) for key, value in tensors.items()}
    save_file({key: value.contiguous().clone() for key, value in cast.items()}, path)
    return path


class Small(NamedTuple):
    """A small model of a family: its configs, its networks, and all tensors as a checkpoint in one file names them."""

    configs: Path
    nets: dict[str, Any]
    tensors: dict[str, Any]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Of:
    made: dict[Family, Small] = {}

    def of(family: Family) -> Small:
        if family not in made:
            configs = small_configs(family, tmp_path_factory.mktemp(family) / "configs")
            nets = networks(configs)
            made[family] = Small(configs, nets, checkpoint(family, nets))
        return made[family]

    return of


def pulled_tokenizer() -> None:
    """A model that is here already, with a vocabulary of CLIP's size."""
    folder = model_folder(paths.models() / "sd15")
    write_json(folder / "tokenizer/vocab.json", {f"w{n}": n for n in range(convert.CLIP_VOCABULARY)})
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    loras = paths.models() / "lcm-lora-sd15"
    loras.mkdir(parents=True)
    save({"w": torch.zeros(1)}, loras / "pytorch_lora_weights.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shipped_configs_describe_the_published_networks(family: Family) -> None:
    """Numbers of parameters as their authors give them, in millions."""
    known = {
        "sd15": {"unet": 859.52, "vae": 83.65, "text_encoder": 123.06},
        "sd21": {"unet": 865.91, "vae": 83.65, "text_encoder": 340.39},
        "sdxl": {"unet": 2567.46, "vae": 83.65, "text_encoder": 123.06, "text_encoder_2": 694.66},
    }[family]
    configs = convert.templates(family)
    with torch.device("meta"):
        for part, millions in known.items():
            if part.startswith("text"):
                net_class = transformers.CLIPTextModelWithProjection if part[-1] == "2" else transformers.CLIPTextModel
                net = net_class(text_config(configs, part))
            else:
                net_class = diffusers.UNet2DConditionModel if part == "unet" else diffusers.AutoencoderKL
                net = net_class.from_config(json.loads((configs / part / "config.json").read_text()))
            assert sum(value.numel() for value in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_arrives_under_its_name(family: Family, small: Of, tmp_path: Path) -> None:
    pulled_tokenizer()
    configs, nets, tensors = small(family)
    file = save(tensors, tmp_path / "my model.safetensors", torch.float16)
    entry = library.add(file, "mine", configs=configs)
    assert (entry.family, entry.title, entry.source) == (family, "my model", str(file))
    folder = entry.folder()
    loaders = {
        "unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel, "text_encoder_2": transformers.CLIPTextModelWithProjection,
    }  # fmt: skip
    for part, net in nets.items():
        loaded = loaders[part].from_pretrained(folder / part, local_files_only=True, use_safetensors=True)
        want, have = net.state_dict(), loaded.state_dict()
        assert want.keys() == have.keys()
        for key, value in want.items():
            assert torch.equal(value, have[key].float()), f"{part}: {key}"
    assert len(json.loads((folder / "tokenizer/vocab.json").read_text())) == convert.CLIP_VOCABULARY
    assert (folder / "tokenizer_2").is_dir() == (family == "sdxl")
    assert [path.name for path in paths.models().iterdir() if path.name.startswith(".")] == []


def test_full_precision_is_stored_as_half_and_bfloat16_stays(small: Of, tmp_path: Path) -> None:
    pulled_tokenizer()
    configs, _, tensors = small("sd15")
    for dtype, want in ((torch.float32, "F16"), (torch.bfloat16, "BF16")):
        file = save(tensors, tmp_path / "x.safetensors", dtype)
        folder = library.add(file, "mine", configs=configs, force=True, prediction="v_prediction").folder()
        header = read_header(folder / "unet/diffusion_pytorch_model.safetensors")
        assert {tensor.dtype for tensor in header.values()} == {want}
        scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
        assert scheduler["prediction_type"] == "v_prediction"


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        ("model.diffusion_model.input_blocks.4.", "unet is incomplete"),
        ("model.diffusion_model.", "no UNet"),
        ("first_stage_model.", "no autoencoder"),
        ("first_stage_model.decoder.up.1.", "vae"),
        ("cond_stage_model.transformer.", "no text encoder"),
        ("cond_stage_model.transformer.text_model.encoder.layers.1.mlp", "text_encoder is incomplete"),
    ],
)
def test_an_incomplete_checkpoint_is_refused(drop: str, says: str, small: Of, tmp_path: Path) -> None:
    pulled_tokenizer()
    configs, _, tensors = small("sd15")
    rest = {key: value for key, value in tensors.items() if not key.startswith(drop)}
    assert len(rest) < len(tensors)
    with pytest.raises(ModelError, match=says) as caught:
        library.add(save(rest, tmp_path / "x.safetensors"), "mine", configs=configs)
    assert "\n" not in str(caught.value)
    assert "mine" not in Registry.open().ids()
    assert not [path for path in paths.models().iterdir() if "mine" in path.name]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["lora_unet_down_blocks_0.lora_up.weight"], "it is a LoRA"),
        (["control_model.time_embed.0.weight"], "it is a ControlNet"),
        (["down_blocks.0.resnets.0.conv1.weight"], "single network in the diffusers layout"),
        (["something"], "no UNet under the names"),
    ],
)
def test_other_files_are_named_for_what_they_are(names: list[str], says: str, tmp_path: Path) -> None:
    file = save({name: torch.zeros(2) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=says):
        library.add(file, "mine")


def test_an_inpainting_checkpoint_is_refused(tmp_path: Path) -> None:
    tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 9, 3, 3)}
    with pytest.raises(ModelError, match="inpainting"):
        library.add(save(tensors, tmp_path / "x.safetensors"), "mine")


def test_without_a_tokenizer_it_says_what_to_pull(small: Of, tmp_path: Path) -> None:
    configs, _, tensors = small("sd15")
    file = save(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="run `livelatent models pull sd15-lcm` once"):
        library.add(file, "mine", configs=configs)


def test_the_wrong_family_and_the_wrong_width_are_refused(small: Of, tmp_path: Path) -> None:
    pulled_tokenizer()
    file = save(small("sd15").tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="is a sd15 checkpoint, not sdxl"):
        library.add(file, "mine", family="sdxl")
    with pytest.raises(ModelError, match=r"width \[32\], its family to 768"):
        library.add(file, "mine")


def test_a_checkpoint_that_is_a_pickle_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"\x80\x04cos\nsystem\n(S'touch fired'\ntR.")
    with audited() as seen, pytest.raises(ModelError, match="a pickle"):
        library.add(file, "mine")
    assert {event for event, _ in seen} == {"open"}
