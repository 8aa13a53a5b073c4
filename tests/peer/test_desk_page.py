"""The page as a desk, in a real browser: looks, cues, the log, keys and fingers, on a screen and on a phone."""

from __future__ import annotations

import numpy as np
import pytest
from support.browser import Browser, Page, opened
from support.stage import Stage, until

from bridge.show.looks import Library
from bridge.show.player import Player

pytestmark = pytest.mark.browser
TABS = ("looks", "prompt", "cues", "controls", "log")
TOUCHED = "button, input:not([type=radio], [type=range]), select, textarea, summary, .radios label, .track"


@pytest.fixture
def phone(page: Page) -> Page:
    page.viewport(390, 844, 2, mobile=True)
    return page


def three_cues(stage: Stage) -> Player:
    insert = stage.acts.find("cue/insert")
    assert insert is not None
    for look in ("calm", "crisp", "flowing"):
        insert((0, look, 0, "hand"), None)
    return stage.director.playing()


def on(stage: Stage, player: Player, index: int, what: str) -> None:
    """A frame later this cue is on."""
    until(lambda: player.asked == index, what)
    stage.director.snapshot()
    assert player.index == index


def fill(page: Page, selector: str, text: str) -> None:
    page.click(selector)
    page.eval(f"document.querySelector({selector!r}).select()")
    page.type(text)


# Looks


def test_a_look_is_saved_with_its_picture_recalled_by_a_tap_and_deleted(stage: Stage, page: Page) -> None:
    stage.publish(output=np.full((64, 64, 3), (200, 30, 60), np.uint8))
    stage.store.set("strength", 0.25)
    page.click("#look-save")
    fill(page, "#look-name", "red room!")
    page.press("Enter")
    page.wait("document.querySelector(`[data-look='red room'] img`)?.complete")
    assert Library().get("red room").values["strength"] == 0.25
    middle = """(() => { const c = new OffscreenCanvas(1, 1).getContext('2d');
      c.drawImage(document.querySelector(`[data-look='red room'] img`), 0, 0, 1, 1);
      return [...c.getImageData(0, 0, 1, 1).data]; })()"""
    assert np.abs(np.array(page.eval(middle)[:3]) - (200, 30, 60)).max() < 12
    stage.store.set("strength", 0.75)
    page.eval("document.querySelector('#look-seconds').value = 600")
    page.click("[data-look='red room'] img")
    until(lambda: stage.store.values()["strength"] == 0.25, "it goes there")
    assert stage.store.snapshot().strength > 0.7, "in the time that was chosen"
    page.wait("document.querySelector(`[data-look='red room'][aria-current]`)")
    page.click("#look-edit")
    page.click("[data-look='red room'] + .remove")
    assert "red room" in Library().names(), "it asks first"
    page.click("[data-look='red room'] + .remove")
    page.wait("!document.querySelector(`[data-look='red room']`)")
    assert "red room" not in Library().names()
    assert page.eval("!document.querySelector('[data-look=calm] + .remove')"), "ours can't be deleted"


def test_a_recall_may_wait_for_the_bar_and_has_its_curve(stage: Stage, page: Page) -> None:
    for box, value in (("look-wait", "bar"), ("look-curve", "out"), ("look-seconds", "3")):
        page.eval(f"document.getElementById('{box}').value = '{value}'")
    asked: list[object] = []
    stage.director.recall = lambda *args: asked.append(args)  # type: ignore[method-assign,assignment]
    page.click("[data-look=calm]")
    until(lambda: len(asked) == 1, "the tap arrives")
    assert asked[0] == ("calm", 3.0, "out", "bar", asked[0][4])  # type: ignore[index]


# Cues


