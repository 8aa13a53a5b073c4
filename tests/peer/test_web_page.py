"""The page in a real browser: what a person sees, and what the controls do."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from support.browser import Browser, Page
from support.stage import Stage, until

from bridge.config import Config, WebConfig

pytestmark = pytest.mark.browser
MEAN = """(() => {
  const canvas = document.querySelector('#SHELF canvas'), sum = [0, 0, 0];
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i++) if (i % 4 < 3) sum[i % 4] += data[i];
  return [canvas.width, canvas.height, ...sum.map((s) => s / (canvas.width * canvas.height))];
})()"""
HIDE = """Object.defineProperty(document, 'hidden', {get: () => true});
document.dispatchEvent(new Event('visibilitychange'))"""
PAINTED = "document.querySelector('#output').dataset.painted && document.querySelector('#input').dataset.painted"


def colours(page: Page, shelf: str) -> tuple[tuple[int, int], np.ndarray]:
    width, height, *mean = page.eval(MEAN.replace("SHELF", shelf))
    return (width, height), np.array(mean)


def knob(page: Page, name: str) -> float:
    return float(page.eval(f"Number(document.querySelector('[data-name={name}] input[type=number]').value)"))


def test_both_pictures_are_painted_as_they_were_sent(stage: Stage, page: Page) -> None:
    red = np.full((64, 96, 3), (200, 30, 60), np.uint8)
    gray = np.full((120, 160, 1), 90, np.uint8)
    stage.publish(input=gray, output=red)
    page.wait(PAINTED)
    size, mean = colours(page, "output")
    assert size == (96, 64)
    assert np.abs(mean - (200, 30, 60)).max() < 6
    size, mean = colours(page, "input")
    assert size == (160, 120)
    assert np.abs(mean - 90).max() < 6


def test_a_hint_has_room_while_somebody_wants_to_see_it(stage: Stage, page: Page) -> None:
    assert page.eval("document.querySelector('#hint').hidden")
    stage.store.set("hint_preview", 2)
    page.wait("!document.querySelector('#hint').hidden")
    stage.publish(hint=np.full((64, 64, 3), (20, 180, 60), np.uint8))
    page.wait("document.querySelector('#hint').dataset.painted")
    size, mean = colours(page, "hint")
    assert size == (64, 64)
    assert np.abs(mean - (20, 180, 60)).max() < 6
    assert page.eval("document.querySelector('#hint .what').textContent") == "unit 2"
    stage.store.set("hint_preview", 0)
    page.wait("document.querySelector('#hint').hidden")


def test_pictures_move_at_full_rate(stage: Stage, page: Page) -> None:
    stage.play(fps=30, side=128)
    page.wait("Number((document.querySelector('#output .size').textContent.match(/(\\d+) fps/) || [])[1]) >= 15")
    script = "document.querySelector('#output canvas').toDataURL()"
    first = page.eval(script)
    page.wait(f"{script} !== {first!r}")


def test_figures_and_state_in_plain_words(stage: Stage, page: Page) -> None:
    stage.play(fps=30, side=64)
    page.wait("Number(document.querySelector(`[data-reading='/fps']`).textContent) > 10")
    page.wait("Number(document.querySelector(`[data-reading='/latency/p50']`).textContent) > 20")
    page.wait("document.querySelector('#state').textContent === 'running'")
    stage.metrics.count("source.dropped", 1234)
    page.wait("document.querySelector(`[data-reading='/dropped']`).textContent === '1,234'")
    assert page.eval("document.querySelector('#error').hidden")
    stage.metrics.gauge("state", "holding")
    stage.metrics.gauge("error", "the camera <b>is</b> gone")
    page.wait("document.querySelector('#state').textContent === 'holding the last picture'")
    assert page.eval("document.querySelector('#error').textContent") == "the camera <b>is</b> gone"


def test_dragging_a_slider_moves_the_store(stage: Stage, page: Page) -> None:
    page.drag("[data-name=strength] input[type=range]", 0.6, 0.2)
    until(lambda: abs(float(stage.store.values()["strength"]) - 0.18) < 0.05, "the drag arrives")
    # The last of a drag's many messages may still be on its way when the first one near its end is seen.
    until(lambda: abs(knob(page, "strength") - float(stage.store.values()["strength"])) < 1e-9, "both agree")


def test_a_group_opens_stays_open_and_counts_what_was_moved(stage: Stage, page: Page) -> None:
    group = "document.querySelector('[data-group=guidance]')"
    assert page.eval(f"!{group}.open && {group}.querySelector('.moved').textContent === ''")
    stage.store.set("guidance", 2.0)
    page.wait(f"{group}.querySelector('.moved').textContent === '1'")
    page.click("[data-group=guidance] summary")
    page.wait(f"{group}.open")
    page.drag("[data-name=delta] input[type=range]", 0.5, 0.9)
    page.wait(f"{group}.querySelector('.moved').textContent === '2'")
    page.goto(stage.server.url)
    page.wait(f"{group} && {group}.open")
    assert page.eval("document.querySelector('[data-group=image]').open")
    page.wait(f"{group}.querySelector('.moved').title.endsWith('guidance, delta')")
    stage.store.set_many({"guidance": 1.0, "delta": 1.0})
    page.wait(f"{group}.querySelector('.moved').textContent === ''")


def test_a_double_click_returns_to_the_default(stage: Stage, page: Page) -> None:
    stage.store.set("strength", 0.1)
    until(lambda: knob(page, "strength") == 0.1, "the slider follows")
    page.click("[data-name=strength] input[type=range]", clicks=2)
    until(lambda: stage.store.values()["strength"] == 0.6, "the default is back")


def test_arrow_keys_move_a_slider_by_a_hundredth(stage: Stage, page: Page) -> None:
    page.eval("document.querySelector('[data-name=strength] input[type=range]').focus()")
    page.press("ArrowRight")
    until(lambda: stage.store.values()["strength"] == 0.61, "one step")


def test_a_typed_number_moves_the_store(stage: Stage, page: Page) -> None:
    page.click("[data-name=strength] input[type=number]")
    page.eval("document.querySelector('[data-name=strength] input[type=number]').select()")
    page.type("0.333")
    page.press("Enter")
    until(lambda: stage.store.values()["strength"] == 0.333, "the number arrives")


def test_moves_from_elsewhere_move_the_controls(stage: Stage, page: Page) -> None:
    for name, value in {"strength": 0.15, "seed": 4711, "steps": 4, "prompt_fade": 15.0}.items():
        stage.store.set(name, value)
        until(lambda name=name, value=value: knob(page, name) == value, name)
    stage.store.set("sampler", "tcd")
    page.wait("document.querySelector('[data-name=sampler] input:checked').value === 'tcd'")
    stage.store.set("pause", True)
    page.wait("document.querySelector('[data-name=pause]').getAttribute('aria-checked') === 'true'")
    stage.store.set("prompt", "gold leaf")
    page.wait("document.querySelector('[data-name=prompt] textarea').value === 'gold leaf'")


def test_two_people_see_each_other(browser: Browser, stage: Stage, page: Page) -> None:
    other = browser.page()
    other.goto(stage.server.url)
    other.wait("document.querySelector('[data-name=strength]')")
    page.drag("[data-name=strength] input[type=range]", 0.6, 0.9)
    until(lambda: knob(other, "strength") == stage.store.values()["strength"] != 0.6, "the other one sees it")
    assert not other.errors
    other.close()


def test_a_prompt_goes_out_on_enter_and_after_a_pause(stage: Stage, page: Page) -> None:
    box = "[data-name=prompt] textarea"
    page.click(box)
    page.eval(f"document.querySelector('{box}').select()")
    page.type("marble")
    assert stage.store.values()["prompt"] == "neon"
    page.press("Enter")
    until(lambda: stage.store.values()["prompt"] == "marble", "Enter sends")
    page.type(" and fire")
    page.wait("document.querySelector('[data-name=prompt] .note').textContent === 'typing'")
    until(lambda: stage.store.values()["prompt"] == "marble and fire", "so does a pause")
    page.wait("document.querySelector('[data-name=prompt] .note').textContent === 'encoding'")
    stage.publish()
    page.wait("document.querySelector('[data-name=prompt] .note').textContent === ''")


def test_the_prompt_box_says_what_becomes_of_it(stage: Stage, page: Page) -> None:
    note = "document.querySelector('[data-name=prompt] .note').textContent"
    stage.metrics.gauge("prompt.shown", "neon")
    stage.metrics.gauge("prompt.unknown", "")
    stage.metrics.gauge("prompt.error", "")
    stage.metrics.gauge("prompt.fade", 1.0)
    stage.store.set("prompt", "gold blorb")
    page.wait(f"{note} === 'encoding'")
    stage.publish()
    stage.metrics.gauge("prompt.fade", 0.5)
    stage.metrics.gauge("prompt.shown", "gold blorb")
    page.wait(f"{note} === 'fading in'")
    stage.metrics.gauge("prompt.unknown", "blorb")
    stage.metrics.gauge("prompt.fade", 1.0)
    page.wait(f"{note} === 'not known: blorb'")


def test_typing_is_not_overwritten_from_elsewhere(stage: Stage, page: Page) -> None:
    page.click("[data-name=prompt] textarea")
    page.type(" mine")
    stage.store.set("prompt", "theirs")
    until(lambda: stage.store.values()["prompt"] == "neon mine", "the person at the keyboard has the last word")


def test_switches_choices_dice_and_commands(stage: Stage, page: Page) -> None:
    page.click("[data-name=bypass]")
    until(lambda: stage.store.values()["bypass"] is True, "switch on")
    page.click("[data-name=bypass]")
    until(lambda: stage.store.values()["bypass"] is False, "switch off")
    page.click("[data-name=fit] label:nth-child(3)")
    until(lambda: stage.store.values()["fit"] == "stretch", "choice")
    page.click("[data-name=seed] .dice")
    until(lambda: stage.store.values()["seed"] != 1, "dice")
    page.click("#commands button")


def test_structural_changes_wait_for_apply_and_go_together(stage: Stage, page: Page) -> None:
    seen: list[tuple[str, object]] = []
    stage.metrics.gauge("model", "pocket 256x256")
    page.wait("document.querySelector('.apply').disabled")
    end = stage.store.listen(lambda name, value: seen.append((name, value)))
    for name, value in (("width", 512), ("height", 384)):
        box = f"document.querySelector('[data-name={name}] input[type=number]')"
        page.eval(f"{box}.value = {value}, {box}.dispatchEvent(new Event('change'))")
    page.wait("document.querySelector('.apply').textContent === 'apply 2'")
    assert stage.store.values()["width"] == 256
    page.click(".apply")
    until(lambda: len(seen) == 2, "applied")
    assert stage.store.snapshot().width == 512
    assert stage.store.snapshot().version == 2, "in one snapshot"
    page.wait("document.querySelector('.apply').disabled")
    page.wait("document.querySelector('.footer .note').textContent.startsWith('building')")
    stage.metrics.gauge("model", "pocket 512x384")
    page.wait("document.querySelector('.footer .note').textContent === ''")
    end()


def test_staged_changes_can_be_undone(stage: Stage, page: Page) -> None:
    page.click("[data-name=vae] label:nth-child(2)")
    page.wait("!document.querySelector('.apply').disabled")
    page.click(".footer .quiet")
    page.wait("document.querySelector('[data-name=vae] input:checked').value === 'tiny'")
    assert page.eval("document.querySelector('.apply').disabled")


def test_moves_take_the_time_that_the_box_says(stage: Stage, page: Page) -> None:
    seen: list[object] = []
    end = stage.store.listen(lambda name, value: seen.append(value))
    page.eval("document.querySelector('#seconds').value = 600")
    page.drag("[data-name=strength] input[type=range]", 0.6, 0.99)
    until(lambda: float(stage.store.values()["strength"]) > 0.9, "the target is there at once")
    assert stage.store.snapshot().strength < 0.65, "the value is on its way"
    page.wait("!document.querySelector('[data-name=strength] .ghost').hidden")
    assert len(seen) == 1, "a drag starts one move, not one per pixel"
    end()


def test_what_is_refused_is_said_and_the_control_goes_back(stage: Stage, page: Page) -> None:
    page.eval("document.querySelector('[data-name=model] select').append(new Option('gone', 'gone'))")
    select = "document.querySelector('[data-name=model] select')"
    page.eval(f"{select}.value = 'gone', {select}.dispatchEvent(new Event('change'))")
    page.click(".apply")
    page.wait("document.querySelector('#error').textContent.includes('gone')")
    page.wait(f"{select}.value === 'pocket'")


def test_the_token_leaves_the_address_and_the_cookie_opens_the_page_again(stage: Stage, page: Page) -> None:
    assert "token" not in page.eval("location.href")
    assert page.eval("document.cookie") == "", "no script can read it"
    page.goto(stage.server.url.partition("?")[0])
    page.wait("document.querySelector('[data-name=strength]')")


def test_a_tap_on_the_output_fills_the_screen(stage: Stage, page: Page) -> None:
    stage.publish()
    page.wait(PAINTED)
    page.click("#output canvas")
    page.wait("document.querySelector('#output').getBoundingClientRect().width >= innerWidth")
    page.press("Escape")
    page.wait("!document.body.classList.contains('theatre')")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568), (844, 390), (820, 1180)])
def test_no_window_scrolls_sideways(stage: Stage, page: Page, width: int, height: int) -> None:
    stage.publish(input=np.zeros((288, 1550, 3), np.uint8), output=np.zeros((64, 64, 3), np.uint8))
    stage.metrics.gauge("error", "a/very/long/path/without/a/single/space/" * 8)
    stage.metrics.gauge("source", "movie: a very long name of a file that was chosen by a person with time.mp4 " * 3)
    page.wait(PAINTED)
    page.viewport(width, height, 2, mobile=True)
    page.wait("!document.querySelector('#error').hidden")
    assert page.eval("document.documentElement.scrollWidth") == width
    beyond = "[...document.querySelectorAll('button, input, select, textarea, dd')].filter((e) => e.offsetParent && "
    beyond += "(e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1))"
    assert page.eval(f"{beyond}.map((e) => e.outerHTML)") == []


def test_every_control_has_a_name_for_those_who_do_not_see_it(page: Page) -> None:
    nameless = page.eval(
        "[...document.querySelectorAll('button, input, select, textarea, canvas')].filter((e) => !(e.labels?.length || "
        "e.getAttribute('aria-label') || e.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert nameless == []


def test_the_last_picture_stays_while_the_link_is_down_and_it_comes_back(
    browser: Browser, stage: Stage, tmp_path: Path
) -> None:
    page = browser.page()
    page.viewport(1440, 900)
    page.goto(stage.server.url)
    stage.publish(seq=1, output=np.full((32, 32, 3), 180, np.uint8), input=np.full((32, 32, 3), 90, np.uint8))
    page.wait(PAINTED)
    port = stage.server.port
    stage.server.stop()
    page.wait("document.body.dataset.link === 'lost'")
    assert page.eval("document.querySelector('#state').textContent") == "connection lost, trying again"
    assert abs(colours(page, "output")[1].mean() - 180) < 4
    stage.store.set("strength", 0.42)
    page.click("[data-name=bypass]")
    stage.restart(Config(web=WebConfig(port=port)))
    page.wait("document.body.dataset.link === 'open'")
    until(lambda: knob(page, "strength") == 0.42, "what changed meanwhile is shown")
    until(lambda: stage.store.values()["bypass"] is True, "what was moved meanwhile arrives")
    stage.publish(seq=2, output=np.full((32, 32, 3), 20, np.uint8))
    until(lambda: abs(colours(page, "output")[1].mean() - 20) < 4, "pictures go on")
    page.close()


def test_a_window_that_is_hidden_wants_no_pictures(browser: Browser, stage: Stage, page: Page) -> None:
    stage.publish(seq=1)
    page.wait(PAINTED)
    page.eval(HIDE)
    page.drag("[data-name=strength] input[type=range]", 0.6, 0.3)
    until(lambda: stage.store.values()["strength"] != 0.6, "the watch message was heard before this")
    before = page.eval("document.querySelector('#output canvas').toDataURL()")
    stage.publish(seq=2, output=np.full((32, 32, 3), 20, np.uint8))
    time.sleep(0.3)
    assert page.eval("document.querySelector('#output canvas').toDataURL()") == before
