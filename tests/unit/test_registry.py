"""Ids in, folders out: what ships, what users add, and that no id leads anywhere else."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engines import modelfile, paths
from engines.errors import ModelError
from engines.modelrows import is_id
from engines.registry import Registry
from pipelines.params import table
from tests.support.model_files import audited, model_folder, tiny_vae_folder

SHIPPED = ["pocket", "sd-turbo", "sdxl-turbo", "lcm-dreamshaper", "sd15-lcm", "hyper-sd15"]


def user_file(text: str) -> Path:
    path = modelfile.user_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_ships_is_complete() -> None:
    registry = Registry.open()
    assert registry.ids()[: len(SHIPPED)] == SHIPPED
    for entry in map(registry.get, SHIPPED):
        assert entry.title
        assert entry.licence
        if entry.id == "pocket":
            assert (entry.origin, entry.size_mb) == ("shipped", 0)
            assert entry.path == paths.ROOT / "pipelines/pocket/weights"
            continue
        assert (entry.origin, entry.here) == ("pulled", False)
        assert entry.size_mb > 1000
        assert re.fullmatch(r"[0-9a-f]{40}", entry.revision)
        assert entry.tiny_vae in {download.id for download in entry.downloads}
        with pytest.raises(ModelError, match=f"^{entry.id} is not here yet: run `livelatent models pull {entry.id}`$"):
            entry.folder()


def test_the_defaults_of_what_ships_fit_the_parameter_table() -> None:
    rows = table()
    registry = Registry.open()
    for entry in map(registry.get, registry.ids()):
        for name in ("sampler", "steps", "strength", "guidance", "width", "height"):
            assert rows[name].coerce(getattr(entry, name)) == getattr(entry, name)


def test_shipped_files_name_nothing_that_can_carry_code() -> None:
    for download in Registry.open().downloads.values():
        for pattern in download.files:
            pinned_graph = pattern.endswith(".onnx") and pattern in download.sha256
            assert pinned_graph or pattern.endswith((".safetensors", ".json", "/*")), pattern
        assert set(download.sha256) <= set(download.files)


def test_a_pulled_model_its_loras_and_its_tiny_vae_are_found() -> None:
    model_folder(paths.models() / "sd15", "fp16")
    entry = Registry.open().get("sd15-lcm")
    assert entry.folder() == (paths.models() / "sd15").resolve()
    assert not entry.here
    with pytest.raises(ModelError, match="not here yet"):
        entry.lora_files()
    lora = paths.models() / "lcm-lora-sd15" / "pytorch_lora_weights.safetensors"
    lora.parent.mkdir()
    lora.touch()
    assert entry.here
    assert entry.lora_files() == [(lora.resolve(), 1.0)]
    assert entry.tiny_vae_folder() is None
    tiny_vae_folder(paths.models() / "taesd")
    assert entry.tiny_vae_folder() == (paths.models() / "taesd").resolve()


@pytest.mark.parametrize("part", ["sd-turbo", "taesd"])
def test_a_link_out_of_the_models_folder_is_refused(part: str, tmp_path: Path) -> None:
    paths.models().mkdir(parents=True)
    target = model_folder(tmp_path / "x") if part == "sd-turbo" else tiny_vae_folder(tmp_path / "x")
    (paths.models() / part).symlink_to(target)
    entry = Registry.open().get("sd-turbo")
    with pytest.raises(ModelError, match="leads out of its folder"):
        entry.folder() if part == "sd-turbo" else entry.tiny_vae_folder()


def test_an_unknown_id_names_near_ones() -> None:
    registry = Registry.open()
    with pytest.raises(ModelError, match=r"^no model 'sd-trubo'; did you mean sd-turbo"):
        registry.get("sd-trubo")
    with pytest.raises(ModelError, match="there are: pocket, sd-turbo"):
        registry.get("zzzz")
    with pytest.raises(ModelError) as caught:
        registry.get("\x1b[31m" + "x" * 100_000)
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)
    with pytest.raises(ModelError):
        registry.get(["pocket"])  # type: ignore[arg-type]


DOWNLOAD = "[downloads.x]\nrepo = 'a/b'\nrevision = 'main'\nfiles = ['f']\nlicence = 'MIT'\nsize_mb = 1\n"
BAD_TABLES = {
    "unknown key": ("[models.mine]\nfolder = '/x'\nstepz = 3", r"models\.mine: unknown key `stepz`"),
    "wrong type": ("[models.mine]\nsteps = 'four'", r"models\.mine\.steps: Expected `int`"),
    "out of range": ("[models.mine]\nsteps = 9", r"models\.mine\.steps"),
    "odd size": ("[models.mine]\nwidth = 500", r"models\.mine\.width"),
    "nan": ("[models.mine]\nstrength = nan", r"models\.mine\.strength"),
    "unknown sampler": ("[models.mine]\nsampler = 'magic'", r"models\.mine\.sampler"),
    "unknown table": ("[model.mine]\nsteps = 4", r"unknown key 'model'"),
    "not a table": ("models = 3", "models takes tables"),
    "bad id": ("[models.'../x']\nsteps = 4", "an id is"),
    "device name": ("[models.nul]\nsteps = 4", "an id is"),
    "taken": ("[models.pocket]\nsteps = 4", r"models\.pocket: the id is already taken"),
    "taken by another kind": ("[models.pocket-edge]\nsteps = 4", r"models\.pocket-edge: the id is already taken"),
    "taken download": (DOWNLOAD.replace(".x]", ".taesd]"), "taken"),
    "relative folder": ("[models.mine]\nfolder = 'x/y'", r"models\.mine\.folder: takes an absolute path"),
    "lora of nothing": ("[models.mine]\nloras = [{ weight = 1.0 }]", r"models\.mine\.loras"),
    "lora key": ("[models.mine]\nloras = [{ wieght = 1.0 }]", r"models\.mine\.loras\[0\]: unknown key `wieght`"),
    "no such download": ("[models.mine]\ntiny_vae = 'taexx'", r"no \[downloads\.taexx\]"),
    "repo is a URL": (DOWNLOAD.replace("a/b", "ftp://a/b"), r"downloads\.x\.repo"),
    "pin is no hash": (DOWNLOAD + "sha256 = { f = '00' }", r"downloads\.x\.sha256"),
    "broken TOML": ("[models.mine\n", "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_wrong_user_file_says_file_and_key(name: str) -> None:
    text, says = BAD_TABLES[name]
    path = user_file(text)
    with pytest.raises(ModelError, match=says) as caught:
        Registry.open()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text() -> None:
    user_file("").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="not UTF-8"):
        Registry.open()
    user_file("#" * (modelfile.MAX_FILE_BYTES + 1))
    with pytest.raises(ModelError, match="larger than"):
        Registry.open()


def test_an_extra_file_comes_last_and_must_exist(tmp_path: Path) -> None:
    extra = tmp_path / "extra.toml"
    extra.write_text("[models.mine]\nfamily = 'sd15'\ntiny_vae = 'taesd'\n")
    assert Registry.open(extra).ids() == [*SHIPPED, "mine"]
    with pytest.raises(ModelError, match="gone"):
        Registry.open(tmp_path / "gone.toml")


def hostile_ids() -> list[str]:
    random.seed(28)
    parts = [
        "..", ".", "/", "\\", "~", "~root", "//server/share", "\\\\server\\share", "C:", "C:\\", "file:///etc/passwd",
        "\0", "%2e%2e", "%00", "con", "nul", "aux.txt", "com1", "lpt9", "pocket", "sd-turbo", "etc", "passwd",
        "::$DATA", " ", "http://localhost/x", "\n", "\r", "é", "．．", "$HOME", "`id`", "${HOME}", "link",
        "models.toml", "",
    ]  # fmt: skip
    joined = {
        "".join(random.choice(parts) + random.choice(("/", "\\", "", "\0")) for _ in range(random.randint(1, 6)))
        for _ in range(4000)
    }
    known = set(SHIPPED) | {"link"}
    return (
        sorted(joined - known)[:1900]
        + [part for part in parts if part not in known]
        + ["a" * 65, "A", "-a", "_a", "a.b"]
    )


def test_no_id_opens_anything_outside(tmp_path: Path) -> None:
    """About 2,000 strings as ids: each refused in one sentence, and nothing but models.toml was opened meanwhile."""
    paths.models().mkdir(parents=True)
    (paths.models() / "link").symlink_to(model_folder(tmp_path / "secret"))
    user_file("[models.link]\nfamily = 'sd15'\n")
    ids = hostile_ids()
    assert len(ids) > 1900
    registry = Registry.open()
    with audited() as seen:
        for text in [*ids, "link"]:
            with pytest.raises(ModelError) as caught:
                registry.get(text).folder()
            assert "\n" not in str(caught.value)
    assert [path for event, path in seen if event == "open"] == []


@pytest.mark.parametrize("text", ["a", "0", "my-model_2", "a" * 64])
def test_good_ids(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize(
    "text", ["", "-a", "_a", "A", "a b", "a.b", "a/b", "a\n", "ä", "a" * 65, "con", "lpt1", 7, None]
)
def test_bad_ids(text: object) -> None:
    assert not is_id(text)


def test_adding_keeps_the_rest_of_the_file() -> None:
    before = "# my models\n[models.one]   # the first\nfamily = 'sd15'\n\n[models.two]\ntitle = 'Two'\n"
    user_file(before)
    modelfile.add(
        "three", {"title": 'q"\\uo\x7f\né', "steps": 2, "strength": 0.25}, [{"path": "/l.safetensors", "weight": 0.5}]
    )
    assert modelfile.user_file().read_text().startswith(before.rstrip())
    entry = Registry.open().get("three")
    assert (entry.title, entry.steps, entry.strength) == ('q"\\uo\x7f\né', 2, 0.25)
    assert entry.loras[0].weight == 0.5
    modelfile.add("one", {"steps": 8})
    text = modelfile.user_file().read_text()
    assert text.count("[models.one]") == 1
    assert text.startswith("# my models")
    assert [Registry.open().get(name).steps for name in ("one", "two", "three")] == [8, 4, 2]


IN_A_STRING = '[models.two]\ntitle = """\n[models.one]\n[x]"""\n'


@pytest.mark.parametrize(
    "text",
    ["models.one = { steps = 2 }", "[models]\none = { steps = 2 }", '[models."one"]\nsteps = 2', IN_A_STRING],
)
def test_a_table_written_by_hand_in_another_way_is_not_damaged(text: str) -> None:
    path = user_file(text)
    with pytest.raises(ModelError):
        modelfile.add("one", {"steps": 8})
    assert path.read_text() == text


def test_importing_the_registry_loads_nothing_heavy() -> None:
    modules = "bridge.models_cli, engines.registry, engines.weights, engines.pull, engines.library, engines.convert"
    code = (
        f"import sys, {modules}; sys.exit(str({{'torch', 'diffusers', 'huggingface_hub', 'rich'}} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert run.stderr.strip() == "set()"