def test_a_list_is_made_fired_changed_and_saved_by_hand(stage: Stage, page: Page) -> None:
    assert page.eval("document.querySelector('.transport').hidden"), "without cues there is nothing to go to"
    for number, look in enumerate(("calm", "crisp", "flowing"), 1):
        page.eval(f"document.querySelector('#cue-look').value = '{look}'")
        page.click("#cue-add")
        page.wait(f"document.querySelectorAll('.cues [data-cue]').length === {number}")
    player = stage.director.playing()
    page.click("#go")
    on(stage, player, 0, "go fires the first")
    page.wait(
        "document.querySelector('.on')?.dataset.cue === '0' && document.querySelector('.then').dataset.cue === '1'"
    )
    assert page.eval("document.querySelector('#then').textContent") == "crisp"
    page.click("[data-cue='1'] .cue")
    fill(page, "[data-cue='1'] [data-key=wait]", "2 bars")
    page.press("Enter")
    until(lambda: player.show.cue[1].wait == "2 bars", "set")
    fill(page, "[data-cue='1'] [data-key=name]", "drop")
    page.press("Enter")
    until(lambda: player.show.cue[1].name == "drop", "named")
    page.wait("document.querySelector(\"[data-cue='1'] .title\").textContent === 'drop'")
    page.click("[data-cue='1'] .acts button:nth-child(2)")
    until(lambda: player.show.cue[2].name == "drop", "moved down")
    page.wait("document.querySelector(\"[data-cue='2'] .title\").textContent === 'drop'")
    page.click("[data-cue='2'] .fire")
    on(stage, player, 2, "a cue by itself")
    page.click("#back")
    on(stage, player, 1, "back")
    page.click("#hold")
    page.wait("document.querySelector('#hold').getAttribute('aria-pressed') === 'true'")
    assert player.held
    page.click("[data-cue='0'] .cue")
    page.click("[data-cue='0'] .danger")
    page.wait("document.querySelectorAll('.cues [data-cue]').length === 2")
    fill(page, "#show-name", "friday")
    page.click("#show-save")
    page.wait("document.querySelector('#show-load').value === 'friday'")
    page.eval(
        "const at = document.querySelector('#show-load'); at.value = 'tour'; at.dispatchEvent(new Event('change'))"
    )
    page.wait("document.querySelectorAll('.cues [data-cue]').length === 4")
    assert stage.director.playing().show.name == "tour"


def test_a_cue_list_that_changes_takes_no_words_from_who_types(stage: Stage, page: Page) -> None:
    player = three_cues(stage)
    page.wait("document.querySelectorAll('.cues [data-cue]').length === 3")
    page.click("[data-cue='0'] .cue")
    fill(page, "[data-cue='0'] [data-key=name]", "my own")
    change = stage.acts.find("cue/set")
    assert change is not None
    change((3, "name", "theirs"), None)
    stage.director.go()
    stage.director.snapshot()
    page.wait("document.querySelector('.on')?.dataset.cue === '0'")
    assert page.eval("document.querySelector(`[data-cue='0'] [data-key=name]`).value") == "my own"
    page.press("Enter")
    until(lambda: [cue.name for cue in player.show.cue] == ["my own", "", "theirs"], "both")
    page.wait("document.querySelector(`[data-cue='2'] .title`).textContent === 'theirs'")
    page.wait("document.querySelector(`[data-cue='0'] .title`).textContent === 'my own'")


def test_the_time_until_the_next_cue_counts_down(stage: Stage, page: Page) -> None:
    insert = stage.acts.find("cue/insert")
    assert insert is not None
    for look in ("calm", "crisp"):
        insert((0, look, 0, 90), None)
    stage.director.go()
    stage.play(fps=20, side=32, frames=2)
    page.wait("/^1:[12]/.test(document.querySelector('#in').textContent)")
    first = page.eval("document.querySelector('#in').textContent")
    page.wait(f"document.querySelector('#in').textContent < '{first}'")
    # With the link gone nobody tells it anew: it counts on by itself.
    stage.server.stop()
    page.wait("document.body.dataset.link === 'lost'")
    first = page.eval("document.querySelector('#in').textContent")
    page.wait(f"document.querySelector('#in').textContent < '{first}'")
    page.errors.clear()  # that the link was lost


# Keys


