"""The training script end to end, with toy networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file

from pipelines.pocket import control, data, denoise, nets, text
from pipelines.pocket.codec import picture_loss
from pipelines.pocket.run import Run, Team
from pipelines.pocket.scenes import harsh, scene
from pipelines.pocket.sheet import Model
from pipelines.pocket.train import main
from pipelines.schedule import NoiseSchedule

_TOY = """--tiny --scenes 2 --pictures 2 --size 64 --codec-steps 2 --polish-steps 1 --words-steps 5 --words-batch 8
--control-steps 2 --temporal-steps 18 --moving 2 --codec-batch 2 --codec-side 32 --batch 2 --side 32 --shown 2
--workers 1 --device cpu --every 1000"""
TOY = _TOY.split()
WEIGHTS = Path(control.__file__).parent / "weights"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Toy tensors on several threads are nothing but waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(out: Path, steps: int, *more: str) -> list[dict[str, object]]:
    """Runs the command; answers its log."""
    assert main(["--out", str(out), "--steps", str(steps), *TOY, *more]) == 0
    log = out.with_name(out.name + ".work") / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, and beside it what its run left behind."""
    out = tmp_path_factory.mktemp("two") / "out"
    train(out, 2)
    return out


def copied(trained: Path, out: Path, *names: str) -> None:
    """A run, or some files of its work, for another to go on from."""
    work = out.with_name(out.name + ".work")
    if not names:
        shutil.copytree(trained, out)
    shutil.copytree(
        trained.with_name(trained.name + ".work"),
        work,
        ignore=(lambda _, here: set(here) - set(names)) if names else None,
    )


