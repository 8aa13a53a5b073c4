"""Text encoders: attention, chunks, clip skip and embeddings, against transformers' and diffusers' own on one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import engines.registry
from engines.attention import Piece, parse_attention
from engines.base import Build
from engines.chunks import BACKTRACK, cut
from engines.eager import EagerEngine
from engines.embeddings import Embeddings
from engines.registry import Registry
from engines.text import ClipText, contrasted, emphasise

LENGTH = 16

ROOM = LENGTH - 2
POCKET = Path(engines.registry.__file__).parent.parent / "pipelines" / "pocket" / "weights"
CPU = torch.device("cpu")


@pytest.fixture
def encoders(model_folder) -> Callable[[str], ClipText]:
    def load(kind: str) -> ClipText:
        text = EagerEngine().load(model_folder(kind), Build(64, 64, device="cpu", dtype="fp32")).text
        assert isinstance(text, ClipText)
        return text

    return load


@pytest.fixture
def text(encoders, tmp_path) -> Callable[..., ClipText]:
    """text(kind, chunks): an encoder with that many chunks and the embeddings in tmp_path."""

    def make(kind: str = "sd15", chunks: int = 1) -> ClipText:
        pairs = encoders(kind).encoders
        widths = [model.config.hidden_size for _, model in pairs]
        return ClipText(pairs, 64, 64, CPU, False, chunks, Embeddings(tmp_path, widths, ROOM))

    return make


@pytest.fixture
def contrasting(encoders, tmp_path) -> ClipText:
    """An encoder whose weights act by what the words change."""
    pairs = encoders("sd15").encoders
    widths = [model.config.hidden_size for _, model in pairs]
    return ClipText(pairs, 64, 64, CPU, False, 1, Embeddings(tmp_path, widths, ROOM), "difference")


def hidden(net: ClipText, prompt: str, skip: int = 1) -> torch.Tensor:
    return net(prompt, skip).cond[0]


def off_centre(net: ClipText) -> ClipText:
    """With a mean that is not 0, as in trained encoders and unlike a fresh LayerNorm's answer: weights divide by it."""
    for _, model in net.encoders:
        last = next(layer for name, layer in model.named_modules() if name.endswith("final_layer_norm"))
        last.bias.data.fill_(0.25)
    return net


def test_a_weight_scales_its_words_and_keeps_the_mean(text):
    net = off_centre(text())
    plain, weighed = hidden(net, "neon ink gold"), hidden(net, "neon (ink:1.5) gold")
    factor = torch.ones(LENGTH)
    factor[2] = 1.5  # begin, neon, ink
    scaled = plain * factor[None, :, None]
    assert torch.allclose(weighed, scaled * (plain.mean() / scaled.mean()), atol=1e-5)
    assert torch.equal(hidden(net, "neon (ink:1.0) gold"), plain)
    assert torch.allclose(hidden(net, "neon (((ink)))"), hidden(net, "neon (ink:1.331)"), atol=1e-4)


