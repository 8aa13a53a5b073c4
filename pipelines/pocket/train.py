"""Builds pocket from nothing: `python -m pipelines.pocket.train --out DIR`.

Stages: draw pictures, train the codec, turn scenes and their styled versions into latents, train denoiser and text
encoder, write the model folder. Everything on the way is kept in --work, so that a run that was stopped goes on where
it was.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel

from pipelines.pocket import codec, data, denoise, nets, sheet, start, text
from pipelines.pocket.criticrun import CriticRun
from pipelines.pocket.plan import STAGES, Plan, Ticker
from pipelines.pocket.report import Report
from pipelines.pocket.run import Journal, Run, Team
from pipelines.pocket.teach import CONTROLS

RANK = "POCKET_RANK"
"""Environment of a team's other processes."""


def codec_pictures(plan: Plan, team: Team, journal: Journal) -> NDArray[np.uint8]:
    """What the codec is trained on."""
    return data.pictures(plan.work / "pictures.npy", plan.pictures, plan.size, team, Ticker(journal, "pictures"))


def train_codec(plan: Plan, team: Team, journal: Journal) -> AutoencoderTiny:
    """The codec, from --work if it is finished there."""
    if plan.warm is not None:
        return nets.load(AutoencoderTiny, plan.warm, "vae").to(plan.place).requires_grad_(False)
    torch.manual_seed(plan.seed)
    vae = nets.codec(plan.sizes)
    path = plan.work / "codec.safetensors"
    if not path.exists():
        shown = codec_pictures(plan, team, journal)
        start.prepare(vae, codec.crop(shown, min(192, len(shown)), plan.codec_side, np.random.default_rng(plan.seed)))
    vae = vae.to(plan.place, memory_format=torch.channels_last)
    run = Run({"vae": vae}, path, plan.codec_rate, plan.codec_steps, team)
    _rebuild(plan, run, vae, journal, "codec")
    return vae.eval().requires_grad_(False)


def polish(plan: Plan, vae: AutoencoderTiny, team: Team, journal: Journal) -> None:
    """Trains the decoder further. The encoder stays, and with it the meaning of the latents that the denoiser knows."""
    vae.decoder.requires_grad_(True).train()
    run = Run({"decoder": vae.decoder}, plan.work / "decoder.safetensors", plan.polish_rate, plan.polish_steps, team)
    _rebuild(plan, run, vae, journal, "polish")
    vae.eval().requires_grad_(False)


