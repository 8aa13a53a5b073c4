"""MIDI through the system's own ports, where it has any: virtual ones of rtmidi, on ALSA or Core MIDI."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import fake_midi
from support.theatre import Theatre

from bridge.cli import main
from bridge.config import MidiConfig
from bridge.errors import DriverError
from bridge.midi import bindings, cli, ports
from bridge.midi.midi import Midi
from bridge.show.acts import Acts

mido = pytest.importorskip("mido")


@pytest.fixture
def device() -> Iterator[Any]:
    """A virtual output: for others, a device that sends."""
    if sys.platform == "win32":
        pytest.skip("Windows has no virtual MIDI ports")
    try:
        system = ports.backend()
    except DriverError as error:
        pytest.skip(str(error))
    with system.open_output("livelatent test pad", virtual=True) as port:  # type: ignore[call-arg]
        yield port


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("nothing_left")
def test_a_real_port_moves_a_parameter(device: Any) -> None:
    path = bindings.own("mine")
    path.parent.mkdir(parents=True)
    path.write_text('[[bind]]\non = "cc 1"\nto = "mix"\ntakeover = "jump"\n', "utf-8")
    theatre = Theatre()
    config = MidiConfig(map="mine", ports=("livelatent test pad",))
    midi = Midi(config, theatre.store, theatre.director, theatre.metrics, Acts(theatre.director).whatever)
    midi.start()
    try:
        until(midi.ports.names)
        device.send(mido.Message("control_change", control=1, value=0))
        until(lambda: theatre.store.values()["mix"] == 0.0)
    finally:
        midi.stop()


@pytest.mark.parametrize("missing", ["mido", "rtmidi"])
def test_without_the_packages_it_is_a_sentence(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["midi"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("livelatent: MIDI needs `pip install ")
    assert len(said.splitlines()) == 1


def test_ports_are_listed_and_what_a_controller_says_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    fake_midi.reset()
    system = mido.Backend("support.fake_midi")
    assert cli.ports(system) == ["nothing is plugged in"]
    fake_midi.plug("nano 1")
    fake_midi.plug("keys 2", output=False)
    assert [line.split() for line in cli.ports(system)] == [["nano", "1", "in,", "out"], ["keys", "2", "in"]]
    assert main(["midi", "files"]) == 0
    assert "nanokontrol2" in capsys.readouterr().out
