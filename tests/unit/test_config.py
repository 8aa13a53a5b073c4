"""Config files and flags: what is right becomes a Config, what is wrong names the file, the key and what it takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.config import Config
from bridge.drivers import SINKS, SOURCES, DriverSpec
from bridge.errors import ConfigError
from bridge.load_config import Layer, load_config, looks, parse_value, read_file
from engines.paths import data
from engines.registry import Registry
from pipelines.loraslots import LoraSlot
from pipelines.params import table
from pipelines.unitrow import Unit

MODELS_OWN = {"strength", "steps", "width", "height"}
"""Keys that default.toml shows in comments: named, they would override another model's own."""


def load(tmp_path: Path, *texts: str) -> Config:
    layers = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, "utf-8")
        layers.append(read_file(str(path)))
    return load_config(layers)


def test_nothing_gives_the_defaults() -> None:
    assert load_config() == Config()


def test_later_files_win_key_by_key(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        'source = "still:a.png"\nsinks = ["null", "zmq"]\n[osc]\nport = 7000\nrate = 2\n[params]\nseed = 5\nmix = 0.5',
        'sinks = ["null"]\n[osc]\nport = 7001\n[params]\nmix = 1',
    )
    assert config.source == "still:a.png"
    assert config.sinks == ("null",)
    assert (config.osc.port, config.osc.rate) == (7001, 2.0)
    assert config.params == {"seed": 5, "mix": 1.0}
    assert isinstance(config.params["mix"], float)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("sorce = 'scene'", "sorce", "did you mean 'source'?"),
        ("[osc]\nprt = 1", "osc.prt", "did you mean 'port'?"),
        ("[params]\nstrenght = 1", "params.strenght", "did you mean 'strength'?"),
        ("[params]\nversion = 1", "params.version", "unknown key"),
        ("[osc]\nport = 70000", "osc.port", "at most 65535, not 70000"),
        ("[osc]\nport = '9000'", "osc.port", "takes a whole number"),
        ("[osc]\nport = true", "osc.port", "not true"),
        ("[osc]\nrate = nan", "osc.rate", "takes a number above 0"),
        ("[osc]\nrate = 0", "osc.rate", "above 0"),
        ("[osc]\nprefix = 'll'", "osc.prefix", "such as /ll"),
        ("[osc]\nreply = 'a:1'", "osc.reply", "takes a list of texts"),
        ("osc = 9000", "osc", "is a table"),
        ("every_frame = 1", "every_frame", "true or false"),
        ("frames = -1", "frames", "at least 0"),
        ("source = 1", "source", "text in quotes"),
        ("source = 'scen'", "source", "did you mean 'scene'?"),
        ("sinks = ['nul']", "sinks", "did you mean 'null'?"),
        ("sinks = 'null'", "sinks", "takes a list of texts"),
        ("[worker]\nengine = 'eagre'", "worker.engine", "auto | compiled | eager | fake | openvino"),
        ("[worker]\nstall_s = 0", "worker.stall_s", "at least 0.2"),
        ("[worker.fake]\nms = 'x'", "worker.fake.ms", "takes a number"),
        ("[params]\nstrength = 1.5", "params.strength", "0 to 1, not 1.5"),
        ("[params]\nstrength = nan", "params.strength", "finite"),
        ("[params]\nstrength = 'much'", "params.strength", "takes a number, not str"),
        ("[params]\nsteps = 2.5", "params.steps", "whole number"),
        ("[params]\nwidth = 100", "params.width", "multiples of 64"),
        ("[params]\nsampler = 'best'", "params.sampler", "lcm"),
        ("[params]\nprompt = 3", "params.prompt", "takes text"),
        ("[params]\nmodel = 'pokcet'", "params.model", "did you mean 'pocket'?"),
        ("[params]\nmodel = '../../etc'", "params.model", "no model"),
        ("params = 3", "params", "is a table"),
        ("[web]\nhost = '0.0.0.0'", "web.host", "--lan"),
        ("[osc]\nhost = '192.168.1.7'", "osc.host", "--lan"),
        ("[lan]\nenabled = true", "lan.enabled", "--allow"),
        ("[lan]\nallow = ['10.0.0.1/8']", "lan.allow", "host bits set"),
        ("source = ", "", "is not TOML"),
    ],
)
def test_what_is_wrong_names_file_and_key(tmp_path: Path, text: str, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "[osc]\nport = 7000", text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / '1.toml'}: ")
    assert key in message
    assert says in message
    assert "\n" not in message


