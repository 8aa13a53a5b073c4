"""What may be loaded: refusals by content, one sentence each, nothing run, nothing opened outside."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load, save

from engines import weights
from engines.errors import ModelError
from engines.header import MAX_HEADER_BYTES, parse_header, read_header
from tests.support.model_files import CONFIGS, INDEX, audited, model_folder, raw, tiny_vae_folder, write_json

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
EIGHT = b"\0" * 8


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.path}",)


def torch_zip(path: Path) -> bytes:
    """As torch.save has written since 1.6."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(path)))
    return out.getvalue()


BAD_FILES = {
    "empty": (b"", "not a safetensors"),
    "seven bytes": (b"\1\0\0\0\0\0\0", "not a safetensors"),
    "length without header": (struct.pack("<Q", 8), "not a safetensors"),
    "text": (b"hello world, hello", "not a safetensors"),
    "cut inside the header": (raw({"a": F32}, EIGHT)[:30], "ends inside its header"),
    "cut inside the data": (raw({"a": F32}, EIGHT)[:-1], "cut short"),
    "data after the last": (raw({"a": F32}, EIGHT + b"x"), "bytes after its last"),
    "huge length": (raw({"a": F32}, EIGHT, length=2**63), "announces a header of"),
    "100 MB length": (raw({"a": F32}, EIGHT, length=100_000_000), "announces a header of"),
    "bad JSON": (raw(b"{'a': 1}"), "broken header"),
    "not UTF-8": (raw(b'{"\xff\xfe": 1}'), "broken header"),
    "nested": (raw(b'{"a":' * 100_000), "broken header"),
    "deep metadata": (raw(b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "broken header"),
    "no offsets": (raw({"a": {"dtype": "F32", "shape": [2]}}), "broken header"),
    "unknown field": (raw({"a": {**F32, "code": "x"}}, EIGHT), "broken header"),
    "negative shape": (raw({"a": {**F32, "shape": [-2]}}, EIGHT), "broken header"),
    "float shape": (raw({"a": {**F32, "shape": [2.5]}}, EIGHT), "broken header"),
    "huge shape": (raw({"a": {**F32, "shape": [2**62, 2**62]}}, EIGHT), "broken header"),
    "overflowing shape": (raw({"a": {**F32, "shape": [2**32, 2**32]}}, EIGHT), "not the bytes"),
    "nine dimensions": (raw({"a": {**F32, "shape": [1] * 8 + [2]}}, EIGHT), "broken header"),
    "unknown type": (raw({"a": {**F32, "dtype": "OBJECT"}}, EIGHT), "unknown type"),
    "backwards": (raw({"a": {**F32, "data_offsets": [8, 0]}}, EIGHT), "not the bytes"),
    "beyond the file": (raw({"a": {**F32, "data_offsets": [8, 16]}}, EIGHT), "hole"),
    "overlap": (raw({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, EIGHT + b"\0" * 4), "overlaps"),
    "same bytes twice": (raw({"a": F32, "b": F32}, EIGHT), "overlaps"),
    "hole": (raw({"a": F32, "b": {**F32, "data_offsets": [12, 20]}}, b"\0" * 20), "hole"),
    "metadata of numbers": (raw({"__metadata__": {"a": 1}, "a": F32}, EIGHT), "broken header"),
    "gzip": (b"\x1f\x8b" + b"\0" * 30, "gzip"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "LFS pointer"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_safetensors_is_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    data, says = BAD_FILES[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=says) as caught:
        read_header(path)
    assert str(caught.value).startswith("model.safetensors")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_100_mb_header_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "big.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100 << 20) + b"{")
        file.truncate(8 + (100 << 20))
    began = time.process_time()
    with pytest.raises(ModelError, match="announces a header"):
        read_header(path)
    assert time.process_time() - began < 2


def test_the_largest_header_we_read_is_bounded_in_time(tmp_path: Path) -> None:
    """Worst case of a hostile header: as many small entries as fit."""
    entries = ",".join(f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(140_000))
    head = f"{{{entries}}}".encode()
    assert len(head) < MAX_HEADER_BYTES
    path = tmp_path / "many.safetensors"
    path.write_bytes(raw(head))
    with pytest.raises(ModelError, match="more than 50000 tensors"):
        read_header(path)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    arrays = {
        "z": np.zeros((2, 3), np.float16), "a": np.ones((4,), np.int64), "s": np.array(1, np.float32),
        "e": np.zeros((0, 5), np.uint8), "b": np.array([True]),
    }  # fmt: skip
    path = tmp_path / "ok.safetensors"
    path.write_bytes(save(arrays, metadata={"format": "pt"}))
    assert {name: tensor.shape for name, tensor in read_header(path).items()} == {
        name: array.shape for name, array in arrays.items()
    }


def test_nothing_passes_that_the_library_refuses() -> None:
    """10,000 mutations of a sound file: what we let pass, safetensors itself can load."""
    random.seed(7)
    sound = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.int8)})
    passed = 0
    for _ in range(10_000):
        data = bytearray(sound)
        for _ in range(random.randint(1, 3)):
            data[random.randrange(len(data))] = random.choice((random.randrange(256), ord("9"), ord("0"), ord("[")))
        length = int.from_bytes(data[:8], "little")
        if length + 8 > len(data):
            continue
        try:
            parse_header(bytes(data[8 : 8 + length]), len(data) - 8 - length, "x")
        except ModelError:
            continue
        passed += 1
        try:
            load(bytes(data))
        except SafetensorError as error:
            pytest.fail(f"{bytes(data)!r}: {error}")
    assert passed > 100


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".bin", ".pt", ".pth", ".txt", ".md"])
@pytest.mark.parametrize("kind", ["pickle 2", "pickle 4", "pickle 5", "torch zip"])
def test_a_pickle_is_refused_under_any_name_and_nothing_runs(kind: str, suffix: str, tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    data = torch_zip(fired) if kind == "torch zip" else pickle.dumps(Bomb(fired), protocol=int(kind[-1]))
    folder = model_folder(tmp_path / "model")
    (folder / "unet" / f"other{suffix}").write_bytes(data)
    with audited() as seen, pytest.raises(ModelError, match=f"unet/other{suffix}"):
        weights.check_folder(folder)
    assert {event for event, _ in seen} == {"open"}
    assert all(Path(str(path)).is_relative_to(folder) for _, path in seen)
    assert not fired.exists()


def test_the_hook_would_have_seen_it(tmp_path: Path) -> None:
    """The audit of these tests can fail: it sees the same pickle run."""
    with audited() as seen:
        pickle.loads(pickle.dumps(Bomb(tmp_path / "fired")))
    assert "os.system" in {event for event, _ in seen}
    assert (tmp_path / "fired").exists()


def test_text_pickles_are_no_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "fired"), protocol=0))
    with pytest.raises(ModelError, match="not a safetensors"):
        read_header(path)


