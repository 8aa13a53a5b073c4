"""docs/walk.md for real: from a command to a three-cue show, made and fired by touch in a window of a phone's size.

It runs with the fake engine here; the times in the document are those of pocket:

    LIVELATENT_WALK=auto LIVELATENT_WALK_SHOTS=shots python -m pytest tests/peer/test_walk.py -s
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.browser import Page, chromium

from engines import paths

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("nothing_left"),
]
ENGINE = os.environ.get("LIVELATENT_WALK", "fake")
SHOTS = os.environ.get("LIVELATENT_WALK_SHOTS", "")
LOOKS = {"neon street": "neon", "paper": "ink", "treasure": "gold"}
RUN = ["run", "--web-port=0", "--osc-port=0", "--no-browser", "--sink=preview", f"--engine={ENGINE}"]


class Walker:
    """A person with one finger: taps and typed words, counted and timed."""

    def __init__(self, page: Page) -> None:
        self.page, self.taps = page, 0
        self.steps: list[tuple[str, float, int]] = []

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began, taps = time.monotonic(), self.taps
        yield
        self.steps.append((what, time.monotonic() - began, self.taps - taps))
        if SHOTS:
            Path(SHOTS).mkdir(exist_ok=True)
            self.page.screenshot(Path(SHOTS) / f"{len(self.steps)}.png")

    def tap(self, selector: str) -> None:
        self.page.touch(selector)
        self.taps += 1

    def write(self, selector: str, text: str) -> None:
        """A tap into a box, its words chosen, others written over them."""
        self.tap(selector)
        self.page.wait(f"document.activeElement === document.querySelector({selector!r})")
        self.page.eval("document.activeElement.select()")
        self.page.type(text)
        self.page.press("Enter")


@pytest.fixture
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "bridge", *RUN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield found[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def make_looks(walker: Walker) -> None:
    page = walker.page
    for name, prompt in LOOKS.items():
        with walker.step(f"prompt `{prompt}`, saved as `{name}`"):
            walker.tap("nav [data-tab=prompt]")
            walker.write("[data-name=prompt] textarea", prompt)
            note = "document.querySelector('[data-name=prompt] .note').textContent"
            page.wait(f"document.querySelector('[data-name=prompt]').dataset.sent === 'live' && !{note}", 60)
            walker.tap("#keep")
            walker.write("#look-name", name)
            page.wait(f"document.querySelector(`[data-look='{name}'] img`)?.complete")


def make_cues(walker: Walker) -> None:
    with walker.step("three cues, and the list saved"):
        walker.tap("nav [data-tab=looks]")
        walker.tap("#look-edit")
        for number, name in enumerate(LOOKS, 1):
            walker.tap(f"[data-look='{name}'] ~ .enlist")
            walker.page.wait(f"document.querySelectorAll('.cues [data-cue]').length === {number}")
        walker.tap("nav [data-tab=cues]")
        walker.write("#show-name", "friday")
        walker.page.wait("document.querySelector('#show-load').value === 'friday'")


def fire(walker: Walker) -> None:
    page = walker.page
    with walker.step("play layout"):
        walker.tap("#layout")
        page.wait("document.body.dataset.layout === 'play'")
    for index, (name, prompt) in enumerate(LOOKS.items()):
        with walker.step(f"go: `{name}`"):
            walker.tap("#go")
            page.wait(f"document.querySelector('.cues .on')?.dataset.cue === '{index}'")
            page.wait(f"document.querySelector(`[data-look='{name}'][aria-current]`)")
            page.wait(f"document.querySelector('[data-name=prompt] textarea').value === '{prompt}'")


def test_a_newcomer_with_a_phone_makes_a_show_and_fires_it(url: str) -> None:
    with chromium() as browser:
        page = browser.page()
        page.viewport(390, 844, 2, mobile=True)
        walker = Walker(page)
        with walker.step("the address opened, first painted picture"):
            page.goto(url)
            page.wait("document.querySelector('#output').dataset.painted", 90)
        make_looks(walker)
        make_cues(walker)
        fire(walker)
        assert not page.errors
        for what, seconds, taps in walker.steps:
            print(f"| {what} | {taps} | {seconds:.1f} s |")
    show = tomllib.loads((paths.home() / "shows" / "friday.toml").read_text("utf-8"))
    assert [cue["look"] for cue in show["cue"]] == list(LOOKS)
    for name, prompt in LOOKS.items():
        look = paths.home() / "looks" / f"{name}.toml"
        assert tomllib.loads(look.read_text("utf-8"))["params"]["prompt"] == prompt
        assert look.with_suffix(".jpg").read_bytes()[:2] == b"\xff\xd8"
