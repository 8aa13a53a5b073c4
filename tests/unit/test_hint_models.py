"""Networks that make hints, as models: listed, added, checked, chosen by kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bridge.cli import main
from engines import hintnets, library, manifest, modelfile, paths
from engines.errors import ModelError
from engines.hintfiles import find_kind
from engines.modelrows import HintKind
from engines.registry import Registry
from tests.support.hintnets import hed_weights, pidinet_weights, write_depth
from tests.support.model_files import model_folder


def livelatent(*words: str | Path) -> int:
    return main(["models", *map(str, words)])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


@pytest.fixture
def hed(tmp_path: Path) -> Path:
    save_file(hed_weights(), tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture(scope="module")
def depth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_depth(tmp_path_factory.mktemp("depth") / "small", "depth-anything")


def test_what_ships_says_how_to_get_it() -> None:
    registry = Registry.open()
    said = {kind: registry.hintnet_for(kind).wanting() for kind in ("depth", "hed", "pidinet", "pose")}
    assert said == {
        "depth": "depth-anything-v2-small is not here yet: run `livelatent models pull depth-anything-v2-small`",
        "hed": "hed is not here: run `livelatent models add FILE.safetensors --id hed`",
        "pidinet": "pidinet is not here: run `livelatent models add FILE.safetensors --id pidinet`",
        "pose": "dwpose is not here yet: run `livelatent models pull dwpose`",
    }
    for entry in map(registry.hintnet, registry.hintnet_ids()):
        assert entry.licence != "not stated"
        assert bool(entry.downloads) == (entry.kind in ("depth", "pose"))
        with pytest.raises(ModelError, match=entry.id):
            entry.folder()


def test_an_edge_detector_is_known_by_its_tensors_copied_and_fills_its_id(hed: Path, capsys) -> None:
    assert livelatent("add", hed, "--id", "hed") == 0
    assert "for the preprocessors that need hed" in capsys.readouterr().out
    entry = Registry.open().hintnet_for("hed")
    assert (entry.id, entry.folder()) == ("hed", (paths.models() / "hed").resolve())
    assert not modelfile.user_file().exists(), "it is listed already"
    assert livelatent("add", hed, "--id", "more", "--lora", "lcm-lora-sd15") != 0
    assert "takes no --lora" in capsys.readouterr().err
    assert livelatent("check", "hed") == 0
    (paths.models() / "hed" / "mine.safetensors").write_bytes(hed.read_bytes()[:-4] + b"\0\0\0\1")
    assert livelatent("check", "hed") == 1
    with pytest.raises(ModelError, match="--force"):
        library.add_hint(hed, "hed")
    library.add_hint(hed, "hed", force=True)
    assert livelatent("check", "hed") == 0


def test_one_under_an_id_of_ones_own_goes_before_ours(hed: Path, tmp_path: Path) -> None:
    library.add_hint(hed, "hed")
    library.add_hint(hed, "better")
    assert [Registry.open().hintnet_for("hed").id, Registry.open().hintnet("better").kind] == ["better", "hed"]
    shutil.rmtree(paths.models() / "better")
    assert Registry.open().hintnet_for("hed").id == "hed"
    save_file(pidinet_weights(), tmp_path / "p.safetensors")
    assert library.add_hint(tmp_path / "p.safetensors", "lines").kind == "pidinet"
    with pytest.raises(ModelError, match="stands for a network of the kind hed, and this is pidinet"):
        library.add_hint(tmp_path / "p.safetensors", "hed")


def test_a_depth_model_is_linked_or_copied(depth: Path, tmp_path: Path) -> None:
    entry = library.add_hint(depth, "mine")
    assert (entry.kind, entry.folder()) == ("depth", depth.resolve())
    assert manifest.load(paths.models() / "mine.json")
    copy = tmp_path / "copy"
    shutil.copytree(depth, copy)
    (copy / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="can carry code"):
        library.add_hint(copy, "other")
    assert "other" not in Registry.open().hintnet_ids()
    library.add_hint(copy, "other", copy=True)
    shutil.rmtree(copy)
    assert {path.suffix for path in (paths.models() / "other").iterdir()} == {".json", ".safetensors"}
    assert livelatent("check") == 0


def test_ids_are_one_name_space(hed: Path, depth: Path, tmp_path: Path) -> None:
    for taken in ("pocket", "pocket-edge", "taesd", "depth-anything-v2-small", "NUL"):
        with pytest.raises(ModelError):
            library.add_hint(depth, taken)
    with pytest.raises(ModelError, match="of another kind"):
        library.add(model_folder(tmp_path / "m"), "hed")
    modelfile.user_file().parent.mkdir(parents=True, exist_ok=True)
    for text, words in {
        '[hintnets.pocket]\nkind = "depth"': "already taken",
        '[hintnets.x]\nkind = "smell"': r"hintnets\.x\.kind",
        '[hintnets.x]\nkind = "hed"\nfolder = "x"': "absolute path",
        '[hintnets.x]\nkind = "hed"\ndownload = "x"': r"no \[downloads\.x\]",
    }.items():
        modelfile.user_file().write_text(text)
        with pytest.raises(ModelError, match=words):
            Registry.open()


def test_other_things_are_none_of_them(tmp_path: Path) -> None:
    assert find_kind(model_folder(tmp_path / "model")) is None
    assert find_kind(tmp_path / "nothing") is None
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert find_kind(tmp_path) is None


def test_what_is_listed(hed: Path, capsys) -> None:
    library.add_hint(hed, "hed")
    assert livelatent("list") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "depth-anything-v2-small" in out
    assert "depth, normal_depth" in out
    assert "models add FILE.safetensors --id pidinet" in out
    assert "models add FILE.safetensors --id hed" not in out
    assert livelatent("pull", "pidinet") == 0
    assert "save table5_pidinet.pth" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["depth", "hed", "pidinet"])
def test_every_kind_is_loaded_and_tried(kind: HintKind, depth: Path, tmp_path: Path) -> None:
    folder = depth if kind == "depth" else tmp_path
    weights = {"hed": hed_weights, "pidinet": pidinet_weights}.get(kind, dict)()
    if weights:
        save_file(weights, folder / "w.safetensors")
    net = hintnets.load_hint(kind, folder, torch.device("cpu"), torch.float32, (64, 96))
    found = net(torch.rand(1, 3, 64, 96))
    assert (found.shape, found.dtype) == ((1, 1, 64, 96), torch.float32)
    assert found.std() > 0
    if weights:
        save_file({name: tensor * torch.nan for name, tensor in weights.items()}, folder / "w.safetensors")
        with pytest.raises(ModelError, match="not finite, in fp32"):
            hintnets.load_hint(kind, folder, torch.device("cpu"), torch.float32, (64, 96))
        save_file(weights, folder / "second.safetensors")
        with pytest.raises(ModelError, match="holds 2"):
            hintnets.load_hint(kind, folder, torch.device("cpu"), torch.float32, (64, 96))