def test_trains_resumes_and_ends_where_an_unbroken_run_ends(two_steps: Path, tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    work = tmp_path / "broken.work"
    copied(two_steps, broken)
    copied(two_steps, whole, "pictures.npy")
    assert (work / "sheet-000002.jpg").stat().st_size > 1000
    first = weights(broken)
    log = train(broken, 4)
    assert [line["sheet"] for line in log if line["stage"] == "saved"][-2:] == ["sheet-000004.jpg", "sheet-final.jpg"]
    assert sum(line["stage"] == "latents" for line in log) <= 1
    train(whole, 4, "--until", "denoiser")
    after, straight = weights(broken), weights(whole)
    assert any(not torch.equal(first[k], after[k]) for k in first)
    # The rate's decay depends on the planned length, so a run that was planned shorter may differ a little.
    assert all(torch.allclose(after[k], straight[k], atol=2e-2) for k in after)
    model = Model.load(broken)
    out = model.paint(np.zeros((64, 64, 3), np.uint8), ["neon", "ink"])
    assert out.shape == (2, 64, 64, 3)
    assert out.dtype == np.uint8


def test_a_warm_run_trains_on_what_is_there(two_steps: Path, tmp_path: Path) -> None:
    """The codec stays, bit by bit; denoiser and words go on from where they were."""
    first, on, same = two_steps, tmp_path / "on", tmp_path / "same"
    copied(first, on, "latents.npy")
    copied(first, same, "latents.npy")
    train(on, 3, "--warm", str(first), "--until", "denoiser")
    train(same, 3, "--warm", str(first), "--until", "denoiser", "--rate", "0")
    codecs = [load_file(out / "vae" / "diffusion_pytorch_model.safetensors") for out in (first, on)]
    assert all(torch.equal(codecs[0][k], codecs[1][k]) for k in codecs[0])
    before, after, still = weights(first), weights(on), weights(same)
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert all(torch.equal(before[k], still[k]) for k in before)


def test_one_controlnet_can_be_trained_alone_over_a_model_that_is_there(two_steps: Path, tmp_path: Path) -> None:
    """As the folder has it to begin with, or from the start if it has none; nothing else is written."""
    out = tmp_path / "out"
    copied(two_steps, out, "wide.npy")
    train(out, 2, "--warm", str(two_steps), "--alone", "temporal")
    assert [path.name for path in out.iterdir()] == ["controlnet_temporal"]
    name = "controlnet_temporal/diffusion_pytorch_model.safetensors"
    before, after = load_file(two_steps / name), load_file(out / name)
    assert before.keys() == after.keys()
    gaps = [float((before[key].float() - after[key].float()).abs().max()) for key in before]
    assert 0 < max(gaps) < 0.1
    with pytest.raises(SystemExit):
        main(["--out", str(out), "--alone", "temporal"])


def test_one_scene_in_five_lies_in_harsh_light_or_at_night() -> None:
    picture = scene(3, 64)
    lit = np.stack([harsh(picture, np.random.default_rng(i)).mean((0, 1)) for i in range(40)])
    assert lit.mean(1).max() - lit.mean(1).min() > 0.3
    assert np.ptp(lit, axis=1).max() > np.ptp(picture.mean((0, 1))) + 0.15
    night = scene(9, 256)
    assert np.median(night) < 0.25
    assert night.max() > 0.6


def test_noise_levels_are_those_of_the_loop(tmp_path: Path) -> None:
    """Training and `pipelines/schedule.py` must mean the same by a strength."""
    schedule = NoiseSchedule.from_config(dict(nets.scheduler().config))
    assert schedule.prediction == "sample"
    for t in (0.0, 0.5, 100.25, 599.4, 998.9, 999.0):
        alpha, _ = schedule.level(t)
        assert float(nets.alphas(torch.tensor([t]))) == pytest.approx(alpha**2, abs=1e-5)


def test_share_of_the_style_grows_with_strength() -> None:
    grid = torch.linspace(0, denoise.FULL, 200)
    share = denoise.share(grid)
    assert share[0] == 0
    assert share[-1] == 1
    assert (share.diff() > 0).all()
    assert denoise.share(torch.tensor(1.0)) == 1


def versions(scenes: int, side: int) -> NDArray[np.float16]:
    """Latents of every version of some scenes."""
    shape = (scenes, len(data.NAMES) + data.EXTRAS, nets.LATENTS, side, side)
    return np.random.default_rng(0).normal(size=shape).astype(np.float16)


def test_lessons_repeat_and_stay_in_phase() -> None:
    rows = versions(2, 12)
    lessons = denoise.Lessons(rows, 0, text.tokenizer(), seed=3)
    one, other, again = lessons.draw(5, 4, 8), lessons.draw(6, 4, 8), lessons.draw(5, 4, 8)
    assert torch.equal(one.noised, again.noised)
    assert torch.equal(one.ids, again.ids)
    assert not torch.equal(one.noised, other.noised)
    assert one.noised.shape == one.answer.shape == (4, nets.LATENTS, 8, 8)
    assert one.ids.shape == (4, text.TOKENS)


def test_noise_that_tells_of_a_picture_is_still_noise() -> None:
    """Unit deviation in every channel, and no channel that follows another: else pure noise would look odd in use."""
    smooth = F.interpolate(torch.randn(300, 1, nets.LATENTS, 3, 3).flatten(0, 1), scale_factor=4)
    mixing = torch.randn(nets.LATENTS, nets.LATENTS)
    latents = torch.einsum("dc,nchw->ndhw", mixing, smooth)
    rows = latents[:, None].expand(-1, len(data.NAMES) + data.EXTRAS, -1, -1, -1).numpy().astype(np.float16)
    lessons = denoise.Lessons(rows, 0, text.tokenizer(), seed=3)
    noise = lessons._telling(torch.from_numpy(rows[:, 0].astype(np.float32)), torch.randn(300, nets.LATENTS, 12, 12))
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    told = torch.corrcoef(F.avg_pool2d(noise, 4).transpose(0, 1).flatten(1))
    assert float((told - torch.eye(nets.LATENTS)).abs().max()) < 0.15


def test_weights_of_words_reach_their_tokens() -> None:
    lessons = denoise.Lessons(versions(1, 8), 0, text.tokenizer(), seed=3)
    wish = text.Wish("a stained glass window", (("glass", 1.0),), weighed=(("stained", 1.5), ("glass", 1.5)))
    ids, weights = lessons.tokens([wish])
    words = lessons.tokenizer.convert_ids_to_tokens(ids[0])
    assert [w for w, weight in zip(words, weights[0], strict=True) if weight == 1.5] == ["stained", "glass"]


def test_hints_are_the_outlines_of_the_very_crop() -> None:
    """An edge map that lies elsewhere than its picture would teach the ControlNet to be ignored."""
    cells = np.ones((12, 12), np.uint8)
    cells[:6, :7] = 0
    shown = (cells * 255).repeat(8, 0).repeat(8, 1)[None, ..., None].repeat(3, -1)
    latents = np.broadcast_to(cells.astype(np.float16), (1, len(data.NAMES) + data.EXTRAS, nets.LATENTS, 12, 12))
    lesson = control.EdgeLessons(latents, shown, text.tokenizer(), seed=1).draw(0, 8, 8)
    assert lesson.hint is not None
    assert lesson.hint.shape == (8, 3, 64, 64)
    for hint, answer in zip(lesson.hint, lesson.answer, strict=True):
        dark = F.interpolate((answer[None, :1] < 0.5).float(), scale_factor=8)[0, 0]
        border = F.max_pool2d(dark[None, None], 5, 1, 2) + F.max_pool2d(-dark[None, None], 5, 1, 2)
        assert hint.max() == 1
        assert (hint[0] <= border[0, 0]).all()


def test_picture_loss_sees_blur() -> None:
    """Of two answers that are equally wrong on average, the soft one costs more than the shifted-in-value one."""
    wanted = torch.zeros(1, 3, 32, 32)
    wanted[..., ::4] = 1
    soft = wanted.mean(-1, keepdim=True).expand_as(wanted)
    off = wanted + (soft - wanted).abs().mean()
    assert picture_loss(soft, wanted) > picture_loss(off, wanted)


def test_stopped_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    """Weights, averages, optimiser and schedule all come back."""

    def steps(path: Path, count: int, seed: int = 0) -> tuple[Run, torch.nn.Linear]:
        torch.manual_seed(seed)
        net = torch.nn.Linear(4, 4)
        run = Run({"net": net}, path, 1e-2, 8, Team(0, 1, tmp_path))
        while run.step < count:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(run.step))
            run.update((net(x) - x).square().mean())
        run.save()
        return run, net

    whole, straight = steps(tmp_path / "whole.safetensors", 8)
    steps(tmp_path / "broken.safetensors", 4)
    again, resumed = steps(tmp_path / "broken.safetensors", 8, seed=9)
    assert torch.equal(resumed.weight, straight.weight)
    assert all(torch.equal(a, b) for a, b in zip(again.mean, whole.mean, strict=True))