def test_keys_go_back_and_recall_while_nobody_types(stage: Stage, page: Page) -> None:
    player = three_cues(stage)
    page.wait("document.querySelectorAll('.cues [data-cue]').length === 3")
    for key, index in ((" ", 0), (" ", 1), ("Backspace", 0), (" ", 1), ("ArrowLeft", 0)):
        page.press(key)
        on(stage, player, index, f"{key} to {index}")
    page.press(" ", repeat=True)
    page.press("h")
    until(lambda: player.held, "hold")
    assert player.asked == -1, "a key that is held down does not run through the list"
    # After a click the button must not keep the next space for itself.
    page.click("[data-name=bypass]")
    until(lambda: stage.store.values()["bypass"] is True, "on")
    page.press(" ")
    on(stage, player, 1, "space is go")
    assert stage.store.values()["bypass"] is True
    # Nor one that gets the focus back when a sheet is closed.
    page.press("s")
    page.wait("document.querySelector('#look-saver').open")
    page.press("Enter")
    page.wait("document.activeElement === document.body")
    page.wait("document.querySelector(`[data-look='look 1']`)")
    page.press("Backspace")
    on(stage, player, 0, "back")
    page.click("#look-save")
    page.wait("document.querySelector('#look-saver').open")
    page.press("Escape")
    page.wait("document.activeElement === document.body")
    page.press(" ")
    on(stage, player, 1, "space is still go")
    page.eval("document.querySelector('#look-seconds').value = 0")
    page.press("2")
    until(lambda: stage.metrics.snapshot().get("look") == "calm" and stage.store.values()["smoothing"] == 0.8, "look 1")


def test_keys_are_letters_where_somebody_types(stage: Stage, page: Page) -> None:
    player = three_cues(stage)
    page.press("/")
    page.wait("document.activeElement === document.querySelector('[data-name=prompt] textarea')")
    page.eval("document.activeElement.select()")
    for letter in "h 1 p":
        page.press(letter)
    page.press("Enter")
    until(lambda: stage.store.values()["prompt"] == "h 1 p", "typed")
    page.press("Escape")
    page.click("[data-name=strength] input[type=range]")
    page.press("ArrowLeft")
    page.press("?")
    page.wait("document.querySelector('#keys').open")
    page.press(" ")
    page.wait("document.querySelector('#keys').open || true")
    page.press("Escape")
    page.wait("!document.querySelector('#keys').open")
    assert (player.asked, player.index, player.held) == (-1, -1, False)


# A phone


def test_a_finger_along_a_slider_moves_it_and_a_tap_or_a_scroll_does_not(stage: Stage, phone: Page) -> None:
    phone.click("nav [data-tab=controls]")
    track = "[data-name=strength] .track"
    scrolled = "document.querySelector('.panel').scrollTop + document.scrollingElement.scrollTop"
    width = phone.box(track)[2]
    before = phone.eval(scrolled)
    phone.touch(track)
    phone.touch(track, *((-width * part / 40, 1) for part in range(1, 9)))
    # A fifth of its length, less the six pixels that it took to know that it is a drag; the tap before it did nothing.
    wanted = 0.4 + 6 / width
    until(lambda: abs(float(stage.store.values()["strength"]) - wanted) < 0.02, "as far as the finger")
    assert phone.eval(scrolled) == before
    there = stage.store.values()["strength"]
    phone.touch(track, (2, -20), (3, -60), (3, -90))
    phone.wait(f"({scrolled}) > {before}")
    phone.click("[data-name=strength] .name")  # whatever a move would have sent is sent by now
    assert stage.store.values()["strength"] == there


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568), (844, 390), (820, 1180)])
def test_on_a_phone_all_is_large_enough_and_go_lies_under_the_thumb(
    stage: Stage, page: Page, width: int, height: int
) -> None:
    three_cues(stage)
    page.viewport(width, height, 2, mobile=True)
    page.wait("document.querySelectorAll('.cues [data-cue]').length === 3")
    page.eval("document.querySelectorAll('details').forEach((group) => (group.open = true))")
    page.eval("document.querySelector('[data-cue] .cue').click()")
    for layout in ("desk", "play"):
        for tab in TABS if layout == "desk" else ("looks",):
            page.eval(f"document.querySelector('nav [data-tab={tab}]').click()")
            inside = "e.offsetParent && e.getBoundingClientRect().height"
            small = f"[...document.querySelectorAll('{TOUCHED}')].filter((e) => {inside} && {inside} < 43.9)"
            assert page.eval(f"{small}.map((e) => e.outerHTML)") == [], tab
            beyond = "[...document.querySelectorAll('body *')].filter((e) => e.offsetParent && !e.closest('.look') && "
            beyond += f"(e.getBoundingClientRect().right > {width + 1} || e.getBoundingClientRect().left < -1))"
            assert page.eval(f"{beyond}.map((e) => e.outerHTML)") == [], tab
            assert page.eval("document.documentElement.scrollWidth") == width
            top, bottom = page.eval("(({top, bottom}) => [top, bottom])(go.getBoundingClientRect())")
            assert height * 0.6 < top < bottom <= height, (layout, tab)
        page.eval("document.querySelector('#layout').click()")


