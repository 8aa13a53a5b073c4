"""What a newcomer does: one command, the page, a slider; then a worker dies and the picture goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from support.browser import chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("nothing_left"),
]

RUN = ["run", "--web-port=0", "--osc-port=0", "--no-browser", "--sink=preview", "--source=scene?size=256x256&fps=10"]
RUN += ["--set=width=128", "--set=height=128"]  # small and few, so that painting leaves the browser a core
SUM = """(() => { const c = document.querySelector('#output canvas');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let s = 0; for (let i = 0; i < d.length; i += 97) s = (s * 31 + d[i]) % 1e9; return s; })()"""


@pytest.fixture(params=["fake", "eager"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The page of a real run: with the fake engine, and with the built-in model."""
    command = [sys.executable, "-m", "bridge", *RUN, f"--engine={request.param}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield found[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def workers() -> list[int]:
    """Of our own run alone: there may be another on this machine."""
    out = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "bridge.worker" in " ".join(child.cmdline()):
                out.append(child.pid)
    return sorted(out)


def test_pictures_move_sliders_steer_and_a_dead_worker_is_no_end(url: str) -> None:
    with chromium() as browser:
        page = browser.page()
        page.viewport(1440, 900)
        page.goto(url)
        page.wait("document.querySelector('#output').dataset.painted", timeout=90)
        seen = page.eval(SUM)
        page.wait(f"{SUM} !== {seen}")
        page.drag("[data-name=strength] input[type=range]", 0.5, 0.9)
        page.wait("document.querySelector('[data-name=strength] input[type=number]').value > 0.75")
        mine = workers()
        assert mine
        os.kill(mine[0], signal.SIGKILL)
        psutil.wait_procs([psutil.Process(mine[0])] if psutil.pid_exists(mine[0]) else [], 60)
        seen = page.eval(SUM)
        page.wait(f"{SUM} !== {seen}", timeout=60)
        assert not page.errors
        page.close()
