"""Starting and stopping while frames go by; what is asked wrongly is refused with a sentence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.records import fed, noise, shown, until
from support.theatre import Theatre

from bridge.config import RecordConfig
from bridge.errors import ControlError
from bridge.metrics import Metrics
from bridge.record import journal as journals
from bridge.record import places
from bridge.record.deck import Deck
from bridge.record.journal import Journal
from bridge.record.tape import Tape
from bridge.show.acts import Acts
from engines import paths
from pipelines import infotext

pytestmark = pytest.mark.usefixtures("nothing_left")


class Desk:
    """A deck, the figures that it tells, and frames that go by."""

    def __init__(self, **config: object) -> None:
        self.metrics, self.takes, self.n = Metrics(), [0], 0
        self.deck = Deck(RecordConfig(**config), self.metrics, self.takes.append)  # type: ignore[arg-type]
        self.acts = Acts(None, self.deck)  # type: ignore[arg-type]  # its director has no part in this

    def pass_by(self, count: int = 3) -> None:
        for _ in range(count):
            given = fed(self.n, take=self.takes[-1], prompt=f"p{self.n}")
            assert given.frame is not None
            self.deck.fed(given.frame, given.params)
            self.deck.picture(shown(self.n))
            self.n += 1

    def say(self, address: str, *args: object) -> None:
        getattr(self.acts, f"_{address.replace('/', '_')}")(args, None)

    @property
    def state(self) -> str:
        self.deck.report()
        return str(self.metrics.snapshot()["record.state"])

    def saved(self) -> Path:
        until(lambda: self.state.startswith("saved"))
        return paths.home() / "recordings" / self.state.removeprefix("saved ")


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.deck.close()


def seqs(folder: Path) -> list[int]:
    return [one.entry.line.seq for one in Tape(folder)]


def test_a_recording_has_what_went_out_between_start_and_stop(desk: Desk) -> None:
    desk.pass_by(2)
    desk.say("record/start", "friday", "mkv")
    assert desk.state.startswith("recording 20")
    desk.pass_by(4)
    desk.say("record/stop")
    desk.pass_by(2)
    folder = desk.saved()
    assert folder.name.endswith("_friday")
    assert seqs(folder) == [2, 3, 4, 5]
    assert desk.metrics.snapshot()["record.frames"] == 4.0


def test_with_the_input_what_recurs_begins_anew(desk: Desk) -> None:
    desk.say("record/start", "input")
    assert desk.takes == [0, 1]
    desk.pass_by(2)
    desk.say("record/stop")
    first = desk.saved()
    desk.say("record/start", "b", "png", "input")
    assert desk.takes == [0, 1, 2]
    desk.pass_by(1)
    desk.say("record/stop")
    assert desk.saved() != first
    assert [one.input is not None for one in Tape(first)] == [True, True]


def test_a_button_starts_when_pressed_and_does_nothing_when_let_go(desk: Desk) -> None:
    desk.say("record/start", 1.0)
    desk.say("record/start", 0.0)
    desk.say("record/stop", 0)
    assert desk.deck.on
    desk.say("record/stop", 1)
    assert not desk.deck.on
    desk.say("record", True)
    assert desk.deck.on
    desk.say("record", 1)
    assert desk.deck.on
    desk.say("record")
    assert not desk.deck.on
    desk.say("record", 0)
    assert not desk.deck.on


@pytest.mark.parametrize(
    ("address", "args", "why"),
    [
        ("record/start", ("a", "avi"), "mp4 or mkv or png or input, not 'avi'"),
        ("record/start", ("a", 1), "argument 2 is text"),
        ("record/start", ("x" * 3000,), "is text of up to"),
        ("record", ("yes",), "finite number"),
        ("still", (), "no picture yet"),
    ],
)
def test_what_is_asked_wrongly_is_a_sentence(desk: Desk, address: str, args: tuple[object, ...], why: str) -> None:
    with pytest.raises(ControlError, match=why):
        desk.say(address, *args)
    assert not desk.deck.on


def test_no_frame_waits_while_a_recording_is_begun(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    theatre = Theatre()
    acts = Acts(theatre.director, desk.deck)
    free: list[bool] = []

    def slowly(*args: object) -> None:
        """A frame is taken, from its own thread, while the disc is slow."""
        thread = threading.Thread(target=theatre.frame, daemon=True)
        thread.start()
        thread.join(10)
        free.append(not thread.is_alive())

    monkeypatch.setattr(places, "_make", slowly)
    (paths.home() / "recordings").mkdir()
    act = acts.find("record/start")
    assert act is not None
    act(("a",), None)
    assert free == [True]


def test_one_recording_at_a_time(desk: Desk) -> None:
    desk.say("record/start")
    with pytest.raises(ControlError, match="runs already"):
        desk.say("record/start", "two")
    assert len(list((paths.home() / "recordings").iterdir())) == 1


def test_nothing_is_recorded_where_there_is_no_deck() -> None:
    with pytest.raises(ControlError, match="nothing can be recorded here"):
        Acts(None)._record_stop((), None)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_written_is_told_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    desk = Desk(folder=str(tmp_path / "file"))
    with pytest.raises(Exception, match="can't be made"):
        desk.say("record/start")
    assert not desk.deck.on
    desk.pass_by()
    desk.say("still")
    until(lambda: "can't be made" in str(desk.metrics.snapshot().get("still", "")))
    desk.deck.close()


def test_a_recording_that_ends_by_itself_says_why(desk: Desk) -> None:
    desk.say("record/start", "x")
    take = desk.deck._take
    assert take is not None
    take._room = lambda folder: 0
    desk.pass_by(1)
    until(lambda: take.done.is_set())
    assert desk.state.startswith("the disc is full: only 0 MB are left (20")
    assert desk.metrics.get("record.failed") == 1
    assert not desk.deck.on
    desk.say("record/start", "y")  # and another may follow
    assert desk.deck.on


def test_stills_of_a_second_have_names_of_their_own_and_their_own_settings(desk: Desk) -> None:
    for n in range(3):
        desk.pass_by(1)
        desk.say("still", "same", "input")
        until(lambda n=n: desk.metrics.get("still.count") == n + 1)
    stills = sorted(p for p in (paths.home() / "stills").iterdir() if not p.stem.endswith("_input"))
    assert len(stills) == 3
    prompts = set()
    for path in stills:
        with Image.open(path) as picture:
            said = infotext.read(picture.info["parameters"]).values
            n = int(str(said["prompt"])[1:])
            np.testing.assert_array_equal(np.asarray(picture), noise(n))
        with Image.open(path.with_name(f"{path.stem}_input.png")) as given:
            np.testing.assert_array_equal(np.asarray(given), noise(1000 + n, 48, 80, 3))
        prompts.add(n)
    assert prompts == {0, 1, 2}


def test_the_journal_forgets_what_is_past_and_holds_on_to_no_more_than_it_may() -> None:
    journal = Journal()
    entries = [fed(n) for n in range(6)]
    for frame, params in entries:
        assert frame is not None
        journal.note(frame, params)
    size = noise(0, 48, 80, 3).nbytes
    third = entries[2].frame
    assert third is not None
    assert journal.find(third.stamps.fed) == entries[2] == journal.find(third.stamps.fed)
    assert entries[1].frame is not None
    assert journal.find(entries[1].frame.stamps.fed) is None
    assert journal._bytes == 4 * size
    journal.most_bytes = 2 * size
    frame, params = fed(6)
    assert frame is not None
    journal.note(frame, params)
    found = journal.find(entries[3].frame.stamps.fed)  # type: ignore[union-attr]
    assert found is not None
    assert (found.frame, found.params) == (None, entries[3].params)
    assert journal._bytes <= 2 * size


def test_the_journal_is_bounded_in_number_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MAX_ENTRIES", 5)
    journal = Journal()
    for n in range(20):
        frame, params = fed(n)
        assert frame is not None
        journal.note(frame, params)
    assert len(journal._fed) == 5