def test_emphasis_of_a_text_without_mean_does_not_blow_up():
    flat = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    assert torch.equal(emphasise(flat, torch.tensor([[1.0, 2.0]])), flat * torch.tensor([[[1.0], [2.0]]]))


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
@pytest.mark.parametrize("skip", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_clip_skip_is_diffusers(kind, skip, model_folder, encoders, monkeypatch):
    import diffusers

    cls = diffusers.StableDiffusionXLPipeline if kind == "sdxl" else diffusers.StableDiffusionPipeline
    pipe = cls.from_pretrained(model_folder(kind), local_files_only=True)
    if not hasattr(pipe.text_encoder, "text_model"):  # where diffusers looks for the last norm; transformers 5 moved it
        monkeypatch.setattr(type(pipe.text_encoder), "text_model", property(lambda model: model), raising=False)
    options = {"num_images_per_prompt": 1, "device": CPU, "do_classifier_free_guidance": False}
    with torch.no_grad():
        theirs = pipe.encode_prompt("neon ink", clip_skip=skip - 1 or None, **options)
    ours = encoders(kind)("neon ink", skip).cond
    assert torch.allclose(ours[0], theirs[0], atol=1e-5)
    if kind == "sdxl":
        assert torch.allclose(ours[1], theirs[2], atol=1e-5)


def test_clip_skip_beyond_the_first_layer_stays_there(text):
    net = text()
    assert torch.equal(hidden(net, "neon", 3), hidden(net, "neon", 12))
    assert not torch.equal(hidden(net, "neon", 2), hidden(net, "neon", 3))


def test_a_long_prompt_goes_in_chunks_each_encoded_by_itself(text):
    net = text(chunks=2)
    long = "neon " * ROOM + "gold ink"
    got = hidden(net, long)
    assert got.shape == (1, 2 * LENGTH, 32)
    assert torch.allclose(got[:, :LENGTH], hidden(net, "neon " * ROOM)[:, :LENGTH], atol=1e-6)
    assert torch.allclose(got[:, LENGTH:], hidden(net, "gold ink")[:, :LENGTH], atol=1e-6)
    said = net(long)
    assert (said.tokens, said.unknown, said.notes) == (ROOM + 2, (), ())


@pytest.mark.parametrize("chunks", [1, 2, 3, 4])
def test_the_shape_never_changes_and_what_is_too_long_is_cut_and_said(text, chunks):
    net = text(chunks=chunks)
    assert net.spec.outputs[0].shape == (1, chunks * LENGTH, 32)
    for count in (0, 1, ROOM, ROOM + 1, 3 * ROOM, 300):
        said = net("neon " * count + "gold")
        assert said.cond[0].shape == (1, chunks * LENGTH, 32)
        assert said.tokens == count + 1
        fits = count + 1 <= chunks * ROOM
        assert ("gold" in said.unknown) is not fits
        assert bool(said.notes) is not fits
    assert "cut" in net("neon " * 300).notes[0]


def test_a_short_prompt_in_a_large_buffer_is_the_same_to_the_unet(model_folder):
    """Softmax over keys that are all repeated k times is the softmax over one of each."""
    nets = EagerEngine().load(model_folder(), Build(64, 64, device="cpu", dtype="fp32"))
    x, t = torch.randn(1, *nets.latent, generator=torch.Generator().manual_seed(0)), torch.tensor(400.0)
    with torch.inference_mode():
        plain = nets.unet(x, t, nets.text("neon (ink:1.4)").cond)
        for chunks in (2, 4):
            large = ClipText(nets.text.encoders, 64, 64, CPU, False, chunks)
            assert torch.allclose(nets.unet(x, t, large("neon (ink:1.4)").cond), plain, atol=1e-5)
        padded = ClipText(nets.text.encoders, 64, 64, CPU, False, 4)("neon BREAK ink BREAK gold").cond
        # A text in a batch of four and one alone may be rounded differently.
        assert torch.allclose(padded[0][:, 3 * LENGTH :], large("").cond[0][:, :LENGTH], atol=1e-5)


def pieces(net: ClipText, prompt: str) -> list[list[str]]:
    tokenizer = net.encoders[0][0]
    found = cut(parse_attention(prompt), tokenizer, 75, net.embeddings, [])
    return [[item.word for item in chunk.items] for chunk in found.chunks]


def test_break_ends_a_chunk(text):
    net = text()
    assert pieces(net, "neon BREAK ink") == [["neon"], ["ink"]]
    assert pieces(net, "neon BREAK BREAK ink") == [["neon"], [], ["ink"]]
    assert pieces(net, "neon BREAK") == [["neon"]]
    assert pieces(net, "") == [[]]
    assert [piece.breaks for piece in (Piece("BREAK", -1.0), Piece("BREAK", 1.0))] == [True, False]


class Words:
    """A tokenizer with a comma, a token a word."""

    unk_token_id = 0

    def __call__(self, text, **_):
        words, at, spans = text.replace(",", " ,").split(), 0, []
        for word in words:
            at = text.index(word, at)
            spans.append((at, at + len(word)))
            at += len(word)
        return {"input_ids": [1 if word == "," else 2 for word in words], "offset_mapping": spans}


@pytest.mark.parametrize(("after", "moved"), [(5, 5), (BACKTRACK - 1, BACKTRACK - 1), (BACKTRACK, 0)])
def test_a_phrase_goes_whole_to_the_next_chunk(after, moved, text):
    prompt = "w " * (74 - after) + ", " + "x " * after + "y y y"
    found = cut(parse_attention(prompt), Words(), 75, text().embeddings, [])
    assert [chunk.items[0].word for chunk in found.chunks] == ["w", "x" if moved else "y"]
    assert [len(chunk.items) for chunk in found.chunks] == [75 - moved, moved + 3]


def test_weights_that_would_ruin_the_picture_are_limited(text):
    said = text()("(neon:99999999999999999999999999999999999999999)")
    assert torch.isfinite(said.cond[0]).all()
    assert "taken as 10" in said.notes[0]


def test_tokens_and_unknown_words_are_told(text):
    said = text()("(neon:1.2) 2049 BREAK ink")
    assert said.tokens == 1 + 4 + 1
    assert said.unknown == ("2049", "ink")


@pytest.mark.parametrize("keys", [("emb_params",), ("clip_l",), ("<anything>",)])
def test_an_embedding_stands_where_its_name_does(keys, text, tmp_path):
    net = text()
    table = next(m for n, m in net.encoders[0][1].named_modules() if n.endswith("token_embedding")).weight
    gold = net.encoders[0][0]("gold", add_special_tokens=False)["input_ids"]
    ink = net.encoders[0][0]("ink", add_special_tokens=False)["input_ids"]
    save_file({keys[0]: table[[*gold, *ink]].detach().clone()}, tmp_path / "My-Style.safetensors")
    said = net("neon my-style, neon")
    assert torch.allclose(said.cond[0], hidden(net, "neon gold ink, neon"), atol=1e-5)
    assert said.tokens == net("neon gold ink, neon").tokens
    assert torch.allclose(hidden(net, "(My-Style:1.5)"), hidden(net, "(gold ink:1.5)"), atol=1e-5)
    plain = hidden(net, "neon")
    net("my-style")
    assert torch.equal(hidden(net, "neon"), plain), "the hook is gone afterwards"
    assert net("my-styles").tokens > 2, "a longer word is another one"


def test_an_embedding_stands_there_in_what_weights_are_measured_against(contrasting, tmp_path):
    """Weighing one word must not lose an embedding elsewhere, and weighing the embedding must take it away."""
    net = contrasting
    table = next(m for n, m in net.encoders[0][1].named_modules() if n.endswith("token_embedding")).weight
    gold, ink = (net.encoders[0][0](word, add_special_tokens=False)["input_ids"] for word in ("gold", "ink"))
    save_file({"emb_params": table[[*gold, *ink]].detach().clone()}, tmp_path / "My-Style.safetensors")
    for said, meant in (("(neon:0.5) my-style", "(neon:0.5) gold ink"), ("neon (my-style:0.5)", "neon (gold ink:0.5)")):
        assert torch.allclose(hidden(net, said), hidden(net, meant), atol=1e-5)
        assert not torch.allclose(hidden(net, said), hidden(net, "neon my-style"), atol=1e-3)


def test_sdxl_takes_a_tensor_for_each_encoder(text, tmp_path):
    net = text("sdxl")
    tensors = {}
    for key, (tokenizer, model) in zip(("clip_l", "clip_g"), net.encoders, strict=True):
        table = next(m for n, m in model.named_modules() if n.endswith("token_embedding")).weight
        tensors[key] = table[tokenizer("gold", add_special_tokens=False)["input_ids"]].detach().clone()
    save_file(tensors, tmp_path / "emb.safetensors")
    for got, expected in zip(net("neon emb").cond, net("neon gold").cond, strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"emb_params": torch.zeros(2, 48)}, "48 numbers, and this model takes 32"),
        ({"emb_params": torch.zeros(ROOM + 1, 32)}, "has room for"),
        ({"emb_params": torch.full((1, 32), float("nan"))}, "not finite"),
        ({"clip_g": torch.zeros(1, 32), "other": torch.zeros(1, 32)}, "not made for this kind"),
        ({"emb_params": torch.zeros(1, 32, dtype=torch.int64)}, "not finite"),
        ({"emb_params": torch.zeros(2, 2, 32)}, "32"),
    ],
)
def test_an_embedding_that_does_not_fit_is_text_and_told(tensors, words, text, tmp_path):
    save_file(tensors, tmp_path / "gold.safetensors")
    net = text()
    said = net("neon gold")
    assert words in said.notes[0]
    (tmp_path / "gold.safetensors").unlink()
    assert torch.equal(said.cond[0], hidden(net, "neon gold"))


