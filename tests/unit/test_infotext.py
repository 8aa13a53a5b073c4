"""AUTOMATIC1111's settings: its counting of steps, its infotext, and the look that comes out."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bridge.load_config import load_config
from bridge.run_cli import configure, layers
from pipelines.infotext import img2img_steps, read, split, strength
from pipelines.params import table

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "a1111_img2img_steps.json").read_text())
TEXT = """a fox, (neon:1.2)
by night
Negative prompt: blurry, text
and more
Steps: 20, Sampler: LCM, CFG scale: 1.5, Seed: 4294967295, Size: 500x768, Model hash: 6ce0161689, Model: "v1, 5", \
Denoising strength: 0.5, Clip skip: 2, Variation seed: 7, Variation seed strength: 0.25, Version: v1.10"""


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: f"{c['steps']}-{c['denoise']}-{c['fix']}")
def test_steps_are_counted_as_the_web_ui_counts_them(case) -> None:
    assert list(img2img_steps(case["steps"], case["denoise"], case["fix"])) == case["res"]


def test_strength_is_where_its_first_step_lies() -> None:
    assert strength(20, 0.5) == pytest.approx(10 / 19)
    assert strength(20, 1.0) == 1.0
    assert strength(20, 0.0) == 0.0
    assert strength(1, 0.4) == 0.4
    assert strength(4, 0.5, exact=True) == pytest.approx(3 / 7)


def test_an_infotext_becomes_parameters() -> None:
    found = read(TEXT)
    assert found.values == {
        "prompt": "a fox, (neon:1.2)\nby night", "negative": "blurry, text\nand more", "steps": 8, "sampler": "lcm",
        "guidance": 1.5, "guidance_mode": "full", "seed": 4294967295 % 2**31, "width": 512, "height": 768,
        "strength": 0.5263, "clip_skip": 2, "seed2": 7, "seed_mix": 0.25,
    }  # fmt: skip
    said = "\n".join(found.notes)
    for word in ("20 steps become 8", "Model: v1, 5", "width 500 becomes 512", "seed 4294967295"):
        assert word in said
    assert "Version" not in said


def test_without_denoising_it_was_drawn_from_nothing() -> None:
    assert read("x\nSteps: 4, Sampler: Euler, Seed: 1").values["mode"] == "txt2img"


@pytest.mark.parametrize("text", ["", "a: b", "one, two: 3\nno: settings, here", "Negative prompt: only"])
def test_what_is_no_infotext_is_a_prompt(text: str) -> None:
    prompt, negative, given = split(text)
    assert given == {}
    assert prompt + negative == text.replace("Negative prompt: ", "")
    assert "no settings" in read(text).notes[-1]


def test_rubbish_is_a_note_and_every_value_fits_its_row() -> None:
    rng = random.Random(5)
    words = ["Steps", "Seed", "Size", "CFG scale", "Denoising strength", "Clip skip", "Sampler", "Variation seed", "Zz"]
    values = ["nan", "-1", "1e400", "9" * 30, "3x", "x", "512x512x3", '"\\"', "", "∞", "0x10", "2", "0.5"]
    for _ in range(2000):
        line = ", ".join(f"{rng.choice(words)}: {rng.choice(values)}" for _ in range(rng.randrange(3, 8)))
        for name, value in read(f"p\n{line}").values.items():
            assert table()[name].coerce(value) == value


def test_a_long_line_is_not_searched_for_long() -> None:
    assert split("a" * 60_000)[2] == {}
    assert split("a, " * 2000 + "Steps: 1, Seed: 2, Sampler: LCM")[2]["Steps"] == "1"


def livelatent(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge", "infotext", *words],
        input=text, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip


def test_a_picture_becomes_a_look_that_a_run_takes(tmp_path: Path) -> None:
    picture, chunk = tmp_path / "a.png", PngInfo()
    chunk.add_text("parameters", TEXT + ', Note: "a \x7f b"')
    Image.new("RGB", (4, 4)).save(picture, pnginfo=chunk)
    done = livelatent(str(picture))
    assert done.returncode == 0, done.stderr
    look = tmp_path / "look.toml"
    look.write_text(done.stdout, encoding="utf-8")
    assert tomllib.loads(done.stdout)["params"] == read(TEXT).values
    parser = argparse.ArgumentParser()
    configure(parser)
    assert load_config(layers(parser.parse_args(["--config", str(look)]))).params["clip_skip"] == 2


def test_a_jpeg_keeps_it_in_exif_and_a_pipe_will_do(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\x00" + TEXT.encode("utf-16-be")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert livelatent(str(tmp_path / "a.jpg")).stdout == livelatent("-", text=TEXT).stdout != ""


def test_no_is_a_sentence(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "bare.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    for name, word in (("bare.png", "holds no settings"), ("broken.png", "can't be read"), ("none.txt", "No such")):
        done = livelatent(str(tmp_path / name))
        assert done.returncode == 2
        assert word in done.stderr
        assert "Traceback" not in done.stderr
