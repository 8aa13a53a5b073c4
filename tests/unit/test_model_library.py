"""Models of the user's own: linked, copied, replaced, checked (single files: peer/test_convert)."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bridge.cli import main
from engines import library, manifest, modelfile, paths
from engines.errors import ModelError
from engines.registry import Registry
from tests.support.model_files import audited, model_folder, raw, write_json


def livelatent(*words: str | Path) -> int:
    return main(["models", *map(str, words)])


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "theirs")


def test_a_folder_is_linked(theirs: Path) -> None:
    before = sorted(theirs.rglob("*"))
    entry = library.add(theirs, "mine")
    assert entry.folder() == theirs.resolve()
    assert (entry.origin, entry.family, entry.sampler, entry.tiny_vae) == ("added", "sd15", "lcm", "taesd")
    assert sorted(theirs.rglob("*")) == before
    assert manifest.load(paths.models() / "mine.json")


def test_a_folder_is_copied_without_what_can_carry_code(theirs: Path) -> None:
    (theirs / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04x")
    (theirs / "unet" / "run.py").write_text("boom")
    (theirs / "whole.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"unet/diffusion_pytorch_model\.bin can carry code.*--copy"):
        library.add(theirs, "mine")
    entry = library.add(theirs, "mine", copy=True)
    assert entry.folder() == (paths.models() / "mine").resolve()
    names = {path.name for path in entry.folder().rglob("*") if path.is_file()}
    assert "model_index.json" in names
    assert not names & {"diffusion_pytorch_model.bin", "run.py", "whole.safetensors"}
    shutil.rmtree(theirs)
    assert Registry.open().get("mine").here
    assert [path.name for path in paths.models().iterdir()] == ["mine"]


def test_a_copied_link_does_not_fetch_what_lies_elsewhere(theirs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (theirs / "unet" / "x.json").symlink_to(secret)
    with audited() as seen, pytest.raises(ModelError, match="leads out"):
        library.add(theirs, "mine", copy=True)
    assert str(secret) not in {str(path) for _, path in seen}
    assert "mine" not in Registry.open().ids()


def test_an_id_is_replaced_only_when_asked(theirs: Path, tmp_path: Path) -> None:
    library.add(theirs, "mine", copy=True)
    other = model_folder(tmp_path / "other")
    with pytest.raises(ModelError, match=r"mine is taken.*--force"):
        library.add(other, "mine")
    assert Registry.open().get("mine").source == str(theirs)
    entry = library.add(other, "mine", force=True)
    assert entry.folder() == other.resolve()
    assert not (paths.models() / "mine").exists()
    assert library.add(theirs, "mine", copy=True, force=True).folder() == (paths.models() / "mine").resolve()


def test_a_failed_replacement_leaves_the_old_one(theirs: Path, tmp_path: Path) -> None:
    library.add(theirs, "mine", copy=True)
    broken = model_folder(tmp_path / "broken")
    (broken / "unet/diffusion_pytorch_model.safetensors").write_bytes(raw({"a": 1}))
    for copy in (True, False):
        with pytest.raises(ModelError, match="broken header"):
            library.add(broken, "mine", copy=copy, force=True)
    assert Registry.open().get("mine").source == str(theirs)
    assert livelatent("check", "mine") == 0


@pytest.mark.parametrize("name", ["pocket", "sd-turbo", "taesd", "sd15", "../x", "con", "A", "a" * 65])
def test_ids_that_can_not_be_given(name: str, theirs: Path) -> None:
    with pytest.raises(ModelError):
        library.add(theirs, name, force=True)
    assert not modelfile.user_file().exists()
    assert not paths.models().exists()


def test_defaults_follow_the_models_own_configs(theirs: Path) -> None:
    write_json(
        theirs / "scheduler/scheduler_config.json",
        {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
    )
    write_json(theirs / "unet/config.json", {"cross_attention_dim": 1024})
    turbo = library.add(theirs, "turbo")
    assert (turbo.family, turbo.sampler, turbo.steps) == ("sd21", "turbo", 1)
    write_json(theirs / "scheduler/scheduler_config.json", {"_class_name": "TCDScheduler"})
    assert library.add(theirs, "tcd").sampler == "tcd"
    write_json(theirs / "unet/config.json", {"cross_attention_dim": 768, "time_cond_proj_dim": 256})
    lcm = library.add(theirs, "lcm")
    assert (lcm.family, lcm.sampler, lcm.guidance) == ("sd15", "lcm", 8.0)
    write_json(theirs / "unet/config.json", {"cross_attention_dim": 32})
    assert library.add(theirs, "own").tiny_vae == ""


def test_a_lora_goes_over_it(theirs: Path, tmp_path: Path) -> None:
    lora = tmp_path / "style.safetensors"
    save_file({"lora": np.ones(2, np.float32)}, lora)
    assert livelatent("add", theirs, "--id", "mine", "--lora", f"{lora}@0.5", "--lora", "lcm-lora-sd15") == 0
    entry = Registry.open().get("mine")
    assert not entry.here
    assert [download.id for download in entry.downloads] == ["lcm-lora-sd15", "taesd"]
    with pytest.raises(ModelError, match="run `livelatent models pull mine`"):
        entry.lora_files()
    (paths.models() / "lcm-lora-sd15").mkdir(parents=True)
    shutil.copy(lora, paths.models() / "lcm-lora-sd15" / "pytorch_lora_weights.safetensors")
    assert [weight for _, weight in entry.lora_files()] == [0.5, 1.0]
    lora.write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match=r"style\.safetensors"):
        library.add(theirs, "other", loras=[(str(lora), 1.0)])


@pytest.mark.parametrize("copy", [True, False])
def test_check_finds_one_flipped_bit(copy: bool, theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = library.add(theirs, "mine", copy=copy).folder()
    assert livelatent("check", "mine") == 0
    assert "mine: every file is as it came" in capsys.readouterr().out
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert livelatent("check") == 1
    assert "mine: vae/diffusion_pytorch_model.safetensors has changed since it came" in capsys.readouterr().out


def test_check_finds_what_is_missing_longer_and_new(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library.add(theirs, "mine")
    (theirs / "tokenizer/vocab.json").unlink()
    write_json(theirs / "vae/config.json", {"_class_name": "AutoencoderKL", "latent_channels": 16})
    write_json(theirs / "vae/new.json", {})
    assert livelatent("check", "mine") == 1
    out = capsys.readouterr().out
    assert "tokenizer/vocab.json is missing" in out
    assert "vae/config.json has" in out
    assert "vae/new.json was not there" in out
    shutil.rmtree(theirs)
    assert livelatent("check", "mine") == 1
    assert "mine: is not where it was" in capsys.readouterr().out


def test_a_folder_copied_by_hand_is_here_but_unverified(capsys: pytest.CaptureFixture[str]) -> None:
    """An offline machine: the models folder of another one, or a diffusers folder under the right name."""
    model_folder(paths.models() / "sd-turbo")
    assert Registry.open().get("sd-turbo").here
    assert livelatent("check", "sd-turbo") == 0
    assert "no hashes were recorded" in capsys.readouterr().out


def test_pins_are_verified(theirs: Path) -> None:
    path = theirs / "unet/config.json"
    known = manifest.record(theirs, "", "")
    assert list(manifest.verify(theirs, known, {"unet/config.json": manifest.sha256(path)})) == []
    assert list(manifest.verify(theirs, known, {"unet/config.json": "0" * 64})) == [
        "unet/config.json is not the file that models.toml pins"
    ]


def test_a_broken_manifest_is_a_sentence(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library.add(theirs, "mine", copy=True)
    (paths.models() / "mine" / manifest.NAME).write_text("{}")
    assert livelatent("check", "mine") == 1
    assert "is broken" in capsys.readouterr().out


def test_list_shows_every_model(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library.add(theirs, "mine")
    assert livelatent("list") == 0
    out = capsys.readouterr().out
    for words in ("pocket *", "sd-turbo", "not here", "CreativeML", "Non-Commercial", "mine", "here, tiny VAE"):
        assert words in out


def test_errors_are_one_sentence_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert livelatent("add", tmp_path / "gone", "--id", "mine") == 2
    assert livelatent("check", "sd-trubo") == 2
    assert livelatent("pull", "sd-trubo") == 2
    assert livelatent("add", tmp_path, "--id", "mine", "--lora", "x@y") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("livelatent: ") for line in lines)


def test_what_is_written_is_toml(theirs: Path) -> None:
    library.add(theirs, "mine")
    assert tomllib.loads(modelfile.user_file().read_text())["models"]["mine"]["folder"] == str(theirs)
