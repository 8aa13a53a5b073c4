"""LoRAs by id: added, linked, copied, listed, checked, and refused with a sentence. Nothing here needs torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bridge.cli import main
from bridge.tox.pages import shipped
from bridge.web.catalogue import loras
from engines import library, modelfile, paths
from engines.errors import ModelError
from engines.registry import Registry

TO_K = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"


def livelatent(*words: str | Path) -> int:
    return main(["models", *map(str, words)])


def write(path: Path, width: int = 768, **extra: np.ndarray) -> Path:
    tensors: Mapping[str, np.ndarray] = {
        f"{TO_K}.lora_down.weight": np.ones((4, width), np.float32),
        f"{TO_K}.lora_up.weight": np.ones((64, 4), np.float32),
        **extra,
    }
    save_file(dict(tensors), path)
    return path


@pytest.fixture
def ink(tmp_path: Path) -> Path:
    return write(tmp_path / "Ink Wash.safetensors")


def user_file(text: str) -> None:
    modelfile.user_file().parent.mkdir(parents=True, exist_ok=True)
    modelfile.user_file().write_text(text)


def test_one_is_linked_and_found_out_to_be_a_lora(ink: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert livelatent("add", ink, "--id", "ink") == 0
    entry = Registry.open().lora("ink")
    assert (entry.title, entry.family, entry.origin, entry.file()) == ("Ink Wash", "sd15", "added", ink.resolve())
    assert "<lora:ink:0.8>" in capsys.readouterr().out
    assert livelatent("check", "ink") == 0
    data = bytearray(ink.read_bytes())
    data[-1] ^= 1
    ink.write_bytes(data)
    assert livelatent("check", "ink") == 1
    assert "has changed" in capsys.readouterr().out
    ink.unlink()
    with pytest.raises(ModelError, match="not where it was"):
        Registry.open().lora("ink").file()


def test_one_is_copied_with_pefts_settings(ink: Path) -> None:
    settings = ink.with_name("adapter_config.json")
    settings.write_text('{"lora_alpha": 8}')
    assert livelatent("add", ink, "--id", "ink", "--kind", "lora", "--copy") == 0
    ink.unlink()
    settings.unlink()
    file = Registry.open().lora("ink").file()
    assert file == (paths.models() / "ink" / "ink.safetensors").resolve()
    assert file.with_name("adapter_config.json").is_file()
    assert livelatent("check", "ink") == 0
    file.with_name("adapter_config.json").write_text("{}")
    assert livelatent("check", "ink") == 1


@pytest.mark.parametrize(("width", "family"), [(768, "sd15"), (1024, "sd21"), (2048, "sdxl"), (128, "other")])
def test_its_family_is_what_its_text_is_wide(width: int, family: str, tmp_path: Path) -> None:
    assert library.add_lora(write(tmp_path / "a.safetensors", width), "a").family == family


def test_an_id_is_given_once(ink: Path) -> None:
    library.add_lora(ink, "ink")
    with pytest.raises(ModelError, match="--force"):
        library.add_lora(ink, "ink")
    assert library.add_lora(ink, "ink", force=True, family="sdxl").family == "sdxl"
    user_file(modelfile.user_file().read_text() + '\n[models.mine]\nfolder = "/nowhere"\n')
    for taken in ("mine", "pocket", "pocket-edge", "lcm-sd15", "none", "taesd", "../x"):
        with pytest.raises(ModelError, match=r"choose another id|is no id"):
            library.add_lora(ink, taken, force=True)
    with pytest.raises(ModelError, match="choose another id"):
        library.add(ink.parent, "ink", force=True)


WRONG = {
    "a DoRA": {f"{TO_K}.dora_scale": np.ones((1, 4), np.float32)},
    "a LoHa": {f"{TO_K}.hada_w1_a": np.ones((4, 4), np.float32)},
    "not whole": {f"{TO_K}2.lora_up.weight": np.ones((4, 4), np.float32)},
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_none_of_ours_is_refused_before_it_is_recorded(words: str, tmp_path: Path) -> None:
    file = write(tmp_path / "odd.safetensors", **WRONG[words])
    with pytest.raises(ModelError, match=words):
        library.add_lora(file, "odd")
    assert "odd" not in Registry.open().lora_ids()
    assert not (paths.models() / "odd").exists()


def test_a_pickle_by_that_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04" + b"x" * 99)
    assert livelatent("add", tmp_path / "evil.safetensors", "--id", "evil") == 2
    assert "pickle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[loras.a]\npath = "relative.safetensors"\n', "absolute path"),
        ('[loras.a]\ndownload = "taesd"\n', "download and file, or path"),
        ('[loras.a]\npath = "/x"\ndownload = "taesd"\nfile = "f"\n', "download and file, or path"),
        ('[loras.a]\ndownload = "nowhere"\nfile = "f"\n', r"no \[downloads\.nowhere\]"),
        ("[loras.a]\nweight = 1\n", "unknown key `weight`"),
        ("[loras.none]\n", "stands for none"),
        ("[loras.pocket]\n", "already taken"),
        ('[loras.a]\n[controlnets.a]\nhint = "x"\n', "already taken"),
    ],
)
def test_what_is_wrong_in_the_table_is_named(text: str, words: str) -> None:
    user_file(text)
    with pytest.raises(ModelError, match=words):
        Registry.open()


def test_a_link_that_leads_out_of_our_folder_is_refused(ink: Path) -> None:
    user_file("[loras.ink]\n")
    (paths.models() / "ink").mkdir(parents=True)
    (paths.models() / "ink" / "ink.safetensors").symlink_to(ink)
    with pytest.raises(ModelError, match="leads out"):
        Registry.open().lora("ink").file()


def test_those_that_ship_are_fetched_with_the_models_that_use_them(capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry.open()
    assert registry.lora_ids() == ["none", "lcm-sd15", "hyper-sd15-1step"] == shipped("loras")
    entry = registry.lora("lcm-sd15")
    assert (entry.family, entry.origin, entry.licence) == ("sd15", "pulled", "Open RAIL++-M")
    with pytest.raises(ModelError, match="livelatent models pull lcm-sd15"):
        entry.file()
    with pytest.raises(ModelError, match="did you mean lcm-sd15"):
        registry.lora("lcm-sd1")
    assert livelatent("list") == 0
    assert "hyper-sd15-1step" in capsys.readouterr().out
    assert [choice.title for choice in loras()][:2] == ["none", "lcm-sd15 (not pulled)"]


def test_the_page_names_those_of_the_user(ink: Path) -> None:
    library.add_lora(ink, "ink")
    assert [choice.id for choice in loras()] == ["none", "lcm-sd15", "hyper-sd15-1step", "ink"]
    shutil.rmtree(ink.parent)
    assert loras()[-1].title == "ink (missing)"
