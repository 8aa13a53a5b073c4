"""Recording and stills, started and stopped while the show runs: what OSC, the page and the config can ask for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from bridge.clock import NS, now_ns
from bridge.config import RecordConfig
from bridge.errors import ControlError, LiveLatentError
from bridge.frame import Frame, Made
from bridge.metrics import Metrics
from bridge.record import places
from bridge.record.journal import BYTES, BYTES_FOR_INPUT, Fed, Journal
from bridge.record.lines import Header
from bridge.record.places import Format
from bridge.record.still import save
from bridge.record.take import Take
from bridge.version import __version__
from pipelines.params import Params

log = logging.getLogger("livelatent.record")

MAX_STILLS = 16
"""Asked for and not written yet."""
FINISH_S = 20.0
"""At the end of the program, for what has been handed over to be written."""


class Deck:
    """Thread-safe. `fed` and `picture` are on the frames' way and never wait."""

    def __init__(
        self,
        config: RecordConfig,
        metrics: Metrics,
        begin_anew: Callable[[int], None] = lambda number: None,
        own_time: bool = False,
    ) -> None:
        """`begin_anew(number)`: let the snapshots that follow have this number as their `take`. `own_time`: pictures
        have the times of the medium, not of the clock."""
        self._config, self._metrics = config, metrics
        self._begin_anew, self._own_time = begin_anew, own_time
        self._lock = threading.Lock()
        self._journal = Journal()
        self._take: Take | None = None
        self._finishing: list[Take] = []
        self._number = 0
        self._shown: tuple[Frame, Fed | None] | None = None
        self._stills = ThreadPoolExecutor(1, "ll-still")
        self._pending = 0
        self._said = ""
        self.report()

    # The frames' way

    def fed(self, frame: Frame, params: Params) -> None:
        """A frame is about to be fed, at its stamp, with these parameters."""
        self._journal.note(frame, params)

    def picture(self, frame: Frame) -> None:
        """A picture goes out."""
        fed = self._journal.find(frame.stamps.fed)
        self._shown = frame, fed
        take = self._take
        if take is not None and frame.made is not None:
            take.offer(frame, frame.made, fed)

    def unseen(self, fed_ns: int, made: Made) -> None:
        """A picture was painted that does not go out, as a newer one has overtaken it. Those after it build on it."""
        fed, take = self._journal.find(fed_ns), self._take
        if take is not None:
            take.offer(None, made, fed)

    # Asked for

    @property
    def on(self) -> bool:
        """Whether a recording runs."""
        take = self._take
        return take is not None and not take.ending

    def start(self, name: str = "", format: Format | None = None, with_input: bool | None = None) -> None:
        """Record from the next picture on. Raises ControlError, SinkError with a sentence."""
        format = format or self._config.format
        with_input = self._config.input if with_input is None else with_input
        with self._lock:
            if self.on:
                raise ControlError("a recording runs already: /record/stop ends it")
            self._retire()
            self._said = ""
            folder = places.new_folder(places.under(self._config.folder, "recordings"), name)
            header = Header(
                livelatent=__version__,
                began=datetime.now().astimezone().isoformat(timespec="milliseconds"),
                picture="picture" if format == "png" else f"picture.{format}",
                input="input.mkv" if with_input else "",
                made_with=places.made_with(),
            )
            if with_input:
                self._number += 1
                self._journal.most_bytes = BYTES_FOR_INPUT
            number = self._number if with_input else 0
            self._take = Take(folder, format, header, number=number, own_time=self._own_time)
            if with_input:
                self._begin_anew(self._number)
        log.info("recording to %s", folder)
        self.report()

    def stop(self) -> None:
        """End the recording; its files are finished meanwhile. Nothing where none runs."""
        with self._lock:
            self._retire()
        self.report()

    def toggle(self, on: bool | None = None) -> None:
        """Start with what is configured, or stop; None does the other of the two."""
        on = not self.on if on is None else on
        if on and not self.on:
            self.start()
        elif not on:
            self.stop()

    def still(self, name: str = "", with_input: bool = False) -> None:
        """Save the picture that is on show. Returns at once; ControlError where there is none."""
        with self._lock:
            if self._shown is None:
                raise ControlError("there is no picture yet")
            if self._pending >= MAX_STILLS:
                raise ControlError(f"{MAX_STILLS} stills are still being written")
            self._pending += 1
            frame, fed = self._shown
        self._stills.submit(self._save, name, frame, fed, with_input)

    def _save(self, name: str, frame: Frame, fed: Fed | None, with_input: bool) -> None:
        """On the stills' thread."""
        try:
            path = save(places.under(self._config.folder, "stills"), name, frame, fed, with_input)
            log.info("saved %s", path)
            self._metrics.count("still.count")
            self._metrics.gauge("still", path.name)
        except LiveLatentError as error:
            log.error("%s", error)
            self._metrics.gauge("still", str(error))
            self._metrics.gauge("error", str(error))
        finally:
            with self._lock:
                self._pending -= 1

    def _retire(self) -> None:
        """What runs, or has ended by itself, becomes one of those that finish."""
        take, self._take = self._take, None
        if take is not None:
            take.stop()
            self._finishing.append(take)
        self._journal.most_bytes = BYTES

    # Ten times a second, and after each change

    def report(self) -> None:
        """Say how the recording stands."""
        with self._lock:
            if self._take is not None and self._take.ending:
                self._retire()  # its disc is full: it ended by itself
            for done in [take for take in self._finishing if take.done.is_set()]:
                self._finishing.remove(done)
                self._say_end(done)
            take = self._take or (self._finishing[-1] if self._finishing else None)
            running, said = self._take is not None, self._said
        gauge = self._metrics.gauge
        gauge("record.on", float(running))
        if take is None:
            gauge("record.state", said)
            return
        gauge("record.state", f"{'recording' if running else 'finishing'} {take.folder.name}")
        gauge("record.frames", float(take.frames))
        gauge("record.lost", float(take.lost))
        if running:
            gauge("record.seconds", (now_ns() - take.began_ns) / NS if take.began_ns else 0.0)

    def _say_end(self, take: Take) -> None:
        self._metrics.gauge("record.frames", float(take.frames))
        self._metrics.gauge("record.lost", float(take.lost))
        self._said = f"{take.error} ({take.folder.name})" if take.error else f"saved {take.folder.name}"
        if take.error:
            self._metrics.count("record.failed")
            self._metrics.gauge("error", f"recording: {take.error}")
        else:
            lost = f", {take.lost} left out" if take.lost else ""
            log.info("recorded %d pictures%s: %s", take.frames, lost, take.folder)

    def close(self) -> None:
        """Finish everything that was asked for."""
        self.stop()
        for take in list(self._finishing):
            take.join(FINISH_S)
        self._stills.shutdown(wait=True)
        self.report()