def _rebuild(plan: Plan, run: Run, vae: AutoencoderTiny, journal: Journal, stage: str) -> None:
    """The codec's training, for those of its weights that `run` has."""
    team, errors = run.team, []
    shown = codec_pictures(plan, team, journal) if run.step < run.steps else np.empty(0, np.uint8)
    while run.step < run.steps:
        number = run.step * team.size + team.rank
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + number)
        dice = np.random.default_rng([plan.seed, number])
        batch = codec.crop(shown, plan.codec_batch // team.size, plan.codec_side, dice)
        with plan.fast:
            total, error = codec.loss(vae, batch.to(plan.place, memory_format=torch.channels_last), generator)
        norm = run.update(total)
        errors.append(float(error))
        if run.step % 100 == 0 or run.step == run.steps:
            level = round(-10 * math.log10(float(np.mean(errors)) / 4), 2)
            errors.clear()
            run.save()
            left = round(run.remaining / 60, 1)
            journal.write(stage=stage, step=run.step, psnr=level, norm=round(norm, 2), minutes_left=left)
    run.adopt()


def learn_words(
    plan: Plan,
    net: UNet2DConditionModel,
    words: CLIPTextModel,
    guide: denoise.Guide,
    lessons: denoise.Lessons,
    team: Team,
    journal: Journal,
) -> None:
    """The text encoder alone, until its prompts can be read back: what the denoiser then starts from."""
    path = plan.work / "words.safetensors"
    run = Run({"words": words, "pool": net.add_embedding}, path, plan.words_rate, plan.words_steps, team)
    while run.step < run.steps:
        lesson = lessons.prompts(run.step * team.size + team.rank, plan.words_batch // team.size).to(plan.place)
        assert lesson.asked is not None
        off = denoise.misread(guide(net.add_embedding(denoise.understood(words, lesson))), lesson.asked)
        run.update(off)
        if run.step % 100 == 0 or run.step == run.steps:
            run.save()
            left = round(run.remaining / 60, 1)
            journal.write(stage="words", step=run.step, misread=round(float(off.detach()), 4), minutes_left=left)
    run.adopt()


def train_denoiser(plan: Plan, vae: AutoencoderTiny, team: Team, journal: Journal) -> sheet.Model:
    """Denoiser and text encoder; writes the model folder as it goes."""
    ticker = Ticker(journal, "latents")
    latents = data.latents(plan.work / "latents.npy", vae, plan.scenes, plan.size, team, ticker)
    tokenizer = text.tokenizer()
    torch.manual_seed(plan.seed)
    if plan.warm is None:
        net, words = nets.unet(plan.sizes), nets.encoder(plan.sizes, tokenizer)
    else:
        net = nets.load(UNet2DConditionModel, plan.warm, "unet")
        words = nets.load(CLIPTextModel, plan.warm, "text_encoder")
    net, words = net.to(plan.place, memory_format=torch.channels_last), words.to(plan.place)
    lessons = denoise.Lessons(latents, 0, tokenizer, plan.seed)
    guide = denoise.Guide(net.time_embedding.linear_2.out_features, plan.place)
    if plan.warm is None:
        learn_words(plan, net, words, guide, lessons, team, journal)
    learning = {"unet": net, "words": words}
    run = Run(learning, plan.work / "denoiser.safetensors", plan.rate, plan.steps, team, plan.minutes)
    model = sheet.Model(vae, net, words, tokenizer)
    critic = CriticRun(plan, plan.work / "critic.safetensors", plan.steps, plan.minutes, team)
    report, kept = Report(journal, run, "denoiser"), time.monotonic()
    if plan.until == "latents":
        return model
    while run.fraction < 1:
        lesson = lessons.draw(run.step * team.size + team.rank, *plan.crop(run.step, team.size)).to(plan.place)
        with plan.fast:
            seen = plan.seen(run.step, team.size)
            mark = denoise.loss(lesson, net, words, guide, vae, critic.net, seen, critic.pull)
        norm = run.update(mark.loss)
        critic.update(mark.shown)
        report.note(norm, critic.said, error=float(mark.error))
        if (time.monotonic() - kept > plan.every or run.fraction >= 1) and team.rank == 0:
            critic.run.save()
            keep(plan, run, model, journal)
            kept = time.monotonic()
    run.adopt()
    return model


def keep(plan: Plan, run: Run, model: sheet.Model, journal: Journal) -> None:
    """A checkpoint, the model folder with the averaged weights, a contact sheet."""
    run.save()
    with run.averaged():
        write(plan, model, f"sheet-{run.step:06d}.jpg", journal)


def write(plan: Plan, model: sheet.Model, name: str, journal: Journal) -> None:
    """The model folder, and a contact sheet of that name."""
    size = nets.save(plan.out, model.vae, model.unet, model.words, model.tokenizer)
    sheet.contact(model, plan.work / name, plan.look, plan.size)
    journal.write(stage="saved", sheet=name, megabytes=round(size / 1e6, 2))


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.pocket.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--work", type=Path, help="where pictures, latents and checkpoints are kept (OUT.work)")
    parser.add_argument("--look", type=Path, help="a folder of pictures for the contact sheets")
    parser.add_argument("--warm", type=Path, help="a model folder whose networks to train on, instead of new ones")
    parser.add_argument("--tiny", action="store_true", help="toy networks, for tests of this script")
    kinds = {"int": int, "float": float, "str": str}
    for field in fields(Plan):
        if str(field.type) in kinds:
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kinds[str(field.type)], default=field.default)
    given = vars(parser.parse_args(arguments))
    sizes = nets.TINY if given.pop("tiny") else nets.Sizes()
    work = given.pop("work") or given["out"].with_name(given["out"].name + ".work")
    plan = Plan(work=work, sizes=sizes, **given)
    if plan.alone and plan.warm is None:
        parser.error("--alone trains over the networks of a model folder: name it with --warm")
    plan.work.mkdir(parents=True, exist_ok=True)
    size = plan.workers or (1 if plan.place.type != "cpu" else os.cpu_count() or 1)
    rank = int(os.environ.get(RANK, "0"))
    others = (
        _spawn(size, plan.work, sys.argv[1:] if arguments is None else arguments)
        if size > 1 and RANK not in os.environ
        else []
    )
    try:
        _train(plan, rank, size)
    except BaseException:
        for other in others:
            other.kill()
        raise
    return max((other.wait() for other in others), default=0)


def _train(plan: Plan, rank: int, size: int) -> None:
    if size > 1:
        torch.set_num_threads(1)
    journal = Journal(plan.work / "log.jsonl", rank)
    team = Team(rank, size, plan.work)
    journal.write(stage="start", device=str(plan.place), workers=size, seed=plan.seed)
    if plan.alone and plan.warm is not None:
        CONTROLS[plan.alone](plan, sheet.Model.load(plan.warm).to(plan.place), team, journal)
        team.close()
        return
    vae = train_codec(plan, team, journal)
    if plan.until == "codec":
        return
    model = train_denoiser(plan, vae, team, journal)
    for kind, train in CONTROLS.items():
        if STAGES.index(plan.until) >= STAGES.index(kind):
            train(plan, model, team, journal)
    if plan.until == "polish":
        polish(plan, model.vae, team, journal)
    if rank == 0:
        write(plan, model, "sheet-final.jpg", journal)
    team.close()


def _spawn(size: int, work: Path, arguments: list[str]) -> list[subprocess.Popen[bytes]]:
    """The other processes of the team: this same command, told its rank."""
    (work / "team").unlink(missing_ok=True)
    command = [sys.executable, "-m", "pipelines.pocket.train", *arguments]
    return [subprocess.Popen(command, env={**os.environ, RANK: str(rank)}) for rank in range(1, size)]


if __name__ == "__main__":
    raise SystemExit(main())