def test_no_file_that_can_carry_code_is_opened(text, tmp_path):
    (tmp_path / "gold.pt").write_bytes(b"\x80\x04cos\nsystem\n")
    (tmp_path / "ink.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    outside = tmp_path.parent / "outside.safetensors"
    save_file({"emb_params": torch.zeros(1, 32)}, outside)
    (tmp_path / "neon.safetensors").symlink_to(outside)
    notes = text()("gold ink neon").notes
    assert "gold.pt can carry code" in notes[0]
    assert "ink can't be used" in notes[1]
    assert "leads out of its folder" in notes[2]
    assert all("\n" not in note for note in notes)


def test_difference_goes_along_the_line_between_with_and_without(tmp_path):
    """At weight 0 the words might as well not be there; at 2 they count twice; others are left alone."""
    hidden = torch.randn(1, 4, 8)
    without = torch.randn(1, 4, 8)
    weights = torch.ones(1, 4)
    assert contrasted(hidden, weights, lambda away: without) is hidden
    weights[0, 2] = 0
    assert torch.allclose(contrasted(hidden, weights, lambda away: without), without, atol=1e-6)
    weights[0, 2] = 2
    seen = []
    out = contrasted(hidden, weights, lambda away: seen.append(away) or without)
    assert torch.allclose(out, 2 * hidden - without, atol=1e-6)
    assert seen[0].tolist() == [[False, False, True, False]]


def test_pocket_obeys_weights():
    """The built-in model was trained with them: what weighs more is drawn more."""
    emphasis = Registry.open().get("pocket").emphasis
    nets = EagerEngine().load(POCKET, Build(64, 64, device="cpu", dtype="fp32", emphasis=emphasis))
    x = torch.randn(1, *nets.latent, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        drawn = {
            w: nets.unet(x, torch.tensor(500.0), nets.text(f"(neon:{w})").cond) for w in ("0.3", "0.6", "1.0", "1.6")
        }
        away = [float((drawn[w] - drawn["0.3"]).abs().mean()) for w in ("0.6", "1.0", "1.6")]
    assert 0.02 < away[0] < 0.8 * away[1]
    assert away[1] != away[2]
    assert nets.text("(neon:1.4) city").tokens == 2
    assert nets.text("neon " * 300).notes