def test_the_play_layout_is_picture_looks_and_go(stage: Stage, phone: Page) -> None:
    three_cues(stage)
    phone.wait("!document.querySelector('.transport').hidden")
    phone.click("#layout")
    seen = "[...document.querySelectorAll('main > section, header, nav')].filter((e) => e.offsetParent)"
    assert phone.eval(f"{seen}.map((e) => e.className)") == ["stage", "transport", "looks"]
    assert phone.eval("document.querySelector('#output canvas').getBoundingClientRect().width") == 390
    phone.touch("[data-look=calm]")
    until(lambda: stage.metrics.snapshot().get("look") == "calm", "a look by a tap")
    phone.touch("#layout")
    phone.wait("document.body.dataset.layout === 'desk'")


def test_nothing_can_be_painted_before_the_dark_is_there(stage: Stage, page: Page) -> None:
    # Style sheets in the head hold the first paint back; until then the browser's own canvas is dark by the meta.
    head = "[...document.head.children].map((e) => e.name || e.rel || e.tagName)"
    parts = page.eval(head)
    assert parts.index("color-scheme") < parts.index("stylesheet")
    assert page.eval("document.querySelector('meta[name=color-scheme]').content") == "dark"
    assert page.eval("document.querySelectorAll('body link, body style, head [media]').length") == 0
    assert page.eval("getComputedStyle(document.documentElement).backgroundColor") == "rgb(11, 12, 14)"


# Two people


def test_two_people_play_one_desk(browser: Browser, stage: Stage, page: Page) -> None:
    player = three_cues(stage)
    other = opened(browser, stage.server.url)
    stage.publish()
    page.drag("[data-name=strength] input[type=range]", 0.6, 0.9)
    value = "Number(document.querySelector('[data-name=strength] input[type=number]').value)"
    until(lambda: other.eval(value) == stage.store.values()["strength"] != 0.6, "a slider")
    other.wait("document.querySelector('.log [data-kind=move]')?.textContent.includes('strength')")
    other.click("#go")
    on(stage, player, 0, "a go")
    page.wait("document.querySelector('.on')?.dataset.cue === '0'")
    page.click("#look-save")
    page.press("Enter")
    other.wait("document.querySelector(`[data-look='look 1'] img`)")
    other.click("[data-look=crisp]")
    page.wait("document.querySelector('[data-look=crisp][aria-current]')")
    lines = "[...document.querySelectorAll('.log li')].map((e) => e.querySelector('.text').textContent).reverse()"
    for who in (page, other):
        who.wait(f"{lines}.some((line) => line.includes('recalled crisp'))")
    seen = [line for line in page.eval(lines) if not line.endswith("is here")]
    assert seen == other.eval(f"{lines}.filter((line) => !line.endsWith('is here'))")
    order = [
        next(i for i, line in enumerate(seen) if word in line) for word in ("strength", "cue go", "look 1", "crisp")
    ]
    assert order == sorted(order)
    assert not other.errors
    other.close()


def test_who_moves_a_control_is_seen_at_it(stage: Stage, page: Page) -> None:
    stage.store.set("strength", 0.3, origin=("10.0.0.7", 9000))
    page.wait("document.querySelector('[data-name=strength]').dataset.by === 'OSC 10.0.0.7'")
    page.wait("!document.querySelector('[data-name=strength]').dataset.by")
    page.drag("[data-name=strength] input[type=range]", 0.3, 0.6)
    until(lambda: float(stage.store.values()["strength"]) > 0.5, "mine")
    assert page.eval("!document.querySelector('[data-name=strength]').dataset.by")


# Prompt, hints, recording, meters, log


