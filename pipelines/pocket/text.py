"""The words pocket knows, its tokenizer, and the prompts it is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from pipelines.pocket.styles import MODIFIERS, STYLES

TOKENS = 32
"""Length of a prompt in tokens, begin and end included; longer ones are cut."""

PHRASES: dict[str, tuple[str, ...]] = {
    "neon": ("neon", "neon", "neon lights", "glowing neon", "synthwave", "cyberpunk", "laser"),
    "ink": ("ink", "ink", "ink drawing", "sumi", "woodcut", "linocut", "brush and ink", "calligraphy"),
    "watercolour": ("watercolour", "watercolor", "watercolour painting", "aquarelle", "gouache"),
    "oil": ("oil", "oil painting", "oil paint", "impasto", "van gogh", "impressionist"),
    "pencil": ("pencil", "pencil sketch", "pencil drawing", "sketch", "hatching", "graphite"),
    "charcoal": ("charcoal", "charcoal drawing", "chalk", "pastel"),
    "halftone": ("halftone", "newsprint", "newspaper", "dots", "screen print"),
    "comic": ("comic", "comic book", "cartoon", "manga", "anime", "pop art", "graphic novel"),
    "mosaic": ("mosaic", "tiles", "tile mosaic", "ceramic"),
    "pixel": ("pixel", "pixel art", "pixels", "8 bit", "retro game"),
    "thermal": ("thermal", "thermal camera", "infrared", "heat map", "heat vision"),
    "xray": ("xray", "x ray", "radiograph", "skeleton", "scan"),
    "blueprint": ("blueprint", "technical drawing", "cyanotype", "plan", "schematic"),
    "gold": ("gold", "golden", "bronze", "brass", "gilded"),
    "chrome": ("chrome", "silver", "metal", "liquid metal", "steel", "mercury"),
    "ice": ("ice", "frozen", "frost", "crystal", "snow"),
    "fire": ("fire", "flames", "burning", "inferno", "blaze"),
    "ocean": ("ocean", "underwater", "water", "sea", "waves"),
    "aurora": ("aurora", "northern lights", "aurora borealis"),
    "galaxy": ("galaxy", "space", "nebula", "stars", "cosmic", "universe"),
    "glitch": ("glitch", "glitch art", "datamosh", "broken screen", "corrupted"),
    "sunset": ("sunset", "dusk", "golden hour", "dawn", "sunrise"),
    "matrix": ("matrix", "code", "digital rain", "hacker"),
    "glass": ("glass", "stained glass", "cathedral window", "vitrail"),
    "embroidery": ("embroidery", "knitted", "knit", "wool", "textile", "cross stitch"),
    "papercut": ("papercut", "paper cut", "cut paper", "collage", "layered paper"),
    "noir": ("noir", "film noir", "black and white", "monochrome", "grayscale"),
    "risograph": ("risograph", "riso", "riso print", "duotone", "two colour print"),
    "marble": ("marble", "stone", "statue", "sculpture", "carved stone"),
    "lava": ("lava", "molten", "magma", "volcano", "embers"),
    "circuit": ("circuit", "circuit board", "pcb", "electronics", "microchip"),
    "vhs": ("vhs", "video tape", "analog video", "vaporwave", "old tv", "camcorder"),
    "anaglyph": ("anaglyph", "stereoscopic", "red cyan", "3d glasses"),
    "ascii": ("ascii", "ascii art", "text mode", "terminal", "typewriter"),
    "contour": ("contour", "topographic", "topographic map", "map", "contour lines", "isolines"),
    "holographic": ("holographic", "hologram", "iridescent", "foil", "opal", "pearl"),
    "psychedelic": ("psychedelic", "acid", "trippy", "lsd", "rainbow", "liquid light"),
}
PLAIN = ("", "photo", "photograph", "plain", "original", "realistic photo", "a photo", "nothing", "unchanged")
TINT_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson"), "green": ("green", "emerald"), "blue": ("blue", "azure"), "purple": ("purple", "violet"),
    "pink": ("pink", "magenta"), "orange": ("orange", "amber"), "yellow": ("yellow", "lemon"),
    "cyan": ("cyan", "turquoise"),
    "dark": ("dark", "moody", "night"), "bright": ("bright", "light", "sunny"),
    "warm": ("warm", "hot"), "cold": ("cold", "cool"),
}  # fmt: skip
AMOUNTS: dict[str, float] = {
    "subtle": 0.5, "soft": 0.5, "slightly": 0.5, "faint": 0.4, "gentle": 0.6,
    "strong": 1.2, "intense": 1.25, "very": 1.2, "extreme": 1.3, "bold": 1.2,
}  # fmt: skip
"""Words before a style, and how much of it they ask for."""
FRAMES = (
    "{}", "{}", "{}", "{} style", "in {} style", "{} art", "a picture in {}", "in the style of {}", "made of {}",
    "a {} picture",    "{} portrait", "a portrait of a person, {}", "a {} landscape", "turned into {}", "{} look",
    "{}, highly detailed",
    "{} image of a city", "beautiful {}", "a woman in {}", "{} scene", "everything is {}",
)  # fmt: skip
_FILLERS = """a the of in on with and style art picture image scene portrait landscape person people man woman face city
house room street detailed highly beautiful best quality masterpiece like as look made into by for at is everything
cat dog tree mountain sky flower dance dancer music show live abstract colourful colorful vivid"""
FILLERS = tuple(_FILLERS.split())
UNKNOWN = "qqxz"
"""Stands for any word that is not known: training sprinkles it over prompts so that it changes nothing."""
SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")


def vocabulary() -> dict[str, int]:
    """Every known word and its id; the specials come first."""
    phrases = [p for group in (PHRASES, TINT_WORDS) for row in group.values() for p in row]
    phrases += AMOUNTS
    phrases += [f.replace("{}", " ").replace(",", " ") for f in FRAMES] + list(PLAIN)
    words = sorted({w for p in phrases for w in p.split()} | set(FILLERS))
    return {word: i for i, word in enumerate((*SPECIALS, *words))}


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, lower case, accents and punctuation dropped; what is not known becomes <unk>."""
    ids = vocabulary()
    inner = Tokenizer(WordLevel(ids, unk_token="<unk>"))  # noqa: S106
    inner.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), "removed")
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", ids["<bos>"]), ("<eos>", ids["<eos>"])]
    )
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIALS, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=TOKENS, padding_side="right", truncation_side="right", **names
    )


