"""Control units by name: [control.N] in a config file, ControlNets in models.toml, their telemetry."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.load_config import Layer, load_config
from bridge.models_list import named
from bridge.store import ParamStore
from engines import modelfile, paths
from engines.errors import ModelError
from engines.registry import Registry
from pipelines.params import Params, pack, table, unpack
from pipelines.preprocess.registry import CHOICES


def params(**units: object) -> dict[str, object]:
    return dict(load_config([Layer("show.toml", {"control": units})]).params)


def test_a_unit_is_a_table_of_its_own() -> None:
    one = {"on": True, "model": "pocket-edge", "weight": 0.5}
    assert params(**{"1": one, "4": {"low": 7}}) == {
        "control1_on": True, "control1_model": "pocket-edge", "control1_weight": 0.5, "control4_low": 7.0,
    }  # fmt: skip
    same = load_config(
        [Layer("f", {"params": {"control2_weight": 0.5}}), Layer("g", {"control": {"2": {"weight": 2}}})]
    )
    assert same.params == {"control2_weight": 2.0}, "both ways name the same row, and the later one wins"


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ({"1": {"weight": 3}}, r"show\.toml: control\.1\.weight takes 0 to 2, not 3"),
        ({"1": {"wieght": 1}}, r"unknown key 'control\.1\.wieght'; did you mean '1\.weight'"),
        ({"5": {"weight": 1}}, r"unknown key 'control\.5'"),
        ({"1": 3}, r"control\.1 is a table"),
        ({"1": {"model": "nowhere"}}, r"control\.1\.model: there is no controlnet 'nowhere'"),
        ({"1": {"preprocessor": "magic"}}, r"control\.1\.preprocessor takes none \| invert"),
    ],
)
def test_what_is_wrong_in_it_isnamed(units: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        params(**units)


def test_every_unit_has_every_row_under_its_own_address() -> None:
    rows = [row for row in table().values() if row.address.startswith("control/")]
    fields = [row.address.removeprefix("control/1/") for row in rows if row.address.startswith("control/1/")]
    assert [row.address for row in rows] == [f"control/{n}/{field}" for n in range(1, 5) for field in fields]
    assert [row.name for row in rows] == [f"control{n}_{field}" for n in range(1, 5) for field in fields]
    assert table()["control3_preprocessor"].choices == tuple(CHOICES)
    assert not table()["control1_resolution"].ramps
    assert table()["control1_weight"].ramps


def test_the_largest_parameters_fit_a_frames_slot() -> None:
    worst: dict[str, object] = {}
    for name, row in table().items():
        if row.type is str and not row.choices:
            worst[name] = row.coerce("x" * (64 if row.ids else 2048))
    params = Params(**worst)  # type: ignore[arg-type]
    assert unpack(pack(params)) == params
    with pytest.raises(ValueError, match="64 bytes"):
        table()["control1_model"].coerce("x" * 65)


def test_a_units_model_does_not_fade_and_must_exist() -> None:
    store = ParamStore(Params(), {"controlnets": lambda: ("none", "edges")})
    with pytest.raises(Exception, match="no seconds"):
        store.set("control1_model", "edges", over_s=2.0)
    with pytest.raises(Exception, match="there is no"):
        store.set("control1_model", "edgy")
    store.set("control1_model", "edges")
    assert store.snapshot().prompt_fade == Params().prompt_fade


def user_file(text: str) -> None:
    modelfile.user_file().parent.mkdir(parents=True, exist_ok=True)
    modelfile.user_file().write_text(text)


def test_what_ships_names_what_it_wants_to_see() -> None:
    registry = Registry.open()
    names = registry.controlnet_ids()
    assert names[:3] == ["none", "pocket-edge", "pocket-temporal"]
    for entry in map(registry.controlnet, names[1:]):
        assert entry.hint
        assert entry.licence != "not stated"
        assert entry.preprocessor in CHOICES
        assert entry.origin == ("shipped" if entry.id.startswith("pocket-") else "pulled")
        if entry.origin == "pulled":
            with pytest.raises(ModelError, match=f"livelatent models pull {entry.id}"):
                entry.folder()


def test_ids_of_controlnets_and_models_are_one_name_space(tmp_path: Path) -> None:
    user_file(f'[controlnets.mine]\nhint = "lines"\nfolder = "{tmp_path.as_posix()}"\n')
    registry = Registry.open()
    assert registry.controlnet("mine").path == tmp_path
    assert [entry.id for entry in named(registry, ["mine", "pocket"])] == ["mine", "pocket"]
    with pytest.raises(ModelError, match="did you mean mine"):
        registry.controlnet("mime")
    for wrong, words in (("none", "stands for none"), ("pocket", "already taken"), ("pocket-edge", "already taken")):
        user_file(f'[controlnets.{wrong}]\nhint = "lines"\n')
        with pytest.raises(ModelError, match=words):
            Registry.open()
    user_file('[controlnets.mine]\nhint = "lines"\ndownload = "nowhere"\n')
    with pytest.raises(ModelError, match=r"no \[downloads\.nowhere\]"):
        Registry.open()


def test_a_folder_that_leads_out_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    paths.models().mkdir(parents=True)
    (paths.models() / "mine").symlink_to(tmp_path)
    user_file('[controlnets.mine]\nhint = "lines"\n')
    with pytest.raises(ModelError, match="leads out"):
        Registry.open().controlnet("mine").folder()
