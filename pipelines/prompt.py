"""Prompts, encoded beside the stream: a new one never delays a frame.

The newest prompt wins, the old embedding stays live until the new one is there, then the one fades into the other. What
a prompt says is read in pipelines/promptlang; what it says at this moment is a Voice's.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from engines import paths
from engines.base import Text, TextNet
from engines.text import ClipText, Encoded
from pipelines.loras import Loras
from pipelines.promptlang import cast as casting
from pipelines.promptlang.blend import Cond as Cond
from pipelines.promptlang.blend import between, eased
from pipelines.promptlang.cast import Lent
from pipelines.promptlang.kept import KEPT as KEPT
from pipelines.promptlang.kept import START, Asked, Goal, Key, Ready, aside, keys_of, read, remember
from pipelines.promptlang.tags import Tag
from pipelines.promptlang.timeline import Timeline
from pipelines.promptlang.voice import Manner as Manner
from pipelines.promptlang.voice import Voice

AS_IS = Manner()
NOBODY: Lent = ()
_NO_SLOTS: Mapping[str, float] = {}


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
        loras: Loras | None = None,
    ) -> None:
        """Encodes the first pair before it returns. `clock` in seconds. `styles`: a styles.csv, the user's if None.
        `loras`: those of the stream, which tags name; without, there are none."""
        self._encode, self._clock, self._manner, self._loras = encode, clock, manner, loras
        self._styles = styles or paths.home() / "styles.csv"
        self._plans: OrderedDict[Asked, Ready] = OrderedDict()
        self._kept: OrderedDict[Key, Text] = OrderedDict()
        self._error = ""
        self._change = threading.Condition()
        self._wanted: tuple[Goal, Lent] | None = None
        self._coming: tuple[Goal, Lent] | None = None
        self._foreseen: Asked | None = None
        self._more: dict[Key, Lent] = {}
        self._refused: set[Key] = set()
        self._working = self._closed = False
        self._asked = self._shown = Asked(prompt, negative, manner.grammar, manner.clip_skip)
        self._goal = self._here = Goal(self._asked)
        self._lent_goal = self._lent_here = NOBODY
        self._before: dict[str, float] = {}
        self._prepare(self._goal, NOBODY, lambda: None)
        self._voice = self._speak(self._goal)
        self._began, self._fade, self._inner, self._settled = clock(), 0.0, 0.0, False
        self._line = Timeline.start(self._began, manner.rate, manner.fps)
        self._target = self._origin = self._voice.cond(self._line.at(self._began), START, manner, 0.0)
        self._thread = threading.Thread(target=self._run, name="ll-prompt", daemon=True)
        self._thread.start()

    def ask(
        self, prompt: str, negative: str, fade: float, manner: Manner = AS_IS, line: Timeline | None = None,
        slots: Mapping[str, float] = _NO_SLOTS,
    ) -> None:  # fmt: skip
        """Want this pair shown, faded in over `fade` seconds once it is encoded and its LoRAs are loaded. Returns at
        once.

        `line`: how far this pair has come, on the same clock as ours; if None, it begins when it comes up. `slots`:
        LoRAs that act besides, by id: what they do to the words is there as soon as it is encoded, without a fade.
        """
        asked = Asked(prompt, negative, manner.grammar, manner.clip_skip)
        self._settled = self._settled and manner == self._manner
        self._manner, self._inner = manner, fade
        with self._change:
            if asked != self._asked:
                self._asked, self._error = asked, ""
                self._refused.clear()
            goal, waits = self._aim(asked, slots)
            if asked != self._goal.asked:
                self._pursue(goal)
            reached = self._goal[:3] == self._here[:3] or self._known(self._goal)
        turns = reached and not waits and self._goal.cast == goal.cast
        if turns and self._goal[:2] != self._here[:2]:
            self._turn_to(self._goal, fade, line)
        else:
            if reached and self._goal[:2] == self._here[:2] and self._goal.words != self._here.words:
                self._voice, self._settled = self._speak(self._goal), False
                self._here, self._lent_here = self._goal, self._lent_goal
            told = line if asked == self._shown else None
            self._line = told or self._line.turn(self._clock(), manner.rate, manner.fps)
        if goal[:3] != self._goal[:3] and (reached or self._error or self._goal.cast != goal.cast):
            with self._change:
                self._pursue(goal)

    def _aim(self, asked: Asked, slots: Mapping[str, float]) -> tuple[Goal, bool]:
        """What has to be encoded for a pair, with the LoRAs that are here, and whether it is worth waiting for more."""
        ready = self._plans.get(asked)
        if self._loras is None:
            return Goal(asked), False
        if ready is None:
            return Goal(asked, (), self._loras.words((), slots)), False
        tags, shown = ready.plan.tags, asked == self._shown
        cast = self._loras.cast(tags)
        words = self._loras.words(cast, slots)
        now = self._voice.now if shown and words != self._here.words and ready.plan.steps else ()
        return Goal(asked, cast, words, now), not shown and self._loras.awaits(tags)

    def _pursue(self, goal: Goal) -> None:
        """Have the thread encode a goal, if that is needed."""
        self._goal, self._error = goal, ""
        self._lent_goal = self._loras.lend(goal.words) if self._loras is not None else NOBODY
        if not self._known(goal):
            self._wanted = goal, self._lent_goal
            self._change.notify()

    def foresee(self, prompt: str, negative: str, slots: Mapping[str, float] = _NO_SLOTS) -> None:
        """Encode this pair too, when there is nothing else to do: it may be asked for next. Returns at once."""
        coming = Asked(prompt, negative, self._manner.grammar, self._manner.clip_skip)
        if coming != self._foreseen:
            with self._change:
                goal, _ = self._aim(coming, slots)
                lent = self._loras.lend(goal.words) if self._loras is not None else NOBODY
                self._foreseen, self._coming = coming, (goal, lent)
                self._change.notify()

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
            return self._change.wait_for(lambda: self._known(self._goal) or bool(self._error), seconds)

    def catch_up(self, values: Mapping[str, float] | None = None, seconds: float = 30.0) -> Cond | None:
        """As `now`, once what is said at this moment, and what comes next, is encoded; for those who can wait."""
        before = self.now(values)
        with self._change:
            self._change.wait_for(lambda: not (self._more or self._working or self._coming), seconds)
        return self.now(values) or before

    @property
    def networks(self) -> tuple[Tag, ...]:
        """The networks that the prompt shown asks for, `<lora:id:0.8>`."""
        return self._voice.plan.tags

    @property
    def named(self) -> list[str]:
        """The LoRAs that what is asked for, what is shown, and what is still fading out need."""
        ready = self._plans.get(self._asked)
        fading = self._before if self._progress() < 1.0 else {}
        wanted = casting.named(ready.plan.tags) if ready else []
        return [*wanted, *casting.named(self.networks), *fading]

    def acting(self) -> dict[str, float]:
        """The LoRAs of the prompt and their weights for the denoiser at this moment: they fade as the words do."""
        return casting.fading(self._before, self._here.cast, eased(self._progress(), self._manner.curve))

    def notes(self) -> dict[str, float | str]:
        """What is shown, how long it is, what of it the model does not know, and what was not done as it was asked."""
        voice, error = self._voice, self._error
        said = [f"there is no {tag.kind} {tag.name[:40]!a}" for tag in voice.plan.tags if not self._takes(tag)]
        said += [*voice.plan.notes, *(note for text in voice.texts if isinstance(text, Encoded) for note in text.notes)]
        return {
            "prompt.shown": self._shown.prompt,
            **voice.figures(),
            "prompt.fade": self._progress(),
            "prompt.notes": "; ".join(dict.fromkeys(said)),
            "prompt.error": error,
        }

    def took(self) -> dict[str, object]:
        """What of the pair that was asked for last took effect by now: fields of `pipelines.acting.Acting`."""
        voice, fade = self._voice, min(self._progress(), self._voice.faded)
        out: dict[str, object] = {"fade": fade, "late": voice.waits, "parts": voice.parts(4)}
        if self._shown != self._asked:
            out |= zip(("prompt", "negative", "grammar", "skip"), self._shown, strict=True)
        return out

    def _takes(self, tag: Tag) -> bool:
        return self._loras is not None and tag.kind in casting.LORA_TAGS

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join(timeout=10.0)

    def _turn_to(self, goal: Goal, fade: float, line: Timeline | None) -> None:
        """Start fading from what is seen now, even if that is half way between two others."""
        self._origin, self._before = self._blend(self._progress()), self.acting()
        again = goal.asked == self._shown
        self._voice, self._shown = self._speak(goal), goal.asked
        self._here, self._lent_here = goal, self._lent_goal
        self._began, self._fade, self._settled = self._clock(), fade, False
        if line is not None or not again:
            self._line = line or Timeline.start(self._began, self._manner.rate, self._manner.fps)
        self._target = self._origin

    def _progress(self) -> float:
        passed = self._clock() - self._began
        return min(1.0, max(0.0, passed / self._fade)) if self._fade > 0.0 else 1.0

    def _blend(self, w: float) -> Cond:
        return between(self._origin, self._target, eased(w, self._manner.curve), self._manner.way)

    def _speak(self, goal: Goal) -> Voice:
        """A voice for what is known. It holds the embeddings that it begins with, whatever is forgotten meanwhile."""
        skip, words = goal.asked.skip, goal.words
        with self._change:
            ready = self._plans[goal.asked]
            first = {text: self._kept[text, skip, words] for text in (*ready.texts, *goal.now)}
        opening = self._voice.sides if goal.now else ready.opening
        return Voice(ready.plan, opening, lambda text: self._kept.get((text, skip, words)) or first.get(text))

    def _request(self, voice: Voice) -> None:
        """Have the thread encode what `voice` is about to say."""
        if not voice.missing:
            return
        with self._change:
            keys = [(text, self._shown.skip, self._here.words) for text in voice.missing]
            voice.missing.clear()
            wanted = [key for key in keys if key not in self._kept and key not in self._refused]
            self._more = dict.fromkeys(wanted, self._lent_here)
            if self._more:
                self._change.notify()

    def _known(self, goal: Goal) -> bool:
        ready = self._plans.get(goal.asked)
        return ready is not None and all(key in self._kept for key in keys_of(goal, ready))

    def _prepare(self, goal: Goal, lent: Lent, finish: Callable[[], None]) -> None:
        """Read and encode: on the prompt's thread, and once before there is one. `finish` waits for the device."""
        ready = self._plans.get(goal.asked) or read(goal.asked, self._styles, self._manner)
        texts = {key: self._kept.get(key) or self._encoded(key, lent) for key in keys_of(goal, ready)}
        finish()
        with self._change:
            remember(self._plans, {goal.asked: ready})
            remember(self._kept, texts)
            self._change.notify_all()

    def _encoded(self, key: Key, lent: Lent) -> Text:
        """Layers and LoRAs are CLIP's: an encoder of another kind has none."""
        text, skip, _ = key
        return self._encode(text, skip, lent) if isinstance(self._encode, ClipText) else self._encode(text)

    def _run(self) -> None:
        with torch.inference_mode(), aside(self._encode.spec.device) as finish:
            while self._work(self._next(), finish):
                pass

    def _work(self, job: tuple[Goal | Key, Lent] | None, finish: Callable[[], None]) -> bool:
        """Do one job; whether there was one. It is forgotten when this returns: a waiting thread holds no LoRA."""
        if job is None:
            return False
        key, lent = job
        try:
            if isinstance(key, Goal):
                self._prepare(key, lent, finish)
                return True
            text = self._encoded(key, lent)
            finish()
            with self._change:
                remember(self._kept, {key: text})
        except Exception as failed:  # whatever an encoder raises, the old prompt stays and the show goes on
            with self._change:
                self._refused |= set() if isinstance(key, Goal) else {key}
                if not isinstance(key, Goal) or key.asked == self._asked:
                    self._error = f"the prompt can't be encoded: {failed}"
                self._change.notify_all()
        return True

    def _next(self) -> tuple[Goal | Key, Lent] | None:
        """A new prompt first, then what the one that is shown will say, then what may come next."""
        with self._change:
            self._working = False
            self._change.notify_all()
            self._change.wait_for(lambda: self._closed or bool(self._wanted or self._more or self._coming))
            if self._closed:
                return None
            self._working = True
            wanted, self._wanted = self._wanted, None
            if wanted or self._more:
                return wanted or self._more.popitem()
            coming, self._coming = self._coming, None
            return coming