def test_the_prompt_box_counts_tokens_and_remembers(stage: Stage, page: Page) -> None:
    stage.metrics.gauge("prompt.tokens", 7.0)
    page.wait("document.querySelector('[data-name=prompt] .tokens').textContent === '7 tokens'")
    for text in ("marble", "gold"):
        stage.store.set("prompt", text)
        page.wait(f"document.querySelector('[data-name=prompt] textarea').value === '{text}'")
    page.click("[data-name=prompt] .past")
    rows = "[...document.querySelectorAll('[data-name=prompt] .history button')].map((e) => e.textContent)"
    assert page.eval(rows)[:3] == ["gold", "marble", "neon"]
    page.click("[data-name=prompt] .history li:nth-child(2) button")
    until(lambda: stage.store.values()["prompt"] == "marble", "brought back")
    assert page.eval("document.querySelector('[data-name=prompt] .history').hidden")


def test_a_unit_shows_its_hint_at_a_touch(stage: Stage, page: Page) -> None:
    page.click("[data-group='control 2'] summary")
    page.click(".peek[data-unit='2']")
    until(lambda: stage.store.values()["hint_preview"] == 2, "asked for")
    page.wait("!document.querySelector('#hint').hidden")
    stage.publish(hint=np.full((64, 64, 3), 90, np.uint8))
    page.wait("document.querySelector('#hint').dataset.painted")
    page.click(".peek[data-unit='2']")
    until(lambda: stage.store.values()["hint_preview"] == 0, "and no more")


def test_recording_is_a_button_and_everyone_sees_that_it_runs(stage: Stage, page: Page) -> None:
    said: list[tuple[str, tuple[object, ...]]] = []
    for address in ("record", "still"):
        stage.acts._acts[address] = lambda args, origin, address=address: said.append((address, tuple(args)))
    page.press("r")
    until(lambda: said == [("record", (1,))], "started by a key")
    for name, value in {"on": 1.0, "seconds": 72.4, "lost": 3.0}.items():
        stage.metrics.gauge(f"record.{name}", value)
    stage.metrics.gauge("still", "friday 0001.png")
    page.wait("document.querySelector('#record').textContent === '● 1:12, 3 lost'")
    page.press("r")
    page.click("#still")
    until(lambda: said[1:] == [("still", ())], "the key does not stop it")
    page.wait("document.querySelector('#still').title === 'Saved last: friday 0001.png'")
    page.click("#record")
    until(lambda: said[2:] == [("record", (0,))], "the button does")
    stage.metrics.gauge("record.on", 0.0)
    page.wait("document.querySelector('#record').textContent === '● rec'")


def test_the_meters_in_full(stage: Stage, page: Page) -> None:
    page.click("nav [data-side=meters]")
    for took in (10.0, 20.0, 20.0, 20.0):
        stage.metrics.observe("latency", took)
    stage.metrics.observe("frame", 9.0)
    stage.metrics.gauge("memory.used", 3.0)
    stage.metrics.gauge("memory.total", 24.0)
    stage.metrics.count("feed.dropped", 12)
    page.wait("document.querySelector('.memory b')?.textContent === '3.0 of 24 GiB'")
    bars = "[...document.querySelectorAll('.bars i')].map((e) => Number(e.style.getPropertyValue('--part')))"
    assert sorted(filter(None, page.eval(bars))) == [1 / 3, 1]
    assert page.eval("document.querySelector('.lost').textContent") == "feed.dropped12"
    assert "painting9.0 ms" in page.eval("document.querySelector('.stages').textContent")


def test_an_error_that_nobody_has_read_is_counted_at_the_log(stage: Stage, page: Page) -> None:
    count = "document.querySelector('nav [data-side=log]').dataset.count"
    stage.metrics.gauge("error", "the camera <b>is</b> gone")
    page.wait(f"{count} === '1'")
    page.click("nav [data-side=log]")
    page.wait(f"{count} === ''")
    assert page.eval("document.querySelector('[data-kind=error] .text').textContent") == "the camera <b>is</b> gone"
    stage.store.set("strength", 0.3, origin="desk 9")
    page.wait("document.querySelector('[data-kind=move]')?.offsetParent")
    stage.store.set("strength", 0.4, origin="desk 9")
    page.wait("document.querySelector('[data-kind=move]').textContent.endsWith('0.4')")
    assert page.eval("document.querySelectorAll('[data-kind=move]').length") == 1, "a slider that goes on is one line"
    page.click("#log-moves")
    assert page.eval("!document.querySelector('[data-kind=move]').offsetParent")
