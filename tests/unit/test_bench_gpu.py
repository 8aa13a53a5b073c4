"""`bench gpu`: its small form on a processor, real architectures without weights, and what little time leaves out."""

from __future__ import annotations

import argparse
import json
import sys
import time

import pytest
import torch

from bridge import bench, bench_gpu
from bridge.bench_said import Measurer
from bridge.cli import main
from engines.base import Build
from engines.eager import EagerEngine
from engines.errors import ModelError
from engines.random_folder import write_random
from engines.random_nets import UNETS, random_nets
from pipelines import bench_gpu as measured
from pipelines import choose
from pipelines.bench_cases import Case, every_case


def arguments(**values) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.configure(parser)
    args = parser.parse_args(["gpu", "--smoke", "--frames", "4"])
    return argparse.Namespace(**{**vars(args), **values})


def test_the_small_form_measures_every_column_and_writes_it(tmp_path, capsys):
    torch.set_num_threads(1)
    file, table = tmp_path / "gpu.json", tmp_path / "gpu.md"
    words = ["bench", "gpu", "--smoke", "--frames", "4", "--json", str(file), "--table", str(table)]
    assert main(words) == 0
    found = json.loads(file.read_text())
    assert not found["failed"]
    alone = ("compiled fp32, own kernels", "compiled fp32, inductor", "tensorrt fp32")
    assert list(found["left out"]) == [f"tiny, 1 step, {name}" for name in alone]
    assert found["attention, tiny fp32"] == "torch's own order"
    assert set(found["rows"]["tiny, 1 step, compiled fp32"]) == set(bench_gpu.COLUMNS)
    assert found["rows"]["tiny, 1 step, eager fp32"]["frames/s"] > 0.0
    assert "the times mean nothing" in table.read_text()
    assert table.read_text().count("\n| tiny") == 4
    assert "tiny, 2 steps, 1 ControlNet, TemporalNet" in capsys.readouterr().out


def test_without_time_everything_is_left_out_by_name(tmp_path):
    args = arguments(budget=0.0, json=tmp_path / "gpu.json")
    assert bench_gpu.run(args) == {}
    left = json.loads(args.json.read_text())["left out"]
    assert list(left) == [case.name for case in bench_gpu.cases(args)]
    assert list(left.values())[:4] == ["no time"] * 4


STUB = """
import json, os, signal, sys, time
def tell(**said): print(json.dumps(said), flush=True)
tell(facts={"device": "a stub", "started": str(time.monotonic_ns())})
for line in sys.stdin:
    name = json.loads(line)["name"]
    if "eager" in name:
        tell(name=name, wrong="no memory")
    elif "TemporalNet" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    elif "attention" in name:
        time.sleep(600)
    else:
        tell(name=name, row={"frames/s": 1.0, "p50 ms": 1.0})
"""


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(bench_gpu, "Measurer", lambda smoke: Measurer(smoke, ("-c", STUB)))


def test_what_fails_dies_or_hangs_costs_its_row_alone(tmp_path, monkeypatch, stub):
    args = arguments(json=tmp_path / "gpu.json", budget=120.0)
    monkeypatch.setattr(bench_gpu, "ROW_S", 1.0)
    last = Case("tiny", "compiled", "fp32", steps=4)
    monkeypatch.setattr(bench_gpu, "every_case", lambda smoke: [*every_case(smoke), last])
    assert list(bench_gpu.run(args)) == ["tiny, 1 step, compiled fp32", last.name]
    found = json.loads(args.json.read_text())
    assert found["failed"] == {
        "tiny, 1 step, eager fp32": "no memory",
        "tiny, 2 steps, 1 ControlNet, TemporalNet, compiled fp32": "the process that measured it ended (signal 9)",
        "tiny, 1 step, compiled fp32, torch's attention": "ended after 1 s, as nothing came of it",
    }
    assert list(found["rows"]) == ["tiny, 1 step, compiled fp32", last.name]