def test_an_error_names_the_file_that_wrote_the_key_last(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.toml: web\.host"):
        load(tmp_path, "[web]\nhost = '0.0.0.0'", "[web]\nport = 1")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 5000, b"#" * (1 << 21)])
def test_no_file_content_gets_past_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"odd\.toml"):
        read_file(str(path))


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfframes = 3\r\n")
    assert load_config([read_file(str(path))]).frames == 3


def test_a_missing_file_and_a_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_file(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="can't be read"):
        read_file(str(tmp_path))
    with pytest.raises(ConfigError, match="did you mean 'movie'"):
        read_file("movei")


def test_lan_opens_hosts_that_nobody_named() -> None:
    lan = Layer("--lan", {"lan": {"enabled": True, "allow": ["192.168.1.0/24"]}})
    assert load_config([lan]).osc.host == "0.0.0.0"
    assert load_config([Layer("f", {"osc": {"host": "192.168.1.7"}}), lan]).osc.host == "192.168.1.7"


def test_no_look_hides_another_file_of_ours() -> None:
    assert len(set(SHIPPED)) == len(SHIPPED)
    assert len(looks()) >= 3


def uncommented(path: Path) -> dict[str, Any]:
    """The file with its `# key = value` lines brought to life."""
    return tomllib.loads(re.sub(r"(?m)^# (\w+ = )", r"\1", path.read_text("utf-8")))


def test_units_have_sources_by_number(tmp_path: Path) -> None:
    config = load(tmp_path, '[control_sources]\n1 = "scene"\n4 = "shm?name=a"', '[control_sources]\n1 = "zmq"')
    assert config.control_sources.by_unit() == {1: "zmq", 4: "shm?name=a"}
    with pytest.raises(ConfigError, match=r"control_sources.1 'scenne' is unknown; did you mean 'scene'"):
        load(tmp_path, '[control_sources]\n1 = "scenne"')
    with pytest.raises(ConfigError, match=r"unknown key 'control_sources.5'"):
        load(tmp_path, '[control_sources]\n5 = "scene"')


def test_default_toml_is_every_key_with_its_default() -> None:
    path = data("configs") / "default.toml"
    defaults = msgspec.to_builtins(Config())
    rows = {name: row for name, row in table().items() if row.address == name}
    defaults["params"] = {name: row.default for name, row in rows.items()}
    numbered = {"control": Unit, "lora": LoraSlot}
    for branch, cls in numbered.items():
        defaults[branch] = {"1": {field: getattr(cls(), field) for field in cls.__struct_fields__}}
    defaults["ip"] = {row.address[3:]: row.default for row in table().values() if row.address.startswith("ip/")}
    shown = uncommented(path)
    assert msgspec.json.decode(msgspec.json.encode(shown)) == msgspec.json.decode(msgspec.json.encode(defaults))
    assert list(shown["params"]) == list(rows)
    for branch, cls in numbered.items():
        assert list(shown[branch]["1"]) == list(cls.__struct_fields__)
    loaded = load_config([read_file(str(path))])
    first = {f"{branch}1_{field}" for branch, cls in numbered.items() for field in cls.__struct_fields__}
    assert loaded.params.keys() == (rows.keys() | first | {f"ip_{field}" for field in defaults["ip"]}) - MODELS_OWN
    assert msgspec.structs.replace(loaded, params={}) == Config()


SHIPPED = [*sorted(p.stem for p in data("configs").glob("*.toml") if p.stem != "models"), *looks()]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_is_right(name: str) -> None:
    config = load_config([read_file(name)])
    assert DriverSpec.parse(config.source).name in SOURCES
    assert {DriverSpec.parse(sink).name for sink in config.sinks} <= SINKS.keys()
    assert config.params.get("model", "pocket") in Registry.open().ids()


def test_values_typed_on_a_command_line() -> None:
    assert parse_value("strength", "0.7") == 0.7
    assert parse_value("steps", "2") == 2
    assert parse_value("pause", "yes") is True
    assert parse_value("prompt", "a = b") == "a = b"
    with pytest.raises(ConfigError, match="whole number"):
        parse_value("steps", "2.5")
    with pytest.raises(ConfigError, match="0 or 1"):
        parse_value("pause", "maybe")
    with pytest.raises(ConfigError, match="did you mean 'prompt'"):
        parse_value("promt", "x")
