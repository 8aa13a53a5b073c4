"""Scenes, styles and words: what pocket is trained on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.pocket import text
from pipelines.pocket.scenes import scene
from pipelines.pocket.styles import MODIFIERS, STYLES, render, render_all

SIZE = 128


@pytest.fixture(scope="module")
def picture() -> NDArray[np.float32]:
    return scene(1, SIZE)


def nudged(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The next frame of a still camera: the same scene with a little more light and other sensor noise."""
    noise = np.random.default_rng(5).normal(0, 0.004, picture.shape)
    return np.clip(picture * 1.01 + noise, 0, 1).astype(np.float32)


def test_scene_is_the_same_every_time_and_another_one_for_another_number(picture: NDArray[np.float32]) -> None:
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1
    assert np.array_equal(picture, scene(1, SIZE))
    assert np.abs(picture - scene(2, SIZE)).mean() > 0.03


def test_scenes_are_worth_looking_at() -> None:
    contrast = [float(scene(i, 64).std()) for i in range(24)]
    assert np.median(contrast) > 0.12


@pytest.mark.parametrize("name", STYLES)
def test_style_is_deterministic_and_keeps_shape(name: str, picture: NDArray[np.float32]) -> None:
    before = picture.copy()
    out = render(picture, name)
    assert out.shape == picture.shape
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 1
    assert np.array_equal(picture, before)
    assert np.array_equal(out, render(picture, name))


@pytest.mark.parametrize("name", STYLES)
def test_style_does_not_flicker(name: str, picture: NDArray[np.float32]) -> None:
    """Two nearly equal frames give nearly equal pictures: far closer than two styles are."""
    change = np.abs(render(picture, name) - render(nudged(picture), name)).mean()
    assert change < 0.03


def test_styles_differ_from_each_other_and_from_the_picture(picture: NDArray[np.float32]) -> None:
    names = ("plain", *STYLES)
    made = [picture, *render_all(picture, tuple(STYLES))]
    for i, a in enumerate(made):
        for j, b in enumerate(made[:i]):
            assert np.abs(a - b).mean() > 0.02, (names[i], names[j])


def test_render_all_equals_render(picture: NDArray[np.float32]) -> None:
    some = ("oil", "neon", "ice")
    for name, made in zip(some, render_all(picture, some), strict=True):
        assert np.array_equal(made, render(picture, name))


def test_modifiers_change_every_style(picture: NDArray[np.float32]) -> None:
    for modifier in MODIFIERS:
        assert np.abs(render(picture, "oil", modifier) - render(picture, "oil")).mean() > 0.02, modifier


def test_unknown_style_is_an_error(picture: NDArray[np.float32]) -> None:
    with pytest.raises(KeyError):
        render(picture, "no such style")


def test_any_size_that_the_bridge_allows(picture: NDArray[np.float32]) -> None:
    tall = np.concatenate([picture, picture[:64]], 0)
    for name in STYLES:
        assert render(tall, name).shape == (192, 128, 3)


def test_every_style_has_words_and_every_word_is_in_the_vocabulary() -> None:
    assert set(text.PHRASES) == set(STYLES)
    assert set(text.TINT_WORDS) == set(MODIFIERS)
    words = text.tokenizer()
    for phrases in (*text.PHRASES.values(), *text.TINT_WORDS.values(), text.PLAIN):
        for phrase in phrases:
            assert words.unk_token_id not in words(phrase).input_ids, phrase


def test_tokenizer_takes_what_people_type() -> None:
    words = text.tokenizer()

    def read(prompt: str) -> list[str]:
        return words.convert_ids_to_tokens(words(prompt).input_ids)

    assert read("Néon, STYLE!!") == ["<bos>", "neon", "style", "<eos>"]
    assert read("x-ray") == read("x ray")
    assert read("a zebra in neon") == ["<bos>", "a", "<unk>", "in", "neon", "<eos>"]
    assert read("") == ["<bos>", "<eos>"]
    long = words("neon " * 100, padding="max_length", max_length=text.TOKENS, truncation=True).input_ids
    assert len(long) == text.TOKENS


def test_unknown_stand_in_is_unknown() -> None:
    assert text.UNKNOWN not in text.vocabulary()


def test_wishes_cover_every_style_and_add_up() -> None:
    rng = np.random.default_rng(0)
    wishes = [text.wish(rng) for _ in range(1500)]
    assert {name for w in wishes for name, _ in w.styles} == set(STYLES)
    assert all(not w.styles or sum(s for _, s in w.styles) == pytest.approx(1) for w in wishes)
    assert any(not w.styles and not w.modifier for w in wishes)
    assert {w.modifier for w in wishes} == {"", *MODIFIERS}
