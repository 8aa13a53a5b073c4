"""A picture as a prompt in a whole run: a worker process with real, small networks, steered over OSC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.telemetry import readings
from engines import modelfile
from tests.support.imageprompts import register, write_adapter, write_encoder
from tests.support.toys import Run, register_model
from tests.unit.conftest import write_model

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(900)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    write_model(tmp_path / "sd15", "sd15", tiny=True, prediction="epsilon")
    write_model(tmp_path / "sdxl", "sdxl", tiny=True, prediction="epsilon")
    encoder = write_encoder(tmp_path / "encoder")
    fits = write_adapter(tmp_path / "fits.safetensors", tmp_path / "sd15")
    wide = write_adapter(tmp_path / "wide.safetensors", tmp_path / "sdxl")
    register_model(tmp_path / "sd15")
    register({"fits": (fits, encoder), "wide": (wide, encoder)}, more=modelfile.user_file().read_text())
    made = Run(False, prompt="neon", ip_rate=5.0)
    yield made
    made.close()


def test_it_acts_a_wrong_one_is_a_sentence_and_the_stream_goes_on(run: Run) -> None:
    run.until(lambda: run.painted > 2)
    painter = run.app.supervisor.active_pid
    run.osc.send_message("/ll/ip/model", "fits")
    run.osc.send_message("/ll/ip/on", 1)
    run.until(lambda: run.told("ip.state") == "fits, input")
    run.until(lambda: float(run.told("ip.age") or 0.0) > 0.0)
    run.osc.send_message("/ll/ip/scale", [1.2, 0.3])
    run.until(lambda: run.app.store.snapshot().ip_scale == pytest.approx(1.2))
    run.osc.send_message("/ll/ip/model", "wide")
    run.until(lambda: "another family" in run.told("ip.error"))
    assert run.told("ip.state") == "fits, input", "the one before acts"
    told = readings(run.app.metrics.snapshot())
    assert "another family" in str(told["/ip/error"])
    assert told["/ip/state"] == "fits, input"
    run.osc.send_message("/ll/ip/model", "nobody")
    run.until(lambda: run.app.metrics.get("osc.rejected") > 0)
    seen = run.painted
    run.until(lambda: run.painted > seen + 3)
    run.osc.send_message("/ll/ip/model", "none")
    run.until(lambda: "names no adapter" in run.told("ip.error") and run.told("ip.state") == "")
    assert run.app.supervisor.active_pid == painter
    assert (run.app.metrics.get("worker.restarts"), run.app.metrics.get("worker.skipped")) == (0, 0)
