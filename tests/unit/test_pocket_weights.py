"""The weights that ship: they load by the ordinary road, obey prompt and strength, and stay small."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipelines.pocket import control, data, judge, sheet, text
from pipelines.pocket.styles import STYLES

FOLDER = Path(sheet.__file__).parent / "weights"
STRONG = 32
EIGHT = ("neon", "ink", "thermal", "gold", "blueprint", "halftone", "sunset", "matrix")

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> sheet.Model:
    return sheet.Model.load(FOLDER)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on several threads of a busy machine are mostly waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def picture() -> Pixels:
    return data.pack([data.scene(sheet.UNSEEN + 4, 256)])[0]


@pytest.fixture(scope="module")
def styled(model: sheet.Model, picture: Pixels) -> dict[str, Pixels]:
    """The picture in every style, one step."""
    return dict(zip(STYLES, model.paint(picture, list(STYLES)), strict=True))


def distance(a: Pixels, b: Pixels) -> float:
    """Mean difference, 0..255."""
    return float(np.abs(a.astype(np.int16) - b).mean())


def test_folder_is_small_and_complete() -> None:
    files = [p for p in FOLDER.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 24e6
    assert not [p for p in files if p.suffix not in (".json", ".safetensors")]
    index = json.loads((FOLDER / "model_index.json").read_text())
    parts = {k: v for k, v in index.items() if isinstance(v, list) and v[0]}
    assert set(parts) == {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}
    assert all((FOLDER / name).is_dir() for name in parts)


def test_tokenizer_in_the_folder_is_the_one_in_the_code(model: sheet.Model) -> None:
    ours = text.tokenizer()
    for prompt in ("Néon style!", "a zebra, x-ray", "", "(gold:1.3) and ice"):
        assert model.tokenizer(prompt).input_ids == ours(prompt).input_ids
    assert model.tokenizer.model_max_length == text.TOKENS


def test_codec_keeps_an_unseen_picture(model: sheet.Model, picture: Pixels) -> None:
    assert sheet.psnr(picture, model.rebuild(picture)) > 26


def test_eight_styles_are_told_apart(styled: dict[str, Pixels]) -> None:
    for a, b in combinations(EIGHT, 2):
        assert distance(styled[a], styled[b]) > 25, (a, b)


def test_most_styles_come_nearest_to_their_own_teacher(styled: dict[str, Pixels], picture: Pixels) -> None:
    """By plain distance of pixels; docs/pocket.md has the classifier's figures on photographs."""
    names = tuple(STYLES)
    wanted = [data.pack([data.render((picture / 255).astype(np.float32), name)])[0] for name in names]
    right = [name for name, out in styled.items() if _nearest(out, wanted) == names.index(name)]
    assert len(names) >= 32
    assert len(right) >= STRONG, set(names) - set(right)
    assert set(EIGHT) <= set(right)


def _nearest(out: Pixels, wanted: list[Pixels]) -> int:
    return int(np.argmin([distance(out, w) for w in wanted]))


def test_plain_prompts_give_the_picture_back(model: sheet.Model, picture: Pixels) -> None:
    for prompt in ("", "photo"):
        assert distance(model.paint(picture, [prompt], strength=0.3)[0], picture) < 14


def test_strength_grows_evenly(model: sheet.Model, picture: Pixels, amount: Callable[[int, int], int]) -> None:
    grid = (0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6)
    for prompt in ("neon", "gold")[: amount(2, 1)]:
        change = [distance(model.paint(picture, [prompt], strength=s)[0], picture) for s in grid]
        assert all(b > a for a, b in pairwise(change)), change
        assert change[0] < 10
        assert change[-1] > 25


def test_more_steps_keep_the_picture(
    model: sheet.Model, picture: Pixels, styled: dict[str, Pixels], amount: Callable[[int, int], int]
) -> None:
    """Further steps deepen a style: each picture stays nearer to its own first step than to any other style's."""
    one = [styled[name] for name in EIGHT]
    tried = EIGHT[: amount(8, 4)]
    for steps in (2, 4):
        for i, out in enumerate(model.paint(picture, list(tried), steps=steps)):
            assert _nearest(out, one) == i, (EIGHT[i], steps)


def test_unknown_words_are_harmless(model: sheet.Model, picture: Pixels) -> None:
    for name in ("neon", "ink", "gold"):
        clean, muddled = model.paint(picture, [name, f"zebra {name} frobnicate quux"])
        assert distance(clean, muddled) < 12, name


def test_any_multiple_of_64(model: sheet.Model) -> None:
    wide = data.pack([data.scene(sheet.UNSEEN + 6, 320)])[0][:192]
    made = model.paint(wide, ["ink"])[0]
    assert made.shape == wide.shape


def test_two_words_mix(model: sheet.Model, picture: Pixels) -> None:
    gold, ocean, both = model.paint(picture, ["gold", "ocean", "gold and ocean"])
    apart = distance(gold, ocean)
    assert distance(both, gold) < apart
    assert distance(both, ocean) < apart


def test_edge_hints_hold_the_outlines(model: sheet.Model, picture: Pixels) -> None:
    hint = control.outlines(picture)
    names = ["neon", "ink", "gold", "fire"]
    free = model.paint(picture, names, 0.9)
    held = model.paint(picture, names, 0.9, hints=[sheet.Hint(model.controls["edge"], hint)])
    f1 = [np.mean([judge.edge_f1(out, picture) for out in made]) for made in (free, held)]
    assert f1[1] > 1.2 * f1[0], f1


def test_temporal_hints_calm_the_picture(model: sheet.Model, picture: Pixels) -> None:
    big = data.pack([data.scene(sheet.UNSEEN + 4, 320)])[0]
    shown = [np.ascontiguousarray(big[8:264, 8 + 3 * i : 264 + 3 * i]) for i in range(6)]
    free = [model.paint(p, ["fire"], 0.6)[0] for p in shown]
    held = free[:1]
    for p in shown[1:]:
        moved = np.roll(held[-1], -3, 1)  # as the stream moves it with `follow`
        held.append(model.paint(p, ["fire"], 0.6, hints=[sheet.Hint(model.controls["temporal"], moved)])[0])
    moves = [judge.shift(256, 256, -3, 0)] * 5
    assert judge.flicker(held, moves) < 0.8 * judge.flicker(free, moves)


def test_control_of_no_weight_changes_nothing(model: sheet.Model, picture: Pixels) -> None:
    plain = model.paint(picture, ["gold"])
    for net in model.controls.values():
        assert np.array_equal(model.paint(picture, ["gold"], hints=[sheet.Hint(net, picture, 0.0)]), plain)
        assert not np.array_equal(model.paint(picture, ["gold"], hints=[sheet.Hint(net, picture, 1.0)]), plain)


def test_cross_fade_has_no_jump(model: sheet.Model, picture: Pixels) -> None:
    with torch.inference_mode():
        ends = model.context(["ink", "fire"])
        made = [model.paint(picture, [""], 0.5, context=torch.lerp(ends[:1], ends[1:], i / 12))[0] for i in range(13)]
    jumps = judge.jumps(made)
    assert jumps.min() > 0.1
    assert jumps.max() < 3 * np.median(jumps), jumps
