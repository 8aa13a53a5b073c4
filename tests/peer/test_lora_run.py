"""LoRAs in a whole run: a worker process with real, small networks behind OSC and shared memory."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import modelfile
from tests.support import loras
from tests.support.toys import Run, register_model
from tests.unit.conftest import write_model

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    write_model(tmp_path / "sd15", "sd15", tiny=True, prediction="epsilon")
    register_model(tmp_path / "sd15")
    ink = loras.write(tmp_path / "ink.safetensors", loras.kohya(loras.make(tmp_path / "sd15")))
    (tmp_path / "cut.safetensors").write_bytes(ink.read_bytes()[:-5])
    with modelfile.user_file().open("a") as file:
        for name in ("ink", "cut"):
            file.write(f'[loras.{name}]\npath = "{(tmp_path / name).as_posix()}.safetensors"\n')
    made = Run(standby=True, prompt="neon<lora:ink:0.5>", prompt_fade=0.0)
    yield made
    made.close()


def test_faders_and_prompts_move_them_and_what_is_wrong_is_told(run: Run) -> None:
    run.until(lambda: run.told("lora.state") == "ink 0.50" and run.painted > 3)
    run.osc.send_message("/ll/lora/1/id", "ink")
    run.osc.send_message("/ll/lora/1/weight", [-1.5, 0.2])
    run.until(lambda: run.told("lora.state") == "ink -1.00")
    run.osc.send_message("/ll/prompt", "gold<lora:nowhere:0.8><lora:cut>")
    run.until(lambda: run.told("prompt.shown").startswith("gold"))
    run.until(lambda: run.told("lora.state") == "ink -1.50")
    run.until(lambda: "no LoRA 'nowhere'" in run.told("lora.error") and "cut short" in run.told("lora.error"))
    seen = run.painted
    run.until(lambda: run.painted > seen + 3)
    victim = run.app.supervisor.active_pid
    assert victim is not None
    assert run.app.metrics.get("worker.restarts") == 0
    run.until(lambda: run.app.supervisor.standby_pid)
    os.kill(victim, signal.SIGKILL)
    run.until(lambda: run.app.supervisor.active_pid not in (None, victim))
    after = run.painted
    run.until(lambda: run.painted > after + 3)
    run.until(lambda: run.told("lora.state") == "ink -1.50")
    assert (run.app.metrics.get("worker.restarts"), run.app.metrics.get("worker.skipped")) == (1, 0)
