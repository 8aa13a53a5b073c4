"""Training runs of the two ControlNets, over a denoiser that is finished."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from diffusers import ControlNetModel

from pipelines.pocket import control, data, finest, hold, nets, sheet
from pipelines.pocket.criticrun import CriticRun
from pipelines.pocket.plan import Plan, Ticker
from pipelines.pocket.report import Report
from pipelines.pocket.run import Journal, Run, Team


def new_control(plan: Plan, model: sheet.Model, kind: str) -> ControlNetModel:
    """The ControlNet of that kind as its training begins: as --warm has it, or a copy of the denoiser's encoder."""
    torch.manual_seed(plan.seed)
    net = nets.control(model.unet, words=kind == "temporal")
    if plan.warm is not None and (kept := plan.warm / f"controlnet_{kind}").is_dir():
        warm = ControlNetModel.from_pretrained(kept, local_files_only=True, use_safetensors=True)
        net.load_state_dict(net.state_dict() | warm.float().state_dict())
    model.unet.eval().requires_grad_(False)
    model.words.eval().requires_grad_(False)
    return net.to(plan.place, memory_format=torch.channels_last)


def train_edge(plan: Plan, model: sheet.Model, team: Team, journal: Journal) -> None:
    """The ControlNet for outlines, into the model folder."""
    ticker = Ticker(journal, "edge")
    vae, net = model.vae, new_control(plan, model, "edge")
    latents = data.latents(plan.work / "latents.npy", vae, plan.scenes, plan.size, team, ticker)
    shown = data.scenes(plan.work / "scenes.npy", plan.scenes, plan.size, team, ticker)
    lessons = control.EdgeLessons(latents, shown, model.tokenizer, plan.seed + 1)
    path, minutes = plan.work / "edge.safetensors", plan.control_minutes
    run = Run({"control": net}, path, plan.control_rate, plan.control_steps, team, minutes)
    own = plan.work / "critic-edge.safetensors"
    critic = CriticRun(plan, own, plan.control_steps, minutes, team, plan.work / "critic.safetensors")
    report = Report(journal, run, "edge")
    while run.fraction < 1:
        with plan.fast:
            lesson = lessons.draw(run.step * team.size + team.rank, *plan.crop(run.step, team.size)).to(plan.place)
            seen = plan.seen(run.step, team.size)
            mark = control.loss(lesson, net, model.unet, model.words, vae, critic.net, seen, critic.pull)
        norm = run.update(mark.loss)
        critic.update(mark.shown)
        if report.note(norm, critic.said, error=float(mark.error)):
            critic.run.save()
            run.save()
    run.adopt()
    if team.rank == 0:
        nets.save_control(plan.out / "controlnet_edge", net)


def train_temporal(plan: Plan, model: sheet.Model, team: Team, journal: Journal) -> None:
    """The TemporalNet, into the model folder as it goes. One that is warm goes on with films."""
    net = new_control(plan, model, "temporal")
    ticker = Ticker(journal, "temporal")
    wide = data.scenes(plan.work / "wide.npy", plan.moving, plan.size * 5 // 4, team, ticker)
    lessons = hold.Lessons(wide, model.vae, model.unet, model.words, model.tokenizer, plan.seed + 2)
    finest.close(net)
    stages = [FILMS]
    if not (plan.warm is not None and (plan.warm / "controlnet_temporal").is_dir()):
        stages = [READING, PAIRS, FILMS]
        finest.begin(net, model.unet, float(lessons.pair(0, *plan.crop(0, team.size)).before.last.std()))
    for stage in stages:
        _hold(stage, plan, model, net, lessons, team, journal)


class Stage(NamedTuple):
    """A part of the TemporalNet's training."""

    name: str
    share: float
    """Of its steps and minutes."""
    rate: float
    """Of its rate."""


READING, PAIRS, FILMS = Stage("reading", 0.15, 4.0), Stage("pairs", 0.55, 3.0), Stage("films", 0.3, 0.6)
"""What a picture's last hidden state was; to hold the one of two; and then frame after frame of its own."""
STATE = 0.1
"""Weight of the last hidden state beside the latents."""


def _hold(
    stage: Stage, plan: Plan, model: sheet.Model, net: ControlNetModel, lessons: hold.Lessons, team: Team,
    journal: Journal,
) -> None:  # fmt: skip
    path = plan.work / f"temporal-{stage.name}.safetensors"
    steps, minutes = max(1, round(stage.share * plan.temporal_steps)), stage.share * plan.control_minutes
    run = Run(finest.parts(net), path, stage.rate * plan.control_rate, steps, team, minutes)
    kept: deque[finest.Take] = deque(maxlen=plan.again * plan.again)
    report = Report(journal, run, f"temporal, {stage.name}")
    with plan.fast:
        weights = finest.importance(model.vae, lessons.pair(0, 2, plan.side // 8).plain)
    while run.fraction < 1:
        turn, fresh = run.step // plan.again, run.step % plan.again == 0 or not kept
        if fresh:
            draw = lessons.draw if stage is FILMS else lessons.pair
            with plan.fast:
                kept.append(draw(turn * team.size + team.rank, *plan.crop(turn, team.size)))
        # Each frame is learned from several times: to draw it costs more than to learn.
        take = kept[-1 if fresh else int(np.random.default_rng([plan.seed, run.step]).integers(len(kept)))]
        with plan.fast:
            if stage is READING:
                loss = finest.reading_loss(net, model.unet, take)
                off, still = float(loss.detach()), 1.0
            else:
                made, last = finest.helped(model.unet, net, take)
                loss = finest.loss(made, take, weights)
                off, still = (float(((take.answer - x.detach()) * weights).abs().mean()) for x in (made, take.plain))
            if stage is PAIRS:
                loss = loss + STATE * finest.state_loss(last, model.unet, take)
            if stage is FILMS and fresh:
                lessons.take(made.detach())
        norm = run.update(loss)
        if report.note(norm, error=off, unhelped=still):
            run.save()
            if team.rank == 0 and stage is FILMS:
                with run.averaged():
                    nets.save_control(plan.out / "controlnet_temporal", net)
    run.adopt()
    if team.rank == 0:
        nets.save_control(plan.out / "controlnet_temporal", net)


CONTROLS = {"edge": train_edge, "temporal": train_temporal}