def test_a_sound_folder_passes(tmp_path: Path) -> None:
    checked = weights.check_folder(model_folder(tmp_path / "m"))
    assert checked.pipeline == "StableDiffusionPipeline"
    assert checked.variants == dict.fromkeys(("scheduler", "text_encoder", "tokenizer", "unet", "vae"), "")
    assert weights.check_folder(model_folder(tmp_path / "h", "fp16")).variants["unet"] == "fp16"
    weights.check_net(tiny_vae_folder(tmp_path / "t"), frozenset({"AutoencoderTiny"}))


def index(**changes: object) -> dict[str, object]:
    return {**INDEX, **changes}


BAD_JSON = {
    "custom pipeline class": ("model_index.json", index(_class_name="MyPipeline"), "MyPipeline"),
    "pipeline from a file": ("model_index.json", index(_class_name=["pipeline", "Mine"]), "pipeline"),
    "custom module": ("model_index.json", index(unet=["my_unet", "MyUNet"]), "not in diffusers"),
    "class from elsewhere": ("model_index.json", index(unet=["os", "system"]), "not in diffusers"),
    "unlisted class": ("model_index.json", index(unet=["diffusers", "FluxTransformer2DModel"]), "not in diffusers"),
    "three words": ("model_index.json", index(unet=["diffusers", "UNet2DConditionModel", "x"]), "not in diffusers"),
    "unhashable": ("model_index.json", index(unet=[["diffusers"], {"a": 1}]), "not in diffusers"),
    "unknown component": ("model_index.json", index(hook=["diffusers", "UNet2DConditionModel"]), "hook"),
    "custom_pipeline": ("model_index.json", index(custom_pipeline="a/b"), "custom_pipeline"),
    "a list": ("model_index.json", [1, 2], "not a JSON object"),
    "auto_map": ("text_encoder/config.json", {"auto_map": {"AutoModel": "m.M"}}, "auto_map"),
    "auto_map in depth": ("tokenizer/tokenizer_config.json", {"a": [{"b": {"auto_map": {"x": "y"}}}]}, "auto_map"),
    "trust_remote_code": ("unet/config.json", {"trust_remote_code": True}, "trust_remote_code"),
    "kernel by repository": ("text_encoder/config.json", {"_attn_implementation_internal": "a/b"}, "attn"),
    "other class in config": ("unet/config.json", {"_class_name": "Evil"}, "Evil"),
    "nested": ("unet/config.json", b'{"a":' * 100_000, "not JSON"),
    "broken": ("vae/config.json", b"{", "not JSON"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_code_in_a_config_is_refused(name: str, tmp_path: Path) -> None:
    file, value, says = BAD_JSON[name]
    folder = model_folder(tmp_path / "m")
    if isinstance(value, bytes):
        (folder / file).write_bytes(value)
    else:
        write_json(folder / file, value)
    with audited() as seen, pytest.raises(ModelError, match=says) as caught:
        weights.check_folder(folder)
    assert "\n" not in str(caught.value)
    assert {event for event, _ in seen} == {"open"}


@pytest.mark.parametrize("key", ["_attn_implementation_autoset", "attn_implementation"])
def test_harmless_attention_settings_pass(key: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    write_json(folder / "text_encoder/config.json", {key: True if "autoset" in key else "sdpa"})
    weights.check_folder(folder)


@pytest.mark.parametrize("name", ["model_index.json", *CONFIGS])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / name).unlink()
    if name.startswith(("tokenizer/", "scheduler/")):
        for rest in (folder / name).parent.iterdir():
            rest.unlink()
    with pytest.raises(ModelError, match=name.split("/")[0]):
        weights.check_folder(folder)


def test_missing_weights_and_parts_that_point_elsewhere(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "unet/diffusion_pytorch_model.safetensors").rename(folder / "unet/diffusion_pytorch_model-1.safetensors")
    with pytest.raises(ModelError, match="no weights"):
        weights.check_folder(folder)
    parts = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    write_json(parts, {"weight_map": {"w": "diffusion_pytorch_model-1.safetensors"}})
    weights.check_folder(folder)
    for part in ("../../x.safetensors", "/etc/x.safetensors", "..\\x.safetensors", "gone.safetensors", 7):
        write_json(parts, {"weight_map": {"w": part}})
        with pytest.raises(ModelError, match="not a file beside it"):
            weights.check_folder(folder)


@pytest.mark.parametrize("what", ["file", "folder", "loop", "dangling", "device"])
def test_links_that_lead_out_are_refused_unopened(what: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    outside = model_folder(tmp_path / "outside")
    link = folder / "unet" / "extra.json"
    if what == "folder":
        link = folder / "extra"
    target = {"file": outside / "model_index.json", "folder": outside, "loop": link, "dangling": tmp_path / "no"}
    link.symlink_to(target.get(what, Path("/dev/zero")))
    with audited() as seen, pytest.raises(ModelError, match="link"):
        weights.check_folder(folder)
    assert all(Path(str(path)).is_relative_to(folder) for event, path in seen if event == "open")


def test_a_pipe_does_not_hang_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    os.mkfifo(folder / "unet" / "pipe.json")
    with pytest.raises(ModelError, match="not a plain file"):
        weights.check_folder(folder)


def test_a_hub_cache_may_link_to_its_own_blobs_only(tmp_path: Path) -> None:
    cache = tmp_path / "models--a--b"
    folder = model_folder(cache / "snapshots" / "123")
    (cache / "blobs").mkdir()
    config = folder / "unet" / "config.json"
    config.rename(cache / "blobs" / "abc")
    config.symlink_to("../../../blobs/abc")
    weights.check_folder(folder)
    config.unlink()
    config.symlink_to(model_folder(tmp_path / "other") / "unet" / "config.json")
    with pytest.raises(ModelError, match="leads out"):
        weights.check_folder(folder)


def test_too_many_and_too_deep(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    (folder / "a/b/c/d/e").mkdir(parents=True)
    (folder / "a/b/c/d/e/f.txt").touch()
    with pytest.raises(ModelError, match="too deep"):
        weights.check_folder(folder)
    other = model_folder(tmp_path / "n")
    for n in range(weights.MAX_FILES):
        (other / f"{n}.txt").touch()
    with pytest.raises(ModelError, match="more than"):
        weights.check_folder(other)


def test_random_bytes_in_any_place_raise_only_our_error(tmp_path: Path) -> None:
    random.seed(3)
    folder = model_folder(tmp_path / "m")
    files = [path for path in folder.rglob("*") if path.is_file()]
    for _ in range(400):
        path = random.choice(files)
        before = path.read_bytes()
        data = bytearray(before)
        for _ in range(random.randint(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(ModelError):
            weights.check_folder(folder)
        path.write_bytes(before)
    weights.check_folder(folder)


def test_json_that_python_reads_otherwise_is_refused() -> None:
    """NaN is no JSON; two parsers that disagree are how checks are passed by."""
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(json.dumps({"a": float("nan")}))
