"""How soon one person sees what another moves: two pages in two browsers' contexts, both on this machine's clock.

LIVELATENT_SLOW=full python -m pytest tests/soak/test_two_people.py -s
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
from msgspec import structs
from support.browser import Page, chromium
from support.stage import Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
]
# The time on the wall at which the other page's control has changed, painted or not.
WATCH = """window.seen = []; new MutationObserver(() => seen.push(performance.timeOrigin + performance.now()))
  .observe(document.querySelector('SELECTOR'), {attributes: true, attributeFilter: ['ATTRIBUTE']})"""
MOVE = """(() => { const knob = document.querySelector('[data-name=strength] input[type=range]');
  knob.value = VALUE; knob.dispatchEvent(new Event('input'));
  return performance.timeOrigin + performance.now(); })()"""
PRESS = "(() => { document.querySelector('SELECTOR').click(); return performance.timeOrigin + performance.now(); })()"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage().start()
    stage.play(fps=30, side=256)
    insert = stage.acts.find("cue/insert")
    assert insert is not None
    for look in ("calm", "crisp"):
        insert((0, look, 0, "hand"), None)
    player = stage.director.playing()
    player.show = structs.replace(player.show, loop=True)
    yield stage
    stage.stop()


def took(one: Page, other: Page, act: str, count: int) -> float:
    """Milliseconds from an act on one page to the change on the other."""
    began = one.eval(act)
    other.wait(f"seen.length > {count}")
    return float(other.eval(f"seen[{count}]") - began)


def test_one_sees_what_the_other_moves_and_fires(stage: Stage, amount: Callable[[int, int], int]) -> None:
    with chromium() as browser:
        one, other = browser.page(), browser.page()
        for page in (one, other):
            page.viewport(1280, 900)
            page.goto(stage.server.url)
            page.wait("document.querySelector('[data-cue]') && document.querySelector('#output').dataset.painted")
        rows = {
            "a slider": ("[data-name=strength] input[type=range]", "style", MOVE),
            "go": ('[data-cue="0"]', "class", PRESS.replace("SELECTOR", "#go")),
        }
        for what, (watched, attribute, act) in rows.items():
            other.eval(WATCH.replace("SELECTOR", watched).replace("ATTRIBUTE", attribute))
            times = []
            for i in range(amount(100, 10)):
                times.append(took(one, other, act.replace("VALUE", str(200 + i * 5)), len(other.eval("seen"))))
                other.eval("new Promise((done) => setTimeout(done, 60))")
            print(f"{what}: median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms of {len(times)}")
            assert statistics.median(times) < 1000
        assert not one.errors + other.errors
