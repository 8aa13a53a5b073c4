"""Controllers at work on a real store and director, through mido and a backend of devices that this machine has not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import fake_midi
from support.theatre import Theatre, write_look, write_show

from bridge.config import MidiConfig
from bridge.errors import DriverError
from bridge.midi import bindings
from bridge.midi.acts import MidiActs
from bridge.midi.learn import TOUCH_NS, WINDOW_NS
from bridge.midi.midi import Midi
from bridge.midi.ports import Backend
from bridge.show.acts import Acts

mido = pytest.importorskip("mido")

NANO = "nano:nano MIDI 1 20:0"
SYSTEM: Backend = mido.Backend("support.fake_midi")


def cc(number: int, value: int, channel: int = 0) -> Any:
    return mido.Message("control_change", control=number, value=value, channel=channel)


def note(number: int, velocity: int) -> Any:
    return mido.Message("note_on", note=number, velocity=velocity)


class Rig:
    """A theatre with a nano plugged in. No threads: `play` is heard and done at once."""

    def __init__(self, text: str = "", config: MidiConfig | None = None, **initial: object) -> None:
        fake_midi.reset()
        fake_midi.plug(NANO)
        self.theatre = Theatre(**initial)
        self.acts = Acts(self.theatre.director)
        path = bindings.own("mine")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            path.write_text(text, "utf-8")
        self.midi = Midi(
            config or MidiConfig(map="mine"),
            self.theatre.store,
            self.theatre.director,
            self.theatre.metrics,
            self.acts.whatever,
            lambda: SYSTEM,
            lambda: self.theatre.at_ns,
        )
        self.acts.add(MidiActs(self.midi, "/ll").acts)
        self.midi.ports.scan(SYSTEM)
        self.turn()

    def turn(self) -> None:
        self.midi.turn(self.theatre.at_ns)

    def play(self, *messages: Any, port: str = NANO) -> None:
        for message in messages:
            fake_midi.play(port, message)
            self.turn()

    def say(self, address: str, *args: object) -> Any:
        act = self.acts.find(address)
        assert act is not None
        return act(args, None)

    def at(self, name: str) -> Any:
        return getattr(self.theatre.frame(), name)

    def sent(self) -> list[str]:
        out = [str(message) for message in fake_midi.SENT.get(NANO, [])]
        fake_midi.SENT.clear()
        return out


def bind(on: str, to: str, *more: str) -> str:
    return "\n".join(["[[bind]]", f'on = "{on}"', f'to = "{to}"', *more, ""])


# Knobs, keys, wheels


def test_a_knob_takes_over_where_it_meets_the_value_and_then_leads_it() -> None:
    rig = Rig(bind("cc 21", "strength", "range = [0.2, 0.8]"))
    rig.play(cc(21, 0), cc(21, 40))
    assert rig.at("strength") == 0.6  # at two thirds of the way: not met yet
    rig.play(cc(21, 100))
    assert rig.at("strength") == pytest.approx(0.2 + 0.6 * 100 / 127, abs=1e-5)
    rig.play(cc(21, 127))
    assert rig.at("strength") == 0.8
    rig.theatre.store.set("strength", 0.3, at_ns=rig.theatre.at_ns)
    rig.play(cc(21, 120))
    assert rig.at("strength") == 0.3
    rig.play(cc(22, 64), cc(21, 0, 3))  # another knob; and any channel will do for this one
    assert rig.at("strength") == 0.2


def test_a_knob_that_may_jump_jumps() -> None:
    rig = Rig(bind("cc 21", "strength", 'takeover = "jump"', 'curve = "square"'))
    rig.play(cc(21, 127))
    assert rig.at("strength") == 1.0
    rig.play(cc(21, 64))
    assert rig.at("strength") == pytest.approx((64 / 127) ** 2, abs=1e-5)


def test_attack_and_release_are_the_seconds_up_and_down() -> None:
    rig = Rig(bind("cc 21", "mix", 'takeover = "jump"', "attack = 1.0", "release = 2.0"), mix=0.0)
    rig.play(cc(21, 127))
    assert rig.theatre.after(0.5).mix == pytest.approx(0.5)
    assert rig.theatre.after(0.5).mix == 1.0
    rig.play(cc(21, 0))
    assert rig.theatre.after(0.5).mix == pytest.approx(0.75)
    assert rig.theatre.after(1.5).mix == 0.0


def test_a_hand_on_a_knob_takes_the_parameter_from_its_schedule() -> None:
    rig = Rig(bind("cc 21", "strength"))
    rig.theatre.director.schedule("strength", "0.25")
    assert rig.at("strength") == 0.25
    rig.play(cc(21, 120))
    assert rig.at("strength") == 0.25  # pick-up waits for where the schedule has it
    rig.play(cc(21, 20))
    assert rig.at("strength") == pytest.approx(20 / 127, abs=1e-5)
    assert rig.theatre.after(1.0).strength == pytest.approx(20 / 127, abs=1e-5)
    rig.theatre.director.release("strength")
    assert rig.theatre.after(1.0).strength == 0.25


def test_fourteen_bits_reach_the_parameter_without_a_jump_between() -> None:
    rig = Rig(bind("cc14 1", "mix"), mix=0.0)
    seen = []
    rig.theatre.store.listen(lambda name, value: seen.append(round(float(value) * 16383)))
    rig.play(cc(1, 0), cc(33, 0))
    for value in range(0, 16384, 61):
        rig.play(cc(1, value >> 7), cc(33, value & 127))
    assert seen == list(range(61, 16384, 61))


@pytest.mark.parametrize(("how", "up", "down"), [("twos", 1, 127), ("offset", 65, 63), ("sign", 1, 65)])
def test_an_endless_encoder_steps_from_wherever_the_value_is(how: str, up: int, down: int) -> None:
    rig = Rig(bind("cc 21", "mix", f'relative = "{how}"', "step = 0.01") + bind("cc 22", "seed", f'relative = "{how}"'))
    rig.play(*[cc(21, down)] * 30)
    assert rig.at("mix") == pytest.approx(0.7)
    rig.theatre.store.set("mix", 0.1, at_ns=rig.theatre.at_ns)
    rig.play(*[cc(21, up)] * 5)
    assert rig.at("mix") == pytest.approx(0.15)
    rig.play(*[cc(21, down)] * 200)
    assert rig.at("mix") == 0.0


def test_an_encoder_of_small_steps_gets_through_whole_numbers() -> None:
    rig = Rig(bind("cc 21", "steps", 'relative = "twos"', "step = 0.05"))
    for _ in range(20):
        rig.play(cc(21, 1))
    assert rig.at("steps") == 8


def test_keys_toggle_set_hold_and_go_through_choices() -> None:
    rig = Rig(
        bind("note 1", "bypass")
        + bind("note 2", "strength")
        + bind("note 3", "mix", 'press = "hold"', "range = [0.25, 0.75]")
        + bind("note 4", "sampler")
        + bind("note 5", "prompt", 'value = "ink"')
        + bind("cc 9", "feedback", 'press = "toggle"', "range = [0.0, 0.5]")
    )
    rig.play(note(1, 9), note(1, 0))
    assert rig.at("bypass") is True
    rig.play(note(1, 9), note(1, 0))
    assert rig.at("bypass") is False
    rig.play(note(2, 127), note(2, 0))
    assert rig.at("strength") == 1.0  # as hard as it was pressed, and it stays
    rig.play(note(3, 1))
    assert rig.at("mix") == 0.75
    rig.play(note(3, 0))
    assert rig.at("mix") == 0.25
    for wanted in ("lcm", "turbo", "tcd", "ddim", "auto"):
        rig.play(note(4, 1), note(4, 0))
        assert rig.at("sampler") == wanted
    rig.play(note(5, 1))
    assert rig.at("prompt") == "ink"
    rig.play(cc(9, 127), cc(9, 90), cc(9, 0))
    assert rig.at("feedback") == 0.5
    rig.play(cc(9, 127), cc(9, 0))
    assert rig.at("feedback") == 0.0


def test_pitch_pressure_and_nrpn_move_and_a_programme_sets() -> None:
    rig = Rig(
        bind("pitch", "mix", 'takeover = "jump"')
        + bind("pressure", "eta", 'takeover = "jump"')
        + bind("nrpn 300", "feedback", 'takeover = "jump"')
        + bind("program 4", "sampler", 'value = "tcd"')
    )
    rig.play(mido.Message("pitchwheel", pitch=-8192), mido.Message("aftertouch", value=127))
    rig.play(cc(99, 2), cc(98, 44), cc(6, 127), cc(38, 127), mido.Message("program_change", program=4))
    frame = rig.theatre.frame()
    assert (frame.mix, frame.eta, frame.feedback, frame.sampler) == (0.0, 1.0, 1.0, "tcd")


# Inputs, looks, cues, the beat


def test_inputs_are_put_with_velocity_and_a_schedule_maps_them() -> None:
    rig = Rig(bind("note 36", "in/kick") + bind("cc 5", "in/bass", 'curve = "square"'))
    rig.theatre.director.schedule("mix", "in.kick")
    rig.theatre.director.schedule("eta", "in.bass")
    rig.play(note(36, 127), cc(5, 64))
    assert rig.at("mix") == 1.0
    assert rig.at("eta") == pytest.approx((64 / 127) ** 2)
    rig.play(note(36, 0))
    assert rig.at("mix") == 0.0


def test_looks_and_cues_are_fired_and_programme_changes_name_them() -> None:
    write_look("low", "[params]\nstrength = 0.1\n")
    write_show("mine", "[[cue]]\nname = 'a'\nlook = 'low'\n[[cue]]\nname = 'b'\nparams = { strength = 0.8 }\n")
    rig = Rig(
        bind("note 1", "cue/go")
        + bind("note 2", "cue/jump", 'args = ["b"]')
        + bind("program", "cue/jump")
        + bind("cc 7", "look/recall", 'args = ["low", 2.0]')
        + bind("note 3", "look/recall", 'args = ["nobody"]')
    )
    rig.say("show/load", "mine")
    rig.play(note(1, 1), note(1, 0))
    assert rig.at("strength") == 0.1
    rig.play(note(2, 1), note(2, 0))
    assert rig.at("strength") == 0.8
    rig.play(mido.Message("program_change", program=0))
    assert rig.at("strength") == 0.1
    rig.play(mido.Message("program_change", program=1))
    assert rig.at("strength") == 0.8
    rig.play(cc(7, 127))
    assert rig.theatre.after(1.0).strength == pytest.approx(0.45)
    assert rig.theatre.after(1.0).strength == 0.1
    rig.play(note(3, 1))
    assert rig.theatre.metrics.get("midi.refused") == 1
    assert "note 3 → look/recall: there is no look 'nobody'" in str(rig.theatre.gauge("error"))


def test_what_is_to_wait_waits_for_its_beat_or_bar() -> None:
    write_look("low", "[params]\nmix = 0.5\n")
    rig = Rig(
        bind("cc 1", "strength", 'quantise = "beat"', 'takeover = "jump"')
        + bind("note 2", "look/recall", 'args = ["low"]', 'quantise = "bar"')
    )
    tempo = rig.theatre.director.drives.tempo
    rig.theatre.after(2.2 - tempo.beat(rig.theatre.at_ns / 1e9) % 4 * 0.5)  # 0.3 s before a beat, 1.8 s before a bar
    rig.play(cc(1, 127), cc(1, 0), note(2, 1))
    assert rig.theatre.after(0.25).strength == 0.6
    assert rig.theatre.after(0.1).strength == 0.0
    assert rig.theatre.after(1.4).mix == 1.0
    assert rig.theatre.after(0.1).mix == 0.5


def test_a_clock_leads_the_tempo_where_the_row_says_so() -> None:
    rig = Rig(tempo=100.0)
    tempo, theatre = rig.theatre.director.drives.tempo, rig.theatre

    def play(beats: float, bpm: float) -> None:
        for _ in range(round(beats * 24)):
            rig.play(mido.Message("clock"))
            theatre.after(60 / bpm / 24)

    play(4, 150.0)
    assert (tempo.bpm, theatre.gauge("beat.from")) == (100.0, "own")
    theatre.store.set("tempo_source", "midi", at_ns=theatre.at_ns)
    rig.play(mido.Message("start"))
    play(8, 150.0)
    assert tempo.bpm == pytest.approx(150.0)
    assert (tempo.beat(theatre.at_ns / 1e9) + 1) % 4 == pytest.approx(1.0, abs=1e-3)
    assert theatre.gauge("beat.from") == "midi"
    assert rig.at("tempo") == 150.0
    theatre.store.set("tempo", 60.0, at_ns=theatre.at_ns)  # it takes no orders
    play(0.5, 150.0)
    theatre.director.tick()
    assert rig.at("tempo") == 150.0
    theatre.after(1.0)  # the cable is out: the beat goes on as it was
    assert theatre.gauge("beat.from") == "own"
    theatre.after(0.1)
    assert tempo.bpm == pytest.approx(150.0)


# Learning


def test_learning_binds_what_moves_next_and_writes_it_down() -> None:
    rig = Rig(bind("cc 1", "mix", 'takeover = "jump"'), mix=0.75)
    rig.say("midi/learn", "/ll/strength")
    rig.turn()
    assert str(rig.theatre.gauge("midi.state")).startswith("learning strength")
    rig.play(note(60, 0), cc(1, 127))
    assert rig.at("mix") == 0.75  # nothing else is moved meanwhile
    rig.theatre.after(WINDOW_NS / 1e9)
    rig.turn()
    assert rig.say("midi/bindings") == ("cc 1", "mix", "ch 1 cc 1", "strength")
    found = bindings.read_map(bindings.own("mine")).bind[-1]
    assert (found.on, found.to, found.port) == ("ch 1 cc 1", "strength", "nano:nano MIDI 1")
    rig.play(cc(1, 76), cc(1, 90))
    assert rig.at("strength") == pytest.approx(90 / 127, abs=1e-5)
    rig.say("midi/forget", "strength")
    assert rig.say("midi/bindings") == ("cc 1", "mix")


@pytest.mark.parametrize(
    ("messages", "on"),
    [
        ([cc(1, 5), cc(33, 9)], "ch 1 cc14 1"),
        ([cc(99, 2), cc(98, 44), cc(6, 3), cc(38, 1)], "ch 1 nrpn 300"),
        ([note(104, 127), mido.Message("pitchwheel", pitch=5)], "ch 1 pitch"),
        ([note(36, 80), mido.Message("aftertouch", value=3), note(36, 0)], "ch 1 note 36"),
        ([mido.Message("clock"), mido.Message("start"), mido.Message("program_change", program=7)], "ch 1 program 7"),
    ],
)
def test_learning_finds_what_was_meant(messages: list[Any], on: str) -> None:
    rig = Rig()
    rig.say("midi/learn", "cue/go")
    rig.play(*messages)
    rig.theatre.after(TOUCH_NS / 1e9)
    rig.turn()
    assert rig.say("midi/bindings") == (on, "cue/go")


def test_one_of_several_that_an_address_has_is_forgotten_by_its_arguments() -> None:
    looks = bind("note 1", "look/recall", 'args = ["a", 2.0]') + bind("note 2", "look/recall", 'args = ["b"]')
    rig = Rig(looks + bind("note 3", "prompt", 'value = "ink"') + bind("note 4", "prompt", 'value = "gold"'))
    with pytest.raises(Exception, match="nothing is bound to 'look/recall'"):
        rig.say("midi/forget", "look/recall", "a")
    rig.say("midi/forget", "look/recall", "a", 2)
    rig.say("midi/forget", "prompt", "gold")
    assert [(one.on, *one.args) for one in rig.midi.wiring().bound] == [("note 2", "b"), ("note 3", "ink")]


def test_what_is_being_learnt_and_for_which_page_is_known() -> None:
    rig = Rig()
    act = rig.acts.find("midi/learn")
    assert act is not None
    act(("prompt", "ink"), "phone 2")
    wiring = rig.midi.wiring()
    assert wiring.learning is not None
    assert (wiring.learning.to, wiring.learning.args, wiring.by) == ("prompt", ("ink",), "phone 2")
    act(("/ll/strength",), ("10.0.0.7", 9000))
    assert rig.midi.wiring().by == ""
    act((), None)
    assert rig.midi.wiring().learning is None


def test_learning_can_be_given_up_and_refuses_what_has_no_address() -> None:
    rig = Rig()
    rig.say("midi/learn", "strength")
    rig.say("midi/learn")
    rig.play(cc(1, 1))
    rig.theatre.after(1.0)
    rig.turn()
    assert rig.say("midi/bindings") == ()
    with pytest.raises(Exception, match="nothing is at 'nowhere'"):
        rig.say("midi/learn", "nowhere")


def test_the_file_is_taken_over_when_it_is_edited_and_a_mistake_changes_nothing() -> None:
    rig = Rig(bind("cc 1", "mix"))
    path = bindings.own("mine")
    for text, bound in (
        (bind("cc 2", "eta"), ("cc 2", "eta")),
        ("[[bind]\n", ("cc 2", "eta")),
        (bind("cc 3", "mix"), ("cc 3", "mix")),
    ):
        before = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == before:  # a file system's clock may be coarse
            path.write_text(text, "utf-8")
        rig.theatre.after(0.6)
        rig.turn()
        assert rig.say("midi/bindings") == bound
    assert rig.theatre.metrics.get("midi.refused") == 1


def test_another_file_is_put_on() -> None:
    rig = Rig(bind("cc 1", "mix"))
    bindings.own("more").write_text(bind("cc 2", "eta"), "utf-8")
    assert {"mine", "more"} <= set(rig.say("midi/list"))
    rig.say("midi/load", "more")
    assert rig.say("midi/bindings") == ("cc 2", "eta")
    with pytest.raises(Exception, match="there are no bindings 'nope'"):
        rig.say("midi/load", "nope")


# What goes back


def test_faders_and_lights_are_told_what_others_move_and_not_what_they_did_themselves() -> None:
    rig = Rig(
        bind("cc 1", "mix", 'takeover = "jump"')
        + bind("ch 2 note 5", "bypass")
        + bind("cc14 3", "eta")
        + bind("pitch", "feedback")
        + bind("cc 8", "in/bass"),
        mix=1.0,
        eta=1.0,
    )
    # All, when it is plugged in.
    assert rig.sent() == [
        "control_change channel=0 control=1 value=127 time=0",
        "note_on channel=1 note=5 velocity=0 time=0",
        "control_change channel=0 control=3 value=127 time=0",
        "control_change channel=0 control=35 value=127 time=0",
        "pitchwheel channel=0 pitch=-8192 time=0",
    ]
    rig.theatre.after(1.0)
    rig.play(cc(1, 64))
    assert rig.sent() == []
    rig.theatre.store.set_many({"mix": 0.0, "bypass": True}, at_ns=rig.theatre.at_ns)
    rig.theatre.after(1.0)
    rig.turn()
    assert rig.sent() == [
        "control_change channel=0 control=1 value=0 time=0",
        "note_on channel=1 note=5 velocity=127 time=0",
    ]
    rig.theatre.director.schedule("mix", "1")
    rig.theatre.after(0.1)
    rig.turn()
    assert rig.sent() == ["control_change channel=0 control=1 value=127 time=0"]


def test_a_schedule_is_told_twenty_times_a_second_at_most() -> None:
    rig = Rig(bind("cc 1", "mix"))
    rig.sent()
    rig.theatre.director.schedule("mix", "t % 1")
    for _ in range(100):
        rig.theatre.after(0.01)
        rig.turn()
    assert 10 <= len(rig.sent()) <= 21


def test_nothing_goes_back_where_that_is_switched_off() -> None:
    rig = Rig(bind("cc 1", "mix"), MidiConfig(map="mine", feedback=False))
    rig.theatre.after(1.0)
    rig.turn()
    assert rig.sent() == []


# Ports that come and go


def test_a_controller_that_was_unplugged_works_when_it_is_back_under_another_number() -> None:
    rig = Rig(bind("cc 1", "mix", 'takeover = "jump"', 'port = "nano"'))
    fake_midi.unplug(NANO)
    rig.theatre.store.set("mix", 0.5, at_ns=rig.theatre.at_ns)
    rig.theatre.after(1.0)
    rig.turn()  # its output raises: that is counted, and no more
    assert rig.theatre.metrics.get("midi.unsent") >= 1
    rig.midi.ports.scan(SYSTEM)
    assert rig.midi.ports.names() == []
    back = "nano:nano MIDI 1 28:0"
    fake_midi.plug(back)
    rig.midi.ports.scan(SYSTEM)
    rig.play(cc(1, 0), port=back)
    assert rig.at("mix") == 0.0


def test_only_ports_that_are_wanted_are_opened_and_one_that_another_program_has_is_tried_again() -> None:
    rig = Rig(config=MidiConfig(map="mine", ports=("NANO", "pad")))
    for name in ("keys 1", "pad 2", "RtMidiIn Client:RtMidi input 128:0", "Midi Through:Midi Through Port-0 14:0"):
        fake_midi.plug(name)
    fake_midi.BROKEN.add("pad 2")
    rig.midi.ports.scan(SYSTEM)
    assert not any(map(fake_midi.is_open, ("keys 1", "pad 2")))
    assert "can't be opened" in str(rig.theatre.metrics.snapshot()["midi.state"])
    fake_midi.BROKEN.clear()
    rig.midi.ports.scan(SYSTEM)
    assert rig.midi.ports.names() == ["nano:nano MIDI 1", "pad"]


@pytest.fixture
def running(nothing_left: None) -> Iterator[Callable[..., Rig]]:
    rigs = []

    def start(*args: Any, **more: Any) -> Rig:
        rigs.append(Rig(*args, **more))
        rigs[-1].midi.start()
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.midi.stop()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_on_its_threads_a_controller_is_heard_goes_and_comes_back(running: Callable[..., Rig]) -> None:
    rig = running(bind("cc 1", "mix", 'takeover = "jump"'))
    fake_midi.play(NANO, cc(1, 64))
    until(lambda: rig.theatre.store.values()["mix"] == pytest.approx(64 / 127, abs=1e-5))
    fake_midi.unplug(NANO)
    until(lambda: not rig.midi.ports.names())
    fake_midi.plug(NANO)
    until(lambda: rig.midi.ports.names())
    fake_midi.play(NANO, cc(1, 32))
    until(lambda: rig.theatre.store.values()["mix"] == pytest.approx(32 / 127, abs=1e-5))


def test_without_any_midi_in_the_system_a_run_goes_on_and_says_so(nothing_left: None) -> None:
    rig = Rig()

    def none() -> Backend:
        raise DriverError("this system has no MIDI")

    midi = Midi(
        *(MidiConfig(map="mine"), rig.theatre.store, rig.theatre.director, rig.theatre.metrics, rig.acts.whatever), none
    )
    midi.start()
    until(lambda: rig.theatre.metrics.snapshot().get("midi.state") == "this system has no MIDI")
    midi.stop()


def test_a_flood_is_bounded_and_counted() -> None:
    rig = Rig()
    for n in range(6000):
        fake_midi.play(NANO, cc(1, n & 127))
    assert rig.theatre.metrics.get("midi.lost") == 6000 - 4096
    rig.turn()
    assert rig.theatre.metrics.get("midi.messages") == 4096
