"""Looks and cues as the pages show them: what there is, which cue is on, which one is next."""

from __future__ import annotations

from bridge.show import cues
from bridge.show.cues import Cue, Show
from bridge.show.director import Director
from bridge.show.standing import name_of
from bridge.web.messages import CueCard, Cues, LookCard, Offer


class Board:
    """Reads a director; keeps nothing but what it said last."""

    def __init__(self, director: Director) -> None:
        self._director = director
        self.offer = Offer((), ())
        self._show = Show()
        self._cards: tuple[CueCard, ...] = ()
        self.cues = self._cues()
        self._revision = -1

    @property
    def stale(self) -> bool:
        """Whether a look was saved or deleted since `read`."""
        return self._director.looks.revision != self._revision

    def read(self) -> bool:
        """Look into the folders again, which takes its time; whether anything differs."""
        self._revision = self._director.looks.revision
        cards = tuple(LookCard(*card) for card in self._director.looks.cards())
        before, self.offer = self.offer, Offer(cards, tuple(sorted(cues.files())))
        return self.offer != before

    def turn(self) -> bool:
        """Look at the cue list again; whether anything differs."""
        before, self.cues = self.cues, self._cues()
        return self.cues != before

    def picture(self, name: str) -> bytes | None:
        """Of a look, as JPEG. Raises ControlError for what is no name."""
        return self._director.looks.picture(name)

    def _cues(self) -> Cues:
        with self._director.lock:
            player = self._director.player
            if player is None:
                return Cues()
            show, after = player.show, player.following()
            if show is not self._show:
                self._show, self._cards = show, tuple(_card(cue) for cue in show.cue)
            return Cues(
                show=show.name,
                title=show.title,
                loop=show.loop,
                cues=self._cards,
                on=player.index,
                then=-1 if after is None else after,
                asked=player.asked,
                held=player.held,
            )


def _card(cue: Cue) -> CueCard:
    own = (*cue.params, *(f"{name} (schedule)" for name in cue.schedule))
    return CueCard(name_of(cue), cue.look, cue.move, cue.curve, cue.wait, cue.next, cue.times, cue.quantise, own)