def test_a_row_that_the_end_cuts_short_has_not_failed(tmp_path, monkeypatch, stub):
    args = arguments(json=tmp_path / "gpu.json", budget=2.0)
    monkeypatch.setattr(bench_gpu, "RESERVE_S", 0.0)
    monkeypatch.setattr(bench_gpu, "LEAST_S", 0.0)
    monkeypatch.setattr(bench_gpu, "every_case", lambda smoke: [Case("tiny", "compiled", attention="torch's")])
    assert bench_gpu.run(args) == {}
    found = json.loads(args.json.read_text())
    assert not found["failed"]
    assert list(found["left out"].values()) == ["no time: it had been begun"]


def test_processes_that_end_again_and_again_are_not_started_for_ever(tmp_path, monkeypatch):
    started = []

    def dies(smoke):
        started.append(smoke)
        return Measurer(smoke, ("-c", ""))

    monkeypatch.setattr(bench_gpu, "Measurer", dies)
    monkeypatch.setattr(bench_gpu, "CHILDREN", 2)
    args = arguments(json=tmp_path / "gpu.json", budget=120.0)
    assert bench_gpu.run(args) == {}
    assert len(started) == 2
    assert (
        "ended by themselves"
        in json.loads(args.json.read_text())["left out"]["tiny, 1 step, compiled fp32, torch's attention"]
    )


def test_a_row_that_could_take_others_down_has_a_process_of_its_own(monkeypatch, stub):
    cases = [Case("tiny", "compiled"), Case("tiny", "compiled", kernels="triton"), Case("tiny", "compiled", steps=4)]
    assert [case.alone for case in cases] == [False, True, False]
    monkeypatch.setattr(choose, "triton", lambda: "3.6")
    monkeypatch.setattr(bench_gpu, "every_case", lambda smoke: cases)
    report, started = bench_gpu.Report(arguments(smoke=False)), []
    staff = bench_gpu.Staff(arguments(smoke=False, streamdiffusion=None), report, time.monotonic() + 60.0)
    for case in cases:
        assert staff.measure(case, 60.0).row
        started.append(report.facts["started"])
    staff.close()
    assert started[0] != started[1] == started[2], "the first goes on after the second has come and gone"


def test_a_card_is_asked_for_first_and_the_full_list_begins_with_what_matters(capsys):
    if not torch.cuda.is_available():
        assert main(["bench", "gpu"]) == 2
        assert "has no cuda" in capsys.readouterr().err
    names = [case.name for case in bench_gpu.cases(arguments(smoke=False))]
    assert names[0] == "sd-turbo, 1 step, compiled fp16"
    assert len(names) == len(set(names))
    assert names.index("sd-turbo, 1 step, compiled fp16, own kernels") < 6
    assert names.index("sd-turbo, 1 step, compiled fp16, torch's attention") < 6


@pytest.mark.parametrize(
    ("kind", "millions", "gflop"), [("sd15", 859.5, 803), ("sd-turbo", 865.9, 804), ("sdxl-turbo", 2567, 1589)]
)
def test_the_architectures_are_the_real_ones(kind, millions, gflop):
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, **UNETS[kind])
        x, text = torch.zeros(1, 4, 64, 64), torch.zeros(1, 77, unet.config.cross_attention_dim)
        added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)} if kind == "sdxl-turbo" else None
        with FlopCounterMode(display=False) as counter:
            unet(x, torch.zeros(()), text, added_cond_kwargs=added)
    assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=2e-3)


PEER = """
import torch


class StreamDiffusion:
    def __init__(self, pipe, t_index_list, torch_dtype, width, height, cfg_type):
        assert (t_index_list, width, height, cfg_type) == ([32], 64, 64, "none")
        self.pipe = pipe

    def prepare(self, prompt, num_inference_steps, guidance_scale):
        self.cond = self.pipe.encode_prompt(prompt=prompt, device=self.pipe.device)[0]

    def __call__(self, picture):
        latent = self.pipe.vae.encode(picture[None]).latents
        return self.pipe.vae.decode(self.pipe.unet(latent, torch.tensor(500.0), self.cond)[0]).sample
"""


