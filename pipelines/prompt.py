"""Prompts, encoded beside the stream: a new one never delays a frame.

The newest prompt wins, the old embedding stays live until the new one is there, then the one fades into the other. What
a prompt says is read in pipelines/promptlang; what it says at this moment is a Voice's.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from engines import paths
from engines.base import Text, TextNet
from engines.text import ClipText, Encoded
from pipelines.params import PromptGrammar
from pipelines.promptlang.blend import Cond as Cond
from pipelines.promptlang.blend import between, eased
from pipelines.promptlang.compose import Sides
from pipelines.promptlang.plan import Plan, read_prompt
from pipelines.promptlang.styles import read_styles
from pipelines.promptlang.tags import Tag
from pipelines.promptlang.timeline import Timeline
from pipelines.promptlang.voice import Manner as Manner
from pipelines.promptlang.voice import Voice

KEPT = 128
"""Texts whose embeddings stay in memory: going back to one of them takes no time."""
AS_IS = Manner()
_START: Mapping[str, float] = {"t": 0.0, "f": 0.0, "time": 0.0}
_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Asked(NamedTuple):
    """What makes another plan or other embeddings."""

    prompt: str
    negative: str
    grammar: PromptGrammar
    skip: int


class Ready(NamedTuple):
    """A pair that can be shown."""

    plan: Plan
    opening: Sides
    """What it says first."""
    texts: tuple[str, ...]
    """What it may say first, whatever its weights are by then."""


class Prompter:
    """The prompt and the negative prompt of one stream. `ask` and `now` belong to the frame's thread."""

    def __init__(
        self,
        encode: TextNet,
        prompt: str,
        negative: str,
        clock: Callable[[], float] = time.perf_counter,
        manner: Manner = AS_IS,
        styles: Path | None = None,
        takes: Callable[[Tag], bool] = lambda tag: False,
    ) -> None:
        """Encodes the first pair before it returns. `clock` in seconds. `styles`: a styles.csv, the user's if None.
        `takes`: whether there is such a network as a tag asks for."""
        self._encode, self._clock, self._manner, self._takes = encode, clock, manner, takes
        self._styles = styles or paths.home() / "styles.csv"
        self._plans: OrderedDict[Asked, Ready] = OrderedDict()
        self._kept: OrderedDict[tuple[str, int], Text] = OrderedDict()
        self._error = ""
        self._change = threading.Condition()
        self._wanted: Asked | None = None
        self._more: dict[tuple[str, int], None] = {}
        self._refused: set[tuple[str, int]] = set()
        self._working = self._closed = False
        self._asked = self._shown = Asked(prompt, negative, manner.grammar, manner.clip_skip)
        self._prepare(self._asked, lambda: None)
        self._voice = self._speak(self._asked)
        self._began, self._fade, self._inner, self._settled = clock(), 0.0, 0.0, False
        self._line = Timeline.start(self._began, manner.rate, manner.fps)
        self._target = self._origin = self._voice.cond(self._line.at(self._began), _START, manner, 0.0)
        self._thread = threading.Thread(target=self._run, name="ll-prompt", daemon=True)
        self._thread.start()

    def ask(
        self, prompt: str, negative: str, fade: float, manner: Manner = AS_IS, line: Timeline | None = None
    ) -> None:
        """Want this pair shown, faded in over `fade` seconds once it is encoded. Returns at once.

        `line`: how far this pair has come, on the same clock as ours; if None, it begins when it comes up.
        """
        asked = Asked(prompt, negative, manner.grammar, manner.clip_skip)
        self._settled = self._settled and manner == self._manner
        self._manner, self._inner = manner, fade
        with self._change:
            if asked != self._asked:
                self._asked, self._error = asked, ""
                self._refused.clear()
                if not self._known(asked):
                    self._wanted = asked
                    self._change.notify()
            ready = self._asked != self._shown and self._known(self._asked)
        if ready:
            self._turn_to(self._asked, fade, line)
        elif line is not None and self._asked == self._shown:
            self._line = line
        else:
            self._line = self._line.turn(self._clock(), manner.rate, manner.fps)

    def now(self, values: Mapping[str, float] | None = None) -> Cond | None:
        """The embeddings of this moment, negative's row first, fp32 [2, ...]; None if the last answer still holds.

        `values`: live variables for mathematics in the prompt (f, seed, in.kick). `t`, Deforum's frames, `time` and
        `fps` are those of the prompt's own time, unless they are given too.
        """
        if self._settled:
            return None
        self._target = self._voice.cond(self._line.at(self._clock()), values or {}, self._manner, self._inner)
        self._request(self._voice)
        w = self._progress()
        self._settled = w >= 1.0 and self._voice.settled
        return self._target if w >= 1.0 else self._blend(w)

    def settle(self, seconds: float = 30.0) -> bool:
        """Wait until what was asked for last is encoded: for tests, benchmarks and offline work."""
        with self._change:
            return self._change.wait_for(lambda: self._known(self._asked) or bool(self._error), seconds)

    def catch_up(self, values: Mapping[str, float] | None = None, seconds: float = 30.0) -> Cond | None:
        """As `now`, once what is said at this moment, and what comes next, is encoded; for those who can wait."""
        before = self.now(values)
        with self._change:
            self._change.wait_for(lambda: not (self._more or self._working), seconds)
        return self.now(values) or before

    @property
    def networks(self) -> tuple[Tag, ...]:
        """The networks that the prompt shown asks for, `<lora:id:0.8>`."""
        return self._voice.plan.tags

    def notes(self) -> dict[str, float | str]:
        """What is shown, how long it is, what of it the model does not know, and what was not done as it was asked."""
        voice, error = self._voice, self._error
        texts, sides = voice.texts, voice.sides
        said = [f"there is no {tag.kind} {tag.name[:40]!a}" for tag in voice.plan.tags if not self._takes(tag)]
        said += [*voice.plan.notes, *(note for text in texts if isinstance(text, Encoded) for note in text.notes)]
        parts = sides.positive if sides else ()
        return {
            "prompt.shown": self._shown.prompt,
            "prompt.parts": " | ".join(f"{text}:{weight:.2f}" for text, weight in parts) if len(parts) > 1 else "",
            "prompt.tokens": float(max((text.tokens for text in texts), default=0)),
            "prompt.unknown": " ".join(dict.fromkeys(word for text in texts for word in text.unknown)),
            "prompt.fade": self._progress(),
            "prompt.step": float(voice.step),
            "prompt.notes": "; ".join(dict.fromkeys(said)),
            "prompt.error": error,
        }

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join(timeout=10.0)

    def _turn_to(self, asked: Asked, fade: float, line: Timeline | None) -> None:
        """Start fading from what is seen now, even if that is half way between two others."""
        self._origin = self._blend(self._progress())
        self._voice, self._shown = self._speak(asked), asked
        self._began, self._fade, self._settled = self._clock(), fade, False
        self._line = line or Timeline.start(self._began, self._manner.rate, self._manner.fps)
        self._target = self._origin

    def _progress(self) -> float:
        passed = self._clock() - self._began
        return min(1.0, max(0.0, passed / self._fade)) if self._fade > 0.0 else 1.0

    def _blend(self, w: float) -> Cond:
        return between(self._origin, self._target, eased(w, self._manner.curve), self._manner.way)

    def _speak(self, asked: Asked) -> Voice:
        """A voice for what is known. It holds the embeddings that it begins with, whatever is forgotten meanwhile."""
        with self._change:
            ready = self._plans[asked]
            first = {text: self._kept[text, asked.skip] for text in ready.texts}
        return Voice(ready.plan, ready.opening, lambda text: self._kept.get((text, asked.skip)) or first.get(text))

    def _request(self, voice: Voice) -> None:
        """Have the thread encode what `voice` is about to say."""
        if not voice.missing:
            return
        with self._change:
            keys = [(text, self._shown.skip) for text in voice.missing]
            voice.missing.clear()
            self._more = {key: None for key in keys if key not in self._kept and key not in self._refused}
            if self._more:
                self._change.notify()

    def _known(self, asked: Asked) -> bool:
        ready = self._plans.get(asked)
        return ready is not None and all((text, asked.skip) in self._kept for text in ready.texts)

    def _prepare(self, asked: Asked, finish: Callable[[], None]) -> None:
        """Read and encode: on the prompt's thread, and once before there is one. `finish` waits for the device."""
        ready = self._plans.get(asked) or self._read(asked)
        keys = [(text, asked.skip) for text in ready.texts]
        texts = {key: self._kept.get(key) or self._encoded(*key) for key in keys}
        finish()
        with self._change:
            _remember(self._plans, {asked: ready})
            _remember(self._kept, texts)
            self._change.notify_all()

    def _read(self, asked: Asked) -> Ready:
        notes: list[str] = []
        tagged = "<style:" in f"{asked.prompt}{asked.negative}".lower()
        styles = read_styles(self._styles, notes) if tagged else {}
        plan = read_prompt(asked.prompt, asked.negative, styles, asked.grammar)
        steps, normalize = self._manner.steps, self._manner.normalize
        opening = plan.at(1, steps, _START, normalize) or plan.evenly(1, steps, _START)
        texts = dict.fromkeys([text for side in opening for text, _ in side]) | dict.fromkeys(
            plan.texts(1, steps, _START)
        )
        return Ready(plan._replace(notes=(*notes, *plan.notes)), opening, tuple(texts))

    def _encoded(self, text: str, skip: int) -> Text:
        """Layers are CLIP's: an encoder of another kind has none to skip."""
        return self._encode(text, skip) if isinstance(self._encode, ClipText) else self._encode(text)

    def _run(self) -> None:
        with torch.inference_mode(), _aside(self._encode.spec.device) as finish:
            while (job := self._next()) is not None:
                try:
                    if isinstance(job, Asked):
                        self._prepare(job, finish)
                    else:
                        text = self._encoded(*job)
                        finish()
                        with self._change:
                            _remember(self._kept, {job: text})
                except Exception as failed:  # whatever an encoder raises, the old prompt stays and the show goes on
                    with self._change:
                        self._refused |= set() if isinstance(job, Asked) else {job}
                        self._error = f"the prompt can't be encoded: {failed}"
                        self._change.notify_all()

    def _next(self) -> Asked | tuple[str, int] | None:
        """A new prompt first, then what the one that is shown will say."""
        with self._change:
            self._working = False
            self._change.notify_all()
            self._change.wait_for(lambda: self._closed or self._wanted is not None or bool(self._more))
            if self._closed:
                return None
            wanted, self._wanted = self._wanted, None
            self._working = True
            return wanted or self._more.popitem()[0]


def _remember(kept: OrderedDict[_K, _V], new: Mapping[_K, _V]) -> None:
    for key, value in new.items():
        kept[key] = value
        kept.move_to_end(key)
    while len(kept) > KEPT:
        kept.popitem(last=False)


@contextmanager
def _aside(device: torch.device) -> Iterator[Callable[[], None]]:
    """On CUDA a stream of its own, so that no frame queues behind an encoder; gives what waits for it."""
    if device.type != "cuda":
        yield lambda: None
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        yield stream.synchronize
