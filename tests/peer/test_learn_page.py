"""MIDI learn on the page, in a real browser, with a controller that this machine has not and all that is behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import fake_midi
from support.browser import Browser, Page, opened
from support.stage import Stage, until

from bridge.config import MidiConfig
from bridge.midi import bindings
from bridge.midi.acts import MidiActs
from bridge.midi.midi import Midi
from bridge.midi.ports import Backend

mido = pytest.importorskip("mido")

pytestmark = pytest.mark.browser
NANO = "nano:nano MIDI 1 20:0"
SYSTEM: Backend = mido.Backend("support.fake_midi")
TAGS = "[...document.querySelectorAll('.bound')].map((tag) => tag.textContent)"
WAITING = "[...document.querySelectorAll('.waiting')].map((e) => e.dataset.name ?? e.dataset.look ?? e.id)"
WORDS = "document.querySelector('#learning p').textContent"


@pytest.fixture
def midi(stage: Stage) -> Iterator[Midi]:
    """A nano is plugged in; one binding is there before the page is."""
    fake_midi.reset()
    fake_midi.plug(NANO)
    path = bindings.own("mine")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('[[bind]]\non = "ch 3 cc 7"\nto = "mix"\n', "utf-8")
    midi = Midi(
        *(MidiConfig(map="mine"), stage.store, stage.director, stage.metrics, stage.acts.whatever), lambda: SYSTEM
    )
    stage.acts.add(MidiActs(midi, "/ll").acts, midi.wiring)
    midi.start()
    until(lambda: fake_midi.is_open(NANO), "plugged in")
    yield midi
    midi.stop()


@pytest.fixture
def page(midi: Midi, page: Page) -> Page:
    page.wait("!document.querySelector('#learn').hidden")
    return page


def turn(number: int, value: int = 64) -> None:
    fake_midi.play(NANO, mido.Message("control_change", control=number, value=value))


def pressed(number: int) -> None:
    fake_midi.play(NANO, mido.Message("note_on", note=number, velocity=100))


def bound(midi: Midi) -> list[tuple[Any, ...]]:
    return [(one.on, one.to, *one.args) for one in midi.wiring().bound]


def waits(midi: Midi, *wanted: object) -> None:
    def there() -> bool:
        learning = midi.wiring().learning
        return (learning is not None and (learning.to, *learning.args) == wanted) or (learning is None and not wanted)

    until(there, f"{wanted} waits")


def test_a_slider_is_touched_a_knob_is_moved_and_the_tag_unlearns_it(stage: Stage, page: Page, midi: Midi) -> None:
    assert page.eval(TAGS) == [], "nothing is marked while nobody learns"
    page.click("#learn")
    page.wait(f"({TAGS}).join() === 'CC 7 ch 3 ×'")
    page.drag("[data-name=strength] input[type=range]", 0.6, 0.9)
    waits(midi, "strength")
    page.wait(f"({WAITING}).join() === 'strength'")
    page.wait(f"{WORDS} === 'strength: move a knob or press a key'")
    assert stage.store.values()["strength"] == 0.6, "a hand on it moves nothing now"
    turn(21)
    page.wait("document.querySelector('[data-name=strength] .bound')?.textContent === 'CC 21 ×'")
    page.wait(f"({WAITING}).length === 0 && {WORDS}.startsWith('strength is on CC 21.')")
    assert ("ch 1 cc 21", "strength") in bound(midi)
    page.eval("document.querySelector('[data-name=steps] input').focus()")
    page.press("Enter")
    waits(midi, "steps")
    page.press("Escape")
    waits(midi)
    page.wait(f"({TAGS}).length === 0")
    turn(21, 76)
    turn(21, 127)
    until(lambda: stage.store.values()["strength"] == 1.0, "the knob moves it")
    page.press("m")
    page.click("[data-name=strength] .bound")
    assert ("ch 1 cc 21", "strength") in bound(midi), "it asks first"
    page.click("[data-name=strength] .bound")
    page.wait(f"({TAGS}).join() === 'CC 7 ch 3 ×'")
    assert bound(midi) == [("ch 3 cc 7", "mix")]


def test_switches_choices_prompts_looks_and_go_are_learnt_as_they_are(stage: Stage, page: Page, midi: Midi) -> None:
    insert = stage.acts.find("cue/insert")
    assert insert is not None
    insert((0, "calm", 0, "hand"), None)
    page.wait("!document.querySelector('.transport').hidden")
    page.eval("document.querySelector('#look-seconds').value = 4")
    page.eval("document.querySelectorAll('details').forEach((group) => (group.open = true))")
    page.press("m")
    for number, (selector, wanted) in enumerate(
        {
            "[data-name=bypass]": ("bypass",),
            "[data-name=sampler]": ("sampler",),
            "[data-name=prompt]": ("prompt", stage.store.values()["prompt"]),
            "[data-name=control1_weight]": ("control/1/weight",),
            "[data-look=calm]": ("look/recall", "calm", 4, "ease"),
            "[data-look=crisp]": ("look/recall", "crisp", 4, "ease"),
            "#go": ("cue/go",),
            "#back": ("cue/back",),
            "[data-command=tap]": ("tap",),
        }.items(),
        40,
    ):
        page.click(selector)
        waits(midi, *wanted)
        pressed(number)
        until(lambda on=number, to=wanted: (f"ch 1 note {on}", *to) in bound(midi), selector)  # type: ignore[misc]
        page.wait(f"({TAGS}).includes('note {number} ×')")
    assert stage.store.values()["bypass"] is False
    assert stage.director.playing().asked == -1
    assert "look" not in stage.metrics.snapshot()
    for _ in range(2):
        page.click("[data-look=calm] + .tags .bound")
    until(lambda: ("ch 1 note 44", "look/recall", "calm", 4, "ease") not in bound(midi), "this look alone")
    assert ("ch 1 note 45", "look/recall", "crisp", 4, "ease") in bound(midi)


@pytest.mark.parametrize("way", ["Escape", "m", "#learn", "#learning button", "again"])
def test_what_waits_is_given_up_by_leaving(page: Page, midi: Midi, way: str) -> None:
    page.press("m")
    page.click("[data-name=strength] .name")
    page.wait(f"({WAITING}).join() === 'strength'")
    if way == "again":
        page.click("[data-name=strength] .name")
    elif way.startswith("#"):
        page.click(way)
    else:
        page.press(way)
    waits(midi)
    page.wait(f"document.body.classList.contains('learn') === {str(way == 'again').lower()}")
    assert bound(midi) == [("ch 3 cc 7", "mix")]


def test_a_page_that_goes_gives_up_what_it_wanted_and_no_more(
    browser: Browser, stage: Stage, page: Page, midi: Midi
) -> None:
    other = opened(browser, stage.server.url)
    other.wait("!document.querySelector('#learn').hidden")
    for each, name in ((page, "strength"), (other, "bypass")):
        each.press("m")
        each.click(f"[data-name={name}]")
        waits(midi, name)
    page.wait(f"({WAITING}).join() === 'bypass'")
    page.press("Escape")
    page.press("m")
    page.wait(f"({WAITING}).join() === 'bypass'")
    other.close()
    waits(midi)
    page.wait(f"({WAITING}).length === 0")


def test_on_a_phone_all_of_it_is_large_enough_and_inside(stage: Stage, page: Page, midi: Midi) -> None:
    page.viewport(390, 844, 2, mobile=True)
    page.click("nav [data-tab=controls]")
    page.touch("#learn")
    page.wait("document.body.classList.contains('learn')")
    page.touch("[data-name=strength] .track")
    waits(midi, "strength")
    turn(21)
    waits(midi)
    page.click("nav [data-tab=looks]")
    page.touch("[data-look=calm]")
    waits(midi, "look/recall", "calm", 2, "ease")
    turn(22)
    waits(midi)
    for tab in ("controls", "looks"):
        page.click(f"nav [data-tab={tab}]")
        page.wait("[...document.querySelectorAll('.bound')].some((tag) => tag.offsetParent)")
        seen = "[...document.querySelectorAll('#learn, #learning, #learning button, .bound')]"
        seen += ".filter((e) => e.offsetParent).map((e) => e.getBoundingClientRect())"
        assert page.eval(f"{seen}.filter((r) => r.height < 43.9 || r.left < 0 || r.right > 391).length") == 0, tab
        assert page.eval("document.documentElement.scrollWidth") == 390


def test_without_midi_there_is_no_button_and_the_key_does_nothing(browser: Browser, stage: Stage) -> None:
    page = opened(browser, stage.server.url)
    page.press("m")
    assert page.eval("document.querySelector('#learn').hidden && !document.body.classList.contains('learn')")
    assert not page.errors
    page.close()
