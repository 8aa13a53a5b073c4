"""CLIP text encoders: one, as in SD1.5 and SD2.1, or SDXL's pair with its pooled embedding and size numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engines import paths
from engines.attention import parse_attention
from engines.base import NetSpec, TensorSpec, Text
from engines.chunks import Chunk, cut, overflow
from engines.embeddings import Embeddings
from engines.lora import Adapters
from engines.modelrows import Emphasis


class Encoded(Text):
    """A Text that also says what could not be done as it was asked."""

    notes: tuple[str, ...] = ()
    """Sentences."""


class ClipText:
    """Prompt to embedding, on the device, fp32. Implements engines.base.TextNet.

    A prompt is read with its attention, breaks and embeddings (engines/attention.py, chunks.py, embeddings.py) and
    encoded in chunks of the encoder's own length L. The result has always `chunks` * L rows, whatever is said, because
    a change of shape would rebuild the stream: what is longer is cut, and the notes say so; what is shorter is
    repeated, which changes nothing, since attention over keys that are all there k times is the attention over one.
    """

    def __init__(
        self,
        encoders: Sequence[tuple[Any, Any]],
        height: int,
        width: int,
        device: torch.device,
        zero_empty: bool,
        chunks: int = 1,
        embeddings: Embeddings | None = None,
        emphasis: Emphasis = "scale",
    ) -> None:
        """`encoders`: (tokenizer, CLIPTextModel), two of them for SDXL. `zero_empty`: nothing said is all zeros.
        `embeddings`: those in the user's own folder if None. `emphasis`: `scale` is `emphasise`, `difference` is
        `contrasted`, for a denoiser that brings all tokens to one length before it reads them."""
        self.emphasis = emphasis
        self.encoders, self.zero_empty, self.device, self.chunks = encoders, zero_empty, device, chunks
        self.length = min(_length(*encoder) for encoder in encoders)
        widths = [int(model.config.hidden_size) for _, model in encoders]
        self.embeddings = embeddings or Embeddings(paths.home() / "embeddings", widths, self.length - 2)
        size = (height, width, 0, 0, height, width)
        self.loras: Adapters | None = None
        """LoRAs over the encoders, once these are in their place."""
        self._turn = threading.Lock()
        self._size = torch.tensor([size], dtype=torch.float32, device=device)
        outputs = tuple(
            TensorSpec(name, tuple(tensor.shape), tensor.dtype)
            for name, tensor in zip(("hidden", "pooled", "size"), self("").cond, strict=False)
        )
        self.spec = NetSpec((), outputs, device)

    @torch.inference_mode()
    def __call__(self, prompt: str, /, skip: int = 1, loras: Sequence[tuple[Any, float]] = ()) -> Encoded:
        """Encode one text. `skip`: which layer from the end is taken, 1 the last (clip skip). `loras`: what acts on the
        encoders meanwhile, loaded by `self.loras`, with weights. Threads take turns, as they share the encoders."""
        with self._turn:
            if self.loras is not None:
                self.loras.speak(loras)
            said = self._said(prompt, skip)
            if self.device.type == "cuda":  # before another thread's stream may write the weights
                torch.cuda.current_stream(self.device).synchronize()
        return said

    def _said(self, prompt: str, skip: int) -> Encoded:
        notes: list[str] = []
        pieces = parse_attention(prompt)
        said = [cut(pieces, tokenizer, self.length - 2, self.embeddings, notes) for tokenizer, _ in self.encoders]
        rows = [self._fill(one.chunks[: self.chunks]) for one in said]
        first, lost = said[0], overflow(said[0], self.chunks)
        if lost:
            needs, room = len(first.chunks), self.length - 2
            notes.append(
                f"the prompt fills {needs} chunks of {room} tokens and the model reads {self.chunks}: it is cut"
            )
        cond = self._sdxl(rows, skip) if len(rows) == 2 else (_join(self._encode(0, rows[0], skip)[0]),)
        if self.zero_empty and not prompt:
            cond = (*(torch.zeros_like(part) for part in cond[:2]), *cond[2:])
        unknown = tuple(dict.fromkeys((*first.unknown, *lost)))
        text = Encoded(cond, first.tokens, unknown)
        text.notes = tuple(dict.fromkeys(notes))
        return text

    def _fill(self, chunks: list[Chunk]) -> list[Chunk]:
        """As many empty chunks more as it takes to repeat them all evenly."""
        count = next(n for n in range(len(chunks), self.chunks + 1) if self.chunks % n == 0)
        return [*chunks, *(Chunk() for _ in range(count - len(chunks)))]

    def _sdxl(self, rows: list[list[Chunk]], skip: int) -> tuple[Tensor, ...]:
        """Podell et al. 2023, section 2.1: both encoders' last but one layers side by side; pooled from the second."""
        first, _ = self._encode(0, rows[0], skip + 1, normed=False)
        second, pooled = self._encode(1, rows[1], skip + 1, normed=False)
        return _join(torch.cat([first, second], dim=-1)), pooled[:1], self._size

    def _encode(self, index: int, chunks: list[Chunk], layer: int, normed: bool = True) -> tuple[Tensor, Tensor]:
        """fp32 hidden states [chunks, L, D] of the layer that is the `layer`-th from the end, words weighed, and what
        the model pools or projects [n, P]. Repeated chunks are encoded once."""
        tokenizer, model = self.encoders[index]
        ids = torch.tensor([self._ids(chunk, tokenizer) for chunk in chunks], device=self.device)
        weights = torch.tensor([self._weights(chunk) for chunk in chunks], device=self.device)

        def read(ids: Tensor) -> tuple[Tensor, Tensor]:
            found = model(ids, output_hidden_states=layer > 1 or not normed)
            hidden = found.last_hidden_state
            if layer > 1 or not normed:
                states = found.hidden_states
                hidden = states[-min(layer, len(states) - 1)]
                hidden = _module(model, "final_layer_norm")(hidden) if normed else hidden
            return hidden.float(), found[0].float()

        vectors = [_vectors(chunk, index) for chunk in chunks]

        def without(away: Tensor) -> Tensor:
            kept = [[span for span in row if not away[i, span[0]]] for i, row in enumerate(vectors)]
            with _spliced(model, kept):
                return read(ids.masked_fill(away, tokenizer.unk_token_id))[0]

        with _spliced(model, vectors):
            hidden, pooled = read(ids)
        contrasting = self.emphasis == "difference"
        hidden = contrasted(hidden, weights, without) if contrasting else emphasise(hidden, weights)
        return hidden.repeat(self.chunks // len(chunks), 1, 1), pooled

    def _ids(self, chunk: Chunk, tokenizer: Any) -> list[int]:
        said = [tokenizer.bos_token_id]
        for item in chunk.items:  # what stands in for vectors must not be an end: SDXL pools at the first one
            said += [tokenizer.bos_token_id] * item.size if item.vectors else [item.token]
        said.append(tokenizer.eos_token_id)
        return said + [tokenizer.pad_token_id] * (self.length - len(said))

    def _weights(self, chunk: Chunk) -> list[float]:
        said = [1.0, *(item.weight for item in chunk.items for _ in range(item.size))]
        return said + [1.0] * (self.length - len(said))


def emphasise(hidden: Tensor, weights: Tensor) -> Tensor:
    """Scales the embedding of every token by its weight and keeps the mean of each row, as AUTOMATIC1111's web UI does.

    `hidden` (n, tokens, width), `weights` (n, tokens); rows whose weights are all 1 stay as they are, bit by bit.
    """
    scaled = hidden * weights[..., None].to(hidden)
    before, after = hidden.mean((1, 2), keepdim=True), scaled.mean((1, 2), keepdim=True)
    kept = torch.where(after.abs() > 1e-6, before / after, torch.ones_like(after))
    changed = (weights != 1).any(1)[:, None, None].to(hidden.device)
    return torch.where(changed, scaled * kept, hidden)


def contrasted(hidden: Tensor, weights: Tensor, without: Callable[[Tensor], Tensor]) -> Tensor:
    """Adds to the prompt's embedding, for the words of each weight, (weight - 1) times what those words change in it.

    `hidden` (n, tokens, width), `weights` (n, tokens). `without` encodes the prompt with the tokens that a mask
    (n, tokens) names taken out of it. Close to what the compel library does with weights below 1; above 1 we go on
    along the same line. Costs one run of the encoder for each different weight.
    """
    out = hidden
    for weight in sorted({float(w) for w in weights.flatten()} - {1.0}):
        away = weights == weight
        out = out + (weight - 1) * (hidden - without(away))
    return out


def _length(tokenizer: Any, model: Any) -> int:
    return min(int(tokenizer.model_max_length), int(model.config.max_position_embeddings))


def _join(chunks: Tensor) -> Tensor:
    """[chunks, L, D] to [1, chunks * L, D]."""
    return chunks.reshape(1, -1, chunks.shape[-1])


def _vectors(chunk: Chunk, index: int) -> list[tuple[int, Tensor]]:
    """Where in the chunk's row embeddings begin, and their vectors for the encoder `index`."""
    out, at = [], 1
    for item in chunk.items:
        if item.vectors:
            out.append((at, item.vectors[index]))
        at += item.size
    return out


@contextmanager
def _spliced(model: Any, rows: list[list[tuple[int, Tensor]]]) -> Iterator[None]:
    """Inside, the model's token embeddings are replaced where `rows` says."""
    if not any(rows):
        yield
        return

    def splice(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        out = out.clone()
        for row, spans in zip(out, rows, strict=True):
            for at, vectors in spans:
                row[at : at + len(vectors)] = vectors.to(row)
        return out

    hook = _module(model, "token_embedding").register_forward_hook(splice)
    try:
        yield
    finally:
        hook.remove()


def _module(model: Any, name: str) -> Any:
    """The submodule of that name, whose depth changes with the version of transformers."""
    return next(module for path, module in model.named_modules() if path.split(".")[-1] == name)