@dataclass(frozen=True)
class Wish:
    """What a prompt asks for: shares of styles that add up to 1 (none: the picture as it is), and a colour or mood."""

    prompt: str
    styles: tuple[tuple[str, float], ...] = ()
    modifier: str = ""
    amount: float = 1.0
    """How much of all that: 0 leaves the picture as it is, above 1 exaggerates."""
    weighed: tuple[tuple[str, float], ...] = ()
    """Words of the prompt that carry a weight other than 1, as `(neon:1.4)` gives it."""


def _sprinkle(prompt: str, rng: np.random.Generator) -> str:
    words = prompt.split()
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 5))):
            extra = UNKNOWN if rng.random() < 0.6 else str(rng.choice(FILLERS))
            words.insert(int(rng.integers(len(words) + 1)), extra)
    return " ".join(words)


def _phrase(style: str, rng: np.random.Generator) -> str:
    """The style's own name as often as all its other words together."""
    return style if rng.random() < 0.5 else str(rng.choice(PHRASES[style]))


def wish(rng: np.random.Generator) -> Wish:
    """A random prompt with what it should do."""
    kind = rng.random()
    names = tuple(STYLES)
    if kind < 0.07:
        return Wish(_sprinkle(str(rng.choice(PLAIN)), rng))
    if kind < 0.19:
        first, second = (str(s) for s in rng.choice(names, 2, replace=False))
        joint = str(rng.choice([" ", ", ", " and ", " with "]))
        phrases = [_phrase(s, rng) for s in (first, second)]
        prompt = _sprinkle(joint.join(phrases), rng)
        if rng.random() < 0.6:
            return Wish(prompt, ((first, 0.5), (second, 0.5)))
        weight = float(rng.uniform(0.4, 1.7))
        part = weight / (1 + weight)
        return Wish(prompt, ((first, part), (second, 1 - part)), weighed=_words(phrases[0], weight))
    style = str(rng.choice(names))
    if kind < 0.31:
        return coloured(rng, style, str(rng.choice(MODIFIERS)))
    phrase = _phrase(style, rng)
    if kind < 0.37:
        word = str(rng.choice(list(AMOUNTS)))
        return Wish(_sprinkle(f"{word} {phrase}", rng), ((style, 1.0),), amount=AMOUNTS[word])
    prompt = _sprinkle(str(rng.choice(FRAMES)).format(phrase), rng)
    if kind < 0.52:
        weight = float(rng.uniform(0.2, 1.8))
        return Wish(prompt, ((style, 1.0),), amount=amount(weight), weighed=_words(phrase, weight))
    return Wish(prompt, ((style, 1.0),))


def named(rng: np.random.Generator, style: str) -> Wish:
    """A prompt for one style (`plain`: none)."""
    if style == "plain":
        return Wish(_sprinkle(str(rng.choice(PLAIN)), rng))
    return Wish(_sprinkle(str(rng.choice(FRAMES)).format(_phrase(style, rng)), rng), ((style, 1.0),))


def amount(weight: float) -> float:
    """What a style's weight asks for: below 1 that much of it, above 1 half as much (decoders do not follow far)."""
    return weight if weight <= 1 else 1 + 0.5 * (weight - 1)


def _words(phrase: str, weight: float) -> tuple[tuple[str, float], ...]:
    return tuple((word, weight) for word in phrase.split())


def coloured(rng: np.random.Generator, style: str, modifier: str) -> Wish:
    """A prompt for that style (`plain`: none) in that colour or mood."""
    word = str(rng.choice(TINT_WORDS[modifier]))
    if style == "plain":
        return Wish(_sprinkle(word, rng), (), modifier)
    phrase = _phrase(style, rng)
    phrase = f"{word} {phrase}" if rng.random() < 0.7 else f"{phrase}, {word}"
    return Wish(_sprinkle(str(rng.choice(FRAMES)).format(phrase), rng), ((style, 1.0),), modifier)