def test_the_public_pipeline_is_measured_over_the_same_networks(tmp_path, monkeypatch):
    folder = tmp_path / "src" / "streamdiffusion"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PEER)
    monkeypatch.setattr(sys, "path", list(sys.path))
    nets = random_nets("tiny", (64, 64), torch.device("cpu"), torch.float32)
    found = measured.streamdiffusion(nets, "tiny", 64, 3, str(tmp_path))
    sys.modules.pop("streamdiffusion")
    assert found["frames/s"] > 0.0
    assert found["p99 ms"] >= found["p50 ms"]


def test_a_case_is_what_its_name_says():
    case = Case("sd15", "compiled", steps=4, controls=1, temporal=True)
    assert case.name == "sd15, 4 steps, 1 ControlNet, TemporalNet, compiled fp16"
    params = case.params()
    assert (params.steps, params.sampler, params.control2_source) == (4, "lcm", "previous_output")


def test_rows_are_chosen_by_a_part_of_their_name():
    names = [case.name for case in bench_gpu.cases(arguments(smoke=False, rows="tensorrt"))]
    assert names == ["sd-turbo, 1 step, tensorrt fp16", "sd-turbo, 1 step, tensorrt fp8"]


def test_what_a_card_can_not_do_is_left_out_with_the_reason(monkeypatch):
    card, fp8 = torch.device("cuda"), Case("sd-turbo", "tensorrt", "fp8")
    monkeypatch.setattr("engines.tensorrt_api.installed", lambda: "")
    assert "not installed" in measured.unfit(fp8, card)
    monkeypatch.setattr("engines.tensorrt_api.installed", lambda: "11.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    assert measured.unfit(fp8, card) == "this card has compute capability 8.6, fp8 needs 8.9"
    assert measured.unfit(fp8._replace(dtype="fp16"), card) == ""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert measured.unfit(fp8, card) == ""
    assert "build" in bench_gpu.late(fp8, 30.0)
    assert bench_gpu.late(fp8, 90.0) == bench_gpu.late(fp8._replace(engine="eager"), 30.0) == ""


def test_random_networks_are_written_as_a_model_that_engines_read(tmp_path):
    nets = random_nets("tiny", (64, 64), torch.device("cpu"), torch.float32)
    write_random(tmp_path / "model", "tiny", nets)
    read = EagerEngine().load(tmp_path / "model", Build(64, 64, device="cpu", dtype="fp32"))
    cond = read.text("neon").cond
    assert cond[0].shape == nets.text("neon").cond[0].shape
    x, t = torch.randn(1, *nets.latent), torch.tensor(500.0)
    with torch.inference_mode():
        assert torch.allclose(read.unet(x, t, cond), nets.unet(x, t, cond), atol=1e-5)
        assert torch.allclose(read.decode(x), nets.decode(x), atol=1e-5)


def test_tensorrt_is_built_from_random_networks_within_its_time(tmp_path, monkeypatch):
    seen = []

    class Engine:
        def __init__(self, here, cache, cancelled) -> None:
            assert here
            self._cache, self._cancelled = cache, cancelled

        def load(self, folder, build):
            assert (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
            assert self._cache.folder.parent == folder.parent
            seen.append(build)
            if build.dtype == "fp8":
                assert self._cancelled.wait(60.0)
                raise ModelError("it was called off")
            return EagerEngine().load(folder, Build(64, 64, device="cpu", dtype="fp32"))

    monkeypatch.setattr("engines.tensorrt.TensorrtEngine", Engine)
    nets = random_nets("tiny", (64, 64), torch.device("cpu"), torch.float32)
    assert measured.built("tiny", nets, Build(64, 64, dtype="fp16"), 60.0).latent == nets.latent
    with pytest.raises(ModelError, match="called off after 0 s"):
        measured.built("tiny", nets, Build(64, 64, dtype="fp8"), 0.1)
    assert [build.dtype for build in seen] == ["fp16", "fp8"]
