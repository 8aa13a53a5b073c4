"""IP-Adapters as files and by name: judged before anything loads them, listed, added, one name space with models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bridge.cli import main
from bridge.store import ParamError, ParamStore
from bridge.web import catalogue
from engines import library, modelfile, paths
from engines.errors import ModelError
from engines.ipfile import check_adapter, check_encoder
from engines.registry import Registry
from pipelines.params import Params, table
from tests.support.model_files import adapter_tensors, encoder_folder, model_folder, write_json

PLUS = {
    "image_proj.latents": np.ones((1, 5, 48), np.float16),
    "image_proj.proj_in.weight": np.ones((48, 32), np.float16),
    "image_proj.proj_out.weight": np.ones((768, 48), np.float16),
    "image_proj.layers.0.0.to_q.weight": np.ones((128, 48), np.float16),
}


def livelatent(*words: str | Path) -> int:
    return main(["models", *map(str, words)])


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    save_file(adapter_tensors(), tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return encoder_folder(tmp_path / "eyes")


def user_file(text: str) -> None:
    modelfile.user_file().parent.mkdir(parents=True, exist_ok=True)
    modelfile.user_file().write_text(text)


def test_a_header_says_what_an_adapter_takes_and_gives(adapter: Path, tmp_path: Path) -> None:
    assert check_adapter(adapter) == ("plain", 8, 4, 768, (4, 4))
    layers = {name: part for name, part in adapter_tensors(layers=3).items() if name.startswith("ip_adapter.")}
    save_file(PLUS | layers, tmp_path / "plus.safetensors")
    assert check_adapter(tmp_path / "plus.safetensors") == ("plus", 32, 5, 768, (4, 4, 4))


@pytest.mark.parametrize(
    ("gone", "more", "words"),
    [
        ("", {"image_proj.proj.weight": np.ones((7, 8))}, "image_proj.proj.weight"),
        ("image_proj.norm.weight", {}, "image_proj.norm.weight"),
        ("ip_adapter.3.to_v_ip.weight", {}, "is missing"),
        ("", {"ip_adapter.3.to_v_ip.weight": np.ones((5, 768))}, "to_v_ip"),
        ("", {"ip_adapter.1.to_k_ip.weight": np.ones((4, 640))}, "to_k_ip"),
        ("", {"ip_adapter.1.to_k_lora.down.weight": np.ones((4, 4))}, "to_k_lora"),
        ("image_proj.proj.weight", {"image_proj.proj.3.weight": np.ones((4, 4))}, "for faces"),
        ("image_proj", {}, "no IP-Adapter"),
        ("ip_adapter", {}, "no IP-Adapter"),
    ],
)
def test_what_is_no_whole_adapter_is_a_sentence(gone: str, more: dict, words: str, tmp_path: Path) -> None:
    tensors = {name: part for name, part in adapter_tensors().items() if not (gone and name.startswith(gone))}
    save_file(tensors | {name: part.astype(np.float16) for name, part in more.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=words) as raised:
        check_adapter(tmp_path / "x.safetensors")
    assert "\n" not in str(raised.value)


def test_an_encoder_is_judged_before_it_is_loaded(encoder: Path, tmp_path: Path) -> None:
    assert check_encoder(encoder)["image_size"] == 32
    for config, words in (
        ({"architectures": ["CLIPModel"]}, "CLIPModel"),
        ({"architectures": ["CLIPVisionModelWithProjection"], "image_size": 9000}, "9000"),
        ({"architectures": ["CLIPVisionModelWithProjection"], "auto_map": {"a": "b"}}, "code of its own"),
    ):
        write_json(encoder / "config.json", config)
        with pytest.raises(ModelError, match=words):
            check_encoder(encoder)
    encoder_folder(encoder)
    (encoder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="can carry code"):
        check_encoder(encoder)
    with pytest.raises(ModelError, match="missing"):
        check_encoder(tmp_path / "nowhere")


def test_ours_are_known_with_licence_family_and_encoder() -> None:
    registry = Registry.open()
    assert registry.ipadapter_ids()[0] == "none"
    for name in registry.ipadapter_ids()[1:]:
        entry = registry.ipadapter(name)
        assert (entry.licence, entry.encoder_id) == ("Apache-2.0", "clip-vit-h")
        assert entry.family in ("sd15", "sdxl")
        assert entry.size_mb > 2530
        assert not entry.here
        with pytest.raises(ModelError, match=f"livelatent models pull {name}"):
            entry.file()
        with pytest.raises(ModelError, match=f"encoder is not here yet: run `livelatent models pull {name}`"):
            entry.encoder()
    with pytest.raises(ModelError, match="no IP-Adapter 'ip-sd5'; did you mean"):
        registry.ipadapter("ip-sd5")


def test_one_of_the_users_own_is_added_listed_and_checked(
    adapter: Path, encoder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert livelatent("add", adapter, "--id", "mine", "--encoder", encoder) == 0
    entry = Registry.open().ipadapter("mine")
    assert (entry.family, entry.origin, entry.here) == ("sd15", "added", True)
    assert (entry.file(), entry.encoder()) == (adapter.resolve(), encoder.resolve())
    assert livelatent("list") == 0
    said = capsys.readouterr().out
    assert "mine" in said
    assert "ip-plus-sdxl" in said
    assert livelatent("check", "mine") == 0
    assert livelatent("pull", "mine") == 0
    adapter.write_bytes(adapter.read_bytes()[:-9])
    assert livelatent("check", "mine") == 1
    assert "cut short" in capsys.readouterr().out
    adapter.unlink()
    with pytest.raises(ModelError, match="not where it was"):
        Registry.open().ipadapter("mine").file()


def test_its_encoder_may_be_one_of_our_downloads(adapter: Path) -> None:
    entry = library.add_adapter(adapter, "mine", "clip-vit-h")
    assert entry.encoder_path == paths.models() / "clip-vit-h" / "models" / "image_encoder"
    assert [download.id for download in entry.downloads] == ["clip-vit-h"], "which pull fetches"
    with pytest.raises(ModelError, match="livelatent models pull mine"):
        entry.encoder()


def test_an_id_is_taken_once(adapter: Path, encoder: Path, tmp_path: Path) -> None:
    for name in ("pocket", "pocket-edge", "ip-sd15", "clip-vit-h", "none"):
        with pytest.raises(ModelError, match=f"{name} is (one of|the name)"):
            library.add_adapter(adapter, name, str(encoder), force=True)
    library.add_adapter(adapter, "mine", str(encoder))
    with pytest.raises(ModelError, match="--force"):
        library.add_adapter(adapter, "mine", str(encoder))
    assert library.add_adapter(adapter, "mine", str(encoder), family="other", force=True).family == "other"
    with pytest.raises(ModelError, match="of another kind"):
        library.add(model_folder(tmp_path / "model"), "mine", force=True)
    library.add(tmp_path / "model", "theirs")
    with pytest.raises(ModelError, match="of another kind"):
        library.add_adapter(adapter, "theirs", str(encoder), force=True)
    with pytest.raises(ModelError, match="--encoder"):
        library.add(adapter, "again")
    assert Registry.open().ipadapter_ids()[-1] == "mine"


@pytest.mark.parametrize(
    ("table_text", "words"),
    [
        ('path = "/x.safetensors"', "takes encoder"),
        ('encoder_path = "/x"', "takes download and file, or path"),
        ('path = "x.safetensors"\nencoder_path = "/x"', "absolute"),
        ('path = "/x.safetensors"\nencoder = "nowhere"', r"no \[downloads\.nowhere\]"),
        ('path = "/x.safetensors"\nencoder_path = "/x"\nscale = 1', "unknown key"),
    ],
)
def test_a_wrong_table_is_named(table_text: str, words: str) -> None:
    user_file(f"[ipadapters.mine]\n{table_text}\n")
    with pytest.raises(ModelError, match=words):
        Registry.open()


def test_rows_have_their_own_addresses_and_take_ids_alone(adapter: Path, encoder: Path) -> None:
    rows = {name: spec for name, spec in table().items() if spec.group == "image prompt"}
    assert [spec.address for spec in rows.values()] == [
        f"ip/{name}" for name in ("on", "model", "scale", "source", "rate", "fade", "block")
    ]
    assert rows["ip_scale"].ramps
    assert (rows["ip_scale"].low, rows["ip_scale"].high) == (0, 1.5)
    assert rows["ip_model"].kind == "encode"
    library.add_adapter(adapter, "mine", str(encoder))
    store = ParamStore(Params(), {"ipadapters": Registry.open().ipadapter_ids})
    store.set("ip_model", "mine")
    assert store.snapshot().ip_model == "mine"
    with pytest.raises(ParamError, match="mime"):
        store.set("ip_model", "mime")
    page = {row.name: row for row in catalogue.rows()}
    choices = {choice.id: choice.title for choice in page["ip_model"].choices}
    assert choices["mine"] == "mine"
    assert choices["ip-sd15"] == "ip-sd15 (not pulled)"
    assert next(iter(choices)) == "none"
